//! What a hub has published of a file: found in its sent log, whether a `dbb` runs or not.

use crate::{cli::rows::shown, config::Config};
use dbb_events::{Did, decode};
use dbb_sinks::{
    ledger::Selector,
    topics::{self, Published, SentLogSettings, TopicsError},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write as _};

/// What was found.
#[derive(Debug)]
pub(super) struct FoundRecords {
    by_file: BTreeMap<Did, Vec<Published>>,
    /// What is kept of what is published, in one sentence; `None` where nothing is published.
    kept: Option<String>,
}

impl FoundRecords {
    /// Looks for the records of these files, and of what `selector` names.
    pub(super) fn find(config: &Config, selector: &Selector, dids: &[Did]) -> Self {
        let Some(hub) = &config.hub else {
            return Self {
                by_file: BTreeMap::new(),
                kept: None,
            };
        };
        let Some(log) = &hub.publish.sent_log else {
            return Self {
                by_file: BTreeMap::new(),
                kept: Some("what was published is not kept: hub.publish.sent_log is not set".into()),
            };
        };
        let keys: Vec<String> = dids.iter().map(ToString::to_string).collect();
        let found = topics::published(log, &|topic| may_have(config, dids, topic), &|key, body| {
            keys.iter().any(|known| known == key) || names(selector, key, body)
        });
        match found {
            Ok(found) => {
                let mut by_file: BTreeMap<Did, Vec<Published>> = BTreeMap::new();
                for record in found.records {
                    let did = did_of(&record);
                    by_file.extend(
                        did.clone()
                            .map(|did| (did, Vec::new()))
                            .filter(|(did, _)| !by_file.contains_key(did)),
                    );
                    if let Some(records) = did.and_then(|did| by_file.get_mut(&did)) {
                        records.push(record);
                    }
                }
                let since = found
                    .since
                    .map(|at| format!(", the oldest of {at}"))
                    .unwrap_or_default();
                Self {
                    by_file,
                    kept: Some(format!("published records are kept {}{since}", how_long(log))),
                }
            }
            Err(error) => Self {
                by_file: BTreeMap::new(),
                kept: Some(format!("what was published is not known: {}", with_cause(&error))),
            },
        }
    }

    /// The files that records were found of.
    pub(super) fn files(&self) -> impl Iterator<Item = &Did> {
        self.by_file.keys()
    }

    /// What is kept of what is published, where something is.
    pub(super) fn kept(&self) -> Option<&str> {
        self.kept.as_deref()
    }

    fn of(&self, did: &Did) -> &[Published] {
        self.by_file.get(did).map_or(&[], Vec::as_slice)
    }

    /// Puts them into the story in JSON, at a hub.
    pub(super) fn add_to(&self, did: &Did, story: &mut Value) {
        let Some(kept) = &self.kept else { return };
        let record = |record: &Published| {
            json!({
                "topic": record.lane.topic,
                "partition": record.lane.partition,
                "number": record.number,
                "at": record.at.map(|at| at.to_string()),
                "confirmed": record.is_confirmed,
                "event": record.event.to_string(),
                "event_type": event_type(record),
                "source": record.source,
            })
        };
        story["published"] = self.of(did).iter().map(record).collect();
        story["published_kept"] = json!(kept);
    }

    /// The same for people; empty but at a hub.
    pub(super) fn text(&self, did: &Did) -> String {
        let Some(kept) = &self.kept else {
            return String::new();
        };
        let records = self.of(did);
        if records.is_empty() {
            return format!("published: nothing that is known; {}\n", shown(kept));
        }
        let mut text = String::from("published:\n");
        for record in records {
            let at = record.at.map_or("(time not kept)".into(), |at| at.to_string());
            let sure = if record.is_confirmed {
                ""
            } else {
                "; whether the brokers confirmed it, the next record of the partition will tell"
            };
            // A string cannot fail to take more.
            let _ = writeln!(
                text,
                "  {at}  {} to {}[{}], number {}, read from {}{sure}",
                shown(&event_type(record)),
                shown(&record.lane.topic),
                record.lane.partition,
                record.number,
                shown(&record.source),
            );
        }
        text
    }
}

/// Whether the topic may have records of these files: with their scopes in its name, as far as names have any.
fn may_have(config: &Config, dids: &[Did], topic: &str) -> bool {
    let Some(hub) = &config.hub else { return false };
    let topics = &hub.topics;
    let is_by_scope = |template: &str| template.contains("{scope}");
    if dids.is_empty() || !is_by_scope(&topics.landed) || topic == topics.dead_letters {
        return true;
    }
    let is_exception = topics.exceptions.iter().any(|exception| {
        let name = exception.topic.replace("{rse}", &exception.rse);
        !is_by_scope(&name) && topic.starts_with(&name)
    });
    is_exception || dids.iter().any(|did| topic.contains(&*did.scope))
}

/// Whether this record is of what an operator has named by other than its DID.
fn names(selector: &Selector, key: &str, body: &[u8]) -> bool {
    let body = || std::str::from_utf8(body).unwrap_or_default();
    match selector {
        Selector::Did(did) => key == did.to_string(),
        Selector::Uuid(uuid) => body().contains(&uuid.to_string()),
        Selector::Url(url) => {
            let name = key.split_once(':').map_or("", |(_, name)| name);
            let is_name = !name.is_empty() && url.ends_with(&format!("/{name}"));
            is_name || body().contains(url)
        }
    }
}

/// The file of a record; what could not be read has one only if that much could.
fn did_of(record: &Published) -> Option<Did> {
    let (scope, name) = record.key.split_once(':')?;
    Some(Did::new(scope, name))
}

fn event_type(record: &Published) -> String {
    decode(&record.body).map_or("a record that cannot be read".into(), |event| {
        event.event_type.as_str().to_owned()
    })
}

fn how_long(log: &SentLogSettings) -> String {
    format!(
        "for {} hours, at most {:.1} GB of them",
        log.retention_hours,
        log.max_bytes as f64 / 1e9
    )
}

fn with_cause(error: &TopicsError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
