//! The archive: each distinct event once, in files of the size asked for.
#![allow(clippy::unwrap_used)]

use crate::{night::Night, replay::Replay};
use serde_json::Value;
use std::{collections::BTreeSet, fs};

/// All rows of an archive of lines, each with the folder that it is in; no file has more than `most`.
fn rows(replay: &Replay, folder: &str, most: usize) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for partition in fs::read_dir(replay.path().join(folder)).unwrap() {
        let partition = partition.unwrap();
        let name = partition.file_name().into_string().unwrap();
        for file in fs::read_dir(partition.path()).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(
                (1..=most).contains(&text.lines().count()),
                "{}",
                text.lines().count()
            );
            let rows = text.lines().map(|line| serde_json::from_str(line).unwrap());
            all.extend(rows.map(|row: Value| (name.clone(), row)));
        }
    }
    all
}

#[test]
fn each_event_is_archived_once_under_its_rse_whatever_the_workers() {
    let night = Night::read("b").unwrap();
    let replay = Replay::new().unwrap();
    replay.file("events/1", &night.events[..1500]).unwrap();
    replay.file("events/2", &night.events[1500..]).unwrap();
    let mut known: Option<BTreeSet<String>> = None;
    for (workers, processes) in [(1, 1), (2, 1), (4, 1), (1, 2)] {
        let arguments = format!(
            "events --archive archive --archive-replace --archive-format ndjson --archive-rows 100 --workers {workers}"
        );
        match processes {
            1 => {
                let ended = replay.run_well(&arguments).unwrap();
                assert!(
                    ended.told.contains("3525 events read, 85 repeats"),
                    "{}",
                    ended.told
                );
                assert!(
                    ended.told.contains("3440 distinct events archived"),
                    "{}",
                    ended.told
                );
            }
            _ => replay.run_as(processes, &arguments).unwrap(),
        }
        let rows = rows(&replay, "archive", 100);
        assert_eq!(rows.len(), 3440);
        for (folder, row) in &rows {
            let rse = row["rse"].as_str().unwrap_or("__HIVE_DEFAULT_PARTITION__");
            assert_eq!(*folder, format!("rse={rse}"));
        }
        let ids: BTreeSet<&str> = rows.iter().map(|(_, row)| row["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 3440);
        let texts: BTreeSet<String> = rows.iter().map(|(_, row)| row.to_string()).collect();
        match &known {
            Some(known) => assert!(*known == texts, "{workers} workers, {processes} processes"),
            None => known = Some(texts),
        }
    }
    // A night is told in full: what each row says is what its event says.
    let rows = rows(&replay, "archive", 100);
    let told: BTreeSet<(String, String, String)> = rows
        .iter()
        .map(|(_, row)| {
            let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
            (text("event_type"), text("name"), text("created_at"))
        })
        .collect();
    for line in &night.events {
        let event: Value = serde_json::from_str(line).unwrap();
        let at = event["created_at"]
            .as_str()
            .and_then(dbb_events::Micros::parse)
            .unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let row = (
            text(&event["event_type"]),
            text(&event["payload"]["name"]),
            at.to_string(),
        );
        assert!(told.contains(&row), "{line}");
    }
}

#[test]
fn an_archive_is_replaced_only_when_asked_for_and_nothing_else_ever() {
    let night = Night::read("c").unwrap();
    let replay = Replay::new().unwrap();
    replay.file("events", &night.events).unwrap();
    let old = replay.file("archive/rse=OLD/part-0.ndjson", ["{}"]).unwrap();
    let ended = replay.run("events --archive archive").unwrap();
    assert!(
        ended.status == 1 && ended.told.contains("rse=OLD"),
        "{}",
        ended.told
    );
    assert!(old.exists());
    replay
        .run_well("events --archive archive --archive-replace --archive-format ndjson")
        .unwrap();
    assert_eq!(rows(&replay, "archive", 1000).len(), 1424);
    replay.file("precious/thesis.tex", ["mine"]).unwrap();
    let ended = replay.run("events --archive precious --archive-replace").unwrap();
    assert!(
        ended.status == 1 && ended.told.contains("thesis.tex"),
        "{}",
        ended.told
    );
    assert!(replay.path().join("precious/thesis.tex").exists());
}

/// A transfer of file `name` to `rse`, or to one that is not told.
fn landed(name: &str, rse: Option<&str>) -> String {
    let mut event = serde_json::json!({
        "event_type": "transfer-done", "created_at": "2026-11-21 19:14:49.938629",
        "payload": {"scope": "raw", "name": name, "bytes": 7, "request-id": format!("{name}-of-{rse:?}")},
    });
    if let Some(rse) = rse {
        event["payload"]["dst-rse"] = rse.into();
    }
    event.to_string()
}

#[test]
fn no_two_rses_share_a_folder_and_every_event_that_is_claimed_is_on_the_disk() {
    let replay = Replay::new().unwrap();
    let (long, other) = ("X".repeat(255), format!("{}Y", "X".repeat(254)));
    let rses = [
        None,
        Some(""),
        Some("__HIVE_DEFAULT_PARTITION__"),
        Some("A_DISK"),
        Some("a_disk"),
        Some("A/DISK"),
        Some(".."),
        Some("\u{e9}"),
        Some(&*long),
        Some(&*other),
    ];
    let events = rses
        .iter()
        .zip(1..)
        .map(|(rse, number)| landed(&format!("f{number}"), *rse));
    replay.file("events", events).unwrap();
    for workers in [1, 2] {
        let ended = replay
            .run_well(&format!(
                "events --archive archive --archive-replace --archive-format ndjson --workers {workers}"
            ))
            .unwrap();
        assert!(
            ended.told.contains("10 distinct events archived"),
            "{}",
            ended.told
        );
        let rows = rows(&replay, "archive", 10);
        let told: BTreeSet<(String, Option<&str>)> = rows
            .iter()
            .map(|(_, row)| (row["name"].as_str().unwrap().to_owned(), row["rse"].as_str()))
            .collect();
        let wanted = rses
            .iter()
            .zip(1..)
            .map(|(rse, number)| (format!("f{number}"), *rse));
        assert_eq!(told, wanted.collect());
        let folders: BTreeSet<String> = rows.iter().map(|(folder, _)| folder.to_lowercase()).collect();
        assert_eq!(folders.len(), rses.len(), "{folders:?}");
        assert!(folders.iter().all(|folder| folder.len() <= 255));
    }
}

#[test]
fn an_archive_of_more_than_is_read_ahead_comes_to_its_end() {
    let night = Night::read("c").unwrap();
    let replay = Replay::new().unwrap();
    // Some 40 blocks for the one worker; it may read 16 ahead.
    let times = 40 * 1024 * 1024 / night.events.iter().map(String::len).sum::<usize>();
    let events: Vec<&str> = (0..times)
        .flat_map(|_| night.events.iter().map(String::as_str))
        .collect();
    replay.file("events", &events).unwrap();
    let ended = replay
        .run_well("events --archive archive --archive-format ndjson --workers 1")
        .unwrap();
    assert!(
        ended.told.contains("1424 distinct events archived"),
        "{}",
        ended.told
    );
}
