//! Said: the rarer facts, which may carry text.

use super::{DatasetName, DidKey, RseName, ScopeName};
use dbb_events::{EventId, Micros};
use serde::{Deserialize, Serialize};

/// A fact that is neither a change of a replica nor a step of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Said {
    /// Of a rule.
    Rule(RuleSaid),
    /// The last copy of a file is bad.
    Lost(Lost),
    /// What a Rucio dataset contained, all of it, at one moment.
    Contents(Contents),
}

/// What an event says of a rule. Rules that notify nobody are never spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleSaid {
    /// The rule's id.
    pub rule: u128,
    /// The DID it is for: a Rucio dataset or container, or a file.
    pub did: DatasetName,
    /// When: `created_at` of the event.
    pub at: Micros,
    /// What.
    pub word: RuleWord,
    /// The identity of the event.
    pub event: EventId,
}

/// What can be said of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RuleWord {
    /// All its locks are OK.
    Ok,
    /// So much of it is done, in percent.
    Progress(u8),
    /// All its locks on one dataset at this RSE are OK.
    DatasetLockOk(RseName),
}

/// `lost`: one for each parent dataset, none for a file without one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lost {
    /// The file.
    pub did: DidKey,
    /// Its scope.
    pub scope: ScopeName,
    /// Its name.
    pub name: Box<str>,
    /// The Rucio dataset it was in.
    pub dataset: Option<DatasetName>,
    /// When: `created_at` of the event.
    pub at: Micros,
    /// The identity of the event.
    pub event: EventId,
}

/// What a Rucio dataset contained.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Contents {
    /// The Rucio dataset.
    pub dataset: DatasetName,
    /// When it was listed.
    pub at: Micros,
    /// Its files, each with its size in bytes where known.
    pub members: Vec<(DidKey, Option<u64>)>,
}
