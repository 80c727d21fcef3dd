//! What a sink is asked to do for one event, and the event's end in the ledger.

use crate::{
    Did, EventId, Incarnation, Kind, Micros, Numbers, Outcome, Place, Reason, Received, Rse, Sent, Verified,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use uuid::Uuid;

/// What a repository is asked to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It has landed: register it, as what its label says it is.
    Register(Kind),
    /// It is gone from its RSE: be without it.
    Remove,
}

impl Action {
    /// What is to be registered.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Action::Register(kind) => Some(kind),
            Action::Remove => None,
        }
    }

    /// True for a file that is gone.
    pub fn is_removal(self) -> bool {
        matches!(self, Action::Remove)
    }
}

/// "This file has landed: register it", or "it is gone", for one Butler repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The identity of the event.
    pub event: EventId,
    /// The repository, by its name in the configuration. (event, target) is unique in a ledger.
    pub target: Arc<str>,
    /// Where the event was read.
    pub place: Place,
    /// The event type as sent, in lower case.
    pub event_type: Arc<str>,
    /// The file.
    pub did: Did,
    /// Where it landed, or is gone from.
    pub rse: Rse,
    /// What the Butler is asked to do with it.
    pub action: Action,
    /// The envelope's `created_at`: the version in this file's story; a larger one is newer.
    pub created_at: Micros,
    /// The replica's URL as the event has it; empty for a removal that has none.
    pub url: Arc<str>,
    /// The URI the Butler will know the file by, after the prefix mapping: an absolute path or a URI; empty for a
    /// removal whose URL is none that can be mapped.
    pub uri: Arc<str>,
    /// The sidecar, a JSON document; empty for zip and dimension files, and for removals.
    pub sidecar: Arc<str>,
    /// Size that Rucio believes, in bytes.
    pub bytes: Option<u64>,
    /// Adler-32 that Rucio believes, 8 lower-case hexadecimal digits.
    pub adler32: Option<Arc<str>>,
    /// When the file landed (`transferred_at`).
    pub landed_at: Option<Micros>,
    /// When the record was appended to its topic.
    pub appended_at: Option<Micros>,
    /// When `dbb` read it.
    pub read_at: Micros,
    /// Attempts made before this one that count against the limit.
    pub attempts: u32,
    /// When the first attempt ended in waiting; `None` for an event that has never waited.
    pub waiting_since: Option<Micros>,
    /// True when the event came back from the ledger where it stood without a target (a dead letter
    /// that had not been routed): the row this request ends in replaces that one.
    pub was_unrouted: bool,
    /// The topic it was published to, where known.
    pub topic: Option<Arc<str>>,
    /// The event as it came, kept while it waits and if it is refused.
    pub body: Bytes,
}

/// A request and what became of it: one row for the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// What was asked.
    pub request: Request,
    /// How it ended.
    pub outcome: Outcome,
    /// When the sink answered.
    pub at: Micros,
    /// How long the attempt took, from when its call began; `None` where none was made. Files that are registered
    /// together share their call.
    pub took: Option<Duration>,
    /// The datasets registered, or removed: one, many for a zip, none for dimension records.
    pub uuids: Vec<Uuid>,
    /// What was compared with the file before registering.
    pub verified: Verified,
    /// The dependencies that this success satisfies, as in [`crate::Dependency::key`]: rows that
    /// wait for one of them become due.
    pub provides: Vec<Arc<str>>,
}

/// An event from the ledger that is due again: its dependency came, its timer rang, or an operator
/// asked for a retry. It is decoded and routed anew, so that a corrected configuration applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// The identity it has in the ledger.
    pub event: EventId,
    /// The repository whose row is due; empty for a dead letter that was never routed.
    pub target: Arc<str>,
    /// Attempts that count, so far.
    pub attempts: u32,
    /// When it first waited.
    pub waiting_since: Option<Micros>,
    /// An operator has released it from an embargo.
    pub released: bool,
    /// The event, at the place where it was first read.
    pub received: Received,
}

/// What the ledger knows of an event that it sends again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// The identity under which its row stands.
    pub event: EventId,
    /// The only repository meant; empty for an event that had not been routed.
    pub target: Arc<str>,
    /// Attempts that count, so far.
    pub attempts: u32,
    /// When it first waited.
    pub waiting_since: Option<Micros>,
    /// An operator has released it from an embargo.
    pub released: bool,
}

/// What happened to the records of one partition that are nobody's here, up to an offset.
///
/// Applied in one transaction with `counted_to`, so that records read twice are counted once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The topic, file or queue.
    pub stream: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Of which of the topics, and logs, of the name.
    pub incarnation: Incarnation,
    /// Every record below this offset is in these counts or in earlier ones.
    pub counted_to: u64,
    /// Records by what they were found to be: `arrival`, `dead_letter`, or why they are nobody's.
    pub counts: BTreeMap<Arc<str>, u64>,
}

/// One thing for the ledger to remember.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A sink has answered.
    Settled(Box<Settled>),
    /// A hub's record was not simply published, or the ledger had sent it.
    Sent(Box<Sent>),
    /// No sink will be asked.
    DeadLetter(Box<DeadLetter>),
    /// Nobody's records.
    Counted(Counted),
    /// How far a lane of a hub was read.
    Numbers(Box<Numbers>),
}

/// An event that no sink will ever see: unreadable, or nobody's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its identity; for bytes that could not be read, a hash of them.
    pub event: EventId,
    /// The repository whose row this is; empty for an event that was never routed to one.
    pub target: Arc<str>,
    /// Where it was read.
    pub place: Place,
    /// The topic it was published to, where known.
    pub topic: Option<Arc<str>>,
    /// The event type, where it could be read.
    pub event_type: Option<Arc<str>>,
    /// The file, where it could be read.
    pub did: Option<Did>,
    /// The RSE, where it could be read.
    pub rse: Option<Rse>,
    /// The envelope's time, where it could be read.
    pub created_at: Option<Micros>,
    /// When `dbb` read it.
    pub at: Micros,
    /// The class of the failure.
    pub reason: Reason,
    /// One sentence: which field and why.
    pub detail: String,
    /// The event as it came.
    pub body: Bytes,
}
