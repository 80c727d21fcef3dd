//! What each timely worker does: build its part of the dataflow, step, and ack what is durable.

use super::{
    catalogue::Catalogue,
    graph::{self, Probes},
    hub::Leg,
    keeping::Kept,
    listings::Listed,
    live::Live,
    report::Tallied,
    tables::Table,
    telling::OutcomesPort,
};
use crate::{
    cluster::Place,
    runtime::{Bindings, Control, fault, read::Reading},
};
use crossbeam_channel::Receiver;
use dbb_events::{Due, Entry, Micros, Position, Request, Settled};
use dbb_operators::{
    Batching, decode::PartitionKey, facts::Wanted, mapping::Mapping, port::Port, sequences::Following,
    views::attempts::Tried,
};
use dbb_serving::Metrics;
use dbb_sources::{Offsets, Positions, Source, kafka::KafkaStatistics, listings::Listings};
use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use timely::{dataflow::ProbeHandle, worker::Worker};

/// The length of an epoch. What a worker waits for wakes it; this bounds how long an idle one sleeps.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// What the workers of a process share.
pub(super) struct Shared {
    /// Which workers of all are those of this process.
    pub(super) place: Place,
    /// One for each worker, taken by it.
    pub(super) sources: Mutex<Vec<Option<Box<dyn Source>>>>,
    /// The repositories of all processes by name, in the order of `butlers`; that of another leads nowhere.
    pub(super) targets: Vec<Arc<str>>,
    pub(super) butlers: Vec<Port<Request, Settled>>,
    /// The wire to whoever tells of outcomes, where that is wanted.
    pub(super) outcomes: Option<OutcomesPort>,
    /// How a hub's numbers are followed, where they are.
    pub(super) following: Option<Following>,
    pub(super) ledger: Port<Entry, ()>,
    pub(super) due: Receiver<Due>,
    pub(super) mapping: Arc<Mapping>,
    pub(super) counted_to: HashMap<PartitionKey, Position>,
    pub(super) batching: Batching,
    pub(super) remember_seconds: i64,
    /// For each worker.
    pub(super) max_in_flight: usize,
    pub(super) control: Arc<Control>,
    pub(super) metrics: Metrics,
    pub(super) tally: Tallied,
    /// The views, where any are wanted.
    pub(super) live: Option<Live>,
    /// Rucio's table of replicas, where it is followed; taken by the first worker.
    pub(super) catalogue: Mutex<Option<Box<dyn Source>>>,
    /// The folder of listings, where there is one; likewise.
    pub(super) listings: Mutex<Option<Listings>>,
    /// What the brokers say, where there are any.
    pub(super) statistics: Option<KafkaStatistics>,
    /// What waited in the ledger at the start, for the view of it; taken by the first worker that builds it.
    pub(super) waiting: Mutex<Vec<Settled>>,
    /// The attempts of earlier runs; the first worker takes them.
    pub(super) durations: Mutex<Vec<Tried>>,
    /// How long the workers wait for the end of the last epoch.
    pub(super) patience: Duration,
    /// What goes on from run to run, where checkpoints are kept.
    pub(super) kept: Option<Kept>,
    /// Without a route no file is meant for any repository.
    pub(super) routes_any: bool,
    /// What a hub has in place of repositories.
    pub(super) hub: Option<Leg>,
}

impl Shared {
    /// What tells of replicas beside events, for the worker that is to have it.
    pub(super) fn take_tables(&self, wanted: Wanted) -> Vec<Box<dyn Table>> {
        let catalogue = self
            .catalogue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let listings = self
            .listings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut tables: Vec<Box<dyn Table>> = Vec::new();
        tables.extend(catalogue.map(|source| Box::new(Catalogue::new(source, wanted)) as Box<dyn Table>));
        tables.extend(listings.map(|listings| Box::new(Listed::new(listings, wanted)) as Box<dyn Table>));
        tables
    }
}

/// The time of this machine.
pub(super) fn now() -> Micros {
    dbb_sinks::clock::now()
}

/// One worker, from start to end.
pub(super) fn work(worker: &mut Worker, shared: &Arc<Shared>) {
    let index = worker.index();
    let control = &shared.control;
    let local = index - shared.place.range().start;
    let source = shared.sources.lock().unwrap_or_else(PoisonError::into_inner)[local].take();
    let Some(source) = source else {
        control.fail(format!("worker {index} has no source"));
        return;
    };
    let reading = Rc::new(RefCell::new(Reading {
        source,
        bindings: Bindings::default(),
        finished: false,
    }));
    let due = Rc::new(RefCell::new(Bindings::default()));
    let (probe, kept) = (ProbeHandle::new(), ProbeHandle::new());
    graph::build(
        worker,
        shared,
        &reading,
        &due,
        Probes {
            ledger: &probe,
            kept: &kept,
        },
    );

    let mut handled = Positions::new();
    let mut finished: Option<Instant> = None;
    while !(control.is_leaving() || control.is_finished() && probe.done() && kept.done()) {
        worker.step_or_park(Some(TICK));
        control.beat(index);
        if control.is_finished() && finished.get_or_insert_with(Instant::now).elapsed() > shared.patience {
            tracing::warn!("the last epoch has not ended in time");
            control.leave();
        }
        let frontier = probe.with_frontier(|frontier| frontier.first().copied());
        let mut reading = reading.borrow_mut();
        handled.extend(reading.bindings.close(frontier));
        ack(&mut *reading.source, &mut handled, control);
        let mut due = due.borrow_mut();
        due.close(frontier);
        control.set_in_flight(
            index,
            reading.bindings.in_flight() + due.in_flight(),
            reading.bindings.oldest_age(),
        );
        let sent_again = index == 0 && !shared.due.is_empty() && !control.is_stopping();
        let idle = reading.bindings.in_flight() == 0 && due.in_flight() == 0 && handled.is_empty();
        control.set_drained(index, reading.finished && idle && !sent_again);
    }
    if control.is_finished() && !control.is_leaving() {
        fault::point("drained");
    }
    let mut reading = reading.borrow_mut();
    if let Err(error) = reading.source.flush() {
        tracing::warn!(%error, "the last offsets were not stored: their events will be read again, and known");
    }
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
}

/// Tells the source what it may forget; what it could not take in now is told again. Of a topic that was made again, what
/// was handled of the one before means nothing.
fn ack(source: &mut dyn Source, handled: &mut Positions, control: &Control) {
    handled.retain(|partition, at| at.incarnation == source.incarnation(partition));
    if handled.is_empty() {
        return;
    }
    fault::point("offsets_commit");
    let offsets: Offsets = handled
        .iter()
        .map(|(partition, at)| (partition.clone(), at.next))
        .collect();
    match source.ack(&offsets) {
        Ok(()) => handled.clear(),
        Err(error) if error.is_transient() => tracing::warn!(%error, "offsets are not stored yet"),
        Err(error) => control.fail(error.to_string()),
    }
}
