//! The numbers of checkpoints.

use crate::catalog::{Catalog, Form};
use dbb_events::Micros;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use std::{sync::atomic::AtomicU64, time::Duration};

type Seconds = Gauge<f64, AtomicU64>;

/// How checkpoints are doing, as whoever writes them counts it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checkpointed {
    /// The epoch of the newest checkpoint, and when that began; `None` before the first.
    pub newest: Option<(u64, Micros)>,
    /// Bytes and rows of all its files.
    pub size: (u64, u64),
    /// Manifests written since the start.
    pub written: u64,
    /// Bytes of changes, and of files merged in background, written since the start.
    pub bytes: (u64, u64),
    /// Times the store did not do what it was asked, since the start.
    pub failures: u64,
    /// Checkpoints found damaged at the start.
    pub damaged: u64,
    /// Time that writing the changes of one checkpoint took, the last time.
    pub took: Duration,
    /// Rows that were given back at the start.
    pub restored_rows: u64,
    /// When that file of the kept checkpoints was read whole that was read longest ago; `None` before all were.
    pub scrubbed: Option<Micros>,
    /// Files of kept checkpoints that are not as they were written.
    pub damaged_files: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Checkpoints {
    epoch: Gauge,
    age: Seconds,
    bytes: Gauge,
    rows: Gauge,
    written: Counter,
    changes: Counter,
    merged: Counter,
    failures: Counter,
    damaged: Gauge,
    took: Seconds,
    restored: Gauge,
    scrub_age: Seconds,
    damaged_files: Gauge,
}

impl Checkpoints {
    pub(super) fn register(&self, to: &mut Catalog) {
        use Form::{Counter, Gauge};
        to.add(
            ("checkpoint_epoch", ""),
            Gauge,
            &[],
            "Epoch of the newest checkpoint; 0 before the first",
            &self.epoch,
        );
        to.add(
            ("checkpoint_age", "seconds"),
            Gauge,
            &[],
            "Time since the state that the newest checkpoint holds: what a start has to read again",
            &self.age,
        );
        to.add(
            ("checkpoint_size", "bytes"),
            Gauge,
            &[],
            "Size of the newest checkpoint, all its files together",
            &self.bytes,
        );
        to.add(
            ("checkpoint_state", "rows"),
            Gauge,
            &[],
            "Rows of the newest checkpoint, those that newer ones replace counted too",
            &self.rows,
        );
        to.add(
            ("checkpoints", ""),
            Counter,
            &[],
            "Checkpoints written",
            &self.written,
        );
        to.add(
            ("checkpoint_changes", "bytes"),
            Counter,
            &[],
            "Bytes of changes written for checkpoints by this process",
            &self.changes,
        );
        to.add(
            ("checkpoint_merged", "bytes"),
            Counter,
            &[],
            "Bytes written by merging files of checkpoints in background",
            &self.merged,
        );
        to.add(
            ("checkpoint_failures", ""),
            Counter,
            &[],
            "Attempts to write a checkpoint that failed and were made again",
            &self.failures,
        );
        to.add(
            ("checkpoint_damaged", ""),
            Gauge,
            &[],
            "Checkpoints that were found damaged and passed over at the start",
            &self.damaged,
        );
        to.add(
            ("checkpoint_write", "seconds"),
            Gauge,
            &[],
            "Time that writing the changes of the last checkpoint took, beside the dataflow",
            &self.took,
        );
        to.add(
            ("checkpoint_restored", "rows"),
            Gauge,
            &[],
            "Rows that were given back from a checkpoint at the start",
            &self.restored,
        );
        to.add(
            ("checkpoint_scrub_age", "seconds"),
            Gauge,
            &[],
            "Time since all files of the kept checkpoints were read whole and were as they were written; a day at most",
            &self.scrub_age,
        );
        to.add(
            ("checkpoint_damaged_files", ""),
            Gauge,
            &[],
            "Files of kept checkpoints that are not as they were written",
            &self.damaged_files,
        );
    }

    pub(super) fn set(&self, now: Micros, at: &Checkpointed) {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let raise = |counter: &Counter, to: u64| {
            counter.inc_by(to.saturating_sub(counter.get()));
        };
        if let Some((epoch, began)) = at.newest {
            self.epoch.set(whole(epoch));
            self.age.set(now.seconds_since(began).max(0.0));
        }
        self.bytes.set(whole(at.size.0));
        self.rows.set(whole(at.size.1));
        raise(&self.written, at.written);
        raise(&self.changes, at.bytes.0);
        raise(&self.merged, at.bytes.1);
        raise(&self.failures, at.failures);
        self.damaged.set(whole(at.damaged));
        self.took.set(at.took.as_secs_f64());
        self.restored.set(whole(at.restored_rows));
        if let Some(scrubbed) = at.scrubbed {
            self.scrub_age.set(now.seconds_since(scrubbed).max(0.0));
        }
        self.damaged_files.set(whole(at.damaged_files));
    }
}
