//! The oracle: all that was said, sorted by version and folded into a map.

use dbb_events::Micros;
use dbb_operators::{
    facts::{Basis, Change, Complete, DidKey, RseName, ScopeName, State},
    views::rse_usage::{Amount, Usage},
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fact {
    Change(Change),
    Complete(Complete),
}

/// scope, name, RSE, state, bytes, adler32, basis, time: as the view has them.
pub(crate) type Line = (
    String,
    String,
    String,
    String,
    Option<i64>,
    Option<String>,
    String,
    i64,
);

pub(crate) const NAMES: [(&str, &str); 4] = [
    ("raw", "a"),
    ("raw", "b"),
    ("dp", "a"),
    ("dp", "a long name/with.parts"),
];
pub(crate) const RSES: [&str; 3] = ["SLAC", "IN2P3", "LANCS"];

pub(crate) fn name_of(did: DidKey) -> (&'static str, &'static str) {
    *NAMES
        .iter()
        .find(|(scope, name)| DidKey::new(scope, name) == did)
        .unwrap()
}

/// The oracle. Amounts and lines of all facts, by sorting them first.
pub(crate) fn fold(facts: &[Fact]) -> BTreeSet<Line> {
    type Key = (DidKey, RseName);
    let mut seen: BTreeMap<Key, Micros> = BTreeMap::new();
    let mut bytes: BTreeMap<Key, u64> = BTreeMap::new();
    let mut adler32: BTreeMap<Key, u32> = BTreeMap::new();
    let mut sorted = Vec::new();
    for fact in facts {
        match fact {
            Fact::Complete(complete) => sorted.push(((complete.at, 0, None), fact)),
            Fact::Change(change) => {
                if let Some(rse) = change.rse {
                    let key = (change.did, rse);
                    if let Some(at) = change.seen() {
                        let known = seen.entry(key).or_insert(at);
                        *known = at.max(*known);
                    }
                    if change.bytes != Change::NO_BYTES {
                        let known = bytes.entry(key).or_default();
                        *known = change.bytes.max(*known);
                    }
                    let known = adler32.entry(key).or_default();
                    *known = change.adler32.max(*known);
                }
                let absence = change.rse.is_none() && change.state == State::Gone;
                let order = (change.version(), change.rse.is_some(), change.state, change.basis);
                sorted.push((
                    (
                        change.at,
                        if absence { 0 } else { 1 },
                        (!absence).then_some(order),
                    ),
                    fact,
                ));
            }
        }
    }
    sorted.sort();
    let mut rows: BTreeMap<Key, (State, Basis, Micros, bool)> = BTreeMap::new();
    for (_, fact) in sorted {
        match fact {
            Fact::Complete(complete) => rows.retain(|key, _| {
                let covered = complete.rses.as_ref().is_none_or(|rses| rses.contains(&key.1))
                    && complete
                        .scopes
                        .as_ref()
                        .is_none_or(|scopes| scopes.contains(&ScopeName::new(name_of(key.0).0)));
                !covered || seen.get(key).is_some_and(|seen| *seen >= complete.at)
            }),
            Fact::Change(change) => match (change.rse, change.state) {
                (Some(rse), State::Gone) => {
                    rows.remove(&(change.did, rse));
                }
                (Some(rse), state) => {
                    rows.insert((change.did, rse), (state, change.basis, change.at, false));
                }
                (None, State::Gone) => rows.retain(|key, _| {
                    key.0 != change.did || seen.get(key).is_some_and(|seen| *seen >= change.at)
                }),
                (None, _) => rows
                    .iter_mut()
                    .filter(|(key, _)| key.0 == change.did)
                    .for_each(|(_, row)| {
                        if matches!(row.0, State::Available | State::Bad | State::TemporaryUnavailable)
                            || row.3
                        {
                            *row = (State::Unavailable, change.basis, change.at, true);
                        }
                    }),
            },
        }
    }
    rows.into_iter()
        .map(|((did, rse), (state, basis, at, _))| {
            let (scope, name) = name_of(did);
            let of_did = |told: Option<u64>, others: &dyn Fn(&Key) -> Option<u64>| {
                told.or_else(|| {
                    RSES.iter()
                        .filter_map(|rse| others(&(did, RseName::new(rse))))
                        .max()
                })
            };
            let bytes = of_did(bytes.get(&(did, rse)).copied(), &|key| bytes.get(key).copied());
            let adler = |key: &Key| {
                adler32
                    .get(key)
                    .filter(|adler32| **adler32 != 0)
                    .map(|a| u64::from(*a))
            };
            let adler32 = of_did(adler(&(did, rse)), &adler);
            (
                scope.to_owned(),
                name.to_owned(),
                rse.to_string(),
                state.to_string(),
                bytes.map(|bytes| bytes as i64),
                adler32.map(|adler32| format!("{adler32:08x}")),
                basis.to_string(),
                at.0,
            )
        })
        .collect()
}

pub(crate) fn usage(lines: &BTreeSet<Line>) -> BTreeMap<Usage, Amount> {
    let mut usage: BTreeMap<Usage, Amount> = BTreeMap::new();
    for (scope, _, rse, state, bytes, ..) in lines {
        let of = Usage {
            rse: RseName::new(rse),
            scope: ScopeName::new(scope),
            state: State::parse(state).unwrap(),
        };
        let (files, total) = usage.entry(of).or_default();
        *files += 1;
        total.0 += i128::from(bytes.unwrap_or(0));
    }
    usage
}
