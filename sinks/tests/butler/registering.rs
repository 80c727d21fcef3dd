//! What is registered, and what a second delivery changes: nothing.

use crate::harness::*;
use anyhow::{Result, ensure};
use dbb_events::{Kind, Outcome, Verified};
use dbb_sinks::butler::check;
use serde_json::json;

on_both! {
    fn a_batch_is_registered_in_one_call_and_repeats_change_nothing(site) {
        let run = new_run("plain");
        let datasets = site.products(&run, 100)?;
        let before = site.stats();
        let settled = site.deliver(requests(&datasets));
        ensure!(settled.iter().all(|answer| answer.outcome == Outcome::Ingested));
        ensure!(settled.iter().all(|answer| answer.verified == Verified::Size));
        ensure!(settled.iter().zip(&datasets).all(|(answer, dataset)| answer.uuids == [dataset.uuid]));
        ensure!(site.stats().butler_calls == before.butler_calls + 1);
        ensure!(site.stats().new_runs.contains(&run));
        site.assert_registered(&datasets)?;

        let settled = site.deliver(requests(&datasets));
        ensure!(settled.iter().all(|answer| answer.outcome == Outcome::AlreadyThere));
        ensure!(site.stats().butler_calls == before.butler_calls + 1);
        site.assert_registered(&datasets)
    }

    fn old_and_new_in_one_batch_each_get_their_own_answer(site) {
        let datasets = site.products(&new_run("mixed"), 4)?;
        site.deliver(requests(&datasets[..2]));
        let mut moved = datasets[0].clone();
        moved.uri = site.file()?;
        let settled = site.deliver(requests(&[moved, datasets[1].clone(), datasets[2].clone(), datasets[3].clone()]));
        ensure!(words(&settled) == ["already_there_elsewhere", "already_there", "ingested", "ingested"]);
        ensure!(settled[0].outcome == Outcome::AlreadyThereElsewhere { uri: format!("file://{}", datasets[0].uri) });
        site.assert_registered(&datasets)
    }

    fn a_dataset_whose_file_the_datastore_has_lost_is_repaired(site) {
        let datasets = site.products(&new_run("repair"), 2)?;
        site.deliver(requests(&datasets));
        site.helper.ask(json!({"op": "forget", "root": site.root, "uuids": [datasets[0].uuid]}))?;
        ensure!(site.content(&[datasets[0].uuid])?[datasets[0].uuid.to_string()]["uri"].is_null());
        let settled = site.deliver(requests(&datasets));
        ensure!(words(&settled) == ["ingested", "already_there"]);
        site.assert_registered(&datasets)
    }

    fn a_raw_and_a_sidecar_of_2023_are_registered_by_their_sidecars(site) {
        let mut raw = site.product(&new_run("raw"), 1, 1)?;
        raw.kind = Kind::RawFile;
        raw.dataset_type = "raw".into();
        raw.dimensions = vec!["instrument", "detector", "exposure"];
        raw.data_id = json!({"instrument": "FakeCam", "detector": 1, "exposure": 3});
        let old = site.product(&raw.run.clone(), 2, 2)?;
        let mut request = old.request();
        let mut sidecar: serde_json::Value = serde_json::from_str(&request.sidecar)?;
        sidecar["datasetType"]["dimensions"] = json!({"names": ["instrument", "detector", "visit"]});
        request.sidecar = sidecar.to_string().into();
        let settled = site.deliver(vec![raw.request(), request]);
        ensure!(words(&settled) == ["ingested", "ingested"], "{settled:?}");
        ensure!(site.stats().new_dataset_types.contains("raw"));
        site.assert_registered(&[raw, old])
    }

    fn a_check_tells_version_universe_and_root(site) {
        let report = check(&settings(&site.root)?)?;
        ensure!(!report.butler_version.is_empty() && report.universe.starts_with("daf_butler "));
        ensure!(report.instruments == ["FakeCam"]);
        ensure!(report.roots == [(format!("file://{}/", site.root), true)]);
        ensure!(report.skip_existing && report.writeable && !report.has_raw_ingest_task);
        Ok(())
    }
}

#[test]
fn a_checksum_is_read_only_where_it_may_be() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let mut settings = settings(&site.root)?;
    settings.verify.mode = dbb_sinks::butler::VerifyMode::Checksum;
    for (read_bytes, word) in [(false, Verified::Unverified), (true, Verified::Checksum)] {
        settings.verify.read_bytes = read_bytes;
        settings.verify.rate_mb_s = Some(100.0);
        let mut sink = dbb_sinks::butler::ButlerSink::new(
            "site",
            settings.clone(),
            Box::new(dbb_sinks::butler::NoHistory),
        )?;
        let mut datasets = site.products(&new_run("checksum"), 2)?;
        datasets[0].adler32 = Some("039e00f7".into());
        datasets[1].adler32 = Some("00000001".into());
        let requests = requests(&datasets);
        let settled = in_order(&requests, dbb_sinks::Sink::deliver(&mut sink, requests.clone()));
        ensure!(settled[0].outcome == Outcome::Ingested, "{settled:?}");
        ensure!(settled[0].verified == word, "{settled:?}");
        if read_bytes {
            ensure!(refusal(&settled[1])?.0 == dbb_events::Reason::ChecksumMismatch);
        } else {
            ensure!(settled[1].outcome == Outcome::Ingested);
        }
    }
    Ok(())
}
