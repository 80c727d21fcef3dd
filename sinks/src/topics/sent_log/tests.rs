//! The sent log against a model of it, torn, damaged, and too large.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::{At, Batch, Kept, PublishedRecords, SentLog, published};
use crate::topics::SentLogSettings;
use dbb_events::{EventId, Lane, Rse};
use proptest::prelude::*;
use std::{fs, path::PathBuf};
use tempfile::TempDir;

fn settings(folder: &TempDir) -> SentLogSettings {
    SentLogSettings {
        segment_bytes: 2000,
        ..SentLogSettings::of(folder.path())
    }
}

fn lane(partition: i32) -> Lane {
    Lane {
        topic: "SLAC_RAW-raw".into(),
        partition,
    }
}

fn record(id: u64) -> Kept {
    Kept {
        id: EventId(u128::from(id)),
        source: format!("rucio[0]@{id}"),
        key: format!("raw:{id}"),
        body: "x".repeat((id % 90) as usize).into(),
    }
}

/// Adds records of these ids to a lane, from number `first` on.
fn append(log: &mut SentLog, partition: i32, first: u64, confirmed: u64, ids: std::ops::Range<u64>) {
    let records: Vec<Kept> = ids.map(record).collect();
    let records: Vec<&Kept> = records.iter().collect();
    let batch = Batch {
        lane: &lane(partition),
        rse: &Rse::new("SLAC_RAW"),
        first,
        confirmed,
        records: &records,
    };
    log.append(&[batch]).unwrap();
    log.sync().unwrap();
}

fn found(log: &SentLog, partition: i32, from: u64, to: u64) -> Vec<(u64, u128)> {
    let found = log
        .keeper()
        .find(&lane(partition), from, to, &mut At::default())
        .unwrap();
    found
        .into_iter()
        .map(|(number, kept)| (number, kept.id.0))
        .collect()
}

fn files(folder: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|of| of == "sent"))
        .collect();
    files.sort();
    files
}

#[derive(Debug, Clone)]
enum Step {
    /// So many new records; then all of the lane are confirmed.
    Publish(i32, u64),
    /// So many that no broker confirms, and others in their place.
    Renumber(i32, u64, u64),
    /// The process ends, and another begins.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_i32, 1..20_u64).prop_map(|(lane, count)| Step::Publish(lane, count)),
        2 => (0..3_i32, 1..20_u64, 0..20_u64).prop_map(|(lane, lost, count)| Step::Renumber(lane, lost, count)),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_was_confirmed_is_found_by_its_number(steps in proptest::collection::vec(step(), 1..60), from in 1..80_u64, length in 0..50_u64) {
        let folder = TempDir::new().unwrap();
        let mut log = SentLog::open(&settings(&folder)).unwrap();
        let mut model: Vec<Vec<u128>> = vec![Vec::new(); 3];
        let mut id = 0;
        let mut add = |log: &mut SentLog, model: &mut Vec<Vec<u128>>, partition: i32, count: u64, kept: bool| {
            let numbers = &mut model[partition as usize];
            let first = numbers.len() as u64 + 1;
            append(log, partition, first, first - 1, id..id + count);
            if kept {
                numbers.extend((id..id + count).map(u128::from));
            }
            id += count;
        };
        for step in steps {
            match step {
                Step::Publish(lane, count) => add(&mut log, &mut model, lane, count, true),
                Step::Renumber(lane, lost, count) => {
                    add(&mut log, &mut model, lane, lost, false);
                    add(&mut log, &mut model, lane, count, true);
                }
                Step::Restart => {
                    drop(log);
                    log = SentLog::open(&settings(&folder)).unwrap();
                }
            }
        }
        for (partition, numbers) in (0..).zip(&model) {
            let span = log.lanes().get(&lane(partition));
            prop_assert_eq!(span.map_or(1, |span| span.next), numbers.len() as u64 + 1);
            let to = (from + length).min(numbers.len() as u64);
            let expected: Vec<(u64, u128)> = (from..=to).map(|n| (n, numbers[n as usize - 1])).collect();
            if from <= to {
                prop_assert_eq!(found(&log, partition, from, to), expected);
            }
            // In pieces, each from where the last one ended.
            let (mut at, mut pieces) = (At::default(), Vec::new());
            for n in (1..=numbers.len() as u64).step_by(7) {
                let to = (n + 6).min(numbers.len() as u64);
                let found = log.keeper().find(&lane(partition), n, to, &mut at).unwrap();
                pieces.extend(found.into_values().map(|kept| kept.id.0));
            }
            prop_assert_eq!(&pieces, numbers);
        }
    }
}

#[test]
fn a_torn_end_costs_only_what_was_torn() {
    let folder = TempDir::new().unwrap();
    let mut log = SentLog::open(&settings(&folder)).unwrap();
    append(&mut log, 0, 1, 0, 0..10);
    append(&mut log, 0, 11, 10, 10..20);
    drop(log);
    let file = files(&folder).pop().unwrap();
    let whole = fs::read(&file).unwrap();
    for cut in [1, 30, 60] {
        fs::write(&file, &whole[..whole.len() - cut]).unwrap();
        // As it was: a new file begins at each start.
        for other in files(&folder).into_iter().filter(|other| *other != file) {
            fs::remove_file(other).unwrap();
        }
        drop(fs::remove_file(file.with_extension("sent.lanes")));
        let log = SentLog::open(&settings(&folder)).unwrap();
        assert_eq!(log.lanes()[&lane(0)].next, 11, "cut {cut}");
        assert_eq!(found(&log, 0, 1, 10).len(), 10);
    }
}

#[test]
fn a_damaged_record_is_an_error_and_never_another_record() {
    let folder = TempDir::new().unwrap();
    let mut log = SentLog::open(&settings(&folder)).unwrap();
    append(&mut log, 0, 1, 0, 0..10);
    append(&mut log, 0, 11, 10, 10..20);
    let file = files(&folder).pop().unwrap();
    let sound = fs::read(&file).unwrap();
    for place in 0..sound.len() {
        let mut damaged = sound.clone();
        damaged[place] ^= 0x10;
        fs::write(&file, damaged).unwrap();
        let found = log
            .keeper()
            .find(&lane(0), 1, 10, &mut At::default())
            .unwrap_or_default();
        assert!(
            found.iter().all(|(number, kept)| *kept == record(number - 1)),
            "byte {place}"
        );
    }
}

#[test]
fn the_oldest_go_when_there_are_too_many_and_where_lanes_end_stays() {
    let folder = TempDir::new().unwrap();
    let settings = SentLogSettings {
        max_bytes: 10_000,
        ..settings(&folder)
    };
    let mut log = SentLog::open(&settings).unwrap();
    append(&mut log, 1, 1, 0, 5000..5003);
    for batch in 0..200 {
        append(
            &mut log,
            0,
            batch * 10 + 1,
            batch * 10,
            batch * 10..batch * 10 + 10,
        );
    }
    assert!(log.bytes() < 12_500, "{}", log.bytes());
    let lowest = log.keeper().lowest(&lane(0)).unwrap();
    assert!(lowest > 100 && found(&log, 0, lowest, 2000).len() as u64 == 2001 - lowest);
    assert_eq!(found(&log, 1, 1, 3), [], "they were in the first file");
    drop(log);
    let log = SentLog::open(&settings).unwrap();
    assert_eq!(
        (log.lanes()[&lane(1)].next, log.lanes()[&lane(0)].next),
        (4, 2001)
    );
}

fn looked_up(folder: &TempDir, key: &str) -> PublishedRecords {
    published(
        &settings(folder),
        &|topic| topic.ends_with("-raw"),
        &|found, _| found == key,
    )
    .unwrap()
}

#[test]
fn what_became_of_a_file_is_found_while_the_log_is_written_to() {
    let folder = TempDir::new().unwrap();
    let before = crate::clock::now();
    let mut log = SentLog::open(&settings(&folder)).unwrap();
    append(&mut log, 0, 1, 0, 1..80);
    append(&mut log, 1, 1, 0, 80..90);
    append(&mut log, 0, 80, 79, 90..95);
    let found = looked_up(&folder, "raw:7");
    let [record] = &found.records[..] else {
        panic!("{found:?}")
    };
    assert_eq!((record.lane.clone(), record.number), (lane(0), 7));
    assert_eq!((record.event, &*record.source), (EventId(7), "rucio[0]@7"));
    assert!(
        record.is_confirmed && record.at >= Some(before) && found.since <= record.at,
        "{found:?}"
    );
    // Whether the brokers have the last ones, only what follows tells.
    assert!(!looked_up(&folder, "raw:94").records[0].is_confirmed);
    // No broker had it, and its number was given to another.
    append(&mut log, 0, 84, 83, 200..201);
    assert_eq!(looked_up(&folder, "raw:94").records, []);
    assert_eq!(looked_up(&folder, "raw:200").records[0].number, 84);
    let none = published(&settings(&folder), &|_| false, &|_, _| true).unwrap();
    assert_eq!(none.records, []);
}

#[test]
fn a_frame_without_a_time_is_read_as_before() {
    let head = super::frame::Head {
        topic: "T".into(),
        partition: 3,
        rse: "R".into(),
        first: 4,
        count: 2,
        confirmed: 3,
    };
    let old = postcard::to_stdvec(&head).unwrap();
    assert_eq!(super::frame::Head::read(&old).unwrap(), (head.clone(), None));
    // And what earlier versions made of a frame that has one.
    let mut new = old.clone();
    postcard::to_io(&7_i64, &mut new).unwrap();
    assert_eq!(
        postcard::from_bytes::<super::frame::Head<'_>>(&new).unwrap(),
        head
    );
    assert_eq!(
        super::frame::Head::read(&new).unwrap().1,
        Some(dbb_events::Micros(7))
    );
}
