//! Replicas: the newest state of every replica, from changes in any order, repeated any number of times.
//!
//! ```text
//!   changes --by DID--> newest version wins --> sums for each (RSE, scope, state)
//!   names ----/              |       \--------> replicas that came, went or changed
//!   complete listings -/     |\---------------> snapshots, at published epochs
//!   rows of a checkpoint -/   \---------------> files that changed, at each checkpoint
//! ```
//!
//! In:    changes; names of their files, at the same epoch or before; complete listings, to all workers; at the
//!        restored epoch, and before all else, what an earlier run kept.
//! Out:   differences of sums and, where wanted, of replicas; changes that came too late to be judged.
//! State: a row for each file and a row for each replica, tombstones included; see [`Keeping`]. With checkpoints a
//!        number for each file that changed since the last, and the chunks that change while one is written, twice.

mod blocks;
mod changed;
mod chunked;
mod columns;
mod effects;
mod floors;
mod forget;
mod gather;
mod kept;
mod names;
mod operator;
mod rare;
mod restore;
mod row;
mod snapshot;
mod store;
mod table;
mod whole;
mod words;

pub(crate) use kept::{FLOORS, REPLICAS};
pub use snapshot::{Snapshot, VIEW, schema};

use crate::{
    Epoch,
    checkpoint::Keep,
    facts::{Change, Complete, DidKey, DidName, RseName, ScopeName, State},
    publish::Publisher,
    views::rse_usage::{Amount, Usage},
};
use dbb_events::Micros;
use differential_dataflow::VecCollection;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use timely::dataflow::Stream;

/// A replica, as other views see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Replica {
    /// The file.
    pub did: DidKey,
    /// The RSE.
    pub rse: RseName,
    /// The file's scope.
    pub scope: ScopeName,
    /// The state; never [`State::Gone`].
    pub state: State,
    /// Size in bytes; 0 where nobody tells.
    pub bytes: u64,
}

/// How replicas are kept. By default for sums alone, exact at each epoch, for ever.
#[derive(Clone, Default)]
pub struct Keeping {
    /// Applies changes as they come, not when their epoch ends: for a replay, where only the end is looked at.
    pub eager: bool,
    /// Keeps the names of files, so that replicas can be shown.
    pub names: bool,
    /// Emits the replicas that change, for views that join with them.
    pub emits: bool,
    /// How long after its time a tombstone is kept, by the times of events; for ever when `None`. What is older
    /// and of an unknown replica is too late to be judged.
    pub forget_after_us: Option<i64>,
    /// Two changes of different states closer than this cannot be told apart by clocks: they are reported.
    pub clock_skew_us: i64,
    /// Brings all replicas to the first worker when the input ends, and publishes them there and then only: for a
    /// run of several processes, which cannot read each other's memory.
    pub gather: bool,
    /// Where the view `replicas` is published; `None` when nobody looks at it.
    pub publisher: Option<Arc<Publisher>>,
    /// Goes into checkpoints, and goes on where one was taken. Changes are then never taken in early.
    pub keep: Option<Keep>,
}

/// What comes out.
pub struct Replicas<'s> {
    /// Differences of files and bytes.
    pub sums: VecCollection<'s, Epoch, Usage, Amount>,
    /// Differences of replicas; empty unless [`Keeping::emits`].
    pub replicas: VecCollection<'s, Epoch, Replica, isize>,
    /// Changes older than what is remembered, of replicas that are not known.
    pub late: Stream<'s, Epoch, Vec<Change>>,
    /// The names of the files that were restored, where replicas are emitted: nobody else tells them again.
    pub names: Stream<'s, Epoch, Vec<DidName>>,
}

/// What somebody should know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Two changes of one replica, closer than clocks can tell, say different states.
    Conflict {
        /// The file.
        did: DidKey,
        /// The RSE.
        rse: RseName,
        /// The newer of the two.
        at: Micros,
    },
    /// Two sources tell different sizes or checksums of one file.
    Disagreement {
        /// The file.
        did: DidKey,
        /// The RSE of the later word.
        rse: RseName,
    },
    /// A change, or a step of a transfer, that came too late to be judged.
    TooLate,
}

/// See the module.
pub fn replicas<'s>(
    changes: Stream<'s, Epoch, Vec<Change>>,
    names: Stream<'s, Epoch, Vec<DidName>>,
    completes: Stream<'s, Epoch, Vec<Complete>>,
    keeping: Keeping,
    on_notice: impl Fn(Notice) + 'static,
) -> Replicas<'s> {
    operator::build(changes, names, completes, keeping, on_notice)
}
