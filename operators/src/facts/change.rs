//! Change: what something says of one replica at one moment.

use super::{Basis, DidKey, RseName, ScopeName, State};
use dbb_events::Micros;
use serde::{Deserialize, Serialize};

/// One statement about one replica. 64 bytes, without the file's name.
///
/// Of all changes of a replica the one with the greatest [`Version`] is its state: repeats, shuffles and
/// late arrivals make no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Change {
    /// The file.
    pub did: DidKey,
    /// When it was so: `created_at` of an event, `at` of a journal row, the time of a listing.
    pub at: Micros,
    /// Decides between changes that are alike in all else: a hash of the event, `seq` of a journal row; for
    /// [`Basis::Listing`] the time of the listing in microseconds, which is later than `at` where the state is
    /// one that the catalogue tells late: see [`Change::seen`].
    pub tie: u64,
    /// Size in bytes; [`Change::NO_BYTES`] where it is not told.
    pub bytes: u64,
    /// The RSE. `None` means every RSE: with [`State::Unavailable`] the event `lost`, with
    /// [`State::Gone`] that a listing of this DID names no other RSEs than those of its other changes at `at`.
    pub rse: Option<RseName>,
    /// The file's scope.
    pub scope: ScopeName,
    /// Adler-32; 0 where it is not told (no file has 0: that of an empty file is 1).
    pub adler32: u32,
    /// What it says.
    pub state: State,
    /// What says it.
    pub basis: Basis,
}

impl Change {
    /// A size that is not told.
    pub const NO_BYTES: u64 = u64::MAX;

    /// The time of the listing that names this replica: that listing, or an older one, does not make it gone,
    /// whatever its `at` is.
    pub fn seen(&self) -> Option<Micros> {
        (self.basis == Basis::Listing && self.rse.is_some())
            .then(|| Micros(i64::try_from(self.tie).unwrap_or(0)).max(self.at))
    }

    /// Where it stands among the changes of its replica.
    pub fn version(&self) -> Version {
        Version {
            at: self.at,
            journal: self.basis == Basis::Journal,
            rank: if self.basis == Basis::Journal {
                0
            } else {
                self.state.rank()
            },
            tie: self.tie,
        }
    }
}

/// The order of changes of one replica: time; at equal times the journal's, in its own order; then gone,
/// AVAILABLE, BEING_DELETED, others; then the tie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// When.
    pub at: Micros,
    /// It comes from the journal.
    pub journal: bool,
    /// [`State::rank`]; 0 for the journal, whose order is its own.
    pub rank: u8,
    /// [`Change::tie`].
    pub tie: u64,
}

/// The name of a DID, sent at least once before or at the epoch of its first change, by each worker that
/// reads of it, to the worker that keeps it. Where files are forgotten after a while, again after half of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DidName {
    /// What stands for it.
    pub did: DidKey,
    /// The scope.
    pub scope: ScopeName,
    /// The name.
    pub name: Box<str>,
}

/// A listing named every replica that there was at `at`: all others, of these RSEs and scopes, were gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Complete {
    /// The time of the listing.
    pub at: Micros,
    /// The RSEs it covers; all when `None`.
    pub rses: Option<Vec<RseName>>,
    /// The scopes it covers; all when `None`.
    pub scopes: Option<Vec<ScopeName>>,
}
