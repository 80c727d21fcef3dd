//! `dataset_progress` forgets the names of files that landed long ago, and counts them all the same.

use crate::{
    run::{Fact, Ran, Run, run},
    stored::Stored,
};
use dbb_events::{EventId, Micros};
use dbb_operators::{
    Epoch,
    checkpoint::Restored,
    facts::{Attempt, DatasetName, DidKey, RseName, ScopeName, Step, UNKNOWN_MS},
};
use proptest::{collection::vec, prelude::*, sample::select};
use std::collections::BTreeMap;

/// Files by which event time goes on: enough that each of two workers sees it.
const OTHERS: u64 = 2500;
/// Epochs in which all tables are looked at.
const SWEEP: Epoch = 80;
/// What is older than this is forgotten once event time has come to [`NOW`].
const OLD: i64 = 20;
const NOW: i64 = 1_000_000;

const STEPS: [Step; 5] = [Step::Submitted, Step::Done, Step::Done, Step::Failed, Step::Lost];

/// A file, a step and when.
type Told = (u8, Step, i64);

fn attempt(dataset: &str, file: &str, step: Step, at: i64, event: u128) -> Fact {
    Fact::Attempt(Attempt {
        event: EventId(event),
        did: DidKey::new("raw", file),
        scope: ScopeName::new("raw"),
        step,
        at: Micros(at),
        src: None,
        rse: RseName::new("SLAC"),
        bytes: None,
        dataset: Some(DatasetName::new("raw", dataset)),
        rule: None,
        failure: None,
        waited_ms: UNKNOWN_MS,
        queued_ms: UNKNOWN_MS,
        ran_ms: UNKNOWN_MS,
        noticed_ms: UNKNOWN_MS,
    })
}

/// Each of an event of its own, from `first` on.
fn of_the_night(told: &[Told], epoch: Epoch, first: u128) -> impl Iterator<Item = (Epoch, Fact)> {
    told.iter().zip(first..).map(move |((file, step, at), event)| {
        let file = format!("file {file}");
        (epoch, attempt("night", &file, *step, *at, event))
    })
}

/// All other files land at [`NOW`].
fn time_goes_on(epoch: Epoch) -> impl Iterator<Item = (Epoch, Fact)> {
    (0..OTHERS).map(move |n| {
        let event = u128::from(n) + 1_000_000;
        (epoch, attempt("other", &n.to_string(), Step::Done, NOW, event))
    })
}

fn run_to(facts: &[(Epoch, Fact)], workers: usize, restored: Option<Stored>, last: Epoch) -> Ran {
    run(Run {
        facts,
        workers,
        restored,
        last,
        forget_after_us: Some(NOW - OLD),
        open: 0,
        ..Run::default()
    })
}

/// What a run keeps that is told `told` and then ends, long after.
fn stopped(told: &[Told], workers: usize) -> Stored {
    let mut stored = Stored::default();
    let facts: Vec<_> = of_the_night(told, 0, 0).chain(time_goes_on(1)).collect();
    let ran = run_to(&facts, workers, None, SWEEP);
    ran.collected
        .into_iter()
        .for_each(|collected| stored.take(collected));
    stored
}

/// Requested, done and failed of the night, after `stored` went on with `told`.
fn after(stored: &Stored, told: &[Told], workers: usize) -> [i64; 3] {
    let next = stored.epoch() + 1;
    let facts: Vec<_> = of_the_night(told, next, 1000).collect();
    let ran = run_to(&facts, workers, Some(stored.clone()), next);
    let rows = ran.views["dataset_progress"].iter();
    rows.map(|row| serde_json::from_str(row).unwrap())
        .find(|row: &serde_json::Value| row["name"] == "night")
        .map_or([0; 3], |row| {
            ["requested", "done", "failed"].map(|column| row[column].as_i64().unwrap())
        })
}

#[test]
fn what_landed_long_ago_is_counted_but_not_kept() {
    let told = [
        (0, Step::Submitted, 10),
        (0, Step::Done, 11),
        (1, Step::Failed, 12),
    ];
    for (before, workers) in [(1, 1), (1, 4), (2, 1)] {
        let stored = stopped(&told, before);
        let others = OTHERS as usize;
        assert_eq!(
            stored.count("dataset_progress"),
            others + 1,
            "the one that failed"
        );
        let after = |told: &[Told]| after(&stored, told, workers);
        assert_eq!(after(&[]), [2, 1, 1]);
        assert_eq!(after(&[(0, Step::Submitted, 11)]), [2, 1, 1], "too late");
        assert_eq!(after(&[(0, Step::Submitted, 12)]), [3, 1, 1], "once more");
        assert_eq!(after(&[(1, Step::Done, 30)]), [2, 2, 0], "what failed is known");
    }
}

#[test]
fn what_was_forgotten_twice_is_counted_twice() {
    let stored = stopped(&[(0, Step::Done, 10), (1, Step::Done, 10)], 2);
    let next = stored.epoch() + 1;
    let facts: Vec<_> = of_the_night(&[(0, Step::Done, 12)], next, 1000)
        .chain(time_goes_on(next + 1).map(|(epoch, fact)| match fact {
            // Other events of other files.
            Fact::Attempt(attempt) => {
                let event = EventId(attempt.event.0 + u128::from(OTHERS));
                (epoch, Fact::Attempt(Attempt { event, ..attempt }))
            }
            fact => (epoch, fact),
        }))
        .collect();
    let ran = run_to(&facts, 2, Some(stored.clone()), next + 1 + SWEEP);
    let mut stored = stored;
    ran.collected
        .into_iter()
        .for_each(|collected| stored.take(collected));
    assert_eq!(stored.count("dataset_progress"), OTHERS as usize);
    assert_eq!(after(&stored, &[], 1), [3, 3, 0]);
}

/// The sums of the newest step of each file.
fn sums<'a>(newest: impl Iterator<Item = &'a (i64, u128, Step)>) -> [i64; 3] {
    newest.fold([0; 3], |[requested, done, failed], (_, _, step)| {
        let is_done = i64::from(*step == Step::Done);
        [
            requested + 1,
            done + is_done,
            failed + i64::from(step.is_failure()),
        ]
    })
}

fn wanted(first: &[Told], second: &[Told]) -> [i64; 3] {
    let mut newest = BTreeMap::new();
    let take = |newest: &mut BTreeMap<u8, (i64, u128, Step)>, told: &[Told], from: u128| {
        for ((file, step, at), event) in told.iter().zip(from..) {
            let told = (*at, event, *step);
            newest
                .entry(*file)
                .and_modify(|known| *known = told.max(*known))
                .or_insert(told);
        }
    };
    take(&mut newest, first, 0);
    let settled: Vec<_> = newest
        .extract_if(.., |_, (_, _, step)| *step == Step::Done)
        .collect();
    take(&mut newest, second, 1000);
    let (settled, known) = (sums(settled.iter().map(|(_, told)| told)), sums(newest.values()));
    [0, 1, 2].map(|n| settled[n] + known[n])
}

fn told(from: i64) -> impl Strategy<Value = Vec<Told>> {
    vec((0..9u8, select(&STEPS[..]), from..from + OLD), 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn sums_are_those_of_what_is_known_and_what_was_forgotten(
        first in told(0),
        second in told(OLD),
        before in select(&[1usize, 2][..]),
        workers in select(&[1usize, 2, 4][..]),
    ) {
        let stored = stopped(&first, before);
        prop_assert_eq!(after(&stored, &second, workers), wanted(&first, &second));
    }
}
