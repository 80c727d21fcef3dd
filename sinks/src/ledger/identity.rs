//! Identity: which ledger this is, and how far it was written; a copy, or another in its place, is found by it.
//!
//! ```text
//!   made: a number by chance        each transaction of a run: the mark rises
//!   mark --beside each committed offset, into each checkpoint--> compared at the next start
//!   mark --in memory-----------------------------------------> compared in each transaction, and when it is asked for
//! ```
//!
//! Invariant: [`NewestMark::get`] is never ahead of what is durable.

use crate::ledger::{Ledger, LedgerError, store::Value};
use dbb_events::Mark;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

/// The newest durable mark that a connection knows of; readable from any thread.
#[derive(Debug, Clone, Default)]
pub struct NewestMark(Arc<(AtomicU64, AtomicU64)>);

impl NewestMark {
    /// It; `None` before the first.
    pub fn get(&self) -> Option<Mark> {
        let ledger = self.0.0.load(SeqCst);
        let at = self.0.1.load(SeqCst);
        (ledger != 0).then_some(Mark { ledger, at })
    }

    fn set(&self, mark: Mark) {
        // The identity of a connection's ledger never changes: with another, nothing is set any more.
        self.0.1.fetch_max(mark.at, SeqCst);
        self.0.0.store(mark.ledger, SeqCst);
    }
}

impl Ledger {
    /// The mark that is known without asking: of the last transaction that this connection has made.
    pub fn newest_mark(&self) -> NewestMark {
        self.newest.clone()
    }

    /// Asks for the mark: whatever was durable before is in it.
    ///
    /// # Errors
    /// [`LedgerError::Replaced`] if this is not the ledger any more that it was, or an older copy of it.
    pub fn mark(&mut self) -> Result<Mark, LedgerError> {
        self.store.check_place()?;
        let sql = "SELECT key, value FROM meta WHERE key IN ('identity', 'mark')";
        let (mut ledger, mut at) = (0, 0);
        for row in self.store.query(sql, &[])? {
            if let [Value::Text(key), Value::Int(value)] = row.as_slice() {
                match key.as_str() {
                    "identity" => ledger = value.unsigned_abs(),
                    _ => at = value.unsigned_abs(),
                }
            }
        }
        let mark = Mark { ledger, at };
        self.compare(mark)?;
        self.newest.set(mark);
        Ok(mark)
    }

    /// In a transaction, once `meta` is read: the mark before it.
    pub(super) fn compare_mark(&self) -> Result<(), LedgerError> {
        self.compare(self.mark_within())
    }

    /// In a transaction: the mark that it leaves.
    pub(super) fn mark_within(&self) -> Mark {
        Mark {
            ledger: self.ids.peek("identity").unsigned_abs(),
            at: self.ids.peek("mark").unsigned_abs(),
        }
    }

    /// The transaction that left this mark is durable.
    pub(super) fn is_durable(&self, mark: Mark) {
        self.newest.set(mark);
    }

    fn compare(&self, is: Mark) -> Result<(), LedgerError> {
        match self.newest.get() {
            Some(was) if !is.holds(was) => {
                let detail = if is.ledger == was.ledger {
                    format!("an older copy has taken its place (it was {was}, and is {is})")
                } else {
                    format!("another has taken its place (it was {was}, and is {is})")
                };
                Err(LedgerError::Replaced {
                    what: self.settings.shown_url(),
                    detail,
                })
            }
            _ => Ok(()),
        }
    }
}
