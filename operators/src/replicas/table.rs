//! Table: one of the many small tables that a worker keeps its files and replicas in.
//!
//! ```text
//!   key --index--> row of the file --> block of rows, one a replica
//!                        \--> its name
//! ```
//!
//! Nearly every change touches one row of each kind and nothing else: that is done here. What also depends on
//! the other replicas of the file is done by [`super::whole`].

use super::{
    blocks::Blocks,
    changed::Changed,
    chunked::Dids,
    effects::{Effects, Seen},
    floors::Floors,
    names::Names,
    rare::Rare,
    row::{Did, NONE, OWN, Row, SEEN, TELLS_ADLER32, TELLS_BYTES, order},
};
use crate::{
    facts::{Basis, Change, DidKey, State},
    views::wide::MAX_FILE_BYTES,
};
use hashbrown::HashTable;
use std::sync::Arc;

/// Files, their replicas and their names.
pub(super) struct Table {
    pub(super) index: Arc<HashTable<u32>>,
    pub(super) dids: Dids,
    pub(super) rows: Blocks,
    pub(super) names: Names,
    pub(super) rare: Arc<Rare>,
    /// What is older, and of a replica that is not here, may be of one that was here.
    pub(super) horizon: i64,
    /// How many replicas are shown.
    pub(super) shown: usize,
    /// What changed since the last checkpoint; `None` where there are none.
    pub(super) changed: Option<Changed>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            index: Arc::default(),
            dids: Dids::default(),
            rows: Blocks::default(),
            names: Names::default(),
            rare: Arc::default(),
            horizon: i64::MIN,
            shown: 0,
            changed: None,
        }
    }
}

/// What is known of a replica, all things considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) state: State,
    pub(super) basis: Basis,
    pub(super) at: i64,
}

/// The state of `row` with what is said of the whole file and of everything; `None` when it is gone.
pub(super) fn known(row: &Row, number: u32, did: &Did, rare: &Rare, floors: &Floors) -> Option<Known> {
    if row.is_empty() || row.state == State::Gone {
        return None;
    }
    let absent = did.absent.max(floors.of(did.scope, row.rse));
    if row.at < absent {
        let seen = (row.flags & SEEN != 0)
            .then(|| rare.seen.get(&(number, row.rse)))
            .flatten();
        if seen.is_none_or(|seen| *seen < absent) {
            return None;
        }
    }
    let may_be_lost = matches!(
        row.state,
        State::Available | State::Bad | State::TemporaryUnavailable
    );
    if did.lost
        && may_be_lost
        && let Some(lost) = rare.lost.get(&number).filter(|lost| lost.0 > row.order().0)
    {
        return Some(Known {
            state: State::Unavailable,
            basis: lost.2,
            at: lost.0.at.0,
        });
    }
    Some(Known {
        state: row.state,
        basis: row.basis,
        at: row.at,
    })
}

/// The size and checksum of a replica.
pub(super) fn size(row: &Row, number: u32, did: &Did, rare: &Rare) -> (Option<u64>, Option<u32>) {
    let own = (row.flags & OWN != 0)
        .then(|| rare.own.get(&(number, row.rse)))
        .flatten();
    let bytes = own.map_or(Change::NO_BYTES, |own| own.bytes);
    let adler32 = own.map_or(0, |own| own.adler32);
    let told = |bytes| Some(bytes).filter(|bytes| *bytes != Change::NO_BYTES);
    let summed = |adler32| Some(adler32).filter(|adler32| *adler32 != 0);
    (
        told(bytes).or(told(did.bytes)),
        summed(adler32).or(summed(did.adler32)),
    )
}

/// What a change tells of size: nothing where it is more than a file can have.
pub(super) fn told_bytes(change: &Change) -> u64 {
    if change.bytes <= MAX_FILE_BYTES {
        change.bytes
    } else {
        Change::NO_BYTES
    }
}

impl Table {
    /// The number of a file.
    pub(super) fn find(&self, key: DidKey) -> Option<u32> {
        self.index
            .find(key.high, |number| self.dids.get(*number).key == key)
            .copied()
    }

    /// Brings into the cache what the next change of this file will touch.
    pub(super) fn warm(&self, number: u32) -> i64 {
        let did = self.dids.get(number);
        self.rows
            .block(did.first, 0)
            .first()
            .map_or(did.absent, |row| row.at)
    }

    /// Adds a file of which nothing is known.
    pub(super) fn add(&mut self, key: DidKey, scope: u32) -> u32 {
        let number = self.dids.add(Did {
            key,
            scope,
            ..Did::EMPTY
        });
        let dids = &self.dids;
        Arc::make_mut(&mut self.index).insert_unique(key.high, number, |number| dids.get(*number).key.high);
        number
    }

    /// What is kept of this file changes: the next checkpoint has it.
    pub(super) fn touch(&mut self, number: u32) {
        let Some(changed) = &mut self.changed else { return };
        let round = changed.round;
        if self.dids.get(number).touched != round {
            self.dids.change(number, |did| did.touched = round);
            changed.files.push(number);
        }
    }

    /// Takes in the name of a file.
    pub(super) fn name(&mut self, key: DidKey, scope: u32, name: &str) {
        let number = self.find(key).unwrap_or_else(|| self.add(key, scope));
        if self.dids.get(number).name == NONE {
            let place = self.names.add(name);
            self.dids.change(number, |did| did.name = place);
            self.touch(number);
        }
    }

    /// What others see of a replica.
    pub(super) fn seen(&self, row: &Row, number: u32, did: &Did, floors: &Floors) -> Seen {
        let known = known(row, number, did, &self.rare, floors)?;
        Some((known.state, size(row, number, did, &self.rare).0.unwrap_or(0)))
    }

    /// Tells of a replica that is now seen otherwise.
    pub(super) fn shift(&mut self, did: &Did, rse: u32, before: Seen, after: Seen, out: &mut Effects) {
        self.shown += usize::from(after.is_some());
        self.shown -= usize::from(before.is_some());
        out.shift(did, rse, before, after);
    }

    /// Takes in a change; `hint` is the file's number where it is known already.
    pub(super) fn apply(
        &mut self,
        change: &Change,
        hint: Option<u32>,
        scope: u32,
        rse: Option<u32>,
        floors: &Floors,
        out: &mut Effects,
    ) {
        let number = match hint.or_else(|| self.find(change.did)) {
            Some(number) => number,
            None if change.at.0 < self.horizon => return out.too_late(change),
            None => self.add(change.did, scope),
        };
        let Some(rse) = rse else {
            self.touch(number);
            return self.apply_to_all(change, number, floors, out);
        };
        let did = *self.dids.get(number);
        let block = self.rows.block(did.first, did.class);
        let place = block.iter().position(|row| row.rse == rse || row.is_empty());
        let there = place
            .and_then(|place| block.get(place))
            .filter(|row| !row.is_empty())
            .copied();
        let bytes = told_bytes(change);
        let agrees = did.first == NONE
            || ((bytes == Change::NO_BYTES || bytes == did.bytes)
                && (change.adler32 == 0 || change.adler32 == did.adler32));
        let rare = there.is_some_and(|row| row.flags & (OWN | SEEN) != 0)
            || change.seen().is_some_and(|seen| seen > change.at);
        if rare || !agrees {
            self.touch(number);
            return self.apply_rare(change, number, rse, floors, out);
        }
        let mut flags = 0;
        if bytes != Change::NO_BYTES {
            flags |= TELLS_BYTES;
        }
        if change.adler32 != 0 {
            flags |= TELLS_ADLER32;
        }
        let mut row = Row {
            at: change.at.0,
            tie: change.tie,
            rse,
            state: change.state,
            basis: change.basis,
            flags,
        };
        let Some(old) = there else {
            if row.at < self.horizon {
                return out.too_late(change);
            }
            self.put(number, &did, place, row, (bytes, change.adler32));
            self.touch(number);
            let did = *self.dids.get(number);
            let after = self.seen(&row, number, &did, floors);
            return self.shift(&did, rse, None, after, out);
        };
        row.flags |= old.flags;
        let order = order(row.at, row.state, row.basis, row.tie);
        out.meets(change, old.state, old.at);
        if order <= old.order() {
            row = Row {
                flags: row.flags,
                ..old
            };
        }
        if row == old {
            return;
        }
        if let Some(there) = place.and_then(|place| self.rows.block_mut(did.first, did.class).get_mut(place))
        {
            *there = row;
        }
        self.touch(number);
        let before = self.seen(&old, number, &did, floors);
        let after = self.seen(&row, number, &did, floors);
        self.shift(&did, rse, before, after, out);
    }

    /// Adds a row, at `place` of the file's block if there is one; the first one tells size and checksum.
    pub(super) fn put(&mut self, number: u32, did: &Did, place: Option<usize>, row: Row, told: (u64, u32)) {
        if let Some(place) = place {
            if let Some(there) = self.rows.block_mut(did.first, did.class).get_mut(place) {
                *there = row;
            }
            return;
        }
        let class = if did.first == NONE { 0 } else { did.class + 1 };
        let first = self.rows.take(class);
        let mut rows = Vec::with_capacity(1 << class);
        rows.extend_from_slice(self.rows.block(did.first, did.class));
        rows.push(row);
        for (there, row) in self.rows.block_mut(first, class).iter_mut().zip(&rows) {
            *there = *row;
        }
        if did.first != NONE {
            self.rows.give_back(did.first, did.class);
        }
        let is_first = did.first == NONE;
        self.dids.change(number, |did| {
            did.first = first;
            did.class = class;
            did.idle = false;
            if is_first {
                (did.bytes, did.adler32) = told;
            }
        });
    }
}
