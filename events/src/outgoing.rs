//! A record on its way from a hub to the topics of an RSE, and what is asked and said of it on the way.

use crate::{Again, Did, EventId, Micros, Outcome, Place, Refusal, Rse};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, sync::Arc};

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
}

impl Class {
    /// All classes.
    pub const ALL: [Class; 3] = [Class::Landed, Class::Deletion, Class::File];

    /// The word in metrics and counts.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Landed => "landed",
            Class::Deletion => "deletion",
            Class::File => "file",
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
    /// The file.
    pub did: Did,
    /// Where it landed, or is gone from.
    pub rse: Rse,
    /// The replica's URL there, where the event tells.
    pub url: Option<Arc<str>>,
    /// The URL it was copied from, where the event tells.
    pub source_url: Option<Arc<str>>,
    /// Which topic.
    pub class: Class,
    /// The topic by its name; empty until it is routed.
    pub topic: Arc<str>,
    /// The envelope's time.
    pub created_at: Micros,
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
