//! Offsets of sources that have no memory of their own: kept in the ledger.

use dbb_sinks::ledger::{self, Generation, Ledger, LedgerError, LedgerSettings};
use dbb_sources::{OffsetStore, Offsets, Partition};
use std::sync::{Arc, Mutex, PoisonError};

/// Offsets of the ledger, in a source's words.
pub(super) fn of_partitions(offsets: &ledger::Offsets) -> Offsets {
    let of = |((stream, partition), offset): (&(Arc<str>, i32), &u64)| {
        let (stream, partition) = (Arc::clone(stream), *partition);
        (Partition { stream, partition }, *offset)
    };
    offsets.iter().map(of).collect()
}

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
        self.with(Ledger::handled_to)
            .map(|handled| of_partitions(&handled))
    }

    fn store(&self, handled: &Offsets) -> Result<(), String> {
        let handled = handled
            .iter()
            .map(|(p, offset)| ((p.stream.clone(), p.partition), *offset))
            .collect();
        self.with(|ledger| ledger.store_handled(self.generation, &handled))
    }
}
