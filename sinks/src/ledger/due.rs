//! What waits, and what of it is due.

use crate::ledger::{
    Generation, Ledger, LedgerError,
    fold::Key,
    row::{self, Reader},
    store::{
        Bulk, BulkKind,
        Type::{Blob, Int},
        Value,
    },
};
use dbb_events::{Dependency, Due, EventId, Micros, Received};
use std::{collections::HashSet, sync::Arc};

/// Rows of one target that wait for one class of dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The repository.
    pub target: Arc<str>,
    /// `dimension`, `file`, `repository`, `labels`, `embargo`, `released` or `time`.
    pub class: Arc<str>,
    /// Rows.
    pub count: u64,
    /// Since when the oldest waits.
    pub oldest: Micros,
}

const POSTPONE: Bulk = Bulk {
    kind: BulkKind::Update,
    table: "events",
    columns: &[("not_before", Int), ("event", Blob), ("target", Int)],
    keys: 2,
    tail: "",
};

impl Ledger {
    /// Events that are due at `now`, the longest due first, at most `limit` of them, without those in `skip`.
    pub fn due(
        &mut self,
        now: Micros,
        limit: usize,
        skip: &HashSet<(EventId, Arc<str>)>,
    ) -> Result<Vec<Due>, LedgerError> {
        let due = self.due_rows(now, limit, skip)?;
        Ok(due.into_iter().map(|(due, _)| due).collect())
    }

    /// The same, and of each whether an arrival wakes it.
    pub(super) fn due_rows(
        &mut self,
        now: Micros,
        limit: usize,
        skip: &HashSet<(EventId, Arc<str>)>,
    ) -> Result<Vec<(Due, bool)>, LedgerError> {
        let sql = format!(
            "{} WHERE e.outcome = 5 AND e.not_before <= $1 ORDER BY e.not_before, e.id LIMIT $2",
            row::SELECT
        );
        // Those in flight are still due here until their next answer is written.
        let asked = limit.saturating_add(skip.len());
        let mut due = Vec::new();
        for cells in self.store.query(&sql, &[now.0.into(), (asked as u64).into()])? {
            let row = row::row(cells)?;
            if due.len() >= limit || skip.contains(&(row.event, row.target.clone())) {
                continue;
            }
            let waits_for = row.waits_for.unwrap_or_default();
            let is_woken = waits_for.starts_with("dimension:") || waits_for.starts_with("file:");
            let row_due = Due {
                event: row.event,
                target: row.target,
                attempts: row.attempts,
                waiting_since: row.waiting_since,
                released: waits_for == Dependency::Released.key(),
                received: Received {
                    place: row.place,
                    topic: row.topic,
                    appended_at: row.appended_at,
                    marks: None,
                    body: row.body.unwrap_or_default().into(),
                },
            };
            due.push((row_due, is_woken));
        }
        Ok(due)
    }

    /// Makes these rows due at `until`, however they stand otherwise.
    pub(super) fn postpone(
        &mut self,
        generation: Generation,
        rows: &[(Key, Micros)],
    ) -> Result<(), LedgerError> {
        self.transaction(Some(generation), |ledger| {
            let targets = rows.iter().map(|((_, target), _)| &**target);
            ledger.words.find(&mut *ledger.store, targets)?;
            let cells = rows.iter().map(|((event, target), until)| {
                let event = event.to_bytes();
                vec![until.0.into(), event[..].into(), ledger.words.id(target)]
            });
            let cells = cells.collect();
            ledger.store.bulk(&POSTPONE, cells).map(|_| ())
        })
    }

    /// Rows that are due at `now`.
    pub fn due_count(&mut self, now: Micros) -> Result<u64, LedgerError> {
        let sql = "SELECT count(*) FROM events WHERE outcome = 5 AND not_before <= $1";
        let rows = self.store.query(sql, &[now.0.into()])?;
        Ok(first(rows).unwrap_or(0).max(0) as u64)
    }

    /// When the next row is due; `None` if nothing waits.
    pub fn next_due(&mut self) -> Result<Option<Micros>, LedgerError> {
        let sql = "SELECT min(not_before) FROM events WHERE outcome = 5";
        Ok(first(self.store.query(sql, &[])?).map(Micros))
    }

    /// What waits, by repository and class of dependency, with the oldest of each.
    pub fn waiting(&mut self) -> Result<Vec<Waiting>, LedgerError> {
        let sql = "SELECT w.word, x.class, count(*), min(x.since) FROM ( \
                     SELECT target, coalesce(waiting_since, updated_at) AS since, \
                       CASE WHEN waits_for LIKE 'dimension:%' THEN 'dimension' \
                            WHEN waits_for LIKE 'file:%' THEN 'file' ELSE waits_for END AS class \
                     FROM events WHERE outcome = 5) x \
                   JOIN words w ON w.id = x.target GROUP BY w.word, x.class ORDER BY w.word, x.class";
        let rows = self.store.query(sql, &[])?;
        Ok(rows
            .into_iter()
            .map(|cells| {
                let mut r = Reader::new(cells);
                Waiting {
                    target: r.arc().unwrap_or_default(),
                    class: r.arc().unwrap_or_default(),
                    count: r.int().unwrap_or(0) as u64,
                    oldest: r.micros().unwrap_or_default(),
                }
            })
            .collect())
    }
}

/// The one number that a query found.
pub(super) fn first(rows: Vec<Vec<Value>>) -> Option<i64> {
    rows.first().and_then(|row| row.first()?.int())
}
