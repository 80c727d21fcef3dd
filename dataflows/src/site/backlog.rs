//! Backlog: what earlier runs have left waiting in the ledger, for the view of what is open, and what they counted.

use super::work::now;
use dbb_events::{Dependency, Due, Micros, Outcome, Settled, Verified};
use dbb_operators::{
    Again, Classified, Incoming, classify, mapping::Mapping, route::requests_for, views::attempts::Tried,
};
use dbb_sinks::ledger::{Durations, Ledger, LedgerError};
use std::collections::HashSet;

/// Most rows that are looked at: their events are read into memory, one page of some 150 MB.
const MOST: usize = 100_000;

/// The requests that wait, as they would be routed now, each with an answer that says so.
///
/// # Errors
///
/// The ledger cannot be read.
pub(super) fn waiting(ledger: &mut Ledger, mapping: &Mapping) -> Result<Vec<Settled>, LedgerError> {
    let rows = ledger.due(Micros(i64::MAX), MOST, &HashSet::new())?;
    if rows.len() == MOST {
        tracing::warn!(
            MOST,
            "more rows wait in the ledger than are looked at: `ingest_backlog` lacks the others until they are tried"
        );
    }
    Ok(rows.into_iter().flat_map(|row| settled(row, mapping)).collect())
}

/// The attempts that earlier runs have made, for the view of how long they took.
pub(super) fn counted(durations: Vec<Durations>) -> Vec<Tried> {
    let tried = |counted: Durations| Tried {
        at: (counted.target, counted.outcome.as_str().into()),
        bucket: counted.bucket,
        count: i64::try_from(counted.count).unwrap_or(i64::MAX),
    };
    durations.into_iter().map(tried).collect()
}

fn settled(row: Due, mapping: &Mapping) -> Vec<Settled> {
    let since = row.waiting_since.unwrap_or_default();
    let incoming = Incoming {
        received: row.received,
        read_at: now(),
        again: Some(Again {
            event: row.event,
            target: row.target,
            attempts: row.attempts,
            waiting_since: row.waiting_since,
            released: row.released,
        }),
        incarnation: Default::default(),
        known: false,
    };
    let Classified::Arrival(arrival) = classify(&incoming, mapping) else {
        return Vec::new();
    };
    // What no route leads to any more is a dead letter when it is tried: nothing is open for it.
    let requests = requests_for(&arrival, mapping).unwrap_or_default();
    let waits = |mut request: dbb_events::Request| {
        request.body = Default::default();
        Settled {
            request,
            outcome: Outcome::Waiting {
                dependency: Dependency::Time,
                not_before: since,
                detail: String::new(),
                counts: false,
            },
            at: since,
            took: None,
            uuids: Vec::new(),
            verified: Verified::NotAsked,
            provides: Vec::new(),
        }
    };
    requests.into_iter().map(waits).collect()
}
