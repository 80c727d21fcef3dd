//! The ledger against the oracle: every event exactly once, with an outcome that is right for it.
//!
//! In:  the events that were made, and the rows of the ledger.
//! Out: what is not as it must be, as sentences.

use dbb::demo::{Expected, ExpectedEvent, Happened};
use std::collections::HashMap;

/// Whether events may have been tried twice: then `already_there` is as right as `ingested`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// A file that was new must be `ingested`.
    Never,
    /// The same, and so often at most: each kill can repeat no more than what was on its way.
    AtMost(usize),
    /// A process was killed, or an answer lost, between the Butler's commit and the ledger's; partitions were
    /// read in another order.
    Perhaps,
}

/// The differences, as sentences.
pub fn differences(expected: &Expected, happened: &[Happened], again: Again) -> Vec<String> {
    let mut by_did: HashMap<&str, Vec<&Happened>> = HashMap::new();
    let mut unnamed = Vec::new();
    for row in happened {
        match &row.did {
            Some(did) => by_did.entry(did).or_default().push(row),
            None => unnamed.push(row),
        }
    }
    let (mut differences, mut booked, mut repeated) = (Vec::new(), 0, 0);
    for event in &expected.events {
        let rows: Vec<&Happened> = match event.did.as_deref().and_then(|did| by_did.get(did)) {
            Some(rows) => rows
                .iter()
                .copied()
                .filter(|row| is_at_its_rse(event, row))
                .collect(),
            // What could not be read has no name in the ledger: it is found by its bytes.
            None => unnamed
                .iter()
                .copied()
                .filter(|row| event.is_body(row.body.as_deref()) || event.is_at(&row.place))
                .collect(),
        };
        booked += rows.len();
        repeated += rows.iter().filter(|row| !event.allows(&row.outcome)).count();
        if let Some(difference) = difference(event, &rows, again) {
            differences.push(difference);
        }
    }
    if let Again::AtMost(most) = again
        && repeated > most
    {
        differences.push(format!(
            "{repeated} rows are of events that were tried twice, and {most} can be"
        ));
    }
    if booked != happened.len() {
        differences.push(format!(
            "{} rows, of which {booked} belong to events that were made",
            happened.len()
        ));
    }
    differences
}

fn difference(event: &ExpectedEvent, rows: &[&Happened], again: Again) -> Option<String> {
    let open = event.targets == ["*"];
    let mut targets: Vec<&str> = rows.iter().map(|row| row.target.as_str()).collect();
    let mut wanted: Vec<&str> = event.targets.iter().map(String::as_str).collect();
    targets.sort_unstable();
    wanted.sort_unstable();
    let complete = if open {
        targets.len() == 1
    } else {
        targets == wanted
    };
    if complete && rows.iter().all(|row| is_right(event, &row.outcome, again)) {
        return None;
    }
    let told: Vec<String> = rows
        .iter()
        .map(|row| format!("`{}` at `{}` ({})", row.outcome, row.target, row.detail))
        .collect();
    Some(format!(
        "{} ({}, {}) must be {} at {:?}, and is {}",
        event.did.as_deref().unwrap_or("an unreadable event"),
        event.fault.as_deref().unwrap_or("good"),
        event.places.join(", "),
        event.outcomes.join(" or "),
        event.targets,
        if told.is_empty() {
            "not in the ledger".into()
        } else {
            told.join(", ")
        },
    ))
}

fn is_right(event: &ExpectedEvent, outcome: &str, again: Again) -> bool {
    let late = match outcome {
        "already_there" => event.allows("ingested"),
        // Of two events of one file the older came second: partitions have no order between them.
        "superseded" => event.allows("already_there_elsewhere"),
        _ => false,
    };
    event.allows(outcome) || (again != Again::Never && late)
}

/// A file may be announced at two RSEs.
fn is_at_its_rse(event: &ExpectedEvent, row: &Happened) -> bool {
    let rse = event.rse.as_ref().and_then(serde_json::Value::as_str);
    rse.is_none() || row.rse.is_none() || row.rse.as_deref() == rse
}
