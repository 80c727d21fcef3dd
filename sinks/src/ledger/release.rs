//! Release: what is held under embargo goes on when an operator says so, and never by itself.

use crate::ledger::{
    Ledger, LedgerError, Row, row,
    state::WAITING,
    store::{Bulk, BulkKind, Cells, Type::Int, Type::Text, Value},
};
use dbb_events::{Dependency, Did, Micros};

/// Rows in one transaction.
const PAGE: usize = 500;

const RELEASE: Bulk = Bulk {
    kind: BulkKind::Update,
    table: "events",
    columns: &[("not_before", Int), ("waits_for", Text), ("id", Int)],
    keys: 1,
    tail: "",
};

impl Ledger {
    /// What is held, the oldest first, at most `limit` rows; of one file alone, where `did` is given.
    pub fn held(&mut self, did: Option<&Did>, limit: usize) -> Result<Vec<Row>, LedgerError> {
        let mut values: Vec<Value> = vec![Dependency::Embargo.key().as_str().into(), (limit as u64).into()];
        let mut of_file = "";
        if let Some(did) = did {
            of_file = "AND sc.word = $3 AND d.name = $4";
            values.extend([(&*did.scope).into(), (&*did.name).into()]);
        }
        let sql = format!(
            "{} WHERE e.outcome = {WAITING} AND e.waits_for = $1 {of_file} ORDER BY e.id LIMIT $2",
            row::SELECT
        );
        let rows = self.store.query(&sql, &values)?;
        rows.into_iter().map(row::row).collect()
    }

    /// Releases what is held of one file, or all: a running `dbb` publishes it within moments. Returns how many.
    pub fn release(&mut self, did: Option<&Did>, now: Micros) -> Result<u64, LedgerError> {
        let mut released = 0;
        loop {
            let page = self.transaction(None, |ledger| {
                let rows = ledger.held(did, PAGE)?;
                let cells: Vec<Cells> = rows
                    .iter()
                    .map(|row| {
                        vec![
                            now.0.into(),
                            Dependency::Released.key().as_str().into(),
                            row.id.into(),
                        ]
                    })
                    .collect();
                ledger.store.bulk(&RELEASE, cells)
            })?;
            released += page;
            if page < PAGE as u64 {
                return Ok(released);
            }
        }
    }
}
