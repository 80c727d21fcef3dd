//! Control: what the workers of a process, and the threads beside them, tell each other.

use dbb_operators::Epoch;
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Why a process cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Something is broken, here or next door.
    #[error("{0}")]
    Fault(String),
    /// Another process has taken the ledger over: what this one had not finished is now that one's.
    #[error("{0}")]
    TakenOver(String),
    /// What this process was on is not there any more: the next start finds out what is, and goes on from there.
    #[error("{0}")]
    StartAgain(String),
}

/// Shared by all workers of a process. They go by their numbers among the workers of all processes.
#[derive(Debug)]
pub struct Control {
    started: Instant,
    /// The number of the first worker of this process.
    first: usize,
    stopping: AtomicBool,
    finished: AtomicBool,
    leaving: AtomicBool,
    failure: Mutex<Option<Failure>>,
    /// Parts of sources that were given up.
    faults: AtomicU64,
    /// For each worker: nothing is on its way, and its source has finished or been stopped.
    drained: Vec<AtomicBool>,
    /// For each worker: events on their way, and the age of the oldest open epoch in milliseconds.
    in_flight: Vec<(AtomicU64, AtomicU64)>,
    /// Milliseconds after `started` at which each worker last stepped.
    beats: Vec<AtomicU64>,
    /// For each worker: the epoch by which it had read what was there at the start; [`NOT_YET`] before.
    caught_up: Vec<AtomicU64>,
    /// The same of what is told beside events; 0 where nothing is.
    tables_caught_up: AtomicU64,
}

const NOT_YET: u64 = u64::MAX;

impl Control {
    /// For the `workers` workers of a process on its own.
    pub fn new(workers: usize) -> Self {
        Self::of(0..workers)
    }

    /// For these workers of a cluster.
    pub fn of(workers: std::ops::Range<usize>) -> Self {
        let (first, workers) = (workers.start, workers.len());
        Self {
            started: Instant::now(),
            first,
            stopping: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            failure: Mutex::new(None),
            faults: AtomicU64::new(0),
            drained: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            in_flight: (0..workers)
                .map(|_| (AtomicU64::new(0), AtomicU64::new(0)))
                .collect(),
            beats: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            caught_up: (0..workers).map(|_| AtomicU64::new(NOT_YET)).collect(),
            tables_caught_up: AtomicU64::new(0),
        }
    }

    /// The place of worker `index` among those of this process; none of another process has one.
    fn local(&self, index: usize) -> usize {
        index.checked_sub(self.first).unwrap_or(usize::MAX)
    }

    /// Asks every reader to read no more; what was read is finished first.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// True once [`Control::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Records why this process cannot go on; the first reason stays. Every worker leaves.
    pub fn fail(&self, reason: impl Into<String>) {
        self.end(Failure::Fault(reason.into()));
    }

    /// The same, once another process has taken over.
    pub fn yield_to_another(&self, reason: impl Into<String>) {
        self.end(Failure::TakenOver(reason.into()));
    }

    /// The same, where another start sets it right.
    pub fn start_again(&self, reason: impl Into<String>) {
        self.end(Failure::StartAgain(reason.into()));
    }

    fn end(&self, failure: Failure) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(failure);
        self.leave();
    }

    /// Why this process cannot go on.
    pub fn failure(&self) -> Option<Failure> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Says that the work is done: the clock stops, and every worker leaves once all epochs have ended and the last
    /// checkpoint is on its way.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }

    /// True once the work is done, or cannot go on.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Says that there is no time left, or no use: every worker leaves at once.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
        self.finish();
    }

    /// True once the workers must leave, whatever is left to do.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Counts a part of a source, such as a damaged file, that was given up while the rest goes on.
    pub fn add_fault(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// Records whether worker `index` has nothing on its way and nothing to read.
    pub fn set_drained(&self, index: usize, drained: bool) {
        if let Some(flag) = self.drained.get(self.local(index)) {
            flag.store(drained, Ordering::Release);
        }
    }

    /// True when no worker has anything on its way or to read.
    pub fn all_drained(&self) -> bool {
        self.drained.iter().all(|flag| flag.load(Ordering::Acquire))
    }

    /// Records what worker `index` has on its way.
    pub fn set_in_flight(&self, index: usize, events: usize, oldest: Duration) {
        if let Some((count, age_ms)) = self.in_flight.get(self.local(index)) {
            count.store(events as u64, Ordering::Relaxed);
            age_ms.store(oldest.as_millis() as u64, Ordering::Relaxed);
        }
    }

    /// Events on their way over all workers, and the age of the oldest open epoch.
    pub fn in_flight(&self) -> (usize, Duration) {
        let events: u64 = self
            .in_flight
            .iter()
            .map(|(count, _)| count.load(Ordering::Relaxed))
            .sum();
        let oldest = self
            .in_flight
            .iter()
            .map(|(_, age)| age.load(Ordering::Relaxed))
            .max()
            .unwrap_or(0);
        (events as usize, Duration::from_millis(oldest))
    }

    /// Records that worker `index` has read all that was there at the start, by the end of `epoch`; the first
    /// time counts.
    pub fn set_caught_up(&self, index: usize, epoch: Epoch) {
        if let Some(caught_up) = self.caught_up.get(self.local(index))
            && caught_up.load(Ordering::Relaxed) == NOT_YET
        {
            caught_up.store(epoch, Ordering::Release);
        }
    }

    /// Says that something is told beside events, which is to be waited for.
    pub fn expect_tables(&self) {
        self.tables_caught_up.store(NOT_YET, Ordering::Release);
    }

    /// Records that it was told by the end of `epoch`; the first time counts.
    pub fn set_tables_caught_up(&self, epoch: Epoch) {
        if self.tables_caught_up.load(Ordering::Relaxed) == NOT_YET {
            self.tables_caught_up.store(epoch, Ordering::Release);
        }
    }

    /// The epoch by which all that was there at the start had been read; `None` before.
    pub fn caught_up(&self) -> Option<Epoch> {
        let newest = self
            .caught_up
            .iter()
            .chain([&self.tables_caught_up])
            .map(|epoch| epoch.load(Ordering::Acquire))
            .max();
        newest.filter(|epoch| *epoch != NOT_YET)
    }

    /// Records that worker `index` has stepped.
    pub fn beat(&self, index: usize) {
        if let Some(beat) = self.beats.get(self.local(index)) {
            beat.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
        }
    }

    /// How long ago the worker that has been silent longest last stepped.
    pub fn silence(&self) -> Duration {
        let oldest = self
            .beats
            .iter()
            .map(|beat| beat.load(Ordering::Relaxed))
            .min()
            .unwrap_or(0);
        self.started
            .elapsed()
            .saturating_sub(Duration::from_millis(oldest))
    }
}
