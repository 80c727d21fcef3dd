//! The labels of the metrics: few values each, never a file's name.

use prometheus_client::encoding::EncodeLabelSet;
use std::sync::Arc;

/// The topic; `files` for all recorded files, which may be many.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Stream {
    /// Its name.
    pub stream: Arc<str>,
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

/// A file that was registered, by what was compared with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Compared {
    /// The repository.
    pub repository: Arc<str>,
    /// `size`, `checksum`, `unverified` or `not_asked`.
    pub verified: &'static str,
}

/// How events of an RSE end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ending {
    /// The repository.
    pub repository: Arc<str>,
    /// Where the file landed.
    pub rse: Arc<str>,
    /// What kind of file.
    pub kind: &'static str,
    /// The word of the ledger.
    pub outcome: &'static str,
}

/// Records of one class in a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Published {
    /// The topic.
    pub topic: Arc<str>,
    /// The class.
    pub class: &'static str,
}

/// A placement policy, and where it was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Policy {
    /// The RSE.
    pub rse: Arc<str>,
    /// The name of the policy.
    pub policy: Arc<str>,
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Why {
    /// The word.
    pub reason: Arc<str>,
}

/// A Butler repository, by its name in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Repository {
    /// Its name.
    pub repository: Arc<str>,
}

/// What is waited for: `dimension`, `file`, `repository`, `labels`, `embargo` or `time`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WaitsFor {
    /// The class, without its key.
    pub dependency: &'static str,
}

/// A part of an event's way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Leg {
    /// From where to where.
    pub stage: &'static str,
}

/// This build.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Build {
    /// The version of `dbb`.
    pub version: &'static str,
}

/// By what way somebody asks: `sql` or `http`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Asker {
    /// The way.
    pub by: &'static str,
}

/// How a question ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ended {
    /// By what way it was asked.
    pub by: &'static str,
    /// How it ended.
    pub outcome: &'static str,
}

/// Gaps of a lane that stand alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct GapsOf {
    /// The partition at the hub, `TOPIC/PARTITION`.
    pub lane: Arc<str>,
    /// How they stand.
    pub state: &'static str,
}

/// What happened to records of gaps.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Happened {
    /// The word.
    pub what: &'static str,
}

/// What the centre was told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Told {
    /// The word of the ledger.
    pub outcome: Arc<str>,
}

/// A door of this process: `sql`, `http`, `peers` or `cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Door {
    /// Its name.
    pub door: &'static str,
}

/// Connections that are refused alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Refusal {
    /// The door.
    pub door: &'static str,
    /// Why.
    pub reason: &'static str,
}
