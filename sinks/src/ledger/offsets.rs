//! Offsets: how far records have been counted, and handled, of which incarnation of their partition.

use crate::ledger::{
    Generation, Ledger, LedgerError,
    row::Reader,
    store::{
        Bulk, BulkKind,
        Type::{Int, Text},
    },
};
use dbb_events::Position;
use std::{collections::BTreeMap, sync::Arc};

/// A place for each (stream, partition): everything below it is meant.
pub type Offsets = BTreeMap<(Arc<str>, i32), Position>;

const HANDLED: Bulk = Bulk {
    kind: BulkKind::Insert,
    table: "offsets",
    columns: &[
        ("stream", Int),
        ("part", Int),
        ("handled_to", Int),
        ("handled_of", Text),
    ],
    keys: 0,
    tail: "ON CONFLICT (stream, part) DO UPDATE SET handled_to = excluded.handled_to, \
           handled_of = excluded.handled_of",
};

impl Ledger {
    /// How far the records of each partition are in the counts.
    pub fn counted_to(&mut self) -> Result<Offsets, LedgerError> {
        self.offsets("counted")
    }

    /// How far the records of each partition have been handled.
    pub fn handled_to(&mut self) -> Result<Offsets, LedgerError> {
        self.offsets("handled")
    }

    /// Stores how far partitions have been handled; those not named keep theirs.
    pub fn store_handled(&mut self, generation: Generation, handled: &Offsets) -> Result<(), LedgerError> {
        self.transaction(Some(generation), |ledger| {
            let streams = handled.keys().map(|(stream, _)| &**stream);
            ledger.words.learn(&mut *ledger.store, &mut ledger.ids, streams)?;
            let rows = handled.iter().map(|((stream, part), at)| {
                let of = at.incarnation.to_string();
                vec![
                    ledger.words.id(stream),
                    i64::from(*part).into(),
                    at.next.into(),
                    of.as_str().into(),
                ]
            });
            let rows = rows.collect();
            ledger.store.bulk(&HANDLED, rows).map(|_| ())
        })
    }

    fn offsets(&mut self, column: &str) -> Result<Offsets, LedgerError> {
        let sql = format!(
            "SELECT w.word, o.part, o.{column}_to, o.{column}_of FROM offsets o JOIN words w ON w.id = o.stream \
             WHERE o.{column}_to IS NOT NULL"
        );
        let rows = self.store.query(&sql, &[])?;
        Ok(rows
            .into_iter()
            .filter_map(|cells| {
                let mut r = Reader::new(cells);
                let partition = (r.arc()?, r.int()? as i32);
                let next = r.int()? as u64;
                // What an older version wrote has none.
                let incarnation = r.text().and_then(|of| of.parse().ok()).unwrap_or_default();
                Some((partition, Position::new(incarnation, next)))
            })
            .collect())
    }
}
