//! The states of a replica, in Rucio's words, and what a state is known from.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The state of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum State {
    /// Usable.
    Available,
    /// Declared bad.
    Bad,
    /// The storage has been, or is being, asked to remove it.
    BeingDeleted,
    /// On its way: queued, submitted, or a try failed and there may be more.
    Copying,
    /// Its storage is away for a while.
    TemporaryUnavailable,
    /// Not usable: given up, or lost.
    Unavailable,
    /// No row in Rucio's table any more. Never shown.
    Gone,
}

impl State {
    /// All states, the shown ones in the order of their words.
    pub const ALL: [State; 7] = [
        State::Available,
        State::Bad,
        State::BeingDeleted,
        State::Copying,
        State::TemporaryUnavailable,
        State::Unavailable,
        State::Gone,
    ];

    /// Rucio's word: `AVAILABLE`.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Available => "AVAILABLE",
            State::Bad => "BAD",
            State::BeingDeleted => "BEING_DELETED",
            State::Copying => "COPYING",
            State::TemporaryUnavailable => "TEMPORARY_UNAVAILABLE",
            State::Unavailable => "UNAVAILABLE",
            State::Gone => "GONE",
        }
    }

    /// The state called `word`, or meant by the letter that Rucio's table has for it.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "AVAILABLE" | "A" => State::Available,
            "BAD" | "D" => State::Bad,
            "BEING_DELETED" | "B" => State::BeingDeleted,
            "COPYING" | "C" => State::Copying,
            "TEMPORARY_UNAVAILABLE" | "T" => State::TemporaryUnavailable,
            "UNAVAILABLE" | "U" => State::Unavailable,
            _ => return None,
        })
    }

    /// Which of two facts of one moment wins: gone, then AVAILABLE, then BEING_DELETED, then the others.
    pub fn rank(self) -> u8 {
        match self {
            State::Gone => 3,
            State::Available => 2,
            State::BeingDeleted => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the state of a replica is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Basis {
    /// An event of the stream.
    Event,
    /// A listing of replicas.
    Listing,
    /// The change journal of Rucio's table: at equal times it is right.
    Journal,
}

impl Basis {
    /// The word in a view.
    pub fn as_str(self) -> &'static str {
        match self {
            Basis::Event => "event",
            Basis::Listing => "listing",
            Basis::Journal => "journal",
        }
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
