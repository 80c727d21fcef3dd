//! What every source does: emit, wake its worker, and be told what it may forget.

use crate::SourceError;
use dbb_events::{Incarnation, Position, Received};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// A part of a source. Within one [`Incarnation`] of it offsets only rise.
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

/// The same, with the incarnation of each partition in which the offset means something.
pub type Positions = BTreeMap<Partition, Position>;

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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extent {
    /// Ends after what was there when it was opened.
    pub once: bool,
    /// The first of them.
    pub begin: Begin,
}

/// With which record a source begins. Whatever it is, [`Source::known_to`] tells which of them are handled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Begin {
    /// The first that is not handled.
    #[default]
    Unhandled,
    /// The oldest there is.
    Oldest,
    /// Of each partition the one at its offset, of a partition that has none the oldest: what a checkpoint says,
    /// which also says that all below is handled.
    At(Arc<Positions>),
}

impl Begin {
    /// The place that a checkpoint names for `partition`.
    pub(crate) fn named(&self, partition: &Partition) -> Option<Position> {
        match self {
            Begin::At(named) => named.get(partition).copied(),
            Begin::Unhandled | Begin::Oldest => None,
        }
    }
}

/// Records that a source was to emit and does not have any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Of which partition.
    pub partition: Partition,
    /// The offset of the first that is missing.
    pub from: u64,
    /// The offset of the record with which the partition goes on.
    pub to: u64,
    /// How many; `None` where nobody can tell, for what is there now is not the continuation of what was.
    pub records: Option<u64>,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition, from, to, ..
        } = self;
        match self.records {
            Some(records) => write!(f, "{partition}: {records} records, {from} to {to}"),
            None => write!(
                f,
                "{partition}: what came after {from}, replaced by others from {to}"
            ),
        }
    }
}

/// Somewhere events come from: a Kafka topic, a recorded file. One instance serves one worker.
///
/// Within one incarnation of a partition (topic id; a log that went back starts a new one) offsets only rise; partitions
/// have no order between them. A restarted source emits again everything it was never `ack`ed for.
pub trait Source: Send {
    /// Appends at most about `max` records that are ready to `batch`, and returns at once.
    ///
    /// An error leaves `batch` as it was. [`SourceError::is_partial`] tells whether the rest of the
    /// source goes on: then it is to be reported and `poll` called again.
    fn poll(&mut self, batch: &mut Vec<Received>, max: usize) -> Result<Polled, SourceError>;

    /// Records of `partition` below this offset were handled before the source was opened; it emits those of them
    /// that [`Begin`] says.
    fn known_to(&self, _partition: &Partition) -> u64 {
        0
    }

    /// Of which incarnation of `partition` the records are that [`Source::poll`] gave last.
    fn incarnation(&self, _partition: &Partition) -> Incarnation {
        Incarnation::default()
    }

    /// Before the first poll: each partition that this source reads, and the offset it begins with.
    fn begins(&mut self) -> Offsets {
        Offsets::new()
    }

    /// The gaps found since the last call: what was polled of their partitions since then comes after them.
    fn take_gaps(&mut self) -> Vec<Gap> {
        Vec::new()
    }

    /// True once everything that was there when the source was opened has been emitted.
    fn caught_up(&self) -> bool {
        true
    }

    /// Records that every event below these offsets is durably handled.
    ///
    /// Only partitions this source has emitted from are passed, with offsets of their present incarnation, in which they
    /// never go backwards. It waits for nobody.
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

    /// Takes offsets, which are stored durably soon; partitions not named keep theirs. Waits for nobody.
    fn store(&self, handled: &Offsets) -> Result<(), String>;

    /// Returns when all that was taken is stored; not later than it takes a run to end.
    fn flush(&self) -> Result<(), String> {
        Ok(())
    }
}
