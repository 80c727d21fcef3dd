//! Floors: since when what a complete listing does not name is gone.

use super::words::Words;
use crate::facts::Complete;
use std::collections::HashMap;

const ANY: u32 = u32::MAX;

/// The newest complete listing of each RSE and scope, or of all.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Floors {
    newest: HashMap<(u32, u32), i64>,
}

impl Floors {
    /// Takes in a listing; true when anything is newer for it.
    pub(super) fn add(&mut self, complete: &Complete, words: &mut Words) -> bool {
        let mut numbers = |rses: bool| match (rses, &complete.rses, &complete.scopes) {
            (true, Some(rses), _) => rses.iter().map(|rse| words.rses.number(rse.0)).collect(),
            (false, _, Some(scopes)) => scopes.iter().map(|scope| words.scopes.number(scope.0)).collect(),
            _ => vec![ANY],
        };
        let (rses, scopes): (Vec<u32>, Vec<u32>) = (numbers(true), numbers(false));
        let mut newer = false;
        for rse in rses {
            for scope in &scopes {
                let floor = self.newest.entry((*scope, rse)).or_insert(i64::MIN);
                newer |= *floor < complete.at.0;
                *floor = complete.at.0.max(*floor);
            }
        }
        newer
    }

    /// Each of them: since when, for which RSE and scope; for all where it is `None`.
    pub(super) fn each(&self) -> impl Iterator<Item = (Option<u32>, Option<u32>, i64)> + '_ {
        let one = |number: u32| Some(number).filter(|number| *number != ANY);
        self.newest
            .iter()
            .map(move |((scope, rse), at)| (one(*rse), one(*scope), *at))
    }

    /// Since when a replica of this scope at this RSE is gone unless something newer is said of it.
    pub(super) fn of(&self, scope: u32, rse: u32) -> i64 {
        if self.newest.is_empty() {
            return i64::MIN;
        }
        [(scope, rse), (scope, ANY), (ANY, rse), (ANY, ANY)]
            .iter()
            .filter_map(|key| self.newest.get(key).copied())
            .max()
            .unwrap_or(i64::MIN)
    }
}
