//! What one repository's sink has done, for metrics and logs.

use dbb_events::Outcome;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Counters that the sink writes and anyone reads. All only rise, except `down`.
#[derive(Debug, Default)]
pub struct ButlerStats(Mutex<StatsSnapshot>);

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatsSnapshot {
    /// True while the repository, or its worker, cannot be used; then `trouble` says why.
    pub down: bool,
    /// Since when the worker is at work on a request, and how long that may take at most before it counts as hanging.
    pub asked: Option<(Instant, Duration)>,
    /// The last trouble, in one sentence; empty if there was none.
    pub trouble: String,
    /// The Butler's version, once known.
    pub butler_version: String,
    /// Batches delivered to this sink.
    pub batches: u64,
    /// Requests in them.
    pub requests: u64,
    /// Largest batch.
    pub largest_batch: u64,
    /// Requests sent to the worker and answered by it: more than the batches if some were halved.
    pub worker_requests: u64,
    /// Writing calls of the Butler.
    pub butler_calls: u64,
    /// Times the worker was started.
    pub worker_starts: u64,
    /// The process that drives the repository now.
    pub worker_id: Option<u32>,
    /// Times it died, hung or spoke nonsense.
    pub worker_failures: u64,
    /// Seconds spent in [`crate::Sink::deliver`].
    pub deliver_seconds: f64,
    /// Seconds of them that the worker reports as its own.
    pub worker_seconds: f64,
    /// Seconds of them asking the ledger for earlier versions.
    pub history_seconds: f64,
    /// Outcomes by their word.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Dataset types written that were new to the repository, at most [`ButlerStats::MOST_NAMES`].
    pub new_dataset_types: BTreeSet<String>,
    /// RUNs written that were new to the repository, at most as many.
    pub new_runs: BTreeSet<String>,
}

impl ButlerStats {
    /// Names of new dataset types, and of new RUNs, that are remembered.
    pub const MOST_NAMES: usize = 1000;

    /// The counters now.
    pub fn snapshot(&self) -> StatsSnapshot {
        self.lock().clone()
    }

    /// How long the worker has not answered, if that is longer than its request can take.
    pub fn silent(&self) -> Option<Duration> {
        let (since, most) = self.lock().asked?;
        Some(since.elapsed()).filter(|silent| *silent >= most)
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut StatsSnapshot)) {
        change(&mut self.lock());
    }

    pub(super) fn count(&self, outcome: &Outcome) {
        *self.lock().outcomes.entry(outcome.as_str()).or_default() += 1;
    }

    /// Notes the names and returns those never seen before.
    pub(super) fn note_new(&self, dataset_types: &[String], runs: &[String]) -> (Vec<String>, Vec<String>) {
        let mut stats = self.lock();
        let note = |known: &mut BTreeSet<String>, names: &[String]| -> Vec<String> {
            names
                .iter()
                .filter(|name| known.len() < Self::MOST_NAMES && known.insert(String::clone(name)))
                .cloned()
                .collect()
        };
        let types = note(&mut stats.new_dataset_types, dataset_types);
        (types, note(&mut stats.new_runs, runs))
    }

    fn lock(&self) -> MutexGuard<'_, StatsSnapshot> {
        // Plain counters: whatever panicked while it held them left them usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
