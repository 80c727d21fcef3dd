//! What is registered, and what a second delivery changes: nothing.

use crate::harness::*;
use anyhow::{Result, ensure};
use dbb_events::{Kind, Outcome, Settled, Verified};
use dbb_sinks::{
    Sink,
    butler::{ButlerSink, NoHistory, TransferMode, VerifyMode, check},
};
use serde_json::json;

on_both! {
    fn a_batch_is_registered_in_one_call_and_repeats_change_nothing(site) {
        let run = new_run("plain");
        let datasets = site.products(&run, 100)?;
        let before = site.stats();
        let begun = std::time::Instant::now();
        let settled = site.deliver(requests(&datasets));
        let most = begun.elapsed() + std::time::Duration::from_millis(1);
        ensure!(settled.iter().all(|answer| answer.outcome == Outcome::Ingested));
        // The Butler cannot have done it in less than a millisecond.
        let least = std::time::Duration::from_millis(1);
        let took = |answer: &Settled| answer.took.is_some_and(|took| took >= least && took <= most);
        ensure!(settled.iter().all(took), "{:?} of {most:?}", settled[0].took);
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
    settings.verify.mode = VerifyMode::Checksum;
    for (read_bytes, word) in [(false, Verified::Unverified), (true, Verified::Checksum)] {
        settings.verify.read_bytes = read_bytes;
        settings.verify.rate_mb_s = Some(100.0);
        let mut sink = ButlerSink::new("site", settings.clone(), Box::new(NoHistory))?;
        let mut datasets = site.products(&new_run("checksum"), 2)?;
        datasets[0].adler32 = Some("039e00f7".into());
        datasets[1].adler32 = Some("00000001".into());
        let requests = requests(&datasets);
        let settled = in_order(&requests, sink.deliver(requests.clone()));
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

#[test]
fn storage_that_does_not_answer_in_time_leaves_a_file_unverified() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let mut settings = settings(&site.root)?;
    settings.verify.mode = VerifyMode::Checksum;
    settings.verify.read_bytes = true;
    settings.verify.timeout_s = 0.5;
    let mut sink = ButlerSink::new("site", settings, Box::new(NoHistory))?;
    let mut datasets = site.products(&new_run("slow"), 3)?;
    // A pipe that nobody writes to: whoever opens it hangs.
    std::fs::remove_file(&datasets[1].uri)?;
    ensure!(
        std::process::Command::new("mkfifo")
            .arg(&datasets[1].uri)
            .status()?
            .success()
    );
    for dataset in &mut datasets {
        dataset.adler32 = Some("039e00f7".into());
    }
    let requests = requests(&datasets);
    let settled = in_order(&requests, sink.deliver(requests.clone()));
    ensure!(words(&settled) == ["ingested"; 3], "{settled:?}");
    let verified: Vec<_> = settled.iter().map(|answer| answer.verified).collect();
    ensure!(verified == [Verified::Checksum, Verified::Unverified, Verified::Checksum]);
    site.assert_registered(&datasets)
}

#[test]
fn in_auto_mode_files_inside_the_root_stay_and_others_are_copied() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let mut settings = settings(&site.root)?;
    settings.transfer.data_product = TransferMode::Auto;
    let mut sink = ButlerSink::new("site", settings, Box::new(NoHistory))?;
    let mut datasets = site.products(&new_run("auto"), 4)?;
    for dataset in &mut datasets[..2] {
        let inside = format!("{}/inside-{}.yaml", site.root, dataset.uuid);
        std::fs::rename(&dataset.uri, &inside)?;
        dataset.uri = inside;
    }
    let requests = requests(&datasets);
    let settled = in_order(&requests, sink.deliver(requests.clone()));
    ensure!(words(&settled) == ["ingested"; 4], "{settled:?}");
    site.assert_registered(&datasets[..2])?;
    let uuids = [datasets[2].uuid, datasets[3].uuid];
    for (uuid, there) in site.content(&uuids)?.as_object().into_iter().flatten() {
        let uri = there["uri"].as_str().unwrap_or_default();
        ensure!(
            uri.starts_with(&format!("file://{}/", site.root)),
            "{uuid}: {uri}"
        );
    }
    let settled = in_order(&requests, sink.deliver(requests.clone()));
    ensure!(words(&settled) == ["already_there"; 4], "{settled:?}");
    Ok(())
}

/// Does with a raw what `lsst.obs.base` does: the records come from its header, here from its name.
/// That package is in a full stack environment only.
const RAW_INGEST_TASK: &str = r#"
from types import SimpleNamespace

from lsst.daf.butler import DatasetRef, DatasetType, FileDataset


class RawIngestTask:
    ConfigClass = SimpleNamespace

    def __init__(self, config, butler):
        self.config, self.butler = config, butler

    def run(self, files):
        registry = self.butler.registry
        dataset_type = DatasetType("raw", ["instrument", "exposure", "detector"], "StructuredDataDict", universe=self.butler.dimensions)
        registry.registerDatasetType(dataset_type)
        bad = []
        for path in files:
            _, id, exposure, run = path.basename().removesuffix(".yaml").split("~")
            exposure = int(exposure)
            if exposure % 2:
                bad.append(path)
                continue
            registry.insertDimensionData("group", {"instrument": "FakeCam", "name": str(exposure)})
            registry.insertDimensionData("exposure", {"instrument": "FakeCam", "id": exposure, "obs_id": str(exposure), "day_obs": 20260401, "group": str(exposure), "physical_filter": "r_03"})
            ref = DatasetRef(dataset_type, registry.expandDataId(instrument="FakeCam", exposure=exposure, detector=1), run=run, id=__import__("uuid").UUID(id))
            self.butler.ingest(FileDataset(path, ref), transfer=self.config.transfer)
        if bad:
            raise RuntimeError(f"failed: {bad}")
"#;

/// Notes every look at a file's size or existence.
const WATCHED_STORAGE: &str = r#"
import os
from lsst.resources.file import FileResourcePath

def watched(method):
    def watch(path):
        if path.ospath.startswith(os.environ["WATCHED"]):
            with open(os.environ["LOOKS"], "a") as looks:
                looks.write(path.ospath + "\n")
        return method(path)
    return watch

FileResourcePath.size = watched(FileResourcePath.size)
FileResourcePath.exists = watched(FileResourcePath.exists)
"#;

#[test]
fn the_storage_is_asked_for_each_file_once() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let (watch, looks) = (site.folder.join("watch"), site.folder.join("looks"));
    std::fs::create_dir_all(&watch)?;
    std::fs::write(watch.join("sitecustomize.py"), WATCHED_STORAGE)?;
    let mut settings = settings(&site.root)?;
    for (name, value) in [
        ("PYTHONPATH", watch.display().to_string()),
        ("WATCHED", site.folder.join("file-").display().to_string()),
        ("LOOKS", looks.display().to_string()),
    ] {
        settings.worker.environment.insert(name.into(), value);
    }
    let mut sink = ButlerSink::new("site", settings, Box::new(NoHistory))?;
    let datasets = site.products(&new_run("looks"), 30)?;
    let requests = requests(&datasets);
    let settled = in_order(&requests, sink.deliver(requests.clone()));
    ensure!(words(&settled) == ["ingested"; 30], "{settled:?}");
    let mut looked: Vec<String> = std::fs::read_to_string(looks)?.lines().map(Into::into).collect();
    let mut files: Vec<String> = datasets.iter().map(|dataset| dataset.uri.clone()).collect();
    looked.sort();
    files.sort();
    ensure!(looked == files, "looks: {looked:#?}");
    site.assert_registered(&datasets)
}

#[test]
fn a_raw_brings_its_exposure_record_where_headers_can_be_read() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let package = site.folder.join("stack/lsst/obs/base");
    std::fs::create_dir_all(&package)?;
    std::fs::write(package.join("__init__.py"), RAW_INGEST_TASK)?;
    let run = new_run("raws").replace('/', "_");
    let mut raws = site.products(&run, 2)?;
    for (raw, exposure) in raws.iter_mut().zip([90_000, 90_001]) {
        raw.kind = Kind::RawFile;
        raw.dataset_type = "raw".into();
        raw.dimensions = vec!["instrument", "detector", "exposure"];
        raw.data_id = json!({"instrument": "FakeCam", "detector": 1, "exposure": exposure});
        let named = site
            .folder
            .join(format!("raw~{}~{exposure}~{run}.yaml", raw.uuid));
        std::fs::rename(&raw.uri, &named)?;
        raw.uri = named.display().to_string();
    }
    // Without that package both wait.
    let settled = site.deliver(requests(&raws));
    ensure!(waits_for(&settled[0])? == "dimension:exposure/FakeCam/90000");
    let mut settings = settings(&site.root)?;
    let path = site.folder.join("stack").display().to_string();
    settings.worker.environment.insert("PYTHONPATH".into(), path);
    ensure!(check(&settings)?.has_raw_ingest_task);
    let mut sink = ButlerSink::new("site", settings, Box::new(NoHistory))?;
    let requests = requests(&raws);
    let settled = in_order(&requests, sink.deliver(requests.clone()));
    ensure!(words(&settled) == ["ingested", "waiting"], "{settled:?}");
    ensure!(
        settled[0]
            .provides
            .contains(&"dimension:exposure/FakeCam/90000".into())
    );
    ensure!(waits_for(&settled[1])? == "dimension:exposure/FakeCam/90001");
    site.assert_registered(&raws[..1])
}
