//! How checkpoints are doing: told by the threads that write them, asked by health and metrics.

use super::manifest::Manifest;
use dbb_events::Micros;
use dbb_operators::Epoch;
use dbb_serving::{Health, Metrics, metrics::Checkpointed};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The condition of a store that does not do what it is asked.
const CONDITION: &str = "checkpoint";

/// Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Status {
    figures: Arc<Mutex<Figures>>,
    leaving: Arc<AtomicBool>,
}

/// The newest checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// Its epoch.
    pub epoch: Epoch,
    /// When the epoch began.
    pub at: Micros,
    /// Rows of all its shards.
    pub rows: u64,
    /// Bytes of all its shards.
    pub bytes: u64,
}

/// What there is to tell.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// The newest checkpoint that can be found at a start, written or restored.
    pub newest: Option<Newest>,
    /// Manifests written by this process.
    pub written: u64,
    /// Rows written to shards by this process, those that were merged in background not counted.
    pub rows: u64,
    /// Bytes written to shards by this process, likewise.
    pub bytes: u64,
    /// Bytes written to shards that were merged in background.
    pub merged_bytes: u64,
    /// Times that the store did not do what it was asked.
    pub failures: u64,
    /// Since when it has not, and why; `None` when the last attempt worked.
    pub failing: Option<(Instant, String)>,
    /// Time from taking a checkpoint's rows to having written them, the last time.
    pub took: Duration,
    /// Rows given back at the start.
    pub restored_rows: u64,
    /// Checkpoints that were found damaged at the start.
    pub damaged: u64,
    /// When that file of the kept checkpoints was read whole that was read longest ago; `None` before all were.
    pub scrubbed: Option<Micros>,
    /// Files of kept checkpoints that are not as they were written.
    pub damaged_files: u64,
    /// What the next checkpoint cannot be written without, and is lost.
    pub lost: Option<String>,
}

impl Status {
    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of it, now.
    pub fn figures(&self) -> Figures {
        self.lock().clone()
    }

    /// Why checkpoints cannot be written at present, for the health condition `checkpoint`.
    pub fn trouble(&self) -> Option<String> {
        let figures = self.lock();
        let failing = figures.failing.as_ref().map(|(_, why)| why);
        figures.lost.as_ref().or(failing).cloned()
    }

    /// Tells all of it to whoever watches, at `now`.
    pub fn tell(&self, now: Micros, metrics: &Metrics, health: &Health) {
        let figures = self.figures();
        let newest = figures.newest;
        let at = Checkpointed {
            newest: newest.map(|newest| (newest.epoch, newest.at)),
            size: newest.map_or((0, 0), |newest| (newest.bytes, newest.rows)),
            written: figures.written,
            bytes: (figures.bytes, figures.merged_bytes),
            failures: figures.failures,
            damaged: figures.damaged,
            took: figures.took,
            restored_rows: figures.restored_rows,
            scrubbed: figures.scrubbed,
            damaged_files: figures.damaged_files,
        };
        metrics.checkpoints(now, &at);
        match (figures.failing, figures.lost) {
            (Some((since, why)), None) => {
                let seconds = since.elapsed().as_secs();
                health.fail(CONDITION, format!("not written for {seconds} s: {why}"));
            }
            (_, Some(why)) => health.fail(CONDITION, format!("not written: {why}")),
            (None, None) => health.clear(CONDITION),
        }
    }

    /// From now on nothing is tried again: the process is about to end.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    pub(super) fn works(&self) {
        self.lock().failing = None;
    }

    pub(super) fn fails(&self, why: &str) {
        let mut figures = self.lock();
        figures.failures += 1;
        let since = figures
            .failing
            .as_ref()
            .map_or_else(Instant::now, |(since, _)| *since);
        figures.failing = Some((since, why.to_owned()));
    }

    pub(super) fn scrubbed(&self, oldest: Option<Micros>, damaged: &BTreeSet<String>) {
        let mut figures = self.lock();
        figures.scrubbed = oldest;
        figures.damaged_files = damaged.len() as u64;
    }

    pub(super) fn lost(&self, what: Option<String>) {
        self.lock().lost = what;
    }

    pub(super) fn shards(&self, rows: u64, bytes: u64, took: Duration) {
        let mut figures = self.lock();
        figures.rows += rows;
        figures.bytes += bytes;
        figures.took = took;
    }

    pub(super) fn merged(&self, bytes: u64) {
        self.lock().merged_bytes += bytes;
    }

    pub(super) fn committed(&self, manifest: &Manifest) {
        let mut figures = self.lock();
        figures.written += 1;
        figures.newest = Some(Newest::of(manifest));
    }

    pub(super) fn found(&self, manifest: &Manifest) {
        self.lock().newest = Some(Newest::of(manifest));
    }

    pub(super) fn damaged(&self) {
        self.lock().damaged += 1;
    }

    pub(super) fn restored(&self, rows: u64) {
        self.lock().restored_rows += rows;
    }
}

impl Newest {
    fn of(manifest: &Manifest) -> Self {
        Self {
            epoch: manifest.epoch,
            at: manifest.at,
            rows: manifest.rows(),
            bytes: manifest.bytes(),
        }
    }
}
