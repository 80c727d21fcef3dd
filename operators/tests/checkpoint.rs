//! However often a run is stopped, wherever, and with however many workers it goes on: all views are those of a run
//! that was never stopped.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "replicas/facts.rs"]
mod changes;
#[path = "views_a/facts.rs"]
#[allow(dead_code)]
mod facts;
#[path = "replicas/fold.rs"]
#[allow(dead_code)]
mod fold;
#[path = "checkpoint/forget.rs"]
mod forget;
#[path = "checkpoint/repeats.rs"]
mod repeats;
#[path = "checkpoint/run.rs"]
mod run;
#[path = "checkpoint/settled.rs"]
mod settled;
#[path = "checkpoint/stored.rs"]
mod stored;

use dbb_operators::{Epoch, checkpoint::Restored, facts::Said};
use proptest::prelude::*;
use run::{EVERY, Fact, Run, Views, run};
use std::sync::Arc;
use stored::Stored;

/// Facts of all kinds at epochs 0 to 11; some come twice, at different epochs.
fn facts() -> impl Strategy<Value = Vec<(Epoch, Fact)>> {
    let told = facts::all().prop_map(|facts| {
        let of_events = |fact: facts::Fact| match fact {
            facts::Fact::Attempt(attempt) => Some(Fact::Attempt(attempt)),
            facts::Fact::Rule(said) => Some(Fact::Said(Said::Rule(said))),
            facts::Fact::Lost(said) => Some(Fact::Said(Said::Lost(said))),
            facts::Fact::Contents(said) => Some(Fact::Said(Said::Contents(said))),
            facts::Fact::Outcome(said) => Some(Fact::Said(Said::Outcome(said))),
            facts::Fact::Replica(..) => None,
        };
        facts.into_iter().filter_map(of_events).collect::<Vec<_>>()
    });
    let change = prop_oneof![
        20 => changes::change().prop_map(Fact::Change),
        1 => changes::complete().prop_map(Fact::Complete),
    ];
    let all = (told, prop::collection::vec(change, 0..80)).prop_map(|(mut told, changes)| {
        told.extend(changes);
        told
    });
    all.prop_flat_map(|all| {
        let places = prop::collection::vec((0..12u64, prop::option::weighted(0.3, 0..12u64)), all.len());
        (Just(all), places)
    })
    .prop_map(|(all, places)| {
        all.into_iter()
            .zip(places)
            .flat_map(|(fact, (first, again))| {
                let again = again.map(|epoch| (epoch, fact.clone()));
                [Some((first, fact)), again].into_iter().flatten()
            })
            .collect()
    })
}

/// Where a run stops, and with how many workers it ran.
#[derive(Debug, Clone, Copy)]
struct Stop {
    workers: usize,
    /// The last epoch that it read.
    epoch: Epoch,
    /// It was told to stop: what it had read is in its last checkpoint. Otherwise it died.
    drained: bool,
}

fn stops() -> impl Strategy<Value = Vec<Stop>> {
    let workers = prop::sample::select(vec![1, 2, 4]);
    let stop = (workers, 0..12u64, any::<bool>()).prop_map(|(workers, epoch, drained)| Stop {
        workers,
        epoch,
        drained,
    });
    prop::collection::vec(stop, 1..4)
}

/// The views after all facts, by runs that were stopped.
fn stopped(facts: &[(Epoch, Fact)], stops: &[Stop], workers: usize) -> Views {
    let mut stored: Option<Stored> = None;
    // A drained run ends at an epoch of its own: what comes later is that much later.
    let mut later = 0;
    let mut read_to: Option<Epoch> = None;
    for stop in stops {
        let from = read_to.map_or(0, |read| read + 1);
        let ran = run(Run {
            facts: &shifted(facts, from, Some(stop.epoch), later),
            workers: stop.workers,
            last: stop.epoch + later,
            restored: stored.clone(),
            ..Run::default()
        });
        let mut next = stored.take().unwrap_or_default();
        for collected in ran.collected {
            if collected.is_last && !stop.drained {
                continue;
            }
            let drained = collected.is_last;
            let epoch = collected.epoch;
            next.take(collected);
            if drained {
                read_to = Some(stop.epoch.max(read_to.unwrap_or(0)));
                later = epoch - read_to.unwrap();
            } else {
                read_to = Some(epoch - later);
            }
        }
        stored = next.is_any().then_some(next);
    }
    let from = read_to.map_or(0, |read| read + 1);
    let refused = stored.as_ref().map(|stored| Arc::clone(&stored.refused));
    let ran = run(Run {
        facts: &shifted(facts, from, None, later),
        workers,
        last: 12 + later,
        restored: stored,
        ..Run::default()
    });
    assert!(refused.is_none_or(|refused| refused.lock().unwrap().is_empty()));
    ran.views
}

/// The facts of the epochs that are still to be read, at the epochs that they are now read at.
fn shifted(facts: &[(Epoch, Fact)], from: Epoch, to: Option<Epoch>, later: Epoch) -> Vec<(Epoch, Fact)> {
    let wanted = |epoch: Epoch| epoch >= from && to.is_none_or(|to| epoch <= to);
    facts
        .iter()
        .filter(|(epoch, _)| wanted(*epoch))
        .map(|(epoch, fact)| (epoch + later, fact.clone()))
        .collect()
}

fn undisturbed(facts: &[(Epoch, Fact)]) -> Views {
    run(Run {
        facts,
        keeps: false,
        last: 12,
        ..Run::default()
    })
    .views
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_run_that_was_stopped_ends_as_one_that_was_not(facts in facts(), stops in stops(), workers in prop::sample::select(vec![1usize, 2, 4])) {
        let wanted = undisturbed(&facts);
        let views = stopped(&facts, &stops, workers);
        for (name, rows) in &wanted {
            prop_assert_eq!(views.get(name), Some(rows), "{}", name);
        }
        prop_assert_eq!(views.len(), wanted.len());
    }
}

#[test]
fn what_was_restored_is_not_handed_out_again() {
    let change = |n: u64| (n, Fact::Change(run::landed("raw", "a", n as i64)));
    let first = run(Run {
        facts: &[change(0), change(1)],
        last: EVERY,
        ..Run::default()
    });
    let mut stored = Stored::default();
    first
        .collected
        .into_iter()
        .for_each(|collected| stored.take(collected));
    assert!(stored.is_any());
    let second = run(Run {
        facts: &[],
        last: stored.epoch() + 2 * EVERY,
        restored: Some(stored),
        ..Run::default()
    });
    assert!(second.collected.len() >= 2);
    for collected in second.collected {
        let kinds: Vec<&str> = collected.rows.iter().map(|rows| rows.kind().name).collect();
        assert!(kinds.is_empty(), "{kinds:?} at {}", collected.epoch);
    }
    assert_eq!(second.views["replicas"].len(), 1);
}

#[test]
fn a_row_that_cannot_be_read_is_told_of_and_left_out() {
    let facts = [
        (0, Fact::Change(run::landed("raw", "a", 1))),
        (0, Fact::Change(run::landed("raw", "b", 1))),
    ];
    let first = run(Run {
        facts: &facts,
        last: 1,
        ..Run::default()
    });
    let mut stored = Stored::default();
    first
        .collected
        .into_iter()
        .for_each(|collected| stored.take(collected));
    stored.damage("replicas");
    let refused = Arc::clone(&stored.refused);
    let second = run(Run {
        facts: &[],
        last: stored.epoch() + 1,
        restored: Some(stored),
        ..Run::default()
    });
    assert_eq!(second.views["replicas"].len(), 1);
    let refused = refused.lock().unwrap();
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0]
            .to_string()
            .starts_with("a row of `replicas` cannot be read")
    );
}
