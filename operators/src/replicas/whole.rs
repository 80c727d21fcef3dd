//! Whole: changes that concern more than one row: of a file and all its replicas, or of a replica that is unlike
//! the others of its file.
//!
//! All rows of the file are taken apart, changed, and put together again. This is slow and rare.

use super::{
    effects::{Effects, Seen},
    floors::Floors,
    rare::Own,
    row::{NONE, OWN, Row, SEEN, TELLS_ADLER32, TELLS_BYTES, order},
    table::{Table, told_bytes},
};
use crate::facts::{Change, State};
use std::sync::Arc;

/// A replica with all that is known of it.
struct Full {
    row: Row,
    seen: i64,
    bytes: Option<u64>,
    adler32: Option<u32>,
}

impl Table {
    /// Takes in a change of all replicas of a file: it was lost, or a listing names no others.
    pub(super) fn apply_to_all(&mut self, change: &Change, number: u32, floors: &Floors, out: &mut Effects) {
        let before = self.all_seen(number, floors);
        match change.state {
            State::Unavailable => {
                let order = order(change.at.0, change.state, change.basis, change.tie);
                let lost = &mut Arc::make_mut(&mut self.rare).lost;
                let known = lost.entry(number).or_insert(order);
                *known = order.max(*known);
                self.dids.change(number, |did| did.lost = true);
            }
            State::Gone => {
                let absent = self.dids.get(number).absent.max(change.at.0);
                self.dids.change(number, |did| did.absent = absent);
            }
            // Nothing says so of a whole file.
            _ => return,
        }
        self.shift_all(number, &before, floors, out);
    }

    /// Takes in a change of one replica, whatever it says.
    pub(super) fn apply_rare(
        &mut self,
        change: &Change,
        number: u32,
        rse: u32,
        floors: &Floors,
        out: &mut Effects,
    ) {
        let before = self.all_seen(number, floors);
        let did = *self.dids.get(number);
        let block = self.rows.block(did.first, did.class);
        let place = block.iter().position(|row| row.rse == rse || row.is_empty());
        if place.and_then(|place| block.get(place)).is_none_or(Row::is_empty) {
            if change.at.0 < self.horizon {
                return out.too_late(change);
            }
            let row = Row {
                at: change.at.0,
                tie: change.tie,
                rse,
                state: change.state,
                basis: change.basis,
                flags: 0,
            };
            self.put(number, &did, place, row, (Change::NO_BYTES, 0));
        }
        let mut all = self.take_apart(number);
        let Some(full) = all.iter_mut().find(|full| full.row.rse == rse) else {
            return;
        };
        let (old, known) = (full.row, (full.bytes, full.adler32));
        if (old.at, old.tie) != (change.at.0, change.tie) {
            out.meets(change, old.state, old.at);
        }
        let newer = order(change.at.0, change.state, change.basis, change.tie) > full.row.order();
        if newer {
            full.row.at = change.at.0;
            full.row.tie = change.tie;
            full.row.state = change.state;
            full.row.basis = change.basis;
        }
        if let Some(seen) = change.seen() {
            full.seen = full.seen.max(seen.0);
        }
        let bytes = Some(told_bytes(change)).filter(|bytes| *bytes != Change::NO_BYTES);
        let adler32 = Some(change.adler32).filter(|adler32| *adler32 != 0);
        // The greatest of what was ever told: the same whatever came first, and a size of 0, or of what had
        // arrived when a transfer broke, never hides the true one.
        full.bytes = full.bytes.max(bytes);
        full.adler32 = full.adler32.max(adler32);
        let differs =
            |told: Option<u64>, known: Option<u64>| told.is_some() && known.is_some() && told != known;
        let tells_more = newer || known != (full.bytes, full.adler32);
        let told_before = (
            Some(did.bytes).filter(|bytes| *bytes != Change::NO_BYTES),
            Some(did.adler32).filter(|adler32| *adler32 != 0),
        );
        if tells_more
            && (differs(bytes, told_before.0)
                || differs(adler32.map(u64::from), told_before.1.map(u64::from)))
        {
            out.disagrees(change);
        }
        self.put_together(number, &all);
        self.shift_all(number, &before, floors, out);
    }

    /// What others see of each row of the file, in the order of the rows.
    fn all_seen(&self, number: u32, floors: &Floors) -> Vec<(u32, Seen)> {
        let did = self.dids.get(number);
        let block = self.rows.block(did.first, did.class);
        block
            .iter()
            .take_while(|row| !row.is_empty())
            .map(|row| (row.rse, self.seen(row, number, did, floors)))
            .collect()
    }

    /// Tells of each replica that is seen otherwise than `before`.
    fn shift_all(&mut self, number: u32, before: &[(u32, Seen)], floors: &Floors, out: &mut Effects) {
        let did = *self.dids.get(number);
        for (place, (rse, after)) in self.all_seen(number, floors).into_iter().enumerate() {
            let before = before.get(place).and_then(|(_, seen)| *seen);
            self.shift(&did, rse, before, after, out);
        }
    }

    fn take_apart(&self, number: u32) -> Vec<Full> {
        let did = self.dids.get(number);
        let full = |row: &Row| {
            let key = (number, row.rse);
            let own = self.rare.own.get(&key).filter(|_| row.flags & OWN != 0);
            let bytes = match own {
                Some(own) => Some(own.bytes),
                None => (row.flags & TELLS_BYTES != 0).then_some(did.bytes),
            };
            let adler32 = match own {
                Some(own) => Some(own.adler32),
                None => (row.flags & TELLS_ADLER32 != 0).then_some(did.adler32),
            };
            let seen = self.rare.seen.get(&key).filter(|_| row.flags & SEEN != 0);
            Full {
                row: *row,
                seen: seen.copied().unwrap_or(i64::MIN),
                bytes: bytes.filter(|bytes| *bytes != Change::NO_BYTES),
                adler32: adler32.filter(|adler32| *adler32 != 0),
            }
        };
        let block = self.rows.block(did.first, did.class);
        block.iter().take_while(|row| !row.is_empty()).map(full).collect()
    }

    fn put_together(&mut self, number: u32, all: &[Full]) {
        let did = *self.dids.get(number);
        let bytes = all.iter().filter_map(|full| full.bytes).max();
        let adler32 = all.iter().filter_map(|full| full.adler32).max();
        self.dids.change(number, |did| {
            did.bytes = bytes.unwrap_or(Change::NO_BYTES);
            did.adler32 = adler32.unwrap_or(0);
        });
        let rare = Arc::make_mut(&mut self.rare);
        let block = self.rows.block_mut(did.first, did.class);
        for (row, full) in block.iter_mut().zip(all) {
            let key = (number, full.row.rse);
            let mut flags = 0;
            let differs = (full.bytes.is_some() && full.bytes != bytes)
                || (full.adler32.is_some() && full.adler32 != adler32);
            if differs {
                flags |= OWN;
                let own = Own {
                    bytes: full.bytes.unwrap_or(Change::NO_BYTES),
                    adler32: full.adler32.unwrap_or(0),
                };
                rare.own.insert(key, own);
            } else {
                rare.own.remove(&key);
                flags |= if full.bytes.is_some() { TELLS_BYTES } else { 0 };
                flags |= if full.adler32.is_some() { TELLS_ADLER32 } else { 0 };
            }
            if full.seen > full.row.at {
                flags |= SEEN;
                rare.seen.insert(key, full.seen);
            } else {
                rare.seen.remove(&key);
            }
            *row = Row { flags, ..full.row };
        }
    }

    /// Tells of all replicas that are seen otherwise with the floors `after` than with `before`.
    pub(super) fn shift_floors(&mut self, before: &Floors, after: &Floors, out: &mut Effects) {
        for number in 0..self.dids.end() {
            let did = *self.dids.get(number);
            if did.is_empty() || did.first == NONE {
                continue;
            }
            let seen_before = self.all_seen(number, before);
            self.shift_all(number, &seen_before, after, out);
        }
    }
}
