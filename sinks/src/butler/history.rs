//! Which version of each file was applied last: the ledger knows.

use dbb_events::{Did, Micros};
use std::collections::{HashMap, VecDeque};

/// Somewhere to ask which version of a file was applied last.
pub trait History {
    /// The `created_at` last applied to each of these files at `target`; without those never applied.
    ///
    /// # Errors
    /// A sentence. The batch then waits: what is unknown must not be registered over something newer.
    fn applied(&mut self, target: &str, dids: &[Did]) -> Result<HashMap<Did, Micros>, String>;
}

/// Remembers nothing: for a target without a ledger.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoHistory;

impl History for NoHistory {
    fn applied(&mut self, _: &str, _: &[Did]) -> Result<HashMap<Did, Micros>, String> {
        Ok(HashMap::new())
    }
}

/// What was applied lately, which the ledger may not have written yet.
///
/// Bounded: an answer whose row is not written yet is still in flight, and of these there are at most twice
/// `limits.max_in_flight_events`, read and sent again; this holds the last [`Recent::MOST`].
#[derive(Debug, Default)]
pub(super) struct Recent {
    versions: HashMap<Did, Micros>,
    order: VecDeque<Did>,
}

impl Recent {
    /// Files remembered, about 250 bytes each; twice the most that the configuration allows in flight.
    pub(super) const MOST: usize = 40_000;

    /// Takes note that this version was applied.
    pub(super) fn note(&mut self, did: &Did, created_at: Micros) {
        if let Some(version) = self.versions.get_mut(did) {
            *version = created_at.max(*version);
            return;
        }
        if self.order.len() >= Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.versions.remove(&oldest);
        }
        self.order.push_back(did.clone());
        self.versions.insert(did.clone(), created_at);
    }

    /// The version of this file applied last, if it was lately.
    pub(super) fn version(&self, did: &Did) -> Option<Micros> {
        self.versions.get(did).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_stays_and_the_oldest_file_goes() {
        let mut recent = Recent::default();
        let did = |n: usize| Did::new("raw", format!("f{n}"));
        recent.note(&did(0), Micros(5));
        recent.note(&did(0), Micros(3));
        assert_eq!(recent.version(&did(0)), Some(Micros(5)));
        for n in 1..=Recent::MOST {
            recent.note(&did(n), Micros(1));
        }
        assert_eq!(recent.version(&did(0)), None);
        assert_eq!(recent.version(&did(Recent::MOST)), Some(Micros(1)));
        assert_eq!(recent.versions.len(), Recent::MOST);
    }
}
