//! Generations: each start of `dbb` takes the ledger over from the one before.
//!
//! A transaction that writes begins by holding the row with the newest generation; if that is not its
//! own, it ends there. So once a newer process has begun, nothing of an older one is ever committed.

use crate::ledger::{Ledger, LedgerError, store::Value};
use dbb_events::Micros;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The right to write, until a newer one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Generation(pub i64);

/// Who begins a generation, for operators to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The name of the machine.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// The version of `dbb`.
    pub version: String,
    /// When it started.
    pub started_at: Micros,
}

impl Ledger {
    /// Takes the ledger over: from now on no older generation can write.
    pub fn begin_generation(&mut self, who: &Who) -> Result<Generation, LedgerError> {
        self.transaction(None, |ledger| {
            let next = ledger.ids.peek("generation") + 1;
            ledger.store.execute(
                "INSERT INTO generations (id, started_at, host, pid, version) VALUES ($1, $2, $3, $4, $5)",
                &[
                    Value::Int(next),
                    Value::Int(who.started_at.0),
                    who.host.as_str().into(),
                    Value::Int(who.pid.into()),
                    who.version.as_str().into(),
                ],
            )?;
            ledger.ids.set("generation", next);
            Ok(Generation(next))
        })
    }

    /// The generation that holds the ledger, and who began it; `None` before the first.
    pub fn holder(&mut self) -> Result<Option<(Generation, Who)>, LedgerError> {
        let sql = "SELECT id, started_at, pid, host, version FROM generations ORDER BY id DESC LIMIT 1";
        let rows = self.store.query(sql, &[])?;
        Ok(rows.into_iter().next().map(|cells| {
            let mut r = super::row::Reader::new(cells);
            let generation = Generation(r.int().unwrap_or(0));
            let who = Who {
                started_at: r.micros().unwrap_or_default(),
                pid: r.int().unwrap_or(0) as u32,
                host: r.text().unwrap_or_default(),
                version: r.text().unwrap_or_default(),
            };
            (generation, who)
        }))
    }

    /// At the start of a transaction: holds the newest generation's row until its end.
    pub(super) fn fence(&mut self, generation: Option<Generation>) -> Result<(), LedgerError> {
        // One row is held, not all: rows held one after the other can be held crosswise.
        let sql = format!(
            "SELECT value FROM meta WHERE key = 'generation'{}",
            self.store.for_update()
        );
        let newest = super::due::first(self.store.query(&sql, &[])?);
        let newest = newest.ok_or_else(|| super::row::damaged("generation"))?;
        let mut meta = HashMap::new();
        for row in self.store.query("SELECT key, value FROM meta", &[])? {
            if let [Value::Text(key), Value::Int(value)] = row.as_slice() {
                meta.insert(key.clone(), *value);
            }
        }
        self.ids.load(meta);
        match generation {
            Some(Generation(ours)) if ours != newest => Err(LedgerError::Fenced { ours, newest }),
            _ => Ok(()),
        }
    }
}
