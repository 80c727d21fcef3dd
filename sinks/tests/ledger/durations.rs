//! Attempts: when, how long, what came of it, on both databases.

use crate::support::{On, entry, new, on_both, request, settled, waiting};
use dbb_events::{Dependency, Did, Entry, Micros, Outcome, Reason, Refusal, sketch};
use dbb_sinks::ledger::{Attempt, Ledger, Row, Selection, Selector, State};
use std::time::Duration;

on_both! {
    each_attempt_tells_when_how_long_and_what_came_of_it
    what_was_only_put_off_is_no_attempt
    a_file_that_is_tried_for_ever_does_not_fill_the_ledger
    durations_are_counted_once_and_stay_when_rows_are_forgotten
}

/// An answer for event 1 at `at` that took so many milliseconds.
fn took(ms: u64, outcome: Outcome, at: i64) -> Entry {
    let mut settled = settled(request(1, "f1"), outcome, at);
    settled.took = Some(Duration::from_millis(ms));
    Entry::Settled(Box::new(settled))
}

fn story(ledger: &mut Ledger) -> (Row, Vec<Attempt>) {
    let mut stories = ledger.explain(&Selector::Did(Did::new("raw", "f1"))).unwrap();
    stories.remove(0).events.remove(0)
}

fn told(attempts: &[Attempt]) -> Vec<(i64, State, Option<u64>)> {
    let told = |attempt: &Attempt| {
        let took = attempt.took.map(|took| took.as_millis() as u64);
        (attempt.at.0, attempt.outcome, took)
    };
    attempts.iter().map(told).collect()
}

fn each_attempt_tells_when_how_long_and_what_came_of_it(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let refusal = Outcome::Refused(Refusal {
        reason: Reason::SizeMismatch,
        detail: "4 bytes, not 3".into(),
    });
    let waits = || waiting(Dependency::Time, 50, true);
    // The same outcome twice is two attempts.
    for entry in [took(10, waits(), 20), took(30, waits(), 60), took(5, refusal, 90)] {
        ledger.write(generation, &[entry]).unwrap();
    }
    let id = story(&mut ledger).0.id;
    ledger.retry(&Selection::Ids(vec![id]), Micros(100)).unwrap();
    let (row, _) = story(&mut ledger);
    assert_eq!(
        (row.outcome, row.took),
        (State::Waiting, None),
        "asking is no attempt"
    );
    ledger
        .write(generation, &[took(700, Outcome::Ingested, 110)])
        .unwrap();
    let (row, history) = story(&mut ledger);
    assert_eq!(row.took, Some(Duration::from_millis(700)));
    assert_eq!((row.outcome, row.tries), (State::Ingested, 4));
    assert_eq!(
        told(&history),
        [
            (20, State::Waiting, Some(10)),
            (60, State::Waiting, Some(30)),
            (90, State::Refused, Some(5)),
            (100, State::Waiting, None),
        ]
    );
}

fn what_was_only_put_off_is_no_attempt(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    for at in [20, 30, 40] {
        let waits = waiting(Dependency::Repository, at + 5, false);
        ledger.write(generation, &[entry(1, waits, at)]).unwrap();
    }
    let (row, history) = story(&mut ledger);
    assert_eq!((row.tries, row.took, history.len()), (0, None, 0));
    assert_eq!(ledger.durations().unwrap(), []);
}

fn a_file_that_is_tried_for_ever_does_not_fill_the_ledger(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    for at in 0..250 {
        let entry = took(1, waiting(Dependency::Time, at + 5, false), at);
        ledger.write(generation, &[entry]).unwrap();
    }
    let (row, history) = story(&mut ledger);
    assert_eq!((row.tries, history.len()), (250, 100));
    assert_eq!(ledger.durations().unwrap()[0].count, 250);
}

fn durations_are_counted_once_and_stay_when_rows_are_forgotten(on: On) {
    let place = new(on);
    let (mut ledger, generation) = place.begin();
    let first = took(1000, waiting(Dependency::Time, 50, true), 20);
    for _ in 0..2 {
        // As after a commit whose acknowledgement was lost.
        ledger.write(generation, std::slice::from_ref(&first)).unwrap();
    }
    ledger
        .write(generation, &[took(1000, Outcome::Ingested, 60)])
        .unwrap();
    // Read again after a crash: it was tried again.
    ledger
        .write(generation, &[took(1000, Outcome::AlreadyThere, 70)])
        .unwrap();
    let pruned = ledger.prune(generation, Micros(1000), 100).unwrap();
    assert_eq!(pruned.rows, 1);
    let counted = ledger.durations().unwrap();
    let counted: Vec<_> = counted
        .iter()
        .map(|d| (&*d.target, d.outcome, d.bucket, d.count))
        .collect();
    let bucket = sketch::bucket(1000);
    assert_eq!(
        counted,
        [
            ("main", State::Ingested, bucket, 1),
            ("main", State::AlreadyThere, bucket, 1),
            ("main", State::Waiting, bucket, 1),
        ]
    );
}
