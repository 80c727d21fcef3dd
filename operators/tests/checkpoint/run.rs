//! All views on some workers, from where a checkpoint was taken, as a site has them.

use crate::stored::Stored;
use dbb_events::Micros;
use dbb_operators::{
    Epoch,
    checkpoint::{Checkpoints, Collected, Keep, Restored},
    distinct::distinct,
    facts::{Attempt, Basis, Change, Complete, DidKey, DidName, RseName, Said, ScopeName, State},
    publish::{Publisher, publish},
    replicas::{Keeping, Replicas, replicas},
    views::{
        Scan, Table,
        available::available,
        collected::{collected, spoken},
        dataset_progress::{self, dataset_progress},
        failures::failures,
        listings::listings,
        lost_files::lost_files,
        placement::{Policy, placement},
        rse_usage::rse_usage,
        rules::rules,
        transfers::transfers,
    },
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        InputHandle, ProbeHandle, Scope,
        operators::{Concat, Input, Inspect, Probe},
    },
};

/// Checkpoints are due at multiples of it.
pub(crate) const EVERY: Epoch = 3;

/// The rows of each view, as text.
pub(crate) type Views = BTreeMap<&'static str, Vec<String>>;

#[derive(Debug, Clone)]
pub(crate) enum Fact {
    Change(Change),
    Complete(Complete),
    Attempt(Attempt),
    Said(Said),
}

/// What is to be run.
pub(crate) struct Run<'a> {
    pub(crate) facts: &'a [(Epoch, Fact)],
    pub(crate) workers: usize,
    pub(crate) keeps: bool,
    pub(crate) restored: Option<Stored>,
    /// Epochs end with this.
    pub(crate) last: Epoch,
    /// How many of them may be open at a time.
    pub(crate) open: Epoch,
    pub(crate) forget_after_us: Option<i64>,
    pub(crate) remember: Option<Epoch>,
}

impl Default for Run<'_> {
    fn default() -> Self {
        Self {
            facts: &[],
            workers: 1,
            keeps: true,
            restored: None,
            last: 0,
            open: 3,
            forget_after_us: None,
            remember: None,
        }
    }
}

/// What came of it.
pub(crate) struct Ran {
    pub(crate) views: Views,
    pub(crate) collected: Vec<Collected>,
    pub(crate) late: Vec<Change>,
}

/// A file at SLAC.
pub(crate) fn landed(scope: &str, name: &str, at: i64) -> Change {
    Change {
        did: DidKey::new(scope, name),
        at: Micros(at),
        tie: 0,
        bytes: 10,
        rse: Some(RseName::new("SLAC")),
        scope: ScopeName::new(scope),
        adler32: 1,
        state: State::Available,
        basis: Basis::Event,
    }
}

fn policies() -> Arc<[Policy]> {
    let policies: Vec<Policy> = serde_json::from_value(serde_json::json!([
        {"name": "raws at both", "scope": "raw", "must": ["SLAC", "IN2P3"]},
        {"name": "nights", "in_datasets": ["raw:night"], "must": ["LANCS"], "must_not": ["SLAC"]},
        {"name": "no tracts", "not_in_datasets": ["raw:tract"], "must_not": ["*"]},
    ]))
    .unwrap();
    policies.into()
}

type Handle<T> = InputHandle<Epoch, CapacityContainerBuilder<Vec<T>>>;

struct Inputs {
    changes: Handle<Change>,
    names: Handle<DidName>,
    completes: Handle<Complete>,
    attempts: Handle<Attempt>,
    said: Handle<Said>,
}

impl Inputs {
    fn advance_to(&mut self, epoch: Epoch) {
        self.changes.advance_to(epoch);
        self.names.advance_to(epoch);
        self.completes.advance_to(epoch);
        self.attempts.advance_to(epoch);
        self.said.advance_to(epoch);
    }
}

/// Runs it, the facts on workers in turn. A file is named once, at the first of all epochs: who starts again hears
/// no name that it had heard before.
pub(crate) fn run(what: Run<'_>) -> Ran {
    let after = what.restored.as_ref().map(|stored| stored.epoch());
    let (checkpoints, receiver) = Checkpoints::new(EVERY, after);
    let (checkpoints, publisher) = (Arc::new(checkpoints), Arc::new(Publisher::after(0, after)));
    let restored = what.restored.map(|stored| Arc::new(stored) as Arc<dyn Restored>);
    let keep = what.keeps.then(|| Keep {
        checkpoints: Arc::clone(&checkpoints),
        restored,
    });
    let late = Arc::new(Mutex::new(Vec::new()));
    let keeping = Keeping {
        names: true,
        emits: true,
        forget_after_us: what.forget_after_us,
        publisher: Some(Arc::clone(&publisher)),
        keep: keep.clone(),
        ..Keeping::default()
    };
    let (facts, last, open, remember) = (what.facts.to_vec(), what.last, what.open, what.remember);
    let (heard, published) = (Arc::clone(&late), Arc::clone(&publisher));
    let guards = timely::execute(timely::Config::process(what.workers), move |worker| {
        let probe = ProbeHandle::new();
        let (index, peers) = (worker.index(), worker.peers());
        let heard = Arc::clone(&heard);
        let mut inputs = worker.dataflow::<Epoch, _, _>(|scope| {
            build(
                scope,
                &keeping,
                remember,
                keep.as_ref(),
                &published,
                &probe,
                heard,
            )
        });
        let first = after.map_or(0, |after| after + 1);
        if let Some(after) = after {
            inputs.advance_to(first);
            worker.step_while(|| probe.less_equal(&after));
        }
        for epoch in first..=last {
            if index == 0 {
                checkpoints.minted(epoch, Micros(epoch as i64));
            }
            for (_, fact) in facts
                .iter()
                .enumerate()
                .filter(|(place, (at, _))| place % peers == index && *at == epoch)
                .map(|(_, fact)| fact)
            {
                match fact.clone() {
                    Fact::Change(change) => {
                        inputs.changes.send(change);
                    }
                    Fact::Complete(complete) => inputs.completes.send(complete),
                    Fact::Attempt(attempt) => inputs.attempts.send(attempt),
                    Fact::Said(said) => inputs.said.send(said),
                }
            }
            if epoch == 0 {
                for (scope, name) in crate::fold::NAMES {
                    inputs.names.send(DidName {
                        did: DidKey::new(scope, name),
                        scope: ScopeName::new(scope),
                        name: name.into(),
                    });
                }
            }
            inputs.advance_to(epoch + 1);
            worker.step_while(|| probe.less_than(&(epoch + 1).saturating_sub(open)));
        }
    });
    for result in guards.unwrap().join() {
        result.unwrap();
    }
    let collected: Vec<Collected> = receiver.try_iter().collect();
    let published = publisher.newest().unwrap();
    let tables = published.tables.iter();
    let views = tables.map(|(name, table)| (*name, lines(&**table)));
    let late = std::mem::take(&mut *late.lock().unwrap());
    Ran {
        views: views.collect(),
        collected,
        late,
    }
}

fn lines(table: &dyn Table) -> Vec<String> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    for batch in table.scan(&Scan::default()) {
        writer.write(&batch.unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let text = String::from_utf8(writer.into_inner()).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

fn build(
    scope: Scope<'_, Epoch>,
    keeping: &Keeping,
    remember: Option<Epoch>,
    keep: Option<&Keep>,
    publisher: &Arc<Publisher>,
    probe: &ProbeHandle<Epoch>,
    heard: Arc<Mutex<Vec<Change>>>,
) -> Inputs {
    let mut inputs = Inputs {
        changes: Handle::new(),
        names: Handle::new(),
        completes: Handle::new(),
        attempts: Handle::new(),
        said: Handle::new(),
    };
    let names = scope.input_from(&mut inputs.names);
    let Replicas {
        sums,
        replicas,
        late,
        names: named,
    } = replicas(
        scope.input_from(&mut inputs.changes),
        names.clone(),
        scope.input_from(&mut inputs.completes),
        keeping.clone(),
        |_| {},
    );
    let attempts = distinct(scope.input_from(&mut inputs.attempts), remember, keep);
    let told = collected(attempts.probe_with(probe));
    let said = distinct(scope.input_from(&mut inputs.said), remember, keep);
    let heard_of = spoken(said.probe_with(probe));
    let listed = listings(heard_of.contents, keep);
    let available = available(replicas.clone());
    publish(rse_usage(sums), publisher);
    publish(transfers(told.clone(), keep), publisher);
    publish(failures(told.clone(), keep), publisher);
    publish(rules(heard_of.rules, told.clone(), keep), publisher);
    publish(lost_files(heard_of.lost, available.clone(), keep), publisher);
    let steps = dataset_progress::Keeping {
        forget_after_us: keeping.forget_after_us,
        ..dataset_progress::Keeping::all(keep)
    };
    publish(
        dataset_progress(told, listed.clone(), available, steps),
        publisher,
    );
    let placed = placement(replicas, names.concat(named), listed, policies());
    publish(placed.placement, publisher);
    publish(placed.gaps, publisher);
    late.probe_with(probe)
        .inspect(move |change| heard.lock().unwrap().push(*change));
    inputs
}
