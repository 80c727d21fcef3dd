//! What became of a site's events, against what should have.
//!
//! ```text
//!   expected events, ledger rows --> what became of each planted fault; what is not as expected
//! ```
//!
//! In:    the oracle and everything that happened.
//! Out:   a table to print, and the differences as sentences.
//! State: none.

use super::expected::{Expected, ExpectedEvent};
use crate::cli::output;
use dbb_events::Place;
use std::{collections::HashMap, path::Path};

/// How one event ended at one repository: what a row of the ledger says.
#[derive(Debug, Clone)]
pub struct Happened {
    /// The repository; empty if the event was never routed.
    pub target: String,
    /// `scope:name`, where it could be read.
    pub did: Option<String>,
    /// The RSE, where it could be read.
    pub rse: Option<String>,
    /// `ingested`, `waiting`, `refused/bad_sidecar`.
    pub outcome: String,
    /// Outcomes it had before this one.
    pub earlier: usize,
    /// One sentence, for what is not done.
    pub detail: String,
    /// Where the event was read.
    pub place: Place,
    /// The event as it came, where the ledger keeps it.
    pub body: Option<Vec<u8>>,
}

/// What became of each planted fault, and everything that is not as it should be.
pub(super) fn planted(expected: &Expected, happened: &[Happened], site: &Path) -> (String, Vec<String>) {
    let index = Index::of(happened);
    let (mut rows, mut differences, mut booked) = (Vec::new(), Vec::new(), 0);
    for event in &expected.events {
        let found = index.find(event);
        booked += found.len();
        let as_meant = |h: &&Happened| {
            event.allows(&h.outcome) && (event.targets.contains(&h.target) || event.targets == ["*"])
        };
        let right = found.iter().filter(|h| as_meant(h)).count();
        if right != event.targets.len() || found.len() != right {
            let told: Vec<_> = found
                .iter()
                .map(|h| format!("`{}` at `{}`", h.outcome, h.target))
                .collect();
            differences.push(format!(
                "{} ({}) was to be {} at {}, and is {}",
                event.did.as_deref().unwrap_or("an unreadable event"),
                event.places.join(", "),
                event.outcomes.join(" or "),
                event.targets.join(" and "),
                if told.is_empty() {
                    "not in the ledger".into()
                } else {
                    told.join(", ")
                },
            ));
        }
        if let Some(name) = event.fault.as_deref() {
            let words = name.replace('_', " ");
            let row = |h: &&Happened| {
                [&words, &h.target, &h.outcome, &shortened(&h.detail, site)].map(String::clone)
            };
            rows.extend(found.iter().map(row));
        }
    }
    if booked < happened.len() {
        differences.push(format!(
            "{} rows of the ledger belong to no event that was made",
            happened.len() - booked
        ));
    }
    rows.sort();
    let rows = rows.into_iter().map(Vec::from);
    (
        output::table(&["planted", "repository", "became", "why"], rows, &[]),
        differences,
    )
}

/// The file whose story is worth telling: one that waited and came back, else one that was refused.
pub(super) fn worth_telling(happened: &[Happened]) -> Option<&str> {
    let waited = happened.iter().find(|h| h.earlier > 0 && h.outcome == "ingested");
    let refused = || happened.iter().find(|h| h.outcome == "refused/size_mismatch");
    waited.or_else(refused)?.did.as_deref()
}

struct Index<'a> {
    by_did: HashMap<&'a str, Vec<&'a Happened>>,
    unnamed: Vec<&'a Happened>,
}

impl<'a> Index<'a> {
    fn of(happened: &'a [Happened]) -> Self {
        let mut index = Self {
            by_did: HashMap::new(),
            unnamed: Vec::new(),
        };
        for event in happened {
            match &event.did {
                Some(did) => index.by_did.entry(did).or_default().push(event),
                None => index.unnamed.push(event),
            }
        }
        index
    }

    /// The rows of one event. A file may be on two RSEs; what could not be read is found by its place or bytes.
    fn find(&self, event: &ExpectedEvent) -> Vec<&'a Happened> {
        let rse = event.rse.as_ref().and_then(serde_json::Value::as_str);
        let same_rse = |h: &&Happened| rse.is_none() || h.rse.is_none() || h.rse.as_deref() == rse;
        let of_file = event.did.as_deref().and_then(|did| self.by_did.get(did));
        let named: Vec<_> = of_file.into_iter().flatten().copied().filter(same_rse).collect();
        if !named.is_empty() {
            return named;
        }
        let same = |h: &&Happened| event.is_at(&h.place) || event.is_body(h.body.as_deref());
        self.unnamed.iter().copied().filter(same).collect()
    }
}

/// A sentence that fits in a table; of the site's files only the names are left.
fn shortened(sentence: &str, site: &Path) -> String {
    const MOST: usize = 100;
    let inside = format!("{}/", site.display());
    let line = sentence.lines().next().unwrap_or_default();
    let words: Vec<&str> = line
        .split(' ')
        .map(|word| {
            if word.contains(&inside) {
                word.rsplit('/').next().unwrap_or(word)
            } else {
                word
            }
        })
        .collect();
    let line = words.join(" ");
    if line.chars().count() <= MOST {
        return line;
    }
    line.chars().take(MOST).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn expected() -> Expected {
        let event = |place: &str,
                     did: Option<&str>,
                     rse,
                     targets: &[&str],
                     outcomes: &[&str],
                     fault: Option<&str>| {
            json!({"places": [place], "topic": "A-raw", "request_id": null, "did": did, "rse": rse,
                   "targets": targets, "outcomes": outcomes, "uuids": [], "fault": fault, "waits": false})
        };
        serde_json::from_value(json!({
            "totals": {"lines": 5, "events": 5, "repeats": 0, "not_for_us": 0, "datasets": {}},
            "not_for_us": {},
            "events": [
                event("1:1", Some("raw:a"), Some("A"), &["main", "prep"], &["ingested"], None),
                event("1:2", Some("raw:b"), Some("A"), &["main"], &["ingested", "already_there_elsewhere"], Some("two_rses")),
                event("1:3", Some("raw:b"), Some("B"), &["main"], &["ingested", "already_there_elsewhere"], Some("two_rses")),
                event("1:4", None, None, &[""], &["refused/unreadable"], Some("cut")),
                event("1:5", Some("raw:c"), Some("A"), &["*"], &["refused/*"], Some("odd")),
            ],
        }))
        .unwrap()
    }

    fn happened(target: &str, did: Option<&str>, rse: Option<&str>, outcome: &str, line: u64) -> Happened {
        Happened {
            target: target.into(),
            did: did.map(Into::into),
            rse: rse.map(Into::into),
            outcome: outcome.into(),
            earlier: 0,
            detail: "why".into(),
            place: Place {
                stream: "/x/1".into(),
                partition: 0,
                offset: 0,
                line: Some(line),
            },
            body: None,
        }
    }

    fn all_right() -> Vec<Happened> {
        vec![
            happened("main", Some("raw:a"), Some("A"), "ingested", 1),
            happened("prep", Some("raw:a"), Some("A"), "ingested", 1),
            happened("main", Some("raw:b"), Some("A"), "already_there_elsewhere", 2),
            happened("main", Some("raw:b"), Some("B"), "ingested", 3),
            happened("", None, None, "refused/unreadable", 4),
            happened("", Some("raw:c"), Some("A"), "refused/butler", 5),
        ]
    }

    #[test]
    fn all_as_expected_is_no_difference() {
        let (table, differences) = planted(&expected(), &all_right(), Path::new("/x"));
        assert_eq!(differences, [""; 0]);
        assert!(table.contains("two rses"), "{table}");
    }

    #[test]
    fn of_a_path_in_the_site_the_name_is_left() {
        let site = Path::new("/tmp/s");
        assert_eq!(
            shortened("there is no file at file:///tmp/s/rse/A/x.json\nmore", site),
            "there is no file at x.json"
        );
        assert_eq!(
            shortened("no route for /other/x.json", site),
            "no route for /other/x.json"
        );
        assert_eq!(shortened(&"é".repeat(200), site).chars().count(), 101);
    }

    #[test]
    fn each_thing_that_is_wrong_is_a_sentence() {
        let first_difference = |change: &dyn Fn(&mut Vec<Happened>)| {
            let mut rows = all_right();
            change(&mut rows);
            let (_, differences) = planted(&expected(), &rows, Path::new("/x"));
            assert_eq!(differences.len(), 1, "{differences:?}");
            differences.into_iter().next().unwrap_or_default()
        };
        assert!(first_difference(&|rows| rows[0].outcome = "waiting".into()).contains("`waiting` at `main`"));
        assert!(first_difference(&|rows| drop(rows.remove(1))).contains("raw:a"));
        assert!(first_difference(&|rows| rows[0].target = "other".into()).contains("`other`"));
        assert!(first_difference(&|rows| drop(rows.remove(4))).contains("not in the ledger"));
        assert!(first_difference(&|rows| rows.push(rows[0].clone())).contains("raw:a"));
        let stranger = happened("main", Some("raw:z"), Some("A"), "ingested", 9);
        assert!(first_difference(&|rows| rows.push(stranger.clone())).contains("no event that was made"));
    }
}
