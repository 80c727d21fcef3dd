//! Said: the rarer facts, which may carry text.

use super::{DatasetName, DidKey, OutcomeName, RepositoryName, RseName, ScopeName};
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
    /// What became of an event at a site.
    Outcome(SiteOutcome),
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

/// What a site says of an event at one of its repositories.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SiteOutcome {
    /// Which file, where.
    pub of: AtSite,
    /// The time of the event: a newer event of the same file replaces what is said of an older one.
    pub version: Micros,
    /// When it ended so, by the site's clock.
    pub at: Micros,
    /// How.
    pub outcome: OutcomeName,
    /// The class of a refusal, or what is waited for.
    pub reason: Option<Box<str>>,
}

/// A file, an RSE and a repository that registers files of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AtSite {
    /// The scope of the file.
    pub scope: ScopeName,
    /// Its name.
    pub name: Box<str>,
    /// The RSE.
    pub rse: RseName,
    /// The repository.
    pub repository: RepositoryName,
}

impl AtSite {
    /// The file.
    pub fn did(&self) -> DidKey {
        DidKey::new(self.scope.as_str(), &self.name)
    }
}
