//! What every source does: emit, wake its worker, and be told what it may forget.

use crate::SourceError;
use dbb_events::Received;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// A part of a source within which offsets only rise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition {
    /// The topic, or the path of the file.
    pub stream: Arc<str>,
    /// The partition of the topic; 0 for files.
    pub partition: i32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.stream, self.partition)
    }
}

/// For each partition the offset of the next record: everything below it is meant.
pub type Offsets = BTreeMap<Partition, u64>;

/// Called, from any thread, when a source that had nothing has something.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// What a poll found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    /// There may be more at once: poll again.
    More,
    /// Nothing more for now; the waker will be called, or the next tick will see.
    Idle,
    /// A finite source has emitted its last record.
    Finished,
}

/// Which of its records a source emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Ends after what was there when it was opened.
    pub once: bool,
    /// Begins with the oldest record there is; [`Source::known_to`] tells which of them are handled.
    pub from_beginning: bool,
}

/// Somewhere events come from: a Kafka topic, a recorded file. One instance serves one worker.
///
/// Within a partition offsets only rise; partitions have no order between them.
/// A restarted source emits again everything it was never `ack`ed for.
pub trait Source: Send {
    /// Appends at most about `max` records that are ready to `batch`, and returns at once.
    ///
    /// An error leaves `batch` as it was. [`SourceError::is_partial`] tells whether the rest of the
    /// source goes on: then it is to be reported and `poll` called again.
    fn poll(&mut self, batch: &mut Vec<Received>, max: usize) -> Result<Polled, SourceError>;

    /// Records of `partition` below this offset were handled before the source was opened; it emits them only
    /// where it was opened [`Extent::from_beginning`].
    fn known_to(&self, _partition: &Partition) -> u64 {
        0
    }

    /// True once everything that was there when the source was opened has been emitted.
    fn caught_up(&self) -> bool {
        true
    }

    /// Records that every event below these offsets is durably handled.
    ///
    /// Only partitions this source has emitted from are passed, and offsets never go backwards.
    fn ack(&mut self, handled: &Offsets) -> Result<(), SourceError>;

    /// Returns when all that was acked is stored for good; called once, at shutdown.
    fn flush(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    /// Sets what to call when records arrive after a poll found none.
    fn set_waker(&mut self, waker: Waker);
}

/// Where a source that has no memory of its own (files) keeps its offsets: the ledger.
pub trait OffsetStore: Send + Sync {
    /// The offsets stored last; empty at the very first start.
    fn load(&self) -> Result<Offsets, String>;

    /// Stores offsets durably; partitions not named keep theirs.
    fn store(&self, handled: &Offsets) -> Result<(), String>;
}
