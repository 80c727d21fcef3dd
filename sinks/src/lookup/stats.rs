//! What look-ups have done, for metrics and logs.

use super::Cache;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counters that look-ups write and anyone reads. All only rise, except what tells of the present.
#[derive(Debug)]
pub struct LookUpStats {
    counters: Mutex<LookUpSnapshot>,
    cache: Cache,
}

/// The counters at one moment.
///
/// Requests for each thousand events are `1000 * requests / events`, where the one who counts events knows those.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LookUpSnapshot {
    /// Files that were asked for, each time they were.
    pub asked: u64,
    /// Of those, found in the cache by a thread, beside what the operator found itself.
    pub cache_hits: u64,
    /// Files found in the cache by the operator, and so never asked for.
    pub operator_hits: u64,
    /// Files in the cache.
    pub cached_files: u64,
    /// Estimated bytes of their labels.
    pub cached_bytes: u64,
    /// Of those asked for, told by a document.
    pub documents_found: u64,
    /// Documents read.
    pub documents_read: u64,
    /// Documents, or entries of them, that cannot be used.
    pub documents_bad: u64,
    /// Entries of documents for files that were not beside them when they were read.
    pub documents_without_file: u64,
    /// Requests to Rucio, those for tokens and those that failed among them.
    pub requests: u64,
    /// Of those, requests that failed.
    pub requests_failed: u64,
    /// Tokens fetched.
    pub logins: u64,
    /// DIDs that Rucio was asked for.
    pub dids: u64,
    /// Of those, DIDs that Rucio does not know.
    pub dids_unknown: u64,
    /// Lines of Rucio's answers that cannot be read.
    pub lines_bad: u64,
    /// Seconds in which requests were waited for, all threads together.
    pub seconds: f64,
    /// Answers: labels of a Butler dataset.
    pub labelled: u64,
    /// Answers: no `rubin_butler`.
    pub unlabelled: u64,
    /// Answers: later.
    pub later: u64,
    /// Answers: never.
    pub refused: u64,
    /// True while Rucio does not answer, or refuses the credentials; then `trouble` says why.
    pub down: bool,
    /// The last trouble with Rucio, in one sentence; empty if there was none.
    pub trouble: String,
}

impl LookUpStats {
    pub(super) fn new(cache: Cache) -> Self {
        Self {
            counters: Mutex::default(),
            cache,
        }
    }

    /// The counters now.
    pub fn snapshot(&self) -> LookUpSnapshot {
        let counters = self.lock().clone();
        LookUpSnapshot {
            operator_hits: self.cache.hits(),
            cached_files: self.cache.files(),
            cached_bytes: self.cache.bytes(),
            ..counters
        }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut LookUpSnapshot)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, LookUpSnapshot> {
        // Plain counters: whatever panicked while it held them left them usable.
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
