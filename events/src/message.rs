//! What hubs and sites say to each other: the headers of published records, and messages of their own.
//!
//! ```text
//!   hub  --{rse}-{scope}, -deletions, -files: events with headers-->   site
//!        --{rse}-heartbeats: the latest sequence number--------------->
//!        <-{rse}-requests: send these again----------------------------
//!        <-{rse}-outcomes: what became of each event-------------------
//! ```
//!
//! A message is an event like any other (`event_type`, `payload`, `created_at`), so that every tool for events
//! reads it. All topics are mirrored as they are.

use crate::{Micros, Rse};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// Headers of Kafka records that a hub publishes.
pub mod header {
    /// The record's id: the identity of its event, 32 hexadecimal digits. Equal for each time it is sent.
    pub const ID: &str = "dbb-id";
    /// Where the hub read the event: `STREAM[PARTITION]@OFFSET`.
    pub const SOURCE: &str = "dbb-source";
    /// The topic and partition it was published to, as [`super::Lane`] writes it.
    pub const LANE: &str = "dbb-lane";
    /// Its number there, in decimal: 1 for the first, and one more for each that follows.
    pub const SEQUENCE: &str = "dbb-sequence";
    /// `1` on a record that is sent again because a site asked for it; absent otherwise.
    pub const RESENT: &str = "dbb-resent";
}

/// A partition of a topic at the hub, within which records are numbered; written `TOPIC/PARTITION`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The topic at the hub, whatever a mirror calls it.
    pub topic: Arc<str>,
    /// Its partition there.
    pub partition: i32,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl FromStr for Lane {
    type Err = BadLane;

    fn from_str(text: &str) -> Result<Self, BadLane> {
        let bad = || BadLane(text.into());
        let (topic, partition) = text.rsplit_once('/').ok_or_else(bad)?;
        let partition = partition.parse().map_err(|_| bad())?;
        if topic.is_empty() || partition < 0 {
            return Err(bad());
        }
        Ok(Self {
            topic: topic.into(),
            partition,
        })
    }
}

impl Serialize for Lane {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lane {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is no [`Lane`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not `TOPIC/PARTITION`")]
pub struct BadLane(String);

/// What the headers of a record say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Marks {
    /// Where it was published.
    pub lane: Lane,
    /// Its number there.
    pub sequence: u64,
    /// True when it was asked for.
    pub resent: bool,
}

/// The payload of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event_type", content = "payload")]
pub enum Word {
    /// From a hub: the number of the last record of a lane; sent regularly, whether there is anything new or not.
    #[serde(rename = "dbb-heartbeat")]
    Heartbeat {
        /// Of which partition.
        lane: Lane,
        /// The last number; 0 before the first.
        sequence: u64,
    },
    /// From a hub: records that were asked for and are not kept any more.
    #[serde(rename = "dbb-unavailable")]
    Unavailable {
        /// Of which partition.
        lane: Lane,
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
        /// One sentence.
        detail: String,
    },
    /// From a site: records that did not arrive, to be sent again.
    #[serde(rename = "dbb-resend")]
    Resend {
        /// Who asks: a name from its configuration.
        site: Arc<str>,
        /// Of which partition.
        lane: Lane,
        /// The first that is missing.
        from: u64,
        /// The last of those that are missing.
        to: u64,
    },
    /// From a site: what became of an event at one of its repositories.
    #[serde(rename = "dbb-outcome")]
    Outcome(OutcomeWord),
}

/// What became of an event at one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OutcomeWord {
    /// The scope of the file.
    pub scope: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The RSE.
    pub rse: Rse,
    /// The repository, by the site's name for it.
    pub repository: Arc<str>,
    /// The type of the event: `transfer-done`, `deletion-done`.
    pub event: Arc<str>,
    /// The identity of the event, 32 hexadecimal digits.
    pub id: String,
    /// The event's own time: a newer one of the same file at the same repository replaces this.
    #[serde(with = "as_text")]
    pub version: Micros,
    /// The word of the ledger: `ingested`, `already_there`, `waiting`, `refused`, `removed` ...
    pub outcome: Arc<str>,
    /// The class of a refusal, or what is waited for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Arc<str>>,
    /// Datasets: one, many for a zip, none where nothing was registered.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub uuids: Vec<uuid::Uuid>,
}

/// A message, as it is in its topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What is said.
    #[serde(flatten)]
    pub word: Word,
    /// When it was said.
    #[serde(with = "as_text")]
    pub created_at: Micros,
}

impl Message {
    /// The message as the bytes of a record.
    pub fn encode(&self) -> Vec<u8> {
        // Text and numbers under fixed keys: there is nothing that JSON has no words for.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The message in `body`.
    ///
    /// # Errors
    ///
    /// It is none, with the place where reading it ended.
    pub fn decode(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(crate::unmarked(body))
    }
}

/// The message in `body`, or why it is none; `None` for anything else.
pub fn heard(body: &[u8]) -> Option<Result<Message, serde_json::Error>> {
    memchr::memmem::find(body, br#""dbb-"#)?;
    let message = Message::decode(body);
    let is_meant = message.is_ok() || crate::decode(body).is_ok_and(|event| event.event_type.is_message());
    is_meant.then_some(message)
}

/// Times as text, in any form an event has.
mod as_text {
    use crate::Micros;
    use serde::{Deserialize, Deserializer, Serializer, de};
    use std::borrow::Cow;

    pub(super) fn serialize<S: Serializer>(at: &Micros, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(at)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Micros, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Micros::parse(&text).ok_or_else(|| de::Error::custom(format_args!("`{text}` is no time")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn outcome() -> Message {
        Message {
            word: Word::Outcome(OutcomeWord {
                scope: "raw".into(),
                name: "a/b.fits".into(),
                rse: Rse::new("IN2P3_RAW_DISK"),
                repository: "main".into(),
                event: "transfer-done".into(),
                id: "0f".into(),
                version: Micros(1_693_569_601_000_005),
                outcome: "ingested".into(),
                reason: None,
                uuids: vec![uuid::Uuid::from_u128(7)],
            }),
            created_at: Micros(1_693_569_601_500_000),
        }
    }

    #[test]
    fn a_message_is_an_event_to_whoever_reads_events() {
        let body = outcome().encode();
        let event = crate::decode(&body).unwrap();
        assert_eq!(event.event_type.as_str(), "dbb-outcome");
        assert_eq!(event.created_at, Micros(1_693_569_601_500_000));
        assert_eq!(event.payload.name.as_deref(), Some("a/b.fits"));
    }

    #[test]
    fn what_was_said_is_what_is_heard() {
        let lane: Lane = "IN2P3_RAW_DISK-raw/2".parse().unwrap();
        for word in [
            outcome().word,
            Word::Heartbeat {
                lane: lane.clone(),
                sequence: 12,
            },
            Word::Resend {
                site: "frdf".into(),
                lane,
                from: 3,
                to: 9,
            },
        ] {
            let said = Message {
                word,
                created_at: Micros(1),
            };
            assert_eq!(Message::decode(&said.encode()).unwrap(), said);
        }
    }

    #[test]
    fn a_lane_that_is_none_is_named() {
        let error = "IN2P3_RAW_DISK-raw".parse::<Lane>().unwrap_err();
        assert_eq!(error.to_string(), "`IN2P3_RAW_DISK-raw` is not `TOPIC/PARTITION`");
    }
}
