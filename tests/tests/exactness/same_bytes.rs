//! The same input makes the same bytes: in any order, repeated, on any number of workers and processes.
#![allow(clippy::unwrap_used)]

use crate::{
    night::{NIGHTS, Night},
    replay::Replay,
};
use dbb_tests::Dice;

/// All views that a replay makes of events, a journal and listings.
const VIEWS: &str = "--view replicas --view rse_usage --view transfers --view failures --view rules \
                     --view lost_files --view dataset_progress --view placement --policies policies";

const POLICIES: [&str; 2] = [
    "- {name: raws at IN2P3, scope: raw, must: [IN2P3_RAW_DISK]}",
    "- {name: no calibrations on tape, scope: calib, must_not: ['*_TAPE']}",
];

fn shuffled(lines: &[String], dice: &mut Dice) -> Vec<String> {
    let mut lines = lines.to_vec();
    for at in (1..lines.len()).rev() {
        lines.swap(at, dice.below(at as u64 + 1) as usize);
    }
    lines
}

/// With every fifth line, at random, once more at some other place.
fn repeated(lines: &[String], dice: &mut Dice) -> Vec<String> {
    let again: Vec<String> = lines.iter().filter(|_| dice.below(5) == 0).cloned().collect();
    assert!(again.len() * 7 > lines.len());
    let all: Vec<String> = lines.iter().cloned().chain(again).collect();
    shuffled(&all, dice)
}

#[test]
fn order_repeats_workers_and_processes_change_no_byte() {
    for name in NIGHTS {
        let night = Night::read(name).unwrap();
        let replay = Replay::new().unwrap();
        replay.file("policies", POLICIES).unwrap();
        let input = "--journal journal --listing listing";
        replay.file("journal", &night.journal).unwrap();
        replay.file("listing", &night.snapshot).unwrap();
        replay.file("events/all", &night.events).unwrap();
        replay
            .run_well(&format!("events {input} {VIEWS} --workers 1 --out out"))
            .unwrap();
        let wanted = replay.files("out").unwrap();
        assert_eq!(wanted.len(), 9);
        for (file, bytes) in &wanted {
            assert!(
                !bytes.is_empty() || file.starts_with("lost_files"),
                "{file} is empty"
            );
        }
        let same = |what: &str| {
            let found = replay.files("out").unwrap();
            for (file, bytes) in &wanted {
                assert!(found.get(file) == Some(bytes), "night {name}, {what}: {file}");
            }
            assert_eq!(found.len(), wanted.len());
        };
        for seed in 1..=3 {
            let mut dice = Dice::of(seed);
            let lines = match seed {
                1 => shuffled(&night.events, &mut dice),
                _ => repeated(&night.events, &mut dice),
            };
            replay.file("events/all", Vec::<&str>::new()).unwrap();
            for (n, part) in lines.chunks(lines.len() / 5 + 1).enumerate() {
                replay.file(&format!("events/{n}"), part).unwrap();
            }
            replay
                .file("journal", shuffled(&night.journal, &mut dice))
                .unwrap();
            for workers in [1, 2, 4] {
                let arguments = format!("events {input} {VIEWS} --workers {workers} --out out");
                replay.run_well(&arguments).unwrap();
                same(&format!("seed {seed}, {workers} workers"));
            }
            let arguments = format!("events {input} {VIEWS} --workers 1 --out out");
            replay.run_as(2, &arguments).unwrap();
            same(&format!("seed {seed}, two processes"));
        }
    }
}
