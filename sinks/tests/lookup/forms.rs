//! The same datasets told in every form: in the event, by Rucio, in documents; one content.

use crate::server::{Server, rucio};
use anyhow::{Context, Result, ensure};
use dbb_events::{Ask, Did, Found, Labels, Outcome, Rse};
use dbb_sinks::lookup::{LookUpSettings, LookUps};
use dbb_test_services::{python, scratch};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path, process::Command};

/// Writes what the Butler itself says of 100 datasets, as text, and the forms of documents, keys in alphabetical order.
const WRITE: &str = r#"
import json, os, sys, uuid, yaml
from lsst.daf.butler import DataCoordinate, DatasetRef, DatasetType, DimensionUniverse

folder, universe, texts = sys.argv[1], DimensionUniverse(), {}
types = {
    "raw": (("instrument", "exposure", "detector"), "Exposure"),
    "calexp": (("instrument", "visit", "detector"), "ExposureF"),
    "deepCoadd": (("skymap", "tract", "patch", "band"), "ExposureF"),
    "bias": (("instrument", "detector"), "ExposureF"),
}
for n in range(100):
    name, (dimensions, storage) = list(types.items())[n % 4]
    dataset_type = DatasetType(name, universe.conform(dimensions), storage, isCalibration=name == "bias")
    values = dict(instrument="LSSTCam", exposure=2026040100000 + n, visit=2026040100000 + n, detector=n, skymap="y", tract=n,
                  patch=n % 7, band="y", physical_filter="y_10", day_obs=20260401, group="2026-04-01T00:00:00.%03d" % n)
    data_id = DataCoordinate.standardize({k: values[k] for k in dataset_type.dimensions.names}, universe=universe)
    ref = DatasetRef(dataset_type, data_id, run="LSSTCam/raw/é \"all\"", id=uuid.UUID(int=n + (7 << 100)))
    texts["%d.fits" % n] = ref.to_json()

def dump(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        if path.endswith(".json"):
            json.dump(value, f, sort_keys=True, indent=1)
        else:
            yaml.safe_dump(value, f, sort_keys=True)

values = {name: json.loads(text) for name, text in texts.items()}
dump(f"{folder}/texts.json", texts)
for name, value in values.items():
    dump(f"{folder}/json/{name}.json", value)
    dump(f"{folder}/yaml/{name}.yaml", value)
    for batch in "list", "map", "labelled":
        dump(f"{folder}/{batch}/{name}", {})
dump(f"{folder}/list/sidecars.yaml", [{"file": name, **value} for name, value in values.items()])
dump(f"{folder}/map/sidecars.json", values)
kind = lambda value: "raw_file" if value["datasetType"]["name"] == "raw" else "data_product"
dump(f"{folder}/labelled/sidecars.yaml", {
    name: {"rubin_butler": kind(value), "rubin_sidecar": value} for name, value in values.items()})
"#;

fn ask(name: &str, folder: &str) -> Ask {
    Ask {
        did: Did::new("raw", name),
        rse: Rse::new("X"),
        url: Some(format!("davs://door:443//raw/{folder}/{name}").into()),
        source_url: None,
    }
}

fn settings(folder: &Path) -> Result<LookUpSettings> {
    let prefixes = json!([{"from": "davs://door:443/raw/", "to": "/nowhere"}, {"from": "davs://door:443//raw/", "to": folder}]);
    Ok(serde_json::from_value(
        json!({"documents": {"prefixes": prefixes}}),
    )?)
}

/// The labels of all of `names`, as they would be published.
fn labels(settings: &LookUpSettings, names: &[&String], folder: &str) -> Result<BTreeMap<String, Labels>> {
    let mut all = LookUps::open(settings)?;
    let asks = names.iter().map(|name| ask(name, folder)).collect();
    let answers = all.threads.remove(0).look_up(asks);
    let labels = answers.into_iter().map(|(ask, found)| match found {
        Found::Labels(labels) => Ok((ask.did.name.to_string(), (*labels).clone())),
        other => anyhow::bail!("{}: {other:?}", ask.did),
    });
    labels.collect()
}

#[test]
fn the_same_hundred_datasets_have_the_same_labels_in_every_form() -> Result<()> {
    let folder = scratch("forms")?;
    let written = Command::new(python()?)
        .args(["-c", WRITE])
        .arg(folder.path())
        .output()?;
    ensure!(
        written.status.success(),
        "{}",
        String::from_utf8_lossy(&written.stderr)
    );
    let texts: BTreeMap<String, String> =
        serde_json::from_slice(&fs::read(folder.path().join("texts.json"))?)?;
    ensure!(texts.len() == 100);
    let kind = |text: &str| {
        if text.contains(r#""name":"raw""#) {
            "raw_file"
        } else {
            "data_product"
        }
    };
    let in_event: BTreeMap<String, Labels> = texts
        .iter()
        .map(|(name, text)| {
            let labels = [("rubin_butler", kind(text)), ("rubin_sidecar", text)];
            (
                name.clone(),
                labels
                    .map(|(name, value)| (name.into(), Value::from(value)))
                    .into(),
            )
        })
        .collect();
    let names: Vec<&String> = texts.keys().collect();
    let documents = settings(folder.path())?;
    for form in ["json", "yaml", "list", "map", "labelled"] {
        let found = labels(&documents, &names, form)?;
        for name in &names {
            ensure!(
                found[*name] == in_event[*name],
                "{form}: {:?} is not {:?}",
                found[*name],
                in_event[*name]
            );
        }
    }
    let metadata = in_event
        .iter()
        .map(|(name, labels)| Ok((name.clone(), serde_json::to_value(labels)?)));
    let server = Server::start(rucio(metadata.collect::<Result<_>>()?))?;
    let password = folder.path().join("password");
    fs::write(&password, "x")?;
    let auth = json!({"userpass": {"username": "me", "password_file": password}});
    let url = format!("http://127.0.0.1:{}", server.port);
    let rucio = serde_json::from_value(json!({"rucio": {"url": url, "account": "dbb", "auth": auth}}))?;
    ensure!(labels(&rucio, &names, "")? == in_event);
    Ok(())
}

/// What the file at `path` below the folder is told, and the counters.
fn told(folder: &Path, name: &str) -> Result<(Found, dbb_sinks::lookup::LookUpSnapshot)> {
    let mut all = LookUps::open(&settings(folder)?)?;
    let (_, found) = all.threads.remove(0).look_up(vec![ask(name, "d")]).remove(0);
    Ok((found, all.stats.snapshot()))
}

#[test]
fn a_document_that_cannot_be_used_makes_its_file_wait_and_is_named() -> Result<()> {
    let deep = format!("{}{}", "[".repeat(60), "]".repeat(60));
    let cases = [
        ("1.fits.json", "{\"id\": ", "d/1.fits.json`: EOF"),
        ("1.fits.json", &deep, "deeper than 32 levels"),
        ("1.fits.yaml", &deep, "d/1.fits.yaml`"),
        ("1.fits.yaml", "a: &x [1]\nb: *x\n", "d/1.fits.yaml`"),
        ("1.fits.json", "[]", "it is not a mapping"),
        ("1.fits.json", "{}", "has no `id`"),
        ("1.fits.yaml", "id: 1\nrun: true\n", "`id`"),
        (
            "1.fits.yaml",
            "description: Butler Data Repository Export\ndata: []\n",
            "it is a Butler export",
        ),
        (
            "sidecars.json",
            "{\"2.fits\": {}}",
            "it names no file of its folder (but 2.fits)",
        ),
        ("sidecars.yaml", "1.fits: [", "d/sidecars.yaml`"),
        ("sidecars.yaml", "1.fits: {run: r}", "has no `id`"),
    ];
    for (document, text, wanted) in cases {
        let folder = scratch("documents")?;
        let beside = folder.path().join("d");
        fs::create_dir(&beside)?;
        fs::write(beside.join("1.fits"), "")?;
        fs::write(beside.join(document), text)?;
        let (found, stats) = told(folder.path(), "1.fits")?;
        let Found::Later(Outcome::Waiting {
            detail, counts: true, ..
        }) = found
        else {
            anyhow::bail!("{document} {text}: {found:?}");
        };
        ensure!(
            detail.contains(wanted) && detail.contains(document),
            "{text}: {detail}"
        );
        ensure!(stats.documents_bad == 1 && stats.later == 1, "{stats:?}");
    }
    Ok(())
}

#[test]
fn a_document_that_is_mended_is_read_again_and_one_bad_entry_is_its_own_trouble() -> Result<()> {
    let folder = scratch("documents")?;
    let beside = folder.path().join("d");
    fs::create_dir(&beside)?;
    for name in ["1.fits", "2.fits", "3.fits"] {
        fs::write(beside.join(name), "")?;
    }
    let uuid = "95fb898e-a577-5690-8e9c-b1d180f220b0";
    let document = beside.join("sidecars.yaml");
    fs::write(
        &document,
        format!("- {{file: 1.fits, id: {uuid}}}\n- {{file: 2.fits, id: 5}}\n- {{id: {uuid}}}\n"),
    )?;
    let mut all = LookUps::open(&settings(folder.path())?)?;
    let mut look = |name: &str| -> Result<Found> {
        let answers = all
            .threads
            .first_mut()
            .context("a thread")?
            .look_up(vec![ask(name, "d")]);
        Ok(answers.into_iter().next().context("an answer")?.1)
    };
    ensure!(matches!(look("1.fits")?, Found::Labels(_)));
    ensure!(matches!(look("2.fits")?, Found::Later(_)));
    let Found::Later(Outcome::Waiting { detail, .. }) = look("3.fits")? else {
        anyhow::bail!("3.fits is in no document");
    };
    ensure!(
        detail.contains("there is no sidecar document for raw:3.fits: none of `"),
        "{detail}"
    );
    fs::write(
        &document,
        format!("2.fits: {{id: {uuid}}}\n3.fits: {{rubin_butler: zip_file}}\n"),
    )?;
    ensure!(matches!(look("2.fits")?, Found::Labels(_)));
    let Found::Labels(zip) = look("3.fits")? else {
        anyhow::bail!("3.fits is a zip");
    };
    ensure!(zip["rubin_butler"] == "zip_file");
    ensure!(
        all.stats.snapshot().documents_bad == 2,
        "{:?}",
        all.stats.snapshot()
    );
    Ok(())
}
