//! The identity of an event: what two deliveries of it have in common.

use serde::{Deserialize, Serialize};
use std::fmt;

/// 128 bits that are equal for two deliveries of one event, and only for those.
///
/// A hash, not a counter: it is the same on every worker, in every run and in every ledger.
/// The chance that any two of a billion events collide is about 1.5e-21.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(pub u128);

impl EventId {
    /// The 16 bytes a ledger stores, most significant first.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The identity stored as `bytes`; `None` unless there are 16 of them.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(u128::from_be_bytes(bytes.try_into().ok()?)))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({self})")
    }
}
