//! A view as a dataflow, fed in epochs by all workers, and what it was at each of them.

use super::facts::Fact;
use dbb_operators::{
    Epoch,
    facts::{Attempt, Contents, Lost, RuleSaid, Said, ScopeName, SiteOutcome},
    replicas::Replica,
    views::collected::{collected, spoken},
};
use differential_dataflow::{ExchangeData, VecCollection, input::InputSession};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use timely::{
    Config,
    container::CapacityContainerBuilder,
    dataflow::{
        InputHandle,
        operators::{Input, Probe},
    },
};

pub(crate) type View<'s, R> = VecCollection<'s, Epoch, R, isize>;

/// What views are made from.
pub(crate) struct Inputs<'s> {
    pub(crate) attempts: View<'s, Attempt>,
    pub(crate) rules: View<'s, RuleSaid>,
    pub(crate) lost: View<'s, Lost>,
    pub(crate) contents: View<'s, Contents>,
    pub(crate) outcomes: View<'s, SiteOutcome>,
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
        let mut attempts = InputHandle::<_, CapacityContainerBuilder<Vec<Attempt>>>::new();
        let mut said = InputHandle::<_, CapacityContainerBuilder<Vec<Said>>>::new();
        let mut replicas = InputSession::new();
        let probe = worker.dataflow(|scope| {
            let spoken = spoken(scope.input_from(&mut said));
            let (probe, _) = view(Inputs {
                attempts: collected(scope.input_from(&mut attempts)),
                rules: spoken.rules,
                lost: spoken.lost,
                contents: spoken.contents,
                outcomes: spoken.outcomes,
                replicas: replicas.to_collection(scope),
            })
            .inspect(move |change| seen.lock().unwrap().push(change.clone()))
            .inner
            .probe();
            probe
        });
        // Epoch after epoch, so that views see them apart.
        for (epoch, updates) in (1..).zip(&updates) {
            for update in updates.iter().skip(worker.index()).step_by(worker.peers()) {
                match update.clone() {
                    Update::Attempt(fact) => attempts.send(fact),
                    Update::Said(fact) => said.send(fact),
                    Update::Replica(replica, times) => replicas.update(replica, times),
                }
            }
            attempts.advance_to(epoch);
            said.advance_to(epoch);
            replicas.advance_to(epoch);
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
    Said(Said),
    Replica(Replica, isize),
}

/// The facts of each epoch; states of replicas as differences.
fn updates(epochs: &[Vec<Fact>]) -> Vec<Vec<Update>> {
    let mut now = BTreeMap::new();
    let mut updates = |fact: &Fact| match fact.clone() {
        Fact::Attempt(fact) => vec![Update::Attempt(fact)],
        Fact::Rule(fact) => vec![Update::Said(Said::Rule(fact))],
        Fact::Lost(fact) => vec![Update::Said(Said::Lost(fact))],
        Fact::Contents(fact) => vec![Update::Said(Said::Contents(fact))],
        Fact::Outcome(fact) => vec![Update::Said(Said::Outcome(fact))],
        Fact::Replica(did, rse, state) => {
            let after = state.map(|state| Replica {
                did,
                rse,
                scope: ScopeName::new("raw"),
                state,
                bytes: 1,
            });
            let before = std::mem::replace(now.entry((did, rse)).or_default(), after);
            let gone = before.map(|replica| Update::Replica(replica, -1));
            let came = after.map(|replica| Update::Replica(replica, 1));
            gone.into_iter().chain(came).collect()
        }
    };
    epochs
        .iter()
        .map(|facts| facts.iter().flat_map(&mut updates).collect())
        .collect()
}
