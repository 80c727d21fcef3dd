//! Dead letters: listing, counting, retrying.

use crate::ledger::{
    Ledger, LedgerError, Row,
    due::first,
    fold::{Held, Replaced},
    row::{self, Reader, tries},
    state::{REFUSED, State, WAITING},
    store::{Bulk, BulkKind, Type::Int, Value},
};
use dbb_events::{Dependency, Micros, Reason};
use std::collections::BTreeMap;

/// Which dead letters to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this class alone.
    pub reason: Option<Reason>,
    /// Of this repository alone.
    pub target: Option<String>,
    /// With smaller ids only: the last one of the page before.
    pub before_id: Option<i64>,
}

/// Which dead letters to retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These rows.
    Ids(Vec<i64>),
    /// All of one class.
    Reason(Reason),
    /// All.
    All,
}

/// Rows in one page of an export, and in one transaction of a retry.
const PAGE: usize = 500;

const RETRY: Bulk = Bulk {
    kind: BulkKind::Update,
    table: "events",
    columns: &[
        ("not_before", Int),
        ("updated_at", Int),
        ("outcome", Int),
        ("attempts", Int),
        ("reason", Int),
        ("waiting_since", Int),
        ("took", Int),
        ("id", Int),
    ],
    keys: 1,
    tail: "",
};

impl Ledger {
    /// Dead letters, the newest first.
    pub fn dead_letters(&mut self, filter: &Filter, limit: usize) -> Result<Vec<Row>, LedgerError> {
        let mut sql = format!("{} WHERE e.outcome = 6", row::SELECT);
        let mut values: Vec<Value> = Vec::new();
        let mut and = |condition: &str, value: Value| {
            values.push(value);
            sql.push_str(&format!(" AND {condition} ${}", values.len()));
        };
        if let Some(reason) = filter.reason {
            and("re.word =", reason.as_str().into());
        }
        if let Some(target) = &filter.target {
            and("t.word =", target.as_str().into());
        }
        if let Some(before) = filter.before_id {
            and("e.id <", before.into());
        }
        values.push((limit as u64).into());
        sql.push_str(&format!(" ORDER BY e.id DESC LIMIT ${}", values.len()));
        let rows = self.store.query(&sql, &values)?;
        rows.into_iter().map(row::row).collect()
    }

    /// The row with this id, dead letter or not.
    pub fn row(&mut self, id: i64) -> Result<Option<Row>, LedgerError> {
        let sql = format!("{} WHERE e.id = $1", row::SELECT);
        let rows = self.store.query(&sql, &[id.into()])?;
        rows.into_iter().next().map(row::row).transpose()
    }

    /// The number of dead letters of each class.
    pub fn dead_letters_by_reason(&mut self) -> Result<BTreeMap<String, u64>, LedgerError> {
        let sql = "SELECT w.word, x.n FROM (SELECT reason, count(*) AS n FROM events \
                   WHERE outcome = 6 GROUP BY reason) x JOIN words w ON w.id = x.reason";
        let rows = self.store.query(sql, &[])?;
        Ok(rows
            .into_iter()
            .filter_map(|cells| {
                let mut r = Reader::new(cells);
                Some((r.text()?, r.int()? as u64))
            })
            .collect())
    }

    /// The number of dead letters.
    pub fn dead_letter_count(&mut self) -> Result<u64, LedgerError> {
        let sql = "SELECT count(*) FROM events WHERE outcome = 6";
        Ok(first(self.store.query(sql, &[])?).unwrap_or(0).max(0) as u64)
    }

    /// Hands every dead letter that passes the filter to `each`, the newest first, until it says false.
    /// Never holds more than a page of them.
    pub fn export(
        &mut self,
        filter: &Filter,
        mut each: impl FnMut(&Row) -> bool,
    ) -> Result<u64, LedgerError> {
        let mut filter = filter.clone();
        let mut done = 0;
        loop {
            let page = self.dead_letters(&filter, PAGE)?;
            for row in &page {
                if !each(row) {
                    return Ok(done);
                }
                done += 1;
            }
            match page.last() {
                Some(last) if page.len() == PAGE => filter.before_id = Some(last.id),
                _ => return Ok(done),
            }
        }
    }

    /// Makes dead letters wait again, due at `now`, as if they had never been tried. A running `dbb` sends
    /// them again within moments. Returns how many.
    pub fn retry(&mut self, selection: &Selection, now: Micros) -> Result<u64, LedgerError> {
        let ids = self.refused(selection)?;
        let mut retried = 0;
        for page in ids.chunks(PAGE) {
            retried += self.transaction(None, |ledger| ledger.retry_page(page, now))?;
        }
        Ok(retried)
    }

    fn refused(&mut self, selection: &Selection) -> Result<Vec<i64>, LedgerError> {
        let rows = match selection {
            Selection::Ids(ids) => return Ok(ids.clone()),
            Selection::Reason(reason) => self.store.query(
                "SELECT id FROM events WHERE outcome = 6 \
                 AND reason = (SELECT id FROM words WHERE word = $1) ORDER BY id",
                &[reason.as_str().into()],
            )?,
            Selection::All => self
                .store
                .query("SELECT id FROM events WHERE outcome = 6 ORDER BY id", &[])?,
        };
        Ok(rows.iter().filter_map(|row| row.first()?.int()).collect())
    }

    fn retry_page(&mut self, ids: &[i64], now: Micros) -> Result<u64, LedgerError> {
        let mut replaced = Vec::new();
        let mut rows = Vec::new();
        let waits_for = Dependency::Time.key();
        for id in ids {
            // Within the transaction: it may have been retried by someone else since it was listed.
            let sql = "SELECT e.outcome, w.word, e.detail, e.attempts, e.updated_at, e.generation, e.took, e.tries \
                       FROM events e LEFT JOIN words w ON w.id = e.reason WHERE e.id = $1";
            let Some(cells) = self.store.query(sql, &[(*id).into()])?.into_iter().next() else {
                continue;
            };
            let mut r = Reader::new(cells);
            if r.int() != Some(REFUSED) {
                continue;
            }
            replaced.push(Replaced {
                row: *id,
                held: Held {
                    id: *id,
                    outcome: State::Refused,
                    reason: r.text(),
                    detail: r.text(),
                    waits_for: None,
                    attempts: r.int().unwrap_or(0) as u32,
                    waiting_since: None,
                    updated_at: r.micros().unwrap_or_default(),
                    generation: r.int().unwrap_or(0),
                    took: r.duration(),
                    tries: tries(r.int()),
                },
            });
            rows.push(vec![
                now.0.into(),
                now.0.into(),
                WAITING.into(),
                0i64.into(),
                Value::Null,
                Value::Null,
                Value::Null,
                (*id).into(),
            ]);
            self.store.execute(
                "UPDATE events SET waits_for = $1, detail = $2 WHERE id = $3",
                &[
                    waits_for.as_str().into(),
                    "an operator asked for a retry".into(),
                    (*id).into(),
                ],
            )?;
        }
        let words: Vec<&str> = replaced.iter().filter_map(|r| r.held.reason.as_deref()).collect();
        self.words.find(&mut *self.store, words.into_iter())?;
        self.write_replaced(&replaced)?;
        self.store.bulk(&RETRY, rows)
    }
}
