//! How an event ends: the words of the ledger.

use crate::Micros;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// What became of one event at one target.
///
/// All but [`Outcome::Waiting`] are final; a refusal can be undone by an operator's retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Registered now.
    Ingested,
    /// Was registered before this call, at the same URI.
    AlreadyThere,
    /// Was registered before this call, at another URI, which stays.
    AlreadyThereElsewhere {
        /// The URI that the Butler has.
        uri: String,
    },
    /// Was registered from this replica, and is so no more.
    Removed,
    /// Nothing was registered from a replica that is gone.
    NotThere,
    /// Is registered from another replica than the one that is gone, and stays.
    KeptElsewhere {
        /// The URI that the Butler has.
        uri: String,
    },
    /// A newer event of the same file has been applied already.
    Superseded {
        /// The `created_at` of that newer event.
        by: Micros,
    },
    /// In its topic, as a hub's broker has confirmed.
    Published,
    /// May succeed later: the ledger sends it again when it is due.
    Waiting {
        /// What it waits for.
        dependency: Dependency,
        /// Not before this time, unless the dependency arrives.
        not_before: Micros,
        /// One sentence for the operator.
        detail: String,
        /// True when the attempt counts against the limit: a repository that is down costs none.
        counts: bool,
    },
    /// Will fail the same way every time: a dead letter.
    Refused(Refusal),
}

impl Outcome {
    /// True when the file is registered, from this replica or from another.
    pub fn is_registered(&self) -> bool {
        matches!(
            self,
            Outcome::Ingested | Outcome::AlreadyThere | Outcome::AlreadyThereElsewhere { .. }
        )
    }

    /// True when nothing is registered from a replica that is gone.
    pub fn is_gone(&self) -> bool {
        matches!(self, Outcome::Removed | Outcome::NotThere)
    }

    /// The word in the ledger, in metrics and in tables.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Ingested => "ingested",
            Outcome::AlreadyThere => "already_there",
            Outcome::AlreadyThereElsewhere { .. } => "already_there_elsewhere",
            Outcome::Removed => "removed",
            Outcome::NotThere => "not_there",
            Outcome::KeptElsewhere { .. } => "kept_elsewhere",
            Outcome::Superseded { .. } => "superseded",
            Outcome::Published => "published",
            Outcome::Waiting { .. } => "waiting",
            Outcome::Refused(_) => "refused",
        }
    }

    /// All the words, in the order of tables.
    pub const WORDS: [&'static str; 10] = [
        "ingested",
        "already_there",
        "already_there_elsewhere",
        "removed",
        "not_there",
        "kept_elsewhere",
        "superseded",
        "published",
        "waiting",
        "refused",
    ];
}

/// Why an event is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The class.
    pub reason: Reason,
    /// One sentence: which field or thing, and why.
    pub detail: String,
}

/// What a waiting event waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Dependency {
    /// A dimension record. The key is `element` and the required values in the order of the
    /// element's dimensions, `exposure/LSSTCam/2026040100001`; only the element's name, or nothing,
    /// where the failure did not tell which.
    Dimension(Arc<str>),
    /// A file beside it, by URI: the `{obs_id}_dimensions.yaml` of a zip, a file not yet visible.
    File(Arc<str>),
    /// The repository, which is down.
    Repository,
    /// The labels of the file: Rucio does not know them yet, or does not answer.
    Labels,
    /// An operator, who alone releases what landed while it was under embargo.
    Embargo,
    /// Whatever [`Dependency::Labels`] waits for; an operator has released it already.
    Released,
    /// Nothing but time: a passing fault.
    Time,
}

impl Dependency {
    /// The text the ledger stores and matches: `dimension:exposure/LSSTCam/2026040100001`.
    pub fn key(&self) -> String {
        match self {
            Dependency::Dimension(key) => format!("dimension:{key}"),
            Dependency::File(uri) => format!("file:{uri}"),
            Dependency::Repository => "repository".into(),
            Dependency::Labels => "labels".into(),
            Dependency::Embargo => "embargo".into(),
            Dependency::Released => "released".into(),
            Dependency::Time => "time".into(),
        }
    }
}

/// What was compared with the file before it was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verified {
    /// Nothing was asked for, or the event gave nothing to compare with.
    NotAsked,
    /// The size agrees.
    Size,
    /// The size and the checksum agree.
    Checksum,
    /// It was asked for, but the storage could not tell.
    Unverified,
}

impl Verified {
    /// The word in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Verified::NotAsked => "not_asked",
            Verified::Size => "size",
            Verified::Checksum => "checksum",
            Verified::Unverified => "unverified",
        }
    }
}

/// The classes of dead letters. The word is what `dead-letters list --by reason` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The bytes are not an event: not UTF-8, not JSON, cut short, too large.
    Unreadable,
    /// A field that is needed is missing or has the wrong type.
    BadField,
    /// `rubin_butler` is none of the known kinds.
    UnknownKind,
    /// The sidecar is missing, does not parse, or does not describe a dataset.
    BadSidecar,
    /// No route for this RSE and scope.
    Unmapped,
    /// The topic does not belong to this RSE and scope.
    WrongTopic,
    /// The replica's URL starts with none of the RSE's prefixes, or leaves them.
    UnknownPrefix,
    /// The file is not there.
    FileMissing,
    /// Its size is not the one Rucio believes.
    SizeMismatch,
    /// Its checksum is not the one Rucio believes.
    ChecksumMismatch,
    /// The dataset type or RUN is not on the allow-list.
    NotAllowed,
    /// The Butler has something else in its place.
    Conflict,
    /// What it waited for did not come within the configured age.
    WaitedTooLong,
    /// One UUID, or one (dataset type, RUN, data id), for two different files.
    Ambiguous,
    /// The Butler refused it for a reason that no time will mend.
    Butler,
    /// The Butler's environment cannot do this: a formatter cannot be imported, it is too old.
    Environment,
    /// It tells of a replica that is not known, and is older than what is remembered of deleted ones.
    TooLate,
    /// The file lies inside the Butler's datastore, and no way is known to remove its record alone.
    Owned,
    /// The record is longer than its topic takes.
    TooLarge,
    /// Its topic refuses it for good: this user may not write there.
    TopicRefused,
}

impl Reason {
    /// All classes.
    pub const ALL: [Reason; 20] = [
        Reason::Unreadable,
        Reason::BadField,
        Reason::UnknownKind,
        Reason::BadSidecar,
        Reason::Unmapped,
        Reason::WrongTopic,
        Reason::UnknownPrefix,
        Reason::FileMissing,
        Reason::SizeMismatch,
        Reason::ChecksumMismatch,
        Reason::NotAllowed,
        Reason::Conflict,
        Reason::WaitedTooLong,
        Reason::Ambiguous,
        Reason::Butler,
        Reason::Environment,
        Reason::TooLate,
        Reason::Owned,
        Reason::TooLarge,
        Reason::TopicRefused,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Unreadable => "unreadable",
            Reason::BadField => "bad_field",
            Reason::UnknownKind => "unknown_kind",
            Reason::BadSidecar => "bad_sidecar",
            Reason::Unmapped => "unmapped",
            Reason::WrongTopic => "wrong_topic",
            Reason::UnknownPrefix => "unknown_prefix",
            Reason::FileMissing => "file_missing",
            Reason::SizeMismatch => "size_mismatch",
            Reason::ChecksumMismatch => "checksum_mismatch",
            Reason::NotAllowed => "not_allowed",
            Reason::Conflict => "conflict",
            Reason::WaitedTooLong => "waited_too_long",
            Reason::Ambiguous => "ambiguous",
            Reason::Butler => "butler",
            Reason::Environment => "environment",
            Reason::TooLate => "too_late",
            Reason::Owned => "owned",
            Reason::TooLarge => "too_large",
            Reason::TopicRefused => "topic_refused",
        }
    }

    /// The class called `word`; `None` if there is none.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
