//! Numbers that have not arrived, as operators find them and the ledger keeps them.

use crate::{Lane, Micros, Ranges};
use serde::{Deserialize, Serialize};

/// Records of a lane that were passed over when others were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first that was missing when it was found: in its lane no two gaps have the same.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Those still missing.
    pub left: Ranges,
    /// Those that the hub does not have any more.
    pub gone: Ranges,
    /// When it was found.
    pub found_at: Micros,
    /// When it is to be asked for.
    pub ask_at: Micros,
}

impl Gap {
    /// All from `first` to `last` are missing since `found_at`.
    pub fn new(first: u64, last: u64, found_at: Micros, ask_at: Micros) -> Self {
        Self {
            first,
            last,
            left: Ranges::of(first, last),
            gone: Ranges::default(),
            found_at,
            ask_at,
        }
    }

    /// True when nothing is missing any more.
    pub fn is_filled(&self) -> bool {
        self.left.is_empty() && self.gone.is_empty()
    }
}

/// How far a lane has been read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// Of which partition of the hub.
    pub lane: Lane,
    /// The number it was found at: what is below is nobody's here. `None` while only heartbeats have told of it.
    pub begins: Option<u64>,
    /// The largest number that was read, or is known to be missing.
    pub last: u64,
    /// Gaps that have changed; one that is filled is told as that once. At a start: all that are not filled.
    pub gaps: Vec<Gap>,
    /// When it came to stand so.
    pub at: Micros,
}
