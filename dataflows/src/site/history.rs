//! What was applied last of each file, asked from the ledger.

use dbb_events::{Dependency, Did};
use dbb_sinks::{
    butler::{Applied, History},
    clock,
    ledger::{Ledger, LedgerSettings},
};
use std::collections::HashMap;

/// A reading connection of one repository's thread, opened when first needed and after each failure.
pub(super) struct LedgerHistory {
    settings: LedgerSettings,
    ledger: Option<Ledger>,
}

impl LedgerHistory {
    pub(super) fn new(settings: LedgerSettings) -> Self {
        Self {
            settings,
            ledger: None,
        }
    }
}

impl History for LedgerHistory {
    fn applied(&mut self, target: &str, dids: &[Did]) -> Result<HashMap<Did, Applied>, String> {
        let mut ledger = match self.ledger.take() {
            Some(ledger) => ledger,
            None => Ledger::open(&self.settings).map_err(|error| error.to_string())?,
        };
        let applied = ledger.applied(target, dids).map_err(|error| error.to_string())?;
        self.ledger = Some(ledger);
        Ok(applied)
    }

    fn is_back(&mut self, target: &str) -> Result<u64, String> {
        let mut ledger = match self.ledger.take() {
            Some(ledger) => ledger,
            None => Ledger::open(&self.settings).map_err(|error| error.to_string())?,
        };
        let woken = ledger.wake(Some(target), Some(&Dependency::Repository), clock::now());
        let woken = woken.map_err(|error| error.to_string())?;
        self.ledger = Some(ledger);
        Ok(woken)
    }
}
