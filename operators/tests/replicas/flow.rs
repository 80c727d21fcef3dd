//! The operator on some workers, fed with facts.

use crate::fold::{Fact, Line, NAMES};
use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use dbb_events::Micros;
use dbb_operators::{
    Epoch,
    facts::{Change, DidKey, DidName, ScopeName},
    publish::Publisher,
    replicas::{Keeping, Notice, Replica, replicas},
    views::{
        Batches, Scan, Table,
        rse_usage::{Amount, Usage},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use timely::dataflow::{
    InputHandle, ProbeHandle,
    operators::{Input, Inspect, Probe},
};

/// What came out of one run.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) sums: BTreeMap<Epoch, BTreeMap<Usage, Amount>>,
    pub(crate) replicas: BTreeMap<Replica, isize>,
    pub(crate) lines: BTreeSet<Line>,
    pub(crate) late: Vec<Change>,
    pub(crate) notices: Vec<Notice>,
    /// The view at each published epoch but the last.
    pub(crate) published: BTreeMap<Epoch, BTreeSet<Line>>,
    /// The view at the end.
    pub(crate) table: Option<Arc<dyn Table>>,
}

pub(crate) fn lines(batches: Batches) -> BTreeSet<Line> {
    let mut lines = BTreeSet::new();
    for batch in batches {
        let batch: RecordBatch = batch.unwrap();
        let text = |column: usize, row: usize| -> Option<String> {
            let column: &ArrayRef = batch.column(column);
            (!column.is_null(row)).then(|| column.as_string::<i32>().value(row).to_owned())
        };
        for row in 0..batch.num_rows() {
            let bytes = batch.column(4);
            let line = (
                text(0, row).unwrap(),
                text(1, row).unwrap(),
                text(2, row).unwrap(),
                text(3, row).unwrap(),
                (!bytes.is_null(row)).then(|| bytes.as_primitive::<Int64Type>().value(row)),
                text(5, row),
                text(6, row).unwrap(),
                batch
                    .column(7)
                    .as_primitive::<TimestampMicrosecondType>()
                    .value(row),
            );
            assert!(lines.insert(line), "a replica twice");
        }
    }
    lines
}

/// Feeds the facts, each at its epoch and from a worker that its place decides, and gathers what comes out.
pub(crate) fn run(facts: &[(Epoch, Fact)], workers: usize, keeping: Keeping) -> Outcome {
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let lives = !keeping.eager && !keeping.gather;
    let publisher = Arc::new(Publisher::new(u64::from(lives)));
    let asked = Arc::clone(&publisher);
    let keeping = Keeping {
        names: true,
        emits: true,
        publisher: Some(Arc::clone(&publisher)),
        ..keeping
    };
    let (facts, filled) = (facts.to_vec(), Arc::clone(&outcome));
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let mut changes = InputHandle::new();
        let mut names = InputHandle::new();
        let mut completes = InputHandle::new();
        let probe = ProbeHandle::new();
        let noticed = Arc::clone(&filled);
        worker.dataflow::<Epoch, _, _>(|scope| {
            let out = replicas(
                scope.input_from(&mut changes),
                scope.input_from(&mut names),
                scope.input_from(&mut completes),
                keeping.clone(),
                move |notice: Notice| noticed.lock().unwrap().notices.push(notice),
            );
            let filled = [Arc::clone(&filled), Arc::clone(&filled), Arc::clone(&filled)];
            let [sums, replicas, late] = filled;
            out.sums
                .inner
                .probe_with(&probe)
                .inspect(move |(usage, epoch, amount)| {
                    let mut outcome = sums.lock().unwrap();
                    let known = outcome.sums.entry(*epoch).or_default().entry(*usage).or_default();
                    known.0 += amount.0;
                    known.1.0 += amount.1.0;
                });
            out.replicas.inner.inspect(move |(replica, _, times)| {
                *replicas.lock().unwrap().replicas.entry(*replica).or_default() += times;
            });
            out.late
                .inspect(move |change| late.lock().unwrap().late.push(*change));
        });
        for (scope, name) in NAMES {
            names.send(DidName {
                did: DidKey::new(scope, name),
                scope: ScopeName::new(scope),
                name: name.into(),
            });
        }
        let mut mine: BTreeMap<Epoch, Vec<Fact>> = BTreeMap::new();
        for (place, (epoch, fact)) in facts.iter().enumerate() {
            if place % worker.peers() == worker.index() {
                mine.entry(*epoch).or_default().push(fact.clone());
            }
        }
        let last = facts.iter().map(|(epoch, _)| *epoch).max().unwrap_or(0);
        for epoch in 0..=last {
            let watches = worker.index() == 0 && lives;
            if watches {
                asked.minted(epoch, Micros(0));
                // Asks for this epoch, which nobody has ended yet, and does not wait.
                let _ = asked.with_replicas(Duration::ZERO);
            }
            for fact in mine.remove(&epoch).unwrap_or_default() {
                match fact {
                    Fact::Change(change) => changes.send(change),
                    Fact::Complete(complete) => completes.send(complete),
                }
            }
            names.advance_to(epoch + 1);
            changes.advance_to(epoch + 1);
            completes.advance_to(epoch + 1);
            while probe.less_than(&(epoch + 1)) {
                worker.step();
            }
            if watches {
                let published = asked.newest().expect("an epoch has ended");
                assert_eq!(published.epoch, epoch);
                let lines = lines(published.tables["replicas"].scan(&Scan::default()));
                filled.lock().unwrap().published.insert(epoch, lines);
            }
        }
    })
    .unwrap();
    for result in guards.join() {
        result.unwrap();
    }
    let mut outcome = std::mem::take(&mut *outcome.lock().unwrap());
    let published = publisher.newest().expect("the end is published");
    let table = &published.tables["replicas"];
    outcome.lines = lines(table.scan(&Scan::default()));
    assert_eq!(table.rows(), outcome.lines.len());
    outcome.table = Some(Arc::clone(table));
    outcome.replicas.retain(|_, times| *times != 0);
    outcome
}
