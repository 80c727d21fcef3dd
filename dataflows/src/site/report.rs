//! What a run did.

use dbb_events::{Outcome, Settled};
use dbb_operators::{Classified, Incoming};
use dbb_sinks::ledger::{Ledger, LedgerError, Tally};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// What one run did.
#[derive(Debug, Clone, Default)]
pub struct RunReport {
    /// Records read from the source.
    pub records: u64,
    /// Records that repeated an event of this run.
    pub repeats: u64,
    /// Records that are nobody's here, by reason.
    pub not_for_us: BTreeMap<&'static str, u64>,
    /// Datasets answered as registered now.
    pub ingested: u64,
    /// Dead letters in the ledger at the end that were not there at the start.
    pub dead_letters_added: u64,
    /// Parts of the source, such as damaged files, that could not be read to their end; the log names them.
    pub unreadable_parts: u64,
    /// How all events of the ledger stand at the end, by RSE, repository and outcome.
    pub tallies: Vec<Tally>,
    /// How long it took.
    pub elapsed: Duration,
}

impl RunReport {
    pub(super) fn new(tallied: &Tallied, elapsed: Duration) -> Self {
        Self {
            records: tallied.records(),
            repeats: tallied.repeats.load(Ordering::Relaxed),
            not_for_us: tallied
                .not_for_us
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            ingested: tallied.ingested.load(Ordering::Relaxed),
            elapsed,
            ..Self::default()
        }
    }

    pub(super) fn compare(&mut self, mut ledger: Ledger, before: &Before) -> Result<(), LedgerError> {
        self.dead_letters_added = ledger.dead_letter_count()?.saturating_sub(before.dead_letters);
        self.tallies = ledger.summary()?;
        Ok(())
    }
}

/// The ledger before the run.
pub(super) struct Before {
    dead_letters: u64,
}

impl Before {
    pub(super) fn read(ledger: &mut Ledger) -> Result<Self, LedgerError> {
        Ok(Self {
            dead_letters: ledger.dead_letter_count()?,
        })
    }
}

/// Counters of the running dataflow.
#[derive(Debug, Default)]
pub(super) struct Tallied {
    records: AtomicU64,
    repeats: AtomicU64,
    dead_letters: AtomicU64,
    ingested: AtomicU64,
    settled: AtomicU64,
    not_for_us: Mutex<BTreeMap<&'static str, u64>>,
}

impl Tallied {
    pub(super) fn record(&self, incoming: &Incoming, classified: &Classified) {
        if incoming.again.is_none() {
            self.records.fetch_add(1, Ordering::Relaxed);
        }
        match classified {
            Classified::Nobodys(reason) => {
                let mut not_for_us = self.not_for_us.lock().unwrap_or_else(PoisonError::into_inner);
                *not_for_us.entry(reason.as_str()).or_default() += 1;
            }
            Classified::DeadLetter(_) => self.dead_letter(),
            Classified::Arrival(_) | Classified::Outgoing(_) => {}
        }
    }

    pub(super) fn repeat(&self) {
        self.repeats.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dead_letter(&self) {
        self.dead_letters.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn settled(&self, settled: &Settled) {
        self.settled.fetch_add(1, Ordering::Relaxed);
        match settled.outcome {
            Outcome::Ingested => self.ingested.fetch_add(1, Ordering::Relaxed),
            Outcome::Refused(_) => self.dead_letters.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Ingested, and dead letters, for the progress bar.
    pub(super) fn shown(&self) -> (u64, u64) {
        (
            self.ingested.load(Ordering::Relaxed),
            self.dead_letters.load(Ordering::Relaxed),
        )
    }
}
