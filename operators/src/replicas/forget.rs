//! Forget: tombstones that are older than anything still to come are dropped, behind a horizon.
//!
//! The horizon of a table is the time of the newest word that was dropped from it. A change of an unknown replica
//! that is older may be older than what was dropped: it is too late to be judged. All that is newer is as exact as
//! if nothing had been dropped; before the first tombstone is dropped nothing is ever too late.

use super::{
    floors::Floors,
    names::Names,
    row::{Did, NONE, OWN, Row, SEEN},
    snapshot::Share,
    table::{Table, known},
};
use crate::facts::Change;
use std::sync::Arc;

impl Table {
    /// Drops the replicas that are gone and whose last word is older than `before`, and files without any.
    pub(super) fn forget(&mut self, before: i64, floors: &Floors) {
        for number in 0..self.dids.end() {
            let did = *self.dids.get(number);
            if did.is_empty() {
                continue;
            }
            if did.first != NONE {
                self.forget_rows(number, &did, before, floors);
            }
            if self.dids.get(number).first == NONE {
                self.forget_file(number, before);
            }
        }
        if self.names.is_worth_compacting() {
            self.compact_names();
        }
    }

    fn forget_rows(&mut self, number: u32, did: &Did, before: i64, floors: &Floors) {
        let block = self.rows.block(did.first, did.class);
        let is_old = |row: &Row| row.at < before && known(row, number, did, &self.rare, floors).is_none();
        let rows = || block.iter().take_while(|row| !row.is_empty());
        let (dropped, kept): (Vec<Row>, Vec<Row>) = rows().partition(|row| is_old(row));
        if dropped.is_empty() {
            return;
        }
        self.touch(number);
        for row in &dropped {
            self.horizon = self.horizon.max(row.at.saturating_add(1));
            if row.flags & (OWN | SEEN) != 0 {
                let rare = Arc::make_mut(&mut self.rare);
                rare.own.remove(&(number, row.rse));
                rare.seen.remove(&(number, row.rse));
            }
        }
        self.rows.give_back(did.first, did.class);
        let class = kept.len().next_power_of_two().trailing_zeros() as u8;
        let first = if kept.is_empty() {
            NONE
        } else {
            self.rows.take(class)
        };
        for (there, row) in self.rows.block_mut(first, class).iter_mut().zip(&kept) {
            *there = *row;
        }
        self.dids.change(number, |did| {
            did.first = first;
            did.class = class;
            if kept.is_empty() {
                did.bytes = Change::NO_BYTES;
                did.adler32 = 0;
            }
        });
    }

    /// Drops a file that has had no replicas for a whole round: its name may have come before its first change.
    fn forget_file(&mut self, number: u32, before: i64) {
        let did = *self.dids.get(number);
        let lost = self.rare.lost.get(&number).map(|lost| lost.0.at.0);
        let last = did.absent.max(lost.unwrap_or(i64::MIN));
        if last >= before {
            return;
        }
        if !did.idle {
            self.dids.change(number, |did| did.idle = true);
            return;
        }
        self.horizon = self.horizon.max(last.saturating_add(1));
        if did.lost {
            Arc::make_mut(&mut self.rare).lost.remove(&number);
        }
        self.names.forget(did.name);
        if let Ok(entry) = Arc::make_mut(&mut self.index).find_entry(did.key.high, |there| *there == number) {
            entry.remove();
        }
        if let Some(changed) = &mut self.changed {
            changed.gone.push(did.key);
        }
        self.dids.remove(number);
    }

    fn compact_names(&mut self) {
        let mut names = Names::default();
        for number in 0..self.dids.end() {
            if let Some(name) = self.names.get(self.dids.get(number).name) {
                let place = names.add(name);
                self.dids.change(number, |did| did.name = place);
            }
        }
        self.names = names;
    }

    /// The table as it is now.
    pub(super) fn share(&self) -> Share {
        Share {
            index: Arc::clone(&self.index),
            dids: self.dids.share(),
            rows: self.rows.share(),
            names: self.names.clone(),
            rare: Arc::clone(&self.rare),
        }
    }
}
