//! Offsets: how far records have been counted, and, for sources without a memory of their own, handled.

use crate::ledger::{
    Generation, Ledger, LedgerError,
    row::Reader,
    store::{Bulk, BulkKind, Type::Int},
};
use std::{collections::BTreeMap, sync::Arc};

/// An offset for each (stream, partition): everything below it is meant.
pub type Offsets = BTreeMap<(Arc<str>, i32), u64>;

const HANDLED: Bulk = Bulk {
    kind: BulkKind::Insert,
    table: "offsets",
    columns: &[("stream", Int), ("part", Int), ("handled_to", Int)],
    keys: 0,
    tail: "ON CONFLICT (stream, part) DO UPDATE SET handled_to = excluded.handled_to",
};

impl Ledger {
    /// How far the records of each partition are in the counts.
    pub fn counted_to(&mut self) -> Result<Offsets, LedgerError> {
        self.offsets("counted_to")
    }

    /// How far the records of each partition have been handled.
    pub fn handled_to(&mut self) -> Result<Offsets, LedgerError> {
        self.offsets("handled_to")
    }

    /// Stores how far partitions have been handled; those not named keep theirs.
    pub fn store_handled(&mut self, generation: Generation, handled: &Offsets) -> Result<(), LedgerError> {
        self.transaction(Some(generation), |ledger| {
            let streams = handled.keys().map(|(stream, _)| &**stream);
            ledger.words.learn(&mut *ledger.store, &mut ledger.ids, streams)?;
            let rows = handled.iter().map(|((stream, part), offset)| {
                vec![ledger.words.id(stream), i64::from(*part).into(), (*offset).into()]
            });
            let rows = rows.collect();
            ledger.store.bulk(&HANDLED, rows).map(|_| ())
        })
    }

    fn offsets(&mut self, column: &str) -> Result<Offsets, LedgerError> {
        let sql = format!(
            "SELECT w.word, o.part, o.{column} FROM offsets o JOIN words w ON w.id = o.stream \
             WHERE o.{column} IS NOT NULL"
        );
        let rows = self.store.query(&sql, &[])?;
        Ok(rows
            .into_iter()
            .filter_map(|cells| {
                let mut r = Reader::new(cells);
                let partition = (r.arc()?, r.int()? as i32);
                Some((partition, r.int()? as u64))
            })
            .collect())
    }
}
