//! Tell table: what rows of Rucio's own tables say, as facts: of its replica journal, and of listings.
//!
//! ```text
//!   journal   insert, change    the state from then on          delete    gone
//!   listing   a replica         its state at that time
//!             all of a file     these states, and gone at every other RSE
//!             all there is      these states, and gone whatever is not named
//!             all of a Rucio dataset    its contents at that time
//! ```
//!
//! In:    rows in any order of files; those of one file in its order.
//! Out:   facts, appended to [`crate::facts::Told`]; what is wrong with a journal or a listing as a whole.
//! State: which `seq` a journal had, as ranges; the files of the Rucio dataset that is being listed.

mod journal;
mod listing;

pub use journal::{JournalReport, JournalTeller};
pub use listing::{CATALOGUE_LAG_US, ListingProblem, ListingTeller};

use crate::{
    facts::{Basis, Change, DidKey, State, Told},
    tell::Teller,
};
use dbb_events::{Micros, ReplicaState};

/// What a row says of one replica, or of all of a file.
struct Row<'a> {
    scope: &'a str,
    name: &'a str,
    rse: Option<&'a str>,
    state: State,
    basis: Basis,
    at: Micros,
    tie: u64,
    bytes: Option<u64>,
    adler32: Option<u32>,
}

impl Teller {
    fn tell_row(&mut self, row: &Row<'_>, told: &mut Told) {
        let wanted = self.wanted;
        if !(wanted.changes || wanted.names) {
            return;
        }
        let did = DidKey::new(row.scope, row.name);
        let scope = self.words.scope(row.scope);
        if wanted.names {
            self.named.name(did, scope, row.name, &mut told.names);
        }
        if wanted.changes {
            told.changes.push(Change {
                did,
                at: row.at,
                tie: row.tie,
                bytes: row.bytes.unwrap_or(Change::NO_BYTES),
                rse: row.rse.map(|rse| self.words.rse(rse)),
                scope,
                adler32: row.adler32.unwrap_or(0),
                state: row.state,
                basis: row.basis,
            });
        }
    }
}

impl From<ReplicaState> for State {
    fn from(state: ReplicaState) -> Self {
        match state {
            ReplicaState::Available => State::Available,
            ReplicaState::Bad => State::Bad,
            ReplicaState::BeingDeleted => State::BeingDeleted,
            ReplicaState::Copying => State::Copying,
            ReplicaState::TemporaryUnavailable => State::TemporaryUnavailable,
            ReplicaState::Unavailable => State::Unavailable,
        }
    }
}
