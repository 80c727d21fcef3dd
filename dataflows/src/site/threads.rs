//! The threads beside the workers: one for the ledger, one for each repository.

use super::history::LedgerHistory;
use crate::{
    cluster::Place,
    config::Config,
    runtime::{Control, fault},
};
use anyhow::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError, TrySendError};
use dbb_events::{Due, Entry, Request, Settled};
use dbb_operators::port::{Port, port};
use dbb_serving::Metrics;
use dbb_sinks::{
    Sink,
    butler::{ButlerSink, ButlerStats},
    ledger::{self, Generation, Ledger, LedgerError, LedgerPorts},
};
use std::{
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::Instant,
};

/// Seconds that something may wait whatever the configuration says, as where a topic is not there.
const LEAST_WAIT_S: u64 = 60;
/// Batches on their way to a thread, beside the one it works on.
const DEPTH: usize = 1;

/// The operator's end of the wire to a repository.
pub(super) type RepositoryPort = Port<Request, Settled>;

/// A repository's thread and the ends of its wire.
pub(super) struct Repository {
    pub(super) name: Arc<str>,
    pub(super) stats: Arc<ButlerStats>,
    thread: JoinHandle<()>,
}

impl Repository {
    /// Waits for the thread, once nothing holds its port any more.
    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!(repository = %self.name, "the thread of the repository panicked");
        }
    }
}

/// A port for each repository, in the order of their names, and a thread for each that is this process's.
pub(super) fn repositories(
    config: &Config,
    place: Place,
    metrics: &Metrics,
) -> anyhow::Result<(Vec<RepositoryPort>, Vec<Repository>)> {
    let (mut ports, mut repositories) = (Vec::new(), Vec::new());
    for (number, (name, settings)) in config.repositories.iter().enumerate() {
        // Requests are exchanged by this number.
        if !place.has(number) {
            ports.push(port(DEPTH).0);
            continue;
        }
        let name: Arc<str> = name.as_str().into();
        let history = Box::new(LedgerHistory::new(config.ledger.clone()));
        let mut sink = ButlerSink::new(Arc::clone(&name), settings.clone(), history)
            .with_context(|| format!("repository `{name}`"))?;
        let stats = sink.stats();
        let (port, served) = port::<Request, Settled>(DEPTH);
        let (label, metrics) = (Arc::clone(&name), metrics.clone());
        let thread = Builder::new().name(format!("butler {name}")).spawn(move || {
            // A repository that is down now may be up when the first file arrives: deliver will say.
            if let Err(error) = sink.warm() {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the repository is not ready"
                );
            }
            loop {
                let batch = match served.batches.recv_timeout(sink.probe_in()) {
                    Ok(batch) => batch,
                    Err(RecvTimeoutError::Timeout) => {
                        sink.probe();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                let (begun, datasets) = (Instant::now(), batch.requests.len());
                let settled = sink.deliver(batch.requests);
                metrics.butler_call(&label, datasets, begun.elapsed());
                served.answer(batch.id, settled);
            }
        })?;
        ports.push(port);
        repositories.push(Repository { name, stats, thread });
    }
    Ok((ports, repositories))
}

/// The longest that anything waits until it is tried again, in seconds.
pub(super) fn longest_wait_s(config: &Config) -> u64 {
    let repositories = config.repositories.values().map(|settings| &settings.patience);
    let waits = repositories.flat_map(|patience| [patience.retry_max_s, patience.down_retry_s]);
    let labels = config.hub.as_ref().and_then(|hub| hub.lookup.as_ref());
    let labels = labels.map(|lookup| &lookup.patience);
    let labels = labels.map(|patience| patience.retry_max_s.max(patience.down_retry_max_s));
    waits.chain(labels).map(u64::from).fold(LEAST_WAIT_S, u64::max)
}

/// The ledger's thread.
pub(super) struct LedgerThread {
    pub(super) health: ledger::health::Health,
    /// None on a process whose ledger is written by another.
    threads: Vec<JoinHandle<()>>,
}

impl LedgerThread {
    pub(super) fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("the thread of the ledger panicked");
            }
        }
    }
}

/// Events that are due, on their way to the reader.
pub(super) struct DueEvents {
    pub(super) receiver: Receiver<Due>,
}

/// Starts the ledger's thread.
pub(super) fn ledger(
    ledger: Ledger,
    generation: Generation,
    longest_wait_s: u64,
    control: &Arc<Control>,
    metrics: &Metrics,
) -> anyhow::Result<(LedgerThread, Port<Entry, ()>, DueEvents)> {
    let (port, served) = port::<Entry, ()>(DEPTH);
    let (entries_in, entries) = crossbeam_channel::bounded(DEPTH);
    let batches = served.batches.clone();
    let bridge = Builder::new().name("ledger in".into()).spawn(move || {
        for batch in &batches {
            fault::point("ledger_write");
            if entries_in.send((batch.id, batch.requests)).is_err() {
                break;
            }
        }
    })?;
    let (due_in, due) = crossbeam_channel::bounded(ledger.settings().due_batch.max(1));
    let health = ledger::health::Health::default();
    let failed = Arc::clone(control);
    let (metrics, rounds) = (metrics.clone(), metrics.clone());
    let ports = LedgerPorts {
        entries,
        answer: Box::new(move |id| {
            fault::point("ledger_written");
            served.answer(id, Vec::new());
        }),
        due: Box::new(move |due| match due_in.try_send(due) {
            Ok(()) => None,
            Err(TrySendError::Full(due) | TrySendError::Disconnected(due)) => Some(due),
        }),
        written: Box::new(move |_, took| metrics.ledger_written(took)),
        going_round: Box::new(move |rows| rounds.going_round(rows)),
        on_fatal: Box::new(move |error| match error {
            LedgerError::Fenced { .. } => failed.yield_to_another(error.to_string()),
            LedgerError::Replaced { .. } => failed.start_again(error.to_string()),
            _ => failed.fail(error.to_string()),
        }),
        now: Box::new(super::work::now),
        longest_wait_s,
        health: health.clone(),
    };
    let writer = Builder::new().name("ledger".into()).spawn(move || {
        // What it returns was told to `on_fatal`.
        let _ = ledger::writer::run(ledger, generation, ports);
    })?;
    Ok((
        LedgerThread {
            health,
            threads: vec![bridge, writer],
        },
        port,
        DueEvents { receiver: due },
    ))
}

/// What a process has whose ledger is written by another: entries are exchanged to that one.
pub(super) fn no_ledger() -> (LedgerThread, Port<Entry, ()>, DueEvents) {
    let thread = LedgerThread {
        health: ledger::health::Health::default(),
        threads: Vec::new(),
    };
    let due = DueEvents {
        receiver: crossbeam_channel::never(),
    };
    (thread, port(DEPTH).0, due)
}
