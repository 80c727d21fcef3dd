//! What was forgotten before a stop stays forgotten, and is not taken for new.

use crate::{
    changes::change,
    run::{Fact, Run, landed, run},
    stored::Stored,
};
use dbb_events::Micros;
use dbb_operators::{
    Epoch,
    checkpoint::Restored,
    facts::{Change, RseName, State},
};
use proptest::prelude::*;

/// Files by which event time goes on: enough that each of two workers sees it.
const OTHERS: usize = 2500;
/// Epochs in which all tables are looked at.
const SWEEP: Epoch = 300;

/// All other files are said to have landed at `at`.
fn time_goes_on(epoch: Epoch, at: i64) -> impl Iterator<Item = (Epoch, Fact)> {
    (0..OTHERS).map(move |n| (epoch, Fact::Change(landed("other", &n.to_string(), at))))
}

fn stored(facts: &[(Epoch, Fact)], workers: usize, last: Epoch, forget_after_us: i64) -> Stored {
    let mut stored = Stored::default();
    let ran = run(Run {
        facts,
        workers,
        last,
        forget_after_us: Some(forget_after_us),
        open: 0,
        ..Run::default()
    });
    ran.collected
        .into_iter()
        .for_each(|collected| stored.take(collected));
    stored
}

#[test]
fn what_is_older_than_a_tombstone_forgotten_before_the_stop_is_too_late() {
    let gone = Change {
        state: State::Gone,
        ..landed("raw", "a", 1000)
    };
    let mut facts = vec![(0, Fact::Change(gone))];
    facts.extend(time_goes_on(1, 4_000_000));
    facts.extend(time_goes_on(SWEEP, 8_000_000));
    for (before, after) in [(1, 1), (1, 4), (2, 1)] {
        let stored = stored(&facts, before, 2 * SWEEP, 1_000_000);
        assert_eq!(
            stored.count("replicas"),
            OTHERS,
            "files without replicas are gone"
        );
        for (at, is_late) in [(1000, true), (1001, false)] {
            let next = stored.epoch() + 1;
            let ran = run(Run {
                facts: &[(next, Fact::Change(landed("raw", "a", at)))],
                workers: after,
                last: next,
                restored: Some(stored.clone()),
                forget_after_us: Some(1_000_000),
                ..Run::default()
            });
            assert_eq!(
                ran.late.len(),
                usize::from(is_late),
                "{before} to {after} workers, at {at}"
            );
            let shown = ran.views["replicas"].len() - OTHERS;
            assert_eq!(
                shown,
                usize::from(!is_late),
                "{before} to {after} workers, at {at}"
            );
        }
    }
}

#[test]
fn what_was_not_forgotten_before_the_stop_is_forgotten_after_it() {
    let gone = Change {
        state: State::Gone,
        ..landed("raw", "a", 1000)
    };
    let mut facts = vec![(0, Fact::Change(gone))];
    facts.extend(time_goes_on(1, 4_000_000));
    // Stopped before any table but the first few was looked at: event time is known all the same.
    let stopped = stored(&facts, 1, 3, 1_000_000);
    let next = stopped.epoch() + 1;
    let ran = run(Run {
        facts: &[(next + SWEEP, Fact::Change(landed("raw", "a", 999)))],
        last: next + SWEEP,
        restored: Some(stopped),
        forget_after_us: Some(1_000_000),
        open: 0,
        ..Run::default()
    });
    assert_eq!(ran.late.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn what_is_younger_than_what_is_remembered_is_exact(
        first in prop::collection::vec(change(), 0..40),
        second in prop::collection::vec(change(), 0..40),
        workers in prop::sample::select(vec![1usize, 2]),
    ) {
        // Tombstones of times below 20 are forgotten; what comes then is of 20 and later.
        let until = 1_000_000;
        let forget_after_us = until - 20;
        let mut facts: Vec<_> = first.into_iter().map(|change| (0, Fact::Change(change))).collect();
        facts.extend(time_goes_on(1, until));
        let second = |from: Epoch| -> Vec<(Epoch, Fact)> {
            let later = |change: &Change| Change {
                at: Micros(change.at.0 + 20),
                tie: change.tie + 20,
                rse: change.rse.or(Some(RseName::new("SLAC"))),
                ..*change
            };
            second.iter().map(|change| (from, Fact::Change(later(change)))).collect()
        };
        let whole = run(Run {
            facts: &facts.iter().cloned().chain(second(SWEEP + 20)).collect::<Vec<_>>(),
            keeps: false,
            last: SWEEP + 20,
            forget_after_us: Some(forget_after_us),
            open: 0,
            ..Run::default()
        });
        let stopped = stored(&facts, workers, SWEEP, forget_after_us);
        let next = stopped.epoch() + 1;
        let ran = run(Run {
            facts: &second(next),
            workers,
            last: next,
            restored: Some(stopped),
            forget_after_us: Some(forget_after_us),
            open: 0,
            ..Run::default()
        });
        prop_assert!(whole.late.is_empty() && ran.late.is_empty());
        prop_assert_eq!(ran.views, whole.views);
    }
}
