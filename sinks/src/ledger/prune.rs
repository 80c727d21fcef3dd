//! Forgetting: rows that ended well go after a time, with their history.
//!
//! What waits or was refused stays, and so does the present state of each file, because a late, older
//! event must still be known as older.

use crate::ledger::{
    Generation, Ledger, LedgerError, State,
    row::Reader,
    store::{Bulk, BulkKind, Cells, Type::Int, Value},
};
use dbb_events::Micros;

/// What one step of pruning did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Rows that went.
    pub rows: u64,
    /// True when the round is over: what is left is young, waits or was refused.
    pub finished: bool,
}

const ROWS: Bulk = Bulk {
    kind: BulkKind::Delete,
    table: "events",
    columns: &[("id", Int)],
    keys: 1,
    tail: "",
};
const ATTEMPTS: Bulk = Bulk {
    kind: BulkKind::Delete,
    table: "attempts",
    columns: &[("row_id", Int)],
    keys: 1,
    tail: "",
};

impl Ledger {
    /// One step: looks at the next `batch` rows in the order they came, and forgets those that ended well
    /// before `before`. Repeat until it is `finished`; the step after that begins a new round.
    ///
    /// No index is spent on this: ids rise with time, so a round reads the old rows and one batch more.
    pub fn prune(
        &mut self,
        generation: Generation,
        before: Micros,
        batch: usize,
    ) -> Result<Pruned, LedgerError> {
        let from = self.pruned_to;
        let (pruned, to) = self.transaction(Some(generation), |ledger| {
            let sql = "SELECT id, outcome, updated_at, did FROM events WHERE id > $1 ORDER BY id LIMIT $2";
            let rows = ledger.store.query(sql, &[from.into(), (batch as u64).into()])?;
            let seen = rows.len();
            let (mut gone, mut dids): (Vec<Cells>, Vec<Cells>) = (Vec::new(), Vec::new());
            let (mut old, mut last) = (0, from);
            for cells in rows {
                let mut r = Reader::new(cells);
                let id = r.int().unwrap_or(from);
                let outcome = r.int().and_then(State::from_code);
                let updated_at = r.micros().unwrap_or(before);
                last = id;
                if updated_at < before {
                    old += 1;
                    if outcome.is_some_and(State::is_settled) {
                        gone.push(vec![Value::Int(id)]);
                        dids.extend(r.int().map(|did| vec![Value::Int(did)]));
                    }
                }
            }
            ledger.store.bulk(&ATTEMPTS, gone.clone())?;
            let rows = ledger.store.bulk(&ROWS, gone)?;
            for did in dids {
                // The name of a file that nothing mentions any more.
                let sql = "DELETE FROM dids WHERE id = $1 \
                           AND NOT EXISTS (SELECT 1 FROM files f WHERE f.did = dids.id) \
                           AND NOT EXISTS (SELECT 1 FROM events e WHERE e.did = dids.id)";
                ledger.store.execute(sql, &did)?;
            }
            let finished = seen < batch || old == 0;
            if finished {
                ledger.prune_gaps(before)?;
            }
            Ok((Pruned { rows, finished }, last))
        })?;
        self.pruned_to = if pruned.finished { 0 } else { to };
        Ok(pruned)
    }
}
