//! Random changes and complete listings of few files, RSEs and moments, so that they meet.

use crate::fold::{NAMES, RSES};
use dbb_events::Micros;
use dbb_operators::facts::{Basis, Change, Complete, DidKey, RseName, ScopeName, State};
use proptest::prelude::*;

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let whole = prop::sample::select(vec![State::Unavailable, State::Gone]);
    let state = prop::sample::select(State::ALL.to_vec());
    let basis = prop::sample::select(vec![Basis::Event, Basis::Listing, Basis::Journal]);
    let rse = prop::option::weighted(0.85, prop::sample::select(RSES.to_vec()));
    let told = (
        prop::sample::select(vec![Change::NO_BYTES, 10, 10, 10, 20]),
        prop::sample::select(vec![0u32, 1, 1, 2]),
    );
    let when = (0i64..40, 0u64..3, 0i64..2);
    (0..NAMES.len(), rse, state, whole, basis, told, when).prop_map(
        |(did, rse, state, whole, basis, (bytes, adler32), (at, tie, lag))| {
            let (scope, name) = NAMES[did];
            Change {
                did: DidKey::new(scope, name),
                at: Micros(at),
                tie: if basis == Basis::Listing {
                    (at + 6 * lag) as u64
                } else {
                    tie
                },
                bytes,
                rse: rse.map(RseName::new),
                scope: ScopeName::new(scope),
                adler32,
                state: if rse.is_some() { state } else { whole },
                basis: match (rse, whole) {
                    (Some(_), _) => basis,
                    (None, State::Gone) => Basis::Listing,
                    _ => Basis::Event,
                },
            }
        },
    )
}

pub(crate) fn complete() -> impl Strategy<Value = Complete> {
    let rses = prop::option::of(prop::sample::subsequence(RSES.to_vec(), 0..=3));
    let scopes = prop::option::of(prop::sample::subsequence(vec!["raw", "dp"], 0..=2));
    (0i64..40, rses, scopes).prop_map(|(at, rses, scopes)| Complete {
        at: Micros(at),
        rses: rses.map(|rses| rses.into_iter().map(RseName::new).collect()),
        scopes: scopes.map(|scopes| scopes.into_iter().map(ScopeName::new).collect()),
    })
}
