//! An arrival: one readable event that says a file for some Butler has landed, or that a file is gone.

use dbb_events::{Action, Again, Did, EventId, Incarnation, Micros, Place, Received, Rse};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A record on its way in, from a source or from the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    /// The record.
    pub received: Received,
    /// When it was read.
    pub read_at: Micros,
    /// Set when the ledger sends it again.
    pub again: Option<Again>,
    /// Of which of the topics, and logs, of its name.
    pub incarnation: Incarnation,
    /// Its outcome is durable since an earlier run: it is read once more for the views alone.
    pub known: bool,
}

/// "This file has landed", or "it is gone", decoded, for no repository in particular yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// The identity of the event.
    pub event: EventId,
    /// Where it was read.
    pub place: Place,
    /// The topic it was published to, where known.
    pub topic: Option<Arc<str>>,
    /// The event type, in lower case.
    pub event_type: Arc<str>,
    /// The file.
    pub did: Did,
    /// Where it landed, or is gone from.
    pub rse: Rse,
    /// What a Butler is asked to do with it.
    pub action: Action,
    /// The envelope's time.
    pub created_at: Micros,
    /// The replica's URL; empty for a removal that has none.
    pub url: Arc<str>,
    /// The sidecar; empty for zip and dimension files, and for removals.
    pub sidecar: Arc<str>,
    /// Size that Rucio believes, in bytes.
    pub bytes: Option<u64>,
    /// Adler-32 that Rucio believes.
    pub adler32: Option<Arc<str>>,
    /// When the file landed.
    pub landed_at: Option<Micros>,
    /// When the record was appended to its topic.
    pub appended_at: Option<Micros>,
    /// When it was read.
    pub read_at: Micros,
    /// Set when the ledger sends it again.
    pub again: Option<Again>,
    /// The event as it came.
    pub body: bytes::Bytes,
}
