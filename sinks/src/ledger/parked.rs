//! Parked: what waits for longer than anything is ever made to wait, and what an operator does not want to wait for.
//!
//! A row says when it is due. Where the clock was wrong when that was written, the row would be due in a month, whoever
//! starts again and whatever comes back. So no row is due later than the longest wait of the configuration from now.

use crate::ledger::{Generation, Ledger, LedgerError, state::WAITING, store::Value};
use dbb_events::{Dependency, Micros};

impl Ledger {
    /// Makes due at `now` what would not be before `latest`: no wait is as long. What is held under embargo stays.
    /// Returns how many rows.
    pub fn unpark(
        &mut self,
        generation: Generation,
        now: Micros,
        latest: Micros,
    ) -> Result<u64, LedgerError> {
        let embargo = Dependency::Embargo.key();
        let parked = format!("outcome = {WAITING} AND not_before > $1 AND coalesce(waits_for, '') <> $2");
        let sql = format!("SELECT 1 FROM events WHERE {parked} LIMIT 1");
        let found = self
            .store
            .query(&sql, &[latest.0.into(), embargo.as_str().into()])?;
        if found.is_empty() {
            return Ok(0);
        }
        self.transaction(Some(generation), |ledger| {
            let sql = format!(
                "UPDATE events SET not_before = $3, \
                 waiting_since = CASE WHEN waiting_since > $3 THEN $3 ELSE waiting_since END WHERE {parked}"
            );
            ledger
                .store
                .execute(&sql, &[latest.0.into(), embargo.as_str().into(), now.0.into()])
        })
    }

    /// Makes all that waits due at `now`: of one repository, if `target` is given, and of one dependency, if that is.
    /// What is held under embargo stays. A running `dbb` takes it up within moments. Returns how many rows.
    pub fn wake(
        &mut self,
        target: Option<&str>,
        dependency: Option<&Dependency>,
        now: Micros,
    ) -> Result<u64, LedgerError> {
        let mut sql = format!(
            "UPDATE events SET not_before = $1 WHERE outcome = {WAITING} AND not_before > $1 \
             AND coalesce(waits_for, '') <> $2"
        );
        let mut values: Vec<Value> = vec![now.0.into(), Dependency::Embargo.key().as_str().into()];
        if let Some(target) = target {
            values.push(target.into());
            sql.push_str(&format!(
                " AND target = (SELECT id FROM words WHERE word = ${})",
                values.len()
            ));
        }
        if let Some(dependency) = dependency {
            values.push(dependency.key().as_str().into());
            sql.push_str(&format!(" AND waits_for = ${}", values.len()));
        }
        self.transaction(None, |ledger| ledger.store.execute(&sql, &values))
    }
}
