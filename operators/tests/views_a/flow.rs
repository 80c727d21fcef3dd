//! A view as a dataflow, fed in epochs by all workers, and what it was at each of them.

use super::facts::Fact;
use dbb_operators::{
    Epoch,
    facts::{Attempt, Contents, Lost, RuleSaid, ScopeName},
    replicas::Replica,
};
use differential_dataflow::{ExchangeData, VecCollection, input::InputSession};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use timely::{Config, dataflow::operators::Probe};

pub(crate) type View<'s, R> = VecCollection<'s, Epoch, R, isize>;

/// What views are made from.
pub(crate) struct Inputs<'s> {
    pub(crate) attempts: View<'s, Attempt>,
    pub(crate) rules: View<'s, RuleSaid>,
    pub(crate) lost: View<'s, Lost>,
    pub(crate) contents: View<'s, Contents>,
    pub(crate) replicas: View<'s, Replica>,
}

/// The rows of `view` after each of `epochs`, whose facts `workers` workers take in turn.
pub(crate) fn at_each_epoch<R: ExchangeData + Sync>(
    workers: usize,
    epochs: &[Vec<Fact>],
    view: for<'s> fn(Inputs<'s>) -> View<'s, R>,
) -> Vec<Vec<R>> {
    let changes: Arc<Mutex<Vec<(R, Epoch, isize)>>> = Arc::default();
    let seen = Arc::clone(&changes);
    let updates = updates(epochs);
    let ends = epochs.len() as Epoch;
    let guards = timely::execute(Config::process(workers), move |worker| {
        let seen = Arc::clone(&seen);
        let mut attempts = InputSession::new();
        let mut rules = InputSession::new();
        let mut lost = InputSession::new();
        let mut contents = InputSession::new();
        let mut replicas = InputSession::new();
        let probe = worker.dataflow(|scope| {
            let (probe, _) = view(Inputs {
                attempts: attempts.to_collection(scope),
                rules: rules.to_collection(scope),
                lost: lost.to_collection(scope),
                contents: contents.to_collection(scope),
                replicas: replicas.to_collection(scope),
            })
            .inspect(move |change| seen.lock().unwrap().push(change.clone()))
            .inner
            .probe();
            probe
        });
        let share = updates.iter().skip(worker.index()).step_by(worker.peers());
        for (epoch, update) in share {
            match update.clone() {
                Update::Attempt(fact) => attempts.update_at(fact, *epoch, 1isize),
                Update::Rule(fact) => rules.update_at(fact, *epoch, 1isize),
                Update::Lost(fact) => lost.update_at(fact, *epoch, 1isize),
                Update::Contents(fact) => contents.update_at(fact, *epoch, 1isize),
                Update::Replica(replica, times) => replicas.update_at(replica, *epoch, times),
            }
        }
        // Epoch after epoch, so that views see them apart.
        for epoch in 1..=ends {
            attempts.advance_to(epoch);
            rules.advance_to(epoch);
            lost.advance_to(epoch);
            contents.advance_to(epoch);
            replicas.advance_to(epoch);
            attempts.flush();
            rules.flush();
            lost.flush();
            contents.flush();
            replicas.flush();
            worker.step_while(|| probe.less_than(&epoch));
        }
    });
    for ended in guards.unwrap().join() {
        ended.unwrap();
    }
    let changes = changes.lock().unwrap();
    (0..ends).map(|epoch| rows_at(epoch, &changes)).collect()
}

/// The rows after the last epoch.
pub(crate) fn last<R>(mut seen: Vec<Vec<R>>) -> Vec<R> {
    seen.pop().unwrap()
}

/// The rows as of `epoch`, in order; each is there once.
fn rows_at<R: ExchangeData>(epoch: Epoch, changes: &[(R, Epoch, isize)]) -> Vec<R> {
    let mut rows: BTreeMap<R, isize> = BTreeMap::new();
    for (row, _, times) in changes.iter().filter(|(_, at, _)| *at <= epoch) {
        *rows.entry(row.clone()).or_default() += times;
    }
    rows.retain(|_, times| *times != 0);
    assert!(rows.values().all(|times| *times == 1), "not once each: {rows:?}");
    rows.into_keys().collect()
}

#[derive(Clone)]
enum Update {
    Attempt(Attempt),
    Rule(RuleSaid),
    Lost(Lost),
    Contents(Contents),
    Replica(Replica, isize),
}

/// The facts with their epochs; states of replicas as differences.
fn updates(epochs: &[Vec<Fact>]) -> Vec<(Epoch, Update)> {
    let mut now = BTreeMap::new();
    let mut updates = Vec::new();
    for (epoch, facts) in (0..).zip(epochs) {
        for fact in facts.clone() {
            let update = match fact {
                Fact::Attempt(fact) => Update::Attempt(fact),
                Fact::Rule(fact) => Update::Rule(fact),
                Fact::Lost(fact) => Update::Lost(fact),
                Fact::Contents(fact) => Update::Contents(fact),
                Fact::Replica(did, rse, state) => {
                    if let Some(before) = now.remove(&(did, rse)) {
                        updates.push((epoch, Update::Replica(before, -1)));
                    }
                    let Some(state) = state else { continue };
                    let replica = Replica {
                        did,
                        rse,
                        scope: ScopeName::new("raw"),
                        state,
                        bytes: 1,
                    };
                    now.insert((did, rse), replica);
                    Update::Replica(replica, 1)
                }
            };
            updates.push((epoch, update));
        }
    }
    updates
}
