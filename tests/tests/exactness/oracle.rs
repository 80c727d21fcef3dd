//! The oracle: a plain fold over a map, from the same lines, without a line of the program's own.

use crate::night::{Key, key};
use dbb_events::Micros;
use serde_json::Value;
use std::collections::BTreeMap;

/// The newest word of a replica: time; journal before events; rank; place in the journal.
type Version = (i64, bool, u8, u64);

/// What is known of replicas.
#[derive(Default)]
pub(crate) struct Oracle {
    known: BTreeMap<Key, (Version, &'static str, &'static str)>,
    /// `lost` names no RSE: it is for all that the file has when everything is read.
    lost: Vec<(i64, String, String)>,
}

impl Oracle {
    /// All these events and rows of a journal.
    pub(crate) fn of(events: &[String], journal: &[String]) -> Self {
        let mut oracle = Self::default();
        events.iter().for_each(|line| oracle.event(line));
        journal.iter().for_each(|line| oracle.row(line));
        oracle
    }

    fn event(&mut self, line: &str) {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        let payload = &event["payload"];
        let at = micros(&event["created_at"]);
        let state = match event["event_type"].as_str().unwrap_or_default() {
            "transfer-queued" => "COPYING",
            "transfer-done" => "AVAILABLE",
            "deletion-done" | "deletion-not-found" => "GONE",
            "deletion-failed" => "BEING_DELETED",
            "lost" => {
                let (scope, name, _) = key(payload);
                return self.lost.push((at, scope, name));
            }
            _ => return,
        };
        let (scope, name, rse) = key(payload);
        let to = payload["dst-rse"].as_str().map_or(rse, str::to_owned);
        let rank = match state {
            "GONE" => 3,
            "AVAILABLE" => 2,
            "BEING_DELETED" => 1,
            _ => 0,
        };
        self.put((scope, name, to), (at, false, rank, 0), state, "event");
    }

    fn row(&mut self, line: &str) {
        let row: Value = serde_json::from_str(line).unwrap_or_default();
        let state = match (row["op"].as_str(), row["new_state"].as_str()) {
            (Some("D"), _) => "GONE",
            (_, Some("A")) => "AVAILABLE",
            (_, Some("U")) => "UNAVAILABLE",
            (_, Some("C")) => "COPYING",
            (_, Some("B")) => "BEING_DELETED",
            (_, Some("D")) => "BAD",
            _ => return,
        };
        let seq = row["seq"].as_u64().unwrap_or_default();
        self.put(key(&row), (micros(&row["at"]), true, 0, seq), state, "journal");
    }

    fn put(&mut self, key: Key, version: Version, state: &'static str, basis: &'static str) {
        let known = self.known.entry(key).or_insert((version, state, basis));
        if version > known.0 {
            *known = (version, state, basis);
        }
    }

    /// State, basis and time of each replica that is there.
    pub(crate) fn replicas(&self) -> BTreeMap<Key, (String, String, i64)> {
        let mut shown = BTreeMap::new();
        for (key, (version, state, basis)) in &self.known {
            let (mut state, mut basis, mut at) = (*state, *basis, version.0);
            for (lost_at, scope, name) in &self.lost {
                let hit = (scope, name) == (&key.0, &key.1) && *lost_at > at;
                if hit && matches!(state, "AVAILABLE" | "BAD" | "TEMPORARY_UNAVAILABLE") {
                    (state, basis, at) = ("UNAVAILABLE", "event", *lost_at);
                }
            }
            if state != "GONE" {
                shown.insert(key.clone(), (state.to_owned(), basis.to_owned(), at));
            }
        }
        shown
    }
}

/// The moment that a field names.
pub(crate) fn micros(field: &Value) -> i64 {
    let at = field.as_str().and_then(Micros::parse);
    at.unwrap_or_default().0
}
