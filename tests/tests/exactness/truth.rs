//! Nights against Rucio's own table, and how near to it less than everything comes.
#![allow(clippy::unwrap_used)]

use crate::{
    night::{Key, NIGHTS, Night, key},
    oracle::{Oracle, micros},
    replay::Replay,
};
use anyhow::Result;
use dbb_events::Micros;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

type States = BTreeMap<Key, String>;

/// The states in the file `replicas.ndjson`.
fn replayed(replay: &Replay) -> Result<States> {
    let rows = replay.rows("out/replicas.ndjson")?;
    let states: States = rows.iter().map(|row| (key(row), state(row))).collect();
    assert_eq!(states.len(), rows.len(), "a replica has two rows");
    Ok(states)
}

fn state(row: &Value) -> String {
    row["state"].as_str().unwrap_or_default().to_owned()
}

fn true_states(night: &Night) -> Result<States> {
    Ok(night
        .truth()?
        .iter()
        .map(|(key, row)| (key.clone(), state(row)))
        .collect())
}

fn available(states: &States) -> BTreeSet<&Key> {
    let available = states.iter().filter(|(_, state)| *state == "AVAILABLE");
    available.map(|(key, _)| key).collect()
}

/// Every row is that of the oracle: state, basis and time.
fn prove(replay: &Replay, oracle: &Oracle) -> Result<()> {
    let wanted = oracle.replicas();
    let rows = replay.rows("out/replicas.ndjson")?;
    let found: BTreeMap<Key, (String, String, i64)> = rows
        .iter()
        .map(|row| {
            let basis = row["basis"].as_str().unwrap_or_default().to_owned();
            (key(row), (state(row), basis, micros(&row["updated_at"])))
        })
        .collect();
    for (key, row) in &found {
        assert_eq!(wanted.get(key), Some(row), "{key:?}");
    }
    assert_eq!(found.len(), wanted.len());
    Ok(())
}

#[test]
fn with_events_and_direct_registrations_what_is_available_is_exact() {
    for name in NIGHTS {
        let night = Night::read(name).unwrap();
        let replay = Replay::new().unwrap();
        replay.file("events.ndjson", &night.events).unwrap();
        let registrations = night.registrations();
        replay.file("journal.ndjson", &registrations).unwrap();
        let ended = replay
            .run_well("events.ndjson --journal journal.ndjson --view replicas --out out --workers 2")
            .unwrap();
        let (found, truth) = (replayed(&replay).unwrap(), true_states(&night).unwrap());
        assert_eq!(available(&found), available(&truth), "night {name}");
        prove(&replay, &Oracle::of(&night.events, &registrations)).unwrap();
        // What was left out of the journal is missed.
        assert!(ended.told.contains("in journals, first: row"), "{}", ended.told);
    }
}

#[test]
fn with_the_whole_journal_every_state_is_exact() {
    for name in NIGHTS {
        let night = Night::read(name).unwrap();
        let replay = Replay::new().unwrap();
        replay.file("events.ndjson", &night.events).unwrap();
        replay.file("journal.ndjson", &night.journal).unwrap();
        replay
            .run_well("events.ndjson --journal journal.ndjson --out out --strict --workers 2")
            .unwrap();
        let truth = night.truth().unwrap();
        assert_eq!(
            replayed(&replay).unwrap(),
            true_states(&night).unwrap(),
            "night {name}"
        );
        prove(&replay, &Oracle::of(&night.events, &night.journal)).unwrap();
        let rows = replay.rows("out/replicas.ndjson").unwrap();
        let mut usage: BTreeMap<[String; 3], (i64, i64)> = BTreeMap::new();
        for row in &rows {
            let wanted = &truth[&key(row)];
            assert_eq!(row["bytes"], wanted["bytes"], "{row}");
            assert_eq!(row["adler32"], wanted["adler32"], "{row}");
            let text = |field: &str| row[field].as_str().unwrap().to_owned();
            let sums = usage
                .entry([text("rse"), text("scope"), text("state")])
                .or_default();
            sums.0 += 1;
            sums.1 += row["bytes"].as_i64().unwrap();
        }
        let told: Vec<([String; 3], (i64, i64))> = replay
            .rows("out/rse_usage.ndjson")
            .unwrap()
            .iter()
            .map(|row| {
                let text = |field: &str| row[field].as_str().unwrap().to_owned();
                let number = |field: &str| row[field].as_i64().unwrap();
                let of = [text("rse"), text("scope"), text("state")];
                (of, (number("files"), number("bytes")))
            })
            .collect();
        assert_eq!(
            told,
            usage.into_iter().collect::<Vec<_>>(),
            "sorted, and the sums of the rows"
        );
    }
}

#[test]
fn rows_have_the_columns_that_are_promised_in_order() {
    let night = Night::read("c").unwrap();
    let replay = Replay::new().unwrap();
    replay.file("events.ndjson", &night.events).unwrap();
    replay.run_well("events.ndjson --out out").unwrap();
    for (file, columns) in [
        (
            "replicas",
            &[
                "scope",
                "name",
                "rse",
                "state",
                "bytes",
                "adler32",
                "basis",
                "updated_at",
            ][..],
        ),
        ("rse_usage", &["rse", "scope", "state", "files", "bytes"]),
    ] {
        let text = replay
            .files("out")
            .unwrap()
            .remove(&format!("{file}.ndjson"))
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().next().unwrap();
        let places: Vec<Option<usize>> = columns
            .iter()
            .map(|column| line.find(&format!("\"{column}\":")))
            .collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{line}");
        let row: Value = serde_json::from_str(line).unwrap();
        assert_eq!(row.as_object().unwrap().len(), columns.len());
    }
}

/// What the table held at a moment, as a snapshot's lines: a fold of the journal.
fn listing(night: &Night, at: Micros) -> Vec<String> {
    let mut table: BTreeMap<Key, Value> = BTreeMap::new();
    for line in &night.journal {
        let mut row: Value = serde_json::from_str(line).unwrap();
        if micros(&row["at"]) > at.0 {
            break;
        }
        let word = match row["new_state"].as_str() {
            _ if row["op"] == "D" => {
                table.remove(&key(&row));
                continue;
            }
            Some(letter) => letter.to_owned(),
            None => continue,
        };
        row["state"] = word.into();
        table.insert(key(&row), row);
    }
    let header = format!(r#"{{"snapshot_at": "{at}", "replicas": {}}}"#, table.len());
    let rows = table.into_values().map(|row| {
        serde_json::json!({"scope": row["scope"], "name": row["name"], "rse": row["rse"], "state": row["state"],
            "bytes": row["bytes"], "adler32": row["adler32"]})
        .to_string()
    });
    std::iter::once(header).chain(rows).collect()
}

/// How exact less than everything is. A night stands for ten hours: a listing each hour is ten of them, the
/// last an hour before the end; one a day is the one in the middle.
#[test]
fn listings_make_up_for_what_no_event_tells() {
    println!("| night | sources | AVAILABLE in truth | found right | wrong | missing | all states right |");
    println!("|---|---|---:|---:|---:|---:|---:|");
    for name in NIGHTS {
        let night = Night::read(name).unwrap();
        let truth = true_states(&night).unwrap();
        let (begin, end) = night.span().unwrap();
        let at = |part: f64| Micros(begin.0 + ((end.0 - begin.0) as f64 * part) as i64);
        let tenths: Vec<Micros> = (1..10).map(|n| at(f64::from(n) / 10.0)).collect();
        let mut missing = Vec::new();
        for (sources, times) in [
            ("events alone", vec![]),
            ("events, a listing a day", vec![at(0.5)]),
            ("events, a listing each hour", tenths),
            ("events, a listing at the end", vec![end]),
        ] {
            let replay = Replay::new().unwrap();
            replay.file("events.ndjson", &night.events).unwrap();
            let mut arguments = "events.ndjson --view replicas --out out".to_owned();
            for (n, at) in times.iter().enumerate() {
                replay.file(&format!("listing{n}"), listing(&night, *at)).unwrap();
                arguments.push_str(&format!(" --listing listing{n}"));
            }
            replay.run_well(&arguments).unwrap();
            let found = replayed(&replay).unwrap();
            let (there, wanted) = (available(&found), available(&truth));
            let right = there.intersection(&wanted).count();
            let states = truth
                .iter()
                .filter(|(key, state)| found.get(*key) == Some(state))
                .count();
            println!(
                "| {name} | {sources} | {} | {right} | {} | {} | {states} of {} |",
                wanted.len(),
                there.len() - right,
                wanted.len() - right,
                truth.len()
            );
            missing.push(wanted.len() - right);
            if sources.ends_with("end") {
                assert_eq!(found, truth, "a complete listing at the end is the truth");
            }
        }
        assert!(missing[0] > missing[1], "night {name}: {missing:?}");
        assert!(
            missing.is_sorted_by(|more, less| more >= less),
            "night {name}: {missing:?}"
        );
    }
}
