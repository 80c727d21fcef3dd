//! What must come of a site's events: `expected.json`, as the site's script wrote it.
//!
//! In:  the file.
//! Out: [`Expected`]; the datasets themselves are compared by the script, which asks the Butler.

use anyhow::{Context, Result};
use dbb_events::Place;
use serde::Deserialize;
use std::{collections::BTreeMap, fs, path::Path};

/// The oracle of a site.
#[derive(Debug, Clone, Deserialize)]
pub struct Expected {
    /// Sums.
    pub totals: Totals,
    /// Events that no Butler has use for, by type.
    pub not_for_us: BTreeMap<String, u64>,
    /// All events that are for a Butler (of a brief oracle only the unusual ones), in the order recorded.
    pub events: Vec<ExpectedEvent>,
}

/// Sums over all events.
#[derive(Debug, Clone, Deserialize)]
pub struct Totals {
    /// Lines of the recording: events, repeats, and what is for no Butler.
    pub lines: u64,
    /// Events for a Butler, each counted once.
    pub events: u64,
    /// Second deliveries.
    pub repeats: u64,
    /// Events that no Butler has use for.
    pub not_for_us: u64,
    /// Datasets that each repository must hold, not counting those of which one of several must be there.
    pub datasets: BTreeMap<String, u64>,
}

/// One event and what must come of it.
#[derive(Debug, Clone, Deserialize)]
pub struct ExpectedEvent {
    /// Where it stands in the recording, `0001.ndjson:17`; more than one if it is delivered again.
    pub places: Vec<String>,
    /// The topic it is published to.
    pub topic: String,
    /// Rucio's id of the request; none for a re-created or unreadable event.
    pub request_id: Option<String>,
    /// `scope:name`; none if it cannot be read.
    pub did: Option<String>,
    /// The RSE, as the event has it.
    pub rse: Option<serde_json::Value>,
    /// The repositories; one empty word if no repository is meant; `*` if that is left open.
    pub targets: Vec<String>,
    /// The outcomes that are right: `ingested`, `refused/bad_sidecar`, `refused/*`.
    pub outcomes: Vec<String>,
    /// The datasets that come of it, by UUID.
    pub uuids: Vec<String>,
    /// The fault, or the rare form, that it was made to show.
    pub fault: Option<String>,
    /// Of a planted fault, the Adler-32 of its body: one that cannot be read has no name to be known by.
    #[serde(default)]
    pub body_adler32: Option<u32>,
    /// True if it has to wait for dimension records that come after it.
    pub waits: bool,
}

impl Expected {
    /// Reads `expected.json` in the folder of a site.
    ///
    /// # Errors
    ///
    /// It is not there, or of another form.
    pub fn read(site: &Path) -> Result<Self> {
        let path = site.join("expected.json");
        let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not of the form expected", path.display()))
    }
}

impl ExpectedEvent {
    /// True if `outcome`, a word or `refused/reason`, is one of those that are right.
    pub fn allows(&self, outcome: &str) -> bool {
        self.outcomes.iter().any(|right| match right.strip_suffix('*') {
            Some(start) => outcome.starts_with(start),
            None => outcome == right,
        })
    }

    /// True if these are the bytes of the event.
    pub fn is_body(&self, body: Option<&[u8]>) -> bool {
        self.body_adler32
            .is_some_and(|adler| body.is_some_and(|body| adler32(body) == adler))
    }

    /// True if the event was read at this place of the recording.
    pub fn is_at(&self, place: &Place) -> bool {
        let Some(line) = place.line else { return false };
        self.places.iter().any(|at| {
            at.rsplit_once(':').is_some_and(|(file, number)| {
                number.parse() == Ok(line)
                    && Path::new(&*place.stream)
                        .file_name()
                        .is_some_and(|name| name == file)
            })
        })
    }
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    (b << 16) | a
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(outcomes: &[&str]) -> ExpectedEvent {
        serde_json::from_value(serde_json::json!({
            "places": ["0001.ndjson:17", "0002.ndjson:3"], "topic": "DEMO_RAW_DISK-raw", "request_id": null,
            "did": null, "rse": ["a", "list"], "targets": ["main"], "outcomes": outcomes, "uuids": [],
            "fault": "truncated", "waits": false,
        }))
        .unwrap()
    }

    #[test]
    fn a_star_is_any_reason() {
        assert!(event(&["refused/*"]).allows("refused/butler"));
        assert!(!event(&["refused/*"]).allows("waiting"));
        assert!(event(&["ingested", "waiting"]).allows("waiting"));
        assert!(!event(&["refused/butler"]).allows("refused/conflict"));
    }

    #[test]
    fn an_unreadable_event_is_known_by_its_bytes() {
        let mut event = event(&[]);
        event.body_adler32 = Some(0x11e6_0398);
        assert!(event.is_body(Some(b"Wikipedia")));
        assert!(!event.is_body(Some(b"Wikipedib")));
        assert!(!event.is_body(None));
    }

    #[test]
    fn a_repeat_is_found_at_both_places() {
        let at = |file: &str, line| Place {
            stream: file.into(),
            partition: 0,
            offset: 9,
            line,
        };
        assert!(event(&[]).is_at(&at("/site/events/0001.ndjson", Some(17))));
        assert!(event(&[]).is_at(&at("/site/events/0002.ndjson", Some(3))));
        assert!(!event(&[]).is_at(&at("/site/events/0002.ndjson", Some(17))));
        assert!(!event(&[]).is_at(&at("0001.ndjson", None)));
    }
}
