//! Dimension files and zips.

use crate::harness::*;
use anyhow::{Context, Result, ensure};
use dbb_events::{Kind, Reason, Request};
use serde_json::{Value, json};
use std::fs;
use uuid::Uuid;

on_both! {
    fn a_dimension_file_goes_before_what_needs_it_in_the_same_batch(site) {
        let visit = 60_000 + next();
        let dataset = site.product(&new_run("late"), visit, 4)?;
        let settled = site.deliver(requests(std::slice::from_ref(&dataset)));
        let key = format!("dimension:visit/FakeCam/{visit}");
        ensure!(waits_for(&settled[0])? == key);

        let yaml = site.folder.join(format!("{visit}_dimensions.yaml")).display().to_string();
        site.helper.ask(json!({"op": "export", "path": yaml, "visits": [visit]}))?;
        let dimensions = request(Kind::DimFile, &yaml);
        let settled = site.deliver(vec![dataset.request(), dimensions.clone()]);
        ensure!(words(&settled) == ["ingested", "ingested"], "{settled:?}");
        // Those that wait for the record or for the file are woken.
        ensure!(settled[1].provides.contains(&key.as_str().into()));
        ensure!(settled[1].provides.contains(&format!("file:{yaml}").as_str().into()));
        site.assert_registered(&[dataset])?;

        let settled = site.deliver(vec![dimensions]);
        ensure!(words(&settled) == ["already_there"]);
        ensure!(settled[0].provides.contains(&key.as_str().into()));
        Ok(())
    }

    fn a_dimension_file_that_is_none_is_refused_and_one_before_its_instrument_waits(site) {
        let broken = site.folder.join(format!("broken-{}.yaml", next()));
        fs::write(&broken, "a: [1, 2")?;
        let other = site.file()?;
        let visit = 50_000 + next();
        let orphan = site.folder.join(format!("orphan-{visit}.yaml"));
        site.helper.ask(json!({"op": "export", "path": orphan, "visits": [visit]}))?;
        let text = fs::read_to_string(&orphan)?.replace("FakeCam", "NewCam");
        fs::write(&orphan, text)?;
        let at = |path: &str| request(Kind::DimFile, path);
        let settled = site.deliver(vec![
            at(&broken.display().to_string()),
            at(&other),
            at("/nowhere/dimensions.yaml"),
            at(&orphan.display().to_string()),
        ]);
        ensure!(refusal(&settled[0])?.0 == Reason::BadField);
        ensure!(refusal(&settled[1])?.0 == Reason::BadField);
        ensure!(waits_for(&settled[2])? == "file:/nowhere/dimensions.yaml");
        ensure!(waits_for(&settled[3])?.starts_with("dimension:"), "{:?}", settled[3]);
        Ok(())
    }

    fn a_zip_with_records_in_its_index_brings_its_own(site) {
        let exposure = 40_000 + next();
        let (zip, uuids) = make_zip(site, exposure, &[1, 2, 3], true)?;
        let settled = site.deliver(vec![zip.clone()]);
        ensure!(words(&settled) == ["ingested"], "{settled:?}");
        ensure!(settled[0].uuids.len() == 3);
        ensure!(settled[0].provides.contains(&format!("dimension:exposure/FakeCam/{exposure}").as_str().into()));
        assert_zipped(site, &uuids, &zip.uri)?;
        ensure!(words(&site.deliver(vec![zip])) == ["already_there"]);
        Ok(())
    }

    fn a_zip_without_records_waits_for_them_and_imports_its_sibling_once_that_is_there(site) {
        let exposure = 40_000 + next();
        let (zip, uuids) = make_zip(site, exposure, &[1, 2], false)?;
        let sibling = zip.uri.replace(".zip", "_dimensions.yaml");
        let settled = site.deliver(vec![zip.clone()]);
        ensure!(waits_for(&settled[0])? == format!("dimension:exposure/FakeCam/{exposure}"));
        site.helper.ask(json!({"op": "export", "path": sibling, "exposures": [exposure]}))?;
        // The sibling is not announced by any event: it is found beside the zip.
        let settled = site.deliver(vec![zip.clone()]);
        ensure!(words(&settled) == ["ingested"], "{settled:?}");
        assert_zipped(site, &uuids, &zip.uri)
    }

    fn a_zip_of_which_the_repository_has_a_part_is_a_conflict(site) {
        let exposure = 40_000 + next();
        let (zip, uuids) = make_zip(site, exposure, &[1, 2], true)?;
        site.deliver(vec![zip.clone()]);
        site.helper.ask(json!({"op": "forget", "root": site.root, "uuids": [uuids[0]]}))?;
        let settled = site.deliver(vec![zip]);
        let (reason, detail) = refusal(&settled[0])?;
        ensure!(reason == Reason::Conflict && detail.starts_with("1 of the 2 datasets"), "{detail}");
        Ok(())
    }

    fn what_is_no_zip_or_has_no_index_is_refused(site) {
        let not_a_zip = request(Kind::ZipFile, &site.file()?);
        let missing = request(Kind::ZipFile, "/nowhere/file.zip");
        let mut cut_short = request(Kind::ZipFile, &site.file()?);
        cut_short.bytes = Some(1_000_000);
        let settled = site.deliver(vec![not_a_zip, missing, cut_short]);
        ensure!(refusal(&settled[0])?.0 == Reason::BadField);
        ensure!(waits_for(&settled[1])? == "file:/nowhere/file.zip");
        ensure!(refusal(&settled[2])?.0 == Reason::SizeMismatch);
        Ok(())
    }
}

/// A zip that another repository has made of one dataset for each detector.
pub(crate) fn make_zip(
    site: &mut Site,
    exposure: u64,
    detectors: &[u64],
    with_records: bool,
) -> Result<(Request, Vec<Uuid>)> {
    let source = site.folder.join("source").display().to_string();
    if !fs::exists(&source)? {
        site.helper.ask(json!({"op": "make", "root": source}))?;
    }
    let answer = site.helper.ask(json!({
        "op": "zip", "source": source, "folder": site.folder, "exposure": exposure,
        "detectors": detectors, "with_records": with_records, "run": new_run("zip"),
    }))?;
    let uuids = serde_json::from_value(answer["uuids"].clone())?;
    let path = answer["path"].as_str().context("no path")?;
    Ok((request(Kind::ZipFile, path), uuids))
}

fn assert_zipped(site: &mut Site, uuids: &[Uuid], uri: &str) -> Result<()> {
    let content = site.content(uuids)?;
    for uuid in uuids {
        let there: &Value = &content[uuid.to_string()]["uri"];
        let expected = format!("file://{uri}#zip-path=");
        ensure!(
            there.as_str().is_some_and(|there| there.starts_with(&expected)),
            "{there}"
        );
    }
    Ok(())
}
