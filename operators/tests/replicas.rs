//! Whatever the order, the repeats, the epochs and the workers: the replicas are those of a plain fold of all that
//! was said, sorted by version.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "replicas/facts.rs"]
mod facts;
#[path = "replicas/flow.rs"]
mod flow;
#[path = "replicas/fold.rs"]
mod fold;

use dbb_events::Micros;
use dbb_operators::{
    Epoch,
    facts::{Basis, Change, DidKey, RseName, ScopeName, State},
    replicas::{Keeping, Notice, Replica},
    views::{
        Scan,
        rse_usage::{Amount, Usage},
    },
};
use facts::{change, complete};
use flow::{lines, run};
use fold::{Fact, NAMES, RSES, fold, usage};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn total<'a>(sums: impl Iterator<Item = &'a BTreeMap<Usage, Amount>>) -> BTreeMap<Usage, Amount> {
    let mut total: BTreeMap<Usage, Amount> = BTreeMap::new();
    for (usage, (files, bytes)) in sums.flatten() {
        let known = total.entry(*usage).or_default();
        known.0 += files;
        known.1.0 += bytes.0;
    }
    total.retain(|_, amount| *amount != Amount::default());
    total
}

fn facts() -> impl Strategy<Value = Vec<(Epoch, Fact)>> {
    let fact = prop_oneof![20 => change().prop_map(Fact::Change), 1 => complete().prop_map(Fact::Complete)];
    (prop::collection::vec((fact, 0u64..8), 0..90), any::<u64>()).prop_flat_map(|(facts, _)| {
        let repeats = facts
            .iter()
            .step_by(4)
            .map(|(fact, epoch)| (7 - *epoch, fact.clone()));
        let all: Vec<_> = facts
            .iter()
            .map(|(fact, epoch)| (*epoch, fact.clone()))
            .chain(repeats)
            .collect();
        Just(all).prop_shuffle()
    })
}

fn check(facts: &[(Epoch, Fact)], workers: usize, eager: bool) {
    let outcome = run(
        facts,
        workers,
        Keeping {
            eager,
            ..Keeping::default()
        },
    );
    let until = |epoch: Epoch| -> Vec<Fact> {
        facts
            .iter()
            .filter(|(at, _)| *at <= epoch)
            .map(|(_, fact)| fact.clone())
            .collect()
    };
    let end = fold(&until(Epoch::MAX));
    assert_eq!(outcome.lines, end);
    assert_eq!(total(outcome.sums.values()), usage(&end));
    let of_replicas: BTreeMap<Replica, isize> = end
        .iter()
        .map(|(scope, name, rse, state, bytes, ..)| Replica {
            did: DidKey::new(scope, name),
            rse: RseName::new(rse),
            scope: ScopeName::new(scope),
            state: State::parse(state).unwrap(),
            bytes: bytes.unwrap_or(0) as u64,
        })
        .map(|replica| (replica, 1))
        .collect();
    assert_eq!(outcome.replicas, of_replicas);
    assert!(outcome.late.is_empty());
    if !eager {
        for (epoch, lines) in outcome.published {
            assert_eq!(lines, fold(&until(epoch)), "at epoch {epoch}");
            let sums = total(outcome.sums.range(..=epoch).map(|(_, sums)| sums));
            assert_eq!(sums, usage(&fold(&until(epoch))), "at epoch {epoch}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_epoch_is_the_fold_of_what_was_said_by_then(facts in facts()) {
        check(&facts, 1, false);
    }

    #[test]
    fn taking_changes_in_as_they_come_ends_the_same(facts in facts()) {
        check(&facts, 1, true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn replicas_brought_to_the_first_worker_are_the_same(facts in facts()) {
        let gathered = run(&facts, 2, Keeping { gather: true, eager: true, ..Keeping::default() });
        let all: Vec<Fact> = facts.iter().map(|(_, fact)| fact.clone()).collect();
        assert_eq!(gathered.lines, fold(&all));
    }

    #[test]
    fn the_number_of_workers_makes_no_difference(facts in facts(), eager: bool) {
        for workers in [2, 4] {
            check(&facts, workers, eager);
        }
    }
}

fn at_slac(at: i64, state: State) -> Change {
    Change {
        did: DidKey::new("raw", "a"),
        at: Micros(at),
        tie: 0,
        bytes: 10,
        rse: Some(RseName::new("SLAC")),
        scope: ScopeName::new("raw"),
        adler32: 1,
        state,
        basis: Basis::Event,
    }
}

fn each(changes: Vec<Change>) -> Vec<(Epoch, Fact)> {
    (0..).zip(changes.into_iter().map(Fact::Change)).collect()
}

#[test]
fn a_published_epoch_has_the_replicas_of_that_epoch_and_no_later() {
    let facts = each(vec![
        at_slac(1, State::Copying),
        at_slac(2, State::Available),
        at_slac(3, State::Gone),
    ]);
    for workers in [1, 2] {
        let outcome = run(&facts, workers, Keeping::default());
        let states = outcome.published.iter().map(|(epoch, lines)| {
            let states: Vec<&str> = lines.iter().map(|line| line.3.as_str()).collect();
            (*epoch, states)
        });
        let wanted = [(0, vec!["COPYING"]), (1, vec!["AVAILABLE"]), (2, vec![])];
        assert_eq!(states.collect::<Vec<_>>(), wanted);
    }
}

#[test]
fn a_filter_on_scope_and_name_finds_that_file_alone() {
    let changes = NAMES.iter().flat_map(|(scope, name)| {
        RSES.map(|rse| Change {
            did: DidKey::new(scope, name),
            scope: ScopeName::new(scope),
            rse: Some(RseName::new(rse)),
            ..at_slac(1, State::Available)
        })
    });
    let outcome = run(&each(changes.collect()), 2, Keeping::default());
    let table = outcome.table.unwrap();
    let found = |equal: &[(&str, &str)]| {
        let equal = equal
            .iter()
            .map(|(c, v)| ((*c).to_owned(), (*v).to_owned()))
            .collect();
        lines(table.scan(&Scan {
            projection: None,
            equal,
        }))
    };
    assert_eq!(found(&[]).len(), 12);
    assert_eq!(found(&[("scope", "raw"), ("name", "a")]).len(), 3);
    assert_eq!(
        found(&[("scope", "raw"), ("name", "a"), ("rse", "SLAC")]).len(),
        1
    );
    assert_eq!(found(&[("name", "a")]).len(), 6);
    assert_eq!(found(&[("scope", "dp"), ("rse", "LANCS")]).len(), 2);
    assert_eq!(found(&[("state", "COPYING")]).len(), 0);
    assert_eq!(found(&[("scope", "nobody's")]).len(), 0);
    let scan = Scan {
        projection: Some(vec![7, 1]),
        equal: vec![("rse".into(), "SLAC".into())],
    };
    let batch = table.scan(&scan).next().unwrap().unwrap();
    let columns: Vec<_> = batch
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    assert_eq!(columns, ["updated_at", "name"]);
    let none = Scan {
        projection: Some(vec![]),
        equal: vec![],
    };
    assert_eq!(
        table
            .scan(&none)
            .map(|batch| batch.unwrap().num_rows())
            .sum::<usize>(),
        12
    );
}

#[test]
fn changes_that_clocks_cannot_tell_apart_and_sizes_that_differ_are_reported() {
    let keeping = || Keeping {
        clock_skew_us: 5,
        ..Keeping::default()
    };
    let conflict = |second: i64| {
        let facts = each(vec![at_slac(10, State::Available), at_slac(second, State::Gone)]);
        run(&facts, 1, keeping()).notices.len()
    };
    assert_eq!(
        (conflict(14), conflict(6), conflict(15), conflict(5)),
        (1, 1, 0, 0)
    );
    let elsewhere = Change {
        rse: Some(RseName::new("LANCS")),
        bytes: 20,
        ..at_slac(10, State::Available)
    };
    let facts = each(vec![at_slac(10, State::Available), elsewhere]);
    let reversed: Vec<_> = facts
        .iter()
        .map(|(epoch, fact)| (9 - epoch, fact.clone()))
        .collect();
    let (first, second) = (run(&facts, 1, keeping()), run(&reversed, 1, keeping()));
    assert_eq!(first.lines, second.lines);
    let sizes: Vec<_> = first.lines.iter().map(|line| line.4).collect();
    assert_eq!(sizes, [Some(20), Some(10)], "each keeps its own");
    assert!(matches!(first.notices[..], [Notice::Disagreement { rse, .. }] if rse.as_str() == "LANCS"));
    assert!(matches!(second.notices[..], [Notice::Disagreement { rse, .. }] if rse.as_str() == "SLAC"));
}

/// One change, then event time goes on to `until`, and then many epochs without any change.
fn and_then(first: Change, until: i64, last: Change) -> Vec<(Epoch, Fact)> {
    let other = Change {
        did: DidKey::new("dp", "a"),
        scope: ScopeName::new("dp"),
        ..at_slac(until, State::Available)
    };
    let time_goes_on = (0..1024).map(|_| (1, Fact::Change(other)));
    let mut facts = vec![(0, Fact::Change(first))];
    facts.extend(time_goes_on);
    facts.push((600, Fact::Change(last)));
    facts
}

#[test]
fn what_is_older_than_a_forgotten_tombstone_is_too_late_and_what_is_newer_is_not() {
    let keeping = Keeping {
        forget_after_us: Some(1_000_000),
        ..Keeping::default()
    };
    let gone = at_slac(1000, State::Gone);
    for (at, is_late) in [(999, true), (1000, true), (1001, false)] {
        let facts = and_then(gone, 4_000_000, at_slac(at, State::Available));
        let outcome = run(&facts, 1, keeping.clone());
        assert_eq!(outcome.late.len(), usize::from(is_late), "at {at}");
        assert_eq!(outcome.notices.len(), usize::from(is_late), "at {at}");
        let shown = outcome.lines.iter().any(|line| line.0 == "raw");
        assert_eq!(shown, !is_late, "at {at}");
    }
    let facts = and_then(gone, 900_000, at_slac(999, State::Available));
    let outcome = run(&facts, 1, keeping);
    assert!(outcome.late.is_empty(), "the tombstone is still there");
    assert!(outcome.lines.iter().all(|line| line.0 != "raw"));
}
