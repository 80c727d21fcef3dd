//! Generations: each start of `dbb` takes the ledger over from the one before, once that one has gone.
//!
//! A transaction that writes begins by holding the row with the newest generation; if that is not its
//! own, it ends there. So once a newer process has begun, nothing of an older one is ever committed,
//! whatever [`super::holder`] believed of it.

use crate::ledger::{Ledger, LedgerError, Process, store::Value};
use dbb_events::Micros;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The right to write, until a newer one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Generation(pub i64);

/// Who begins a generation, for operators to find.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    /// The name of the machine.
    pub host: String,
    /// The process.
    pub process: Process,
    /// The version of `dbb`.
    pub version: String,
    /// When it started.
    pub started_at: Micros,
    /// The name that the configuration gives it; empty where it gives none.
    pub instance: String,
}

impl Who {
    /// This process.
    pub fn this(version: &str, started_at: Micros, instance: &str) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            host: host.trim().to_owned(),
            process: Process::this(),
            version: version.into(),
            started_at,
            instance: instance.into(),
        }
    }
}

impl Ledger {
    /// Takes the ledger over, whoever holds it: from now on no older generation can write.
    pub fn begin_generation(&mut self, who: &Who) -> Result<Generation, LedgerError> {
        self.transaction(None, |ledger| ledger.begin_within(who))
    }

    /// The same, within a transaction.
    pub(super) fn begin_within(&mut self, who: &Who) -> Result<Generation, LedgerError> {
        let next = self.ids.peek("generation") + 1;
        self.store.execute(
            "INSERT INTO generations (id, started_at, host, pid, version) VALUES ($1, $2, $3, $4, $5)",
            &[
                Value::Int(next),
                Value::Int(who.started_at.0),
                who.host.as_str().into(),
                Value::Int(who.process.pid.into()),
                who.version.as_str().into(),
            ],
        )?;
        self.ids.set("generation", next);
        self.write_holder(Generation(next), who)?;
        Ok(Generation(next))
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
        // First of all: the generations of another ledger mean nothing here.
        self.compare_mark()?;
        match generation {
            Some(Generation(ours)) if ours != newest => Err(LedgerError::Fenced { ours, newest }),
            _ => Ok(()),
        }
    }
}
