//! A night through a hub, against the rules of the filter whose place it takes.

use crate::{Hub, Published, numbers_are_whole};
use anyhow::{Context, Result, ensure};
use dbb_test_services::{Metadata, RucioStub, python, root};
use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::Duration,
};

/// The lines of a recording among the data of tests.
pub(crate) fn lines(name: &str) -> Result<Vec<String>> {
    let path = root().join(format!("tests/data/rucio-events/{name}.ndjson.gz"));
    Ok(BufReader::new(GzDecoder::new(File::open(path)?))
        .lines()
        .collect::<std::io::Result<_>>()?)
}

/// Its file, `scope:name`.
pub(crate) fn did(event: &Value) -> String {
    let text = |name: &str| event["payload"][name].as_str().unwrap_or_default();
    format!("{}:{}", text("scope"), text("name"))
}

/// What Rucio knows of the night's files: those of the sample as Rubin labels them, a third of the others as zips, the
/// rest without labels.
pub(crate) fn known(night: &[Value], sample: &[Value]) -> Metadata {
    let mut known = Metadata::new();
    for event in sample {
        let label = |name: &str| event["payload"][name].clone();
        let labels = [
            ("rubin_butler", label("rubin_butler")),
            ("rubin_sidecar", label("rubin_sidecar")),
            ("bytes", json!(7)),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value));
        known.insert(did(event), Map::from_iter(labels));
    }
    for (at, event) in night.iter().enumerate() {
        let labels = match at % 3 {
            0 => json!({"rubin_butler": "zip_file", "rubin_sidecar": ""}),
            1 => json!({"rubin_butler": "dim_file"}),
            _ => json!({"rubin_butler": null, "guid": "none"}),
        };
        let Value::Object(labels) = labels else { continue };
        known.entry(did(event)).or_insert(labels);
    }
    known
}

pub(crate) fn parsed(lines: &[String]) -> Result<Vec<Value>> {
    lines.iter().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[test]
fn sites_are_sent_byte_for_byte_what_the_filter_sent_and_what_it_dropped_beside_it() -> Result<()> {
    let night = lines("night-a-events")?;
    let events = parsed(&night)?;
    let records = parsed(&lines("rubin-topic-sample")?)?;
    let values: Vec<String> = records
        .iter()
        .filter_map(|r| Some(r["value"].as_str()?.to_owned()))
        .collect();
    let known = known(&events, &parsed(&values)?);
    let rucio = RucioStub::start(known.clone(), Duration::from_millis(5))?;
    let hub = Hub::make("filter", &rucio, "")?;
    // Repeats among them, far from the first.
    hub.tell(night.iter().chain(night.iter().step_by(7)).map(String::as_str))?;
    hub.run_once()?.with(0)?;

    let published = hub.published()?;
    let got: Vec<(String, String)> = published
        .iter()
        .map(|r| (r.topic.clone(), r.value.clone()))
        .collect();
    let mut wanted = filtered(&hub, &night, &known)?;
    let for_sites: BTreeSet<String> = wanted.iter().map(|(topic, _)| topic.clone()).collect();
    // The sample gives some files other labels at another RSE; the others are the very records.
    let of_sample = wanted.iter().filter(|(_, value)| values.contains(value)).count();
    for (line, event) in night.iter().zip(&events) {
        let text = |name: &str| event["payload"][name].as_str().unwrap_or_default();
        let butler = known[&did(event)]
            .get("rubin_butler")
            .is_some_and(|label| !label.is_null());
        match event["event_type"].as_str().unwrap_or_default() {
            "transfer-done" if !butler => {
                wanted.push((
                    format!("{}-{}-files", text("dst-rse"), text("scope")),
                    line.clone(),
                ));
            }
            "deletion-done" | "deletion-not-found" | "deletion-failed" => {
                wanted.push((
                    format!("{}-{}-deletions", text("rse"), text("scope")),
                    line.clone(),
                ));
            }
            _ => {}
        }
    }
    wanted.sort();
    let times = |all: &[(String, String)]| {
        let mut times: BTreeMap<(String, String), i32> = BTreeMap::new();
        all.iter()
            .for_each(|one| *times.entry(one.clone()).or_default() += 1);
        times
    };
    let (got, wanted) = (times(&got), times(&wanted));
    let first = |a: &BTreeMap<(String, String), i32>, b: &BTreeMap<(String, String), i32>| {
        a.iter()
            .find(|(one, n)| b.get(one) != Some(n))
            .map(|(one, n)| format!("{n} times {one:?}"))
    };
    ensure!(
        got == wanted,
        "{} records instead of {}; too many: {:?}; too few: {:?}",
        got.len(),
        wanted.len(),
        first(&got, &wanted),
        first(&wanted, &got)
    );
    ensure!(
        for_sites.len() > 5 && of_sample > 20,
        "that was no test: {of_sample} of {for_sites:?}"
    );
    marks_are_right(&published)?;
    numbers_are_whole(&published)?;
    let (requests, dids) = rucio.asked();
    let landed = events
        .iter()
        .filter(|event| event["event_type"] == "transfer-done")
        .count() as u64;
    ensure!(
        dids <= landed && requests <= 40,
        "{requests} requests for {dids} DIDs of {landed} events"
    );
    let counts = hub.ledger()?.counts()?;
    ensure!(
        counts["landing"] > landed && counts["deletion"] >= 837 && counts["other_event_type"] > 4000,
        "{counts:?}"
    );
    ensure!(
        hub.rows()?.is_empty(),
        "what is published at once has no row: {:?}",
        hub.rows()?
    );

    // All offsets are committed, and everything is told once.
    hub.run_once()?.with(0)?;
    ensure!(
        hub.published()?.len() == published.len(),
        "a second run published more"
    );
    Ok(())
}

fn marks_are_right(published: &[Published]) -> Result<()> {
    let mut ids = BTreeSet::new();
    for record in published {
        let event: Value = serde_json::from_str(&record.value)?;
        ensure!(record.key == did(&event), "{record:?}");
        ensure!(
            record.id.len() == 32 && ids.insert(&record.id),
            "not one of its own: {record:?}"
        );
    }
    Ok(())
}

/// What the rules of the filter make of these events: topic and value of each record.
fn filtered(hub: &Hub, night: &[String], known: &Metadata) -> Result<Vec<(String, String)>> {
    let labels = hub.folder.path().join("labels.json");
    fs::write(&labels, json!(known).to_string())?;
    let mut filter = Command::new(python()?)
        .arg(root().join("tests/tests/hub/filter.py"))
        .arg(labels)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut input, text) = (filter.stdin.take().context("no input")?, night.join("\n"));
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = filter.wait_with_output()?;
    ensure!(output.status.success(), "the filter failed");
    drop(writer.join());
    String::from_utf8(output.stdout)?
        .lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line)?;
            let field = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            Ok((field("topic"), field("value")))
        })
        .collect()
}
