//! Bad input is named with its count and its first place, never guessed; `--strict` makes it status 1.
#![allow(clippy::unwrap_used)]

use crate::{night::Night, replay::Replay};
use flate2::{Compression, write::GzEncoder};
use std::{fs, io::Write};

/// Replays, which works, and again strictly, which does not: both tell this.
fn named(replay: &Replay, arguments: &str, wanted: &str) {
    for (strict, status) in [("", 0), ("--strict", 1)] {
        let ended = replay.run(&format!("{arguments} {strict}")).unwrap();
        assert!(ended.told.contains(wanted), "wanted {wanted}:\n{}", ended.told);
        assert_eq!(ended.status, status, "{}", ended.told);
    }
}

#[test]
fn what_is_wrong_with_a_journal_is_named() {
    let night = Night::read("c").unwrap();
    let replay = Replay::new().unwrap();
    replay.file("events", &night.events).unwrap();
    let mut journal = night.journal.clone();
    journal.remove(700);
    journal.drain(10..13);
    replay.file("gaps", &journal).unwrap();
    named(
        &replay,
        "events --journal gaps",
        "2 gaps in journals, first: rows 11 to 13 are missing",
    );

    let mut journal = night.journal.clone();
    journal[500] = journal[500].replace("2026-11-21", "2026-11-20");
    replay.file("clock", &journal).unwrap();
    named(
        &replay,
        "events --journal clock",
        "1 clock that ran backwards, first: clock:",
    );

    let mut journal = night.journal.clone();
    let available = |(_, line): &(usize, &String)| line.contains(r#""new_state": "A""#);
    let places: Vec<usize> = night
        .journal
        .iter()
        .enumerate()
        .filter(available)
        .map(|(at, _)| at)
        .collect();
    let (state, rse) = (places[20], places[21]);
    journal[state] = journal[state].replace(r#""new_state": "A""#, r#""new_state": "X""#);
    journal[rse] = journal[rse].replace(r#""rse""#, r#""esr""#);
    replay.file("words", &journal).unwrap();
    let named = |wanted: &str| named(&replay, "events --journal words", wanted);
    let line = |at: usize| format!("words:{}", at + 1);
    named(&format!(
        "1 row in an unknown state, first: {}: field `new_state` is `X`",
        line(state)
    ));
    named(&format!(
        "1 row of an unknown RSE, first: {}: field `rse` is missing",
        line(rse)
    ));
}

#[test]
fn what_is_wrong_with_a_listing_is_named() {
    let night = Night::read("c").unwrap();
    let replay = Replay::new().unwrap();
    replay.file("events", &night.events).unwrap();
    let mut old = night.snapshot.clone();
    old[0] = old[0].replace("2026-11-21", "2026-11-01");
    replay.file("old", &old).unwrap();
    named(
        &replay,
        "events --listing old",
        "1 listing older than all events, first: old, of 2026-11-01",
    );
    replay.file("cut", &night.snapshot[..100]).unwrap();
    named(
        &replay,
        "events --listing cut",
        "1 listing that is not whole, first: cut:",
    );
    replay.file("bare", &night.snapshot[1..]).unwrap();
    named(
        &replay,
        "events --listing bare",
        "unreadable lines, first: bare:1: nothing tells when it was listed",
    );
    let ended = replay
        .run_well("events --listing bare@2026-11-21T19:29:00Z --strict")
        .unwrap();
    assert!(ended.told.contains("371 rows of listings"), "{}", ended.told);
}

#[test]
fn what_is_wrong_with_events_is_named() {
    let night = Night::read("c").unwrap();
    let replay = Replay::new().unwrap();
    let mut events = night.events.clone();
    events[3] = "{\"event_type\": \"transfer-do".into();
    events[5] = events[5].replacen("\"event_type\": \"", "\"event_type\": \"re", 1);
    replay.file("events", &events).unwrap();
    named(&replay, "events", "1 unreadable line, first: events:4: ");
    named(
        &replay,
        "events",
        "1 event of an unknown type, first: events:6: `re",
    );

    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(night.events.join("\n").as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    fs::write(replay.path().join("cut.gz"), &packed[..packed.len() / 2]).unwrap();
    named(
        &replay,
        "cut.gz",
        "1 damaged or truncated file, first: could not read `cut.gz`",
    );
}

#[test]
fn what_cannot_be_asked_is_a_usage_error_with_a_hint() {
    let replay = Replay::new().unwrap();
    replay.file("events", ["{}"]).unwrap();
    for (arguments, status, wanted) in [
        (
            "events --view rse_useage --out out",
            2,
            "did you mean `rse_usage`?",
        ),
        (
            "events --view ingest_backlog --out out",
            2,
            "a replay cannot make the view `ingest_backlog`",
        ),
        ("events --view placement --out out", 2, "--policies"),
        ("nowhere --out out", 78, "nowhere"),
        ("events --until soon", 2, "not a time"),
    ] {
        let ended = replay.run(arguments).unwrap();
        assert!(
            ended.status == status && ended.told.contains(wanted),
            "{arguments}: {} {}",
            ended.status,
            ended.told
        );
    }
}

#[test]
fn until_includes_its_moment() {
    let night = Night::read("c").unwrap();
    let replay = Replay::new().unwrap();
    replay.file("events", &night.events).unwrap();
    let mut times: Vec<String> = night
        .events
        .iter()
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["created_at"].as_str().unwrap().to_owned()
        })
        .collect();
    times.sort();
    let until = times[700].replace(' ', "T");
    let later = times.iter().filter(|at| **at > times[700]).count();
    let ended = replay.run_well(&format!("events --until {until}")).unwrap();
    assert!(
        ended.told.contains(&format!(", {later} later than asked for")),
        "{}",
        ended.told
    );
}
