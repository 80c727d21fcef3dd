//! What became of each file last: the ledger knows.

use crate::ledger::State;
use dbb_events::{Did, Micros, Request, Rse};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};
use uuid::Uuid;

/// What became of a file last at one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The `created_at` of the event that did it.
    pub version: Micros,
    /// What it did: the file is registered, or gone.
    pub state: State,
    /// The RSE of the replica that is registered, or gone, where that is known.
    pub rse: Option<Rse>,
    /// Where the Butler has it, or had it.
    pub uri: Arc<str>,
    /// What it is, or was, registered as.
    pub uuids: Arc<[Uuid]>,
}

impl Applied {
    /// True when `request` is of before this, and has nothing to change any more.
    ///
    /// Of one replica a file that is gone is newer than its landing at the same time. Another replica has its own
    /// story: that one is gone says nothing of the other.
    pub fn supersedes(&self, request: &Request) -> bool {
        let is_newer =
            (self.version, self.state.is_gone()) > (request.created_at, request.action.is_removal());
        let is_other = match (self.state, request.action.is_removal()) {
            (State::AlreadyThereElsewhere, true) => true,
            (state, is_removal) if state.is_gone() != is_removal => {
                self.rse.as_ref().is_some_and(|rse| *rse != request.rse)
            }
            _ => false,
        };
        is_newer && !is_other
    }
}

/// A URI as requests spell it, whose paths have no scheme; the Butler's have.
pub(crate) fn plain(uri: &str) -> &str {
    uri.strip_prefix("file://")
        .filter(|path| path.starts_with('/') && !path.contains('%'))
        .unwrap_or(uri)
}

/// Somewhere to ask what became of a file last.
pub trait History {
    /// What became last of each of these files at `target`; without those nothing became of.
    ///
    /// # Errors
    /// A sentence. The batch then waits: what is unknown must not be registered over something newer.
    fn applied(&mut self, target: &str, dids: &[Did]) -> Result<HashMap<Did, Applied>, String>;

    /// The repository answers again: what waits for it is due. Returns how many.
    ///
    /// # Errors
    /// A sentence; it is to be told again.
    fn is_back(&mut self, _target: &str) -> Result<u64, String> {
        Ok(0)
    }
}

/// Remembers nothing: for a target without a ledger.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoHistory;

impl History for NoHistory {
    fn applied(&mut self, _: &str, _: &[Did]) -> Result<HashMap<Did, Applied>, String> {
        Ok(HashMap::new())
    }
}

/// What was applied lately, which the ledger may not have written yet.
///
/// Bounded: an answer whose row is not written yet is still in flight, and of these there are at most twice
/// `limits.max_in_flight_events`, read and sent again; this holds the last [`Recent::MOST`].
#[derive(Debug, Default)]
pub(super) struct Recent {
    files: HashMap<Did, Applied>,
    order: VecDeque<Did>,
}

impl Recent {
    /// Files remembered, about 400 bytes each and 16 for each dataset; twice the most that the configuration allows
    /// in flight.
    pub(super) const MOST: usize = 40_000;

    /// Takes note of what was applied, which is newer than what was noted before.
    pub(super) fn note(&mut self, did: &Did, applied: Applied) {
        if let Some(known) = self.files.get_mut(did) {
            *known = applied;
            return;
        }
        if self.order.len() >= Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.files.remove(&oldest);
        }
        self.order.push_back(did.clone());
        self.files.insert(did.clone(), applied);
    }

    /// What was applied last of this file, if it was lately.
    pub(super) fn get(&self, did: &Did) -> Option<&Applied> {
        self.files.get(did)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::story::tests::request, *};
    use dbb_events::Action;

    fn applied(version: i64, state: State, rse: Option<&str>) -> Applied {
        Applied {
            version: Micros(version),
            state,
            rse: rse.map(Rse::new),
            uri: "/data/a".into(),
            uuids: Arc::new([]),
        }
    }

    #[test]
    fn what_came_last_stays_and_the_oldest_file_goes() {
        let mut recent = Recent::default();
        let did = |n: usize| Did::new("raw", format!("f{n}"));
        for version in [3, 5] {
            recent.note(&did(0), applied(version, State::Ingested, None));
        }
        assert_eq!(recent.get(&did(0)).map(|a| a.version), Some(Micros(5)));
        for n in 1..=Recent::MOST {
            recent.note(&did(n), applied(1, State::Ingested, None));
        }
        assert_eq!(recent.get(&did(0)), None);
        assert!(recent.get(&did(Recent::MOST)).is_some());
        assert_eq!(recent.files.len(), Recent::MOST);
    }

    #[test]
    fn the_later_of_landing_and_removal_wins_and_removal_at_one_time() {
        let landing = request("a", 5);
        let removal = Request {
            action: Action::Remove,
            ..request("a", 5)
        };
        let here = Some("SITE_RAW_DISK");
        for (version, gone, over_landing, over_removal) in [
            (4, false, false, false),
            (5, false, false, false),
            (6, false, true, true),
            (4, true, false, false),
            (5, true, true, false),
            (6, true, true, true),
        ] {
            let state = if gone { State::NotThere } else { State::Ingested };
            let applied = applied(version, state, here);
            assert_eq!(applied.supersedes(&landing), over_landing, "{applied:?}");
            assert_eq!(applied.supersedes(&removal), over_removal, "{applied:?}");
        }
    }

    #[test]
    fn another_replica_has_its_own_story() {
        let landing = request("a", 5);
        let removal = Request {
            action: Action::Remove,
            ..request("a", 5)
        };
        let there = Some("OTHER_DISK");
        assert!(!applied(9, State::Removed, there).supersedes(&landing));
        assert!(!applied(9, State::Ingested, there).supersedes(&removal));
        assert!(!applied(9, State::AlreadyThereElsewhere, None).supersedes(&removal));
        assert!(applied(9, State::Ingested, there).supersedes(&landing));
    }
}
