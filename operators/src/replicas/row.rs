//! The rows of replicas and of files, of fixed size.

use crate::facts::{Basis, Change, DidKey, State, Version};
use dbb_events::Micros;

/// No RSE: the place of a row that holds no replica.
const NO_RSE: u32 = u32::MAX;

/// The newest change of one replica. 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// When.
    pub(super) at: i64,
    /// [`Change::tie`].
    pub(super) tie: u64,
    /// The RSE, by its number on this worker.
    pub(super) rse: u32,
    /// Its own state, before what is said of the whole file.
    pub(super) state: State,
    /// What it is known from.
    pub(super) basis: Basis,
    /// What else is to be looked at: the bits below.
    pub(super) flags: u8,
}

/// Some change of this replica told the size that the file's row has.
pub(super) const TELLS_BYTES: u8 = 1;
/// Some change of this replica told the checksum that the file's row has.
pub(super) const TELLS_ADLER32: u8 = 2;
/// Size or checksum are its own, see [`super::rare::Rare::own`].
pub(super) const OWN: u8 = 4;
/// A listing saw it later than `at`, see [`super::rare::Rare::seen`].
pub(super) const SEEN: u8 = 8;

impl Row {
    /// A place that holds nothing.
    pub(super) const EMPTY: Row = Row {
        at: 0,
        tie: 0,
        rse: NO_RSE,
        state: State::Gone,
        basis: Basis::Event,
        flags: 0,
    };

    /// True when it holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.rse == NO_RSE
    }

    /// Where it stands among the changes of its replica. State and basis only decide between changes
    /// that a source gave one and the same tie.
    pub(super) fn order(&self) -> Order {
        order(self.at, self.state, self.basis, self.tie)
    }
}

/// [`Version`], and what decides when even that is equal.
pub(super) type Order = (Version, State, Basis);

/// The order of a change.
pub(super) fn order(at: i64, state: State, basis: Basis, tie: u64) -> Order {
    let journal = basis == Basis::Journal;
    let rank = if journal { 0 } else { state.rank() };
    let version = Version {
        at: Micros(at),
        journal,
        rank,
        tie,
    };
    (version, state, basis)
}

/// No place in an arena, no block of rows.
pub(super) const NONE: u32 = u32::MAX;

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Did {
    /// Its key.
    pub(super) key: DidKey,
    /// The greatest size that any of its replicas tells; [`Change::NO_BYTES`] when none does.
    pub(super) bytes: u64,
    /// Replicas whose last word is older than this, and that no listing of this time or later saw, are gone.
    pub(super) absent: i64,
    /// The greatest checksum that any of its replicas tells; 0 when none does.
    pub(super) adler32: u32,
    /// Where its name is; [`NONE`] before it is told.
    pub(super) name: u32,
    /// The scope, by its number on this worker.
    pub(super) scope: u32,
    /// The first row of its block; [`NONE`] without replicas.
    pub(super) first: u32,
    /// The block has room for 2 to the power of this.
    pub(super) class: u8,
    /// It was lost, see [`super::rare::Rare::lost`].
    pub(super) lost: bool,
    /// It had no replicas when it was looked at last.
    pub(super) idle: bool,
    /// The round of checkpoints in which it last changed, see [`super::changed::Changed`].
    pub(super) touched: u32,
}

impl Did {
    /// A place that holds nothing.
    pub(super) const EMPTY: Did = Did {
        key: DidKey { high: 0, low: 0 },
        bytes: Change::NO_BYTES,
        absent: i64::MIN,
        adler32: 0,
        name: NONE,
        scope: NONE,
        first: NONE,
        class: 0,
        lost: false,
        idle: false,
        touched: 0,
    };

    /// True when it holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.scope == NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_as_small_as_is_promised() {
        assert_eq!(size_of::<Row>(), 24);
        assert_eq!(size_of::<Did>(), 56);
    }
}
