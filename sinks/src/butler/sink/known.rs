//! What is known of a file beside the request: what was applied before, and what is applied now.

use crate::{
    butler::{Applied, history::plain, protocol::Gone},
    ledger::State,
};
use dbb_events::{Outcome, Request, Settled};
use std::sync::Arc;
use uuid::Uuid;

/// What the worker is told of a file that is gone.
pub(super) fn removal(k: usize, request: &Request, applied: Option<&Applied>) -> Gone {
    let mut uris: Vec<Arc<str>> = Vec::new();
    if !request.uri.is_empty() {
        uris.push(Arc::clone(&request.uri));
    }
    // An RSE has one replica of a file: however its URL is spelt, it is that one.
    let here = applied.filter(|applied| applied.rse.as_ref() == Some(&request.rse));
    uris.extend(here.map(|applied| Arc::clone(&applied.uri)));
    Gone {
        k,
        uuids: applied.map_or_else(Vec::new, |applied| applied.uuids.to_vec()),
        uris,
        registered: here.is_some_and(|applied| applied.state.is_registered()),
    }
}

/// The dataset that a sidecar describes, if it describes one.
pub(super) fn described(sidecar: &str) -> Option<Uuid> {
    serde_json::from_str::<serde_json::Value>(sidecar)
        .ok()?
        .get("id")?
        .as_str()?
        .parse()
        .ok()
}

/// What became of the file of this answer.
pub(super) fn became(answer: &Settled, before: Option<&Applied>) -> Applied {
    let request = &answer.request;
    let state = State::from(&answer.outcome);
    let (uri, rse) = match (&answer.outcome, before) {
        (Outcome::AlreadyThereElsewhere { uri }, Some(before)) if *before.uri == *plain(uri) => {
            (Arc::clone(&before.uri), before.rse.clone())
        }
        (Outcome::AlreadyThereElsewhere { uri }, _) => (plain(uri).into(), None),
        (_, Some(before)) if request.uri.is_empty() => (Arc::clone(&before.uri), Some(request.rse.clone())),
        _ => (plain(&request.uri).into(), Some(request.rse.clone())),
    };
    let kept = before.filter(|_| answer.uuids.is_empty());
    Applied {
        version: request.created_at,
        state,
        rse,
        uri,
        uuids: kept.map_or_else(|| answer.uuids.as_slice().into(), |kept| Arc::clone(&kept.uuids)),
    }
}
