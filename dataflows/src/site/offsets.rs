//! Offsets of sources that have no memory of their own: kept in the ledger.

use dbb_sinks::ledger::{Generation, Ledger, LedgerError, LedgerSettings};
use dbb_sources::{OffsetStore, Offsets, Partition};
use std::sync::{Mutex, PoisonError};

/// The ledger as a store of offsets; it writes under this process's generation.
pub(super) struct LedgerOffsets {
    settings: LedgerSettings,
    generation: Generation,
    ledger: Mutex<Option<Ledger>>,
}

impl LedgerOffsets {
    pub(super) fn new(settings: LedgerSettings, generation: Generation) -> Self {
        Self {
            settings,
            generation,
            ledger: Mutex::new(None),
        }
    }

    fn with<T>(&self, ask: impl FnOnce(&mut Ledger) -> Result<T, LedgerError>) -> Result<T, String> {
        let mut held = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ledger = match held.take() {
            Some(ledger) => ledger,
            None => Ledger::open(&self.settings).map_err(|error| error.to_string())?,
        };
        let answer = ask(&mut ledger).map_err(|error| error.to_string())?;
        *held = Some(ledger);
        Ok(answer)
    }
}

impl OffsetStore for LedgerOffsets {
    fn load(&self) -> Result<Offsets, String> {
        let handled = self.with(Ledger::handled_to)?;
        Ok(handled
            .into_iter()
            .map(|((stream, partition), offset)| (Partition { stream, partition }, offset))
            .collect())
    }

    fn store(&self, handled: &Offsets) -> Result<(), String> {
        let handled = handled
            .iter()
            .map(|(p, offset)| ((p.stream.clone(), p.partition), *offset))
            .collect();
        self.with(|ledger| ledger.store_handled(self.generation, &handled))
    }
}
