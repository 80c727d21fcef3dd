//! Durations: how long all attempts took that were ever made, in buckets that are counted with the rows.

use crate::ledger::{
    Ledger, LedgerError, State,
    row::{Reader, damaged},
    statements::DURATIONS,
    store::{Cells, Value},
};
use std::{collections::BTreeMap, sync::Arc};

/// Attempts of one target that came to one outcome and took about as long.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Durations {
    /// The repository.
    pub target: Arc<str>,
    /// What they came to.
    pub outcome: State,
    /// The bucket, as in [`dbb_events::sketch`].
    pub bucket: u16,
    /// How many.
    pub count: u64,
}

impl Ledger {
    /// All attempts that the ledger has counted; pruning leaves them.
    pub fn durations(&mut self) -> Result<Vec<Durations>, LedgerError> {
        let sql = "SELECT w.word, x.outcome, x.bucket, x.n FROM durations x JOIN words w ON w.id = x.target";
        let mut found = Vec::new();
        for cells in self.store.query(sql, &[])? {
            let mut r = Reader::new(cells);
            let target = r.arc().unwrap_or_default();
            let outcome = r.int().and_then(State::from_code);
            let bucket = r.int().and_then(|bucket| u16::try_from(bucket).ok());
            found.push(Durations {
                target,
                outcome: outcome.ok_or_else(|| damaged("outcome"))?,
                bucket: bucket.ok_or_else(|| damaged("duration"))?,
                count: r.int().and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            });
        }
        found.sort();
        Ok(found)
    }

    pub(super) fn write_durations(
        &mut self,
        durations: &BTreeMap<(Arc<str>, State, u16), u64>,
    ) -> Result<(), LedgerError> {
        let rows = durations.iter().map(|((target, outcome, bucket), n)| {
            vec![
                self.words.id(target),
                outcome.code().into(),
                Value::Int(i64::from(*bucket)),
                (*n).into(),
            ]
        });
        let rows: Vec<Cells> = rows.collect();
        if rows.is_empty() {
            return Ok(());
        }
        self.store.bulk(&DURATIONS, rows).map(|_| ())
    }
}
