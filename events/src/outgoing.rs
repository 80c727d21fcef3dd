//! A record on its way from a hub to the topics of an RSE, and what is asked and said of it on the way.

use crate::{Again, Did, EventId, Micros, Outcome, Place, Refusal, Rse};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// The target of a hub's rows in the ledger, where a site's have the name of a repository.
pub const TOPICS: &str = "topics";

/// Which of an RSE's topics a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A file for a Butler has landed: the topic that sites register files from.
    Landed,
    /// A file is gone, or could not be removed.
    Deletion,
    /// A file has landed that is no Butler dataset.
    File,
    /// What no topic of an RSE is for, or cannot be read.
    DeadLetter,
}

impl Class {
    /// All classes.
    pub const ALL: [Class; 4] = [Class::Landed, Class::Deletion, Class::File, Class::DeadLetter];

    /// The word in metrics and counts.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Landed => "landed",
            Class::Deletion => "deletion",
            Class::File => "file",
            Class::DeadLetter => "dead_letter",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An event that somebody at an RSE can act on, or should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// The identity of the event; the record's id in its topic.
    pub event: EventId,
    /// Where it was read.
    pub place: Place,
    /// The event type, in lower case.
    pub event_type: Arc<str>,
    /// The file; empty where the record could not be read.
    pub did: Did,
    /// Where it landed, or is gone from; empty where the record could not be read.
    pub rse: Rse,
    /// The replica's URL there, where the event tells.
    pub url: Option<Arc<str>>,
    /// The URL it was copied from, where the event tells.
    pub source_url: Option<Arc<str>>,
    /// The Rucio dataset of the rule that it was copied for, `scope:name`, where the event tells.
    pub dataset: Option<Arc<str>>,
    /// Which topic. Of a file that landed it is [`Class::Landed`] until its labels are known.
    pub class: Class,
    /// The event has its labels already: nothing is looked up.
    pub labelled: bool,
    /// The topic by its name.
    pub topic: Arc<str>,
    /// The envelope's time.
    pub created_at: Micros,
    /// When the file landed, where the event tells.
    pub landed_at: Option<Micros>,
    /// When the record was appended to the source, where that tells.
    pub appended_at: Option<Micros>,
    /// When `dbb` read it.
    pub read_at: Micros,
    /// Set when the ledger sends it again.
    pub again: Option<Again>,
    /// What is published: JSON, with labels where they were added.
    pub body: Bytes,
    /// The event as it came.
    pub source: Bytes,
}

/// What a look-up of labels is told of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ask {
    /// The file.
    pub did: Did,
    /// Where it landed.
    pub rse: Rse,
    /// Its URL there.
    pub url: Option<Arc<str>>,
    /// The URL it was copied from, beside which its sidecar document may be.
    pub source_url: Option<Arc<str>>,
}

/// Labels of a file by name, `rubin_butler` among them where it is for a Butler. Values are as Rucio, or the sidecar
/// document, has them; `rubin_sidecar` is always JSON text in a string.
pub type Labels = BTreeMap<Arc<str>, serde_json::Value>;

/// The answer to an [`Ask`].
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// What is known of the file; without `rubin_butler` it is no Butler dataset.
    Labels(Arc<Labels>),
    /// Nothing is known yet: an [`Outcome::Waiting`] with what it waits for.
    Later(Outcome),
    /// Nothing will ever be known.
    Refused(Refusal),
}

/// What became of an [`Outgoing`] that was not simply published, or that the ledger had sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The record.
    pub outgoing: Outgoing,
    /// How it ended.
    pub outcome: Outcome,
    /// When.
    pub at: Micros,
}
