//! How the ledger's writer is doing, for `/readyz`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// Readable from any thread.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<Condition>>);

/// How the writer is doing.
#[derive(Debug, Clone, Default)]
pub enum Condition {
    /// The last call to the ledger succeeded.
    #[default]
    Ok,
    /// It fails, and is tried again; nothing that was read is lost, and nothing more is read.
    Failing {
        /// Since when.
        since: Instant,
        /// What the ledger said last.
        message: String,
    },
    /// It will not be tried again: the process must stop.
    Fatal {
        /// What the ledger said.
        message: String,
    },
}

impl Health {
    /// How it is now.
    pub fn condition(&self) -> Condition {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True unless the last call to the ledger failed.
    pub fn is_ok(&self) -> bool {
        matches!(self.condition(), Condition::Ok)
    }

    pub(super) fn ok(&self) {
        self.set(Condition::Ok);
    }

    pub(super) fn failing(&self, message: String) {
        let since = match self.condition() {
            Condition::Failing { since, .. } => since,
            _ => Instant::now(),
        };
        self.set(Condition::Failing { since, message });
    }

    pub(super) fn fatal(&self, message: String) {
        self.set(Condition::Fatal { message });
    }

    fn set(&self, condition: Condition) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = condition;
    }
}
