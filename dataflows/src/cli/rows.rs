//! Rows of the ledger for people and programs.

use dbb_sinks::ledger::{Attempt, FileRow, Row};
use serde_json::{Value, json};

/// A row as JSON: times in ISO 8601, the event as text.
pub(super) fn row(row: &Row) -> Value {
    json!({
        "id": row.id,
        "event": row.event.to_string(),
        "repository": row.target,
        "place": {
            "stream": row.place.stream,
            "partition": row.place.partition,
            "offset": row.place.offset,
            "line": row.place.line,
        },
        "topic": row.topic,
        "event_type": row.event_type,
        "scope": row.did.as_ref().map(|did| &did.scope),
        "name": row.did.as_ref().map(|did| &did.name),
        "rse": row.rse,
        "kind": row.kind,
        "created_at": row.created_at.map(|at| at.to_string()),
        "url": row.url,
        "uri": row.uri,
        "outcome": row.outcome.as_str(),
        "reason": row.reason,
        "detail": row.detail,
        "verified": row.verified,
        "attempts": row.attempts,
        "waits_for": row.waits_for,
        "not_before": row.not_before.map(|at| at.to_string()),
        "waiting_since": row.waiting_since.map(|at| at.to_string()),
        "first_seen_at": row.first_seen_at.to_string(),
        "updated_at": row.updated_at.to_string(),
        "took_s": row.took.map(|took| took.as_secs_f64()),
        "tries": row.tries,
        "generation": row.generation,
        "body": row.body.as_deref().map(String::from_utf8_lossy),
    })
}

/// An earlier outcome as JSON.
pub(super) fn attempt(attempt: &Attempt) -> Value {
    json!({
        "at": attempt.at.to_string(),
        "generation": attempt.generation,
        "outcome": attempt.outcome.as_str(),
        "reason": attempt.reason,
        "waits_for": attempt.waits_for,
        "detail": attempt.detail,
        "took_s": attempt.took.map(|took| took.as_secs_f64()),
    })
}

/// What a file is at a repository, as JSON.
pub(super) fn file(file: &FileRow) -> Value {
    json!({
        "repository": file.target,
        "state": file.state.as_str(),
        "uri": file.uri,
        "uuids": file.uuids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "event": file.event.to_string(),
        "version": file.version.to_string(),
        "updated_at": file.updated_at.to_string(),
    })
}

/// The file of a row, or what is known in its place.
pub(super) fn name(row: &Row) -> String {
    match &row.did {
        Some(did) => did.to_string(),
        None => "(no file could be read)".into(),
    }
}

/// Control characters shown, so that what an event says cannot write to the terminal as it likes.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}
