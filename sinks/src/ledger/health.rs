//! How the ledger's writer is doing, for `/readyz`.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A call that takes longer is a failure before it is over.
const SILENT: Duration = Duration::from_secs(5);

/// Readable from any thread.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    condition: Condition,
    /// Since when a call is under way.
    asked: Option<Instant>,
}

/// A call that is under way, until it is dropped.
pub(super) struct Asking(Health);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.lock().asked = None;
    }
}

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
        let state = self.lock();
        match (&state.condition, state.asked) {
            (Condition::Ok, Some(since)) if since.elapsed() >= SILENT => Condition::Failing {
                since,
                message: format!("the ledger has not answered for {} s", since.elapsed().as_secs()),
            },
            (condition, _) => condition.clone(),
        }
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

    /// Notes that a call begins.
    pub(super) fn asking(&self) -> Asking {
        self.lock().asked = Some(Instant::now());
        Asking(self.clone())
    }

    fn set(&self, condition: Condition) {
        self.lock().condition = condition;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
