//! The same hundred datasets, told in every form in which a hub learns of them, give the same registry content.

// The tests of look-ups need more of it.
#[allow(dead_code)]
#[path = "../lookup/server.rs"]
mod server;

use crate::harness::{Database, Dataset, Site, request};
use anyhow::{Context, Result, bail, ensure};
use dbb_events::{Action, Ask, Did, Found, Kind, Request, Rse};
use dbb_sinks::lookup::{LookUpSettings, LookUps};
use dbb_test_services::scratch;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path};

const RUN: &str = "test/forms";

#[test]
fn the_same_hundred_datasets_in_every_form_give_the_same_registry_content() -> Result<()> {
    let folder = scratch("forms")?;
    let files = folder.path().join("files");
    fs::create_dir(&files)?;
    let datasets: Vec<Dataset> = (0..100)
        .map(|n| {
            let file = files.join(format!("{n}.yaml"));
            fs::write(&file, "a: 1\n")?;
            Ok(Dataset::new(file.display().to_string(), RUN, 1 + n / 10, n % 10))
        })
        .collect::<Result<_>>()?;

    // In the event itself: nothing is looked up.
    let wanted = registered(datasets.iter().map(Dataset::request).collect())?;
    ensure!(wanted.as_object().is_some_and(|datasets| datasets.len() == 100));

    let known = datasets.iter().map(|dataset| {
        let metadata = json!({"rubin_butler": "data_product", "rubin_sidecar": dataset.sidecar()});
        Ok((name(dataset)?, metadata))
    });
    let server = server::Server::start(server::rucio(known.collect::<Result<BTreeMap<_, _>>>()?))?;
    fs::write(folder.path().join("token"), "token-1")?;
    let rucio = json!({"rucio": {"url": format!("http://127.0.0.1:{}", server.port), "account": "dbb",
        "auth": {"token_file": folder.path().join("token")}}});
    ensure!(content(&datasets, &rucio)? == wanted, "by Rucio");
    ensure!(server.asked().len() == 1 && server.bulks() == 1);

    let documents = json!({"documents": {"prefixes": [{"from": "davs://door/", "to": files}]}});
    for (form, extension) in [("one in JSON each", "json"), ("one in YAML each", "yaml")] {
        for dataset in &datasets {
            fs::write(format!("{}.{extension}", dataset.uri), text(dataset, extension)?)?;
        }
        ensure!(content(&datasets, &documents)? == wanted, "{form}");
        for dataset in &datasets {
            fs::remove_file(format!("{}.{extension}", dataset.uri))?;
        }
    }
    let all: Result<String> = datasets
        .iter()
        .map(|dataset| {
            Ok(format!(
                "-\n  file: {}\n{}",
                name(dataset)?,
                text(dataset, "yaml")?
            ))
        })
        .collect();
    fs::write(files.join("sidecars.yaml"), all?.as_str())?;
    ensure!(content(&datasets, &documents)? == wanted, "one for all");
    Ok(())
}

/// The document of one dataset, with its keys in an order of its own.
fn text(dataset: &Dataset, extension: &str) -> Result<String> {
    let sidecar: Value = serde_json::from_str(&dataset.sidecar())?;
    if extension == "json" {
        return Ok(serde_json::to_string_pretty(&sidecar)?);
    }
    let mut lines = format!(
        "  run: '{}'\n  id: {}\n  dataId:\n    dataId:\n",
        dataset.run, dataset.uuid
    );
    for (dimension, value) in dataset.data_id.as_object().context("a data id")?.iter().rev() {
        lines += &format!("      {dimension}: {value}\n");
    }
    lines += &format!(
        "  datasetType:\n    dimensions: [{}]\n    storageClass: {}\n    name: {}\n",
        dataset.dimensions.join(", "),
        dataset.storage_class,
        dataset.dataset_type
    );
    Ok(lines)
}

fn name(dataset: &Dataset) -> Result<String> {
    let name = Path::new(&dataset.uri).file_name().context("a name")?;
    Ok(name.to_string_lossy().into_owned())
}

/// What a new repository has of `datasets`, of which nothing is known but what these look-ups tell.
fn content(datasets: &[Dataset], look_ups: &Value) -> Result<Value> {
    let settings: LookUpSettings = serde_json::from_value(look_ups.clone())?;
    let mut all = LookUps::open(&settings)?;
    let asks = datasets.iter().map(|dataset| {
        let name = name(dataset)?;
        Ok(Ask {
            url: Some(format!("davs://door/{name}").into()),
            did: Did::new("raw", name),
            rse: Rse::new("X"),
            source_url: None,
        })
    });
    let answers = all.threads.remove(0).look_up(asks.collect::<Result<_>>()?);
    let requests = answers.into_iter().zip(datasets).map(|((_, found), dataset)| {
        let Found::Labels(labels) = found else {
            bail!("{found:?}");
        };
        ensure!(labels["rubin_butler"] == Kind::DataProduct.as_str());
        let mut request = request(Kind::DataProduct, &dataset.uri);
        request.sidecar = labels["rubin_sidecar"].as_str().context("a sidecar")?.into();
        request.bytes = dataset.bytes;
        Ok(request)
    });
    registered(requests.collect::<Result<_>>()?)
}

fn registered(requests: Vec<Request>) -> Result<Value> {
    ensure!(
        requests
            .iter()
            .all(|request| request.action == Action::Register(Kind::DataProduct))
    );
    let sidecars: Vec<Value> = requests
        .iter()
        .map(|request| serde_json::from_str(&request.sidecar))
        .collect::<Result<_, _>>()?;
    let uuids: Vec<_> = sidecars
        .iter()
        .filter_map(|sidecar| sidecar["id"].as_str()?.parse().ok())
        .collect();
    let mut site = Site::new(Database::Sqlite, None)?;
    for answer in site.deliver(requests) {
        ensure!(answer.outcome.as_str() == "ingested", "{:?}", answer.outcome);
    }
    site.content(&uuids)
}
