//! The views of a running site: which are kept, how often they are published, what they are told beside events.

use crate::views::{self, Name};
use dbb_operators::views::placement::Policy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The length of an epoch in milliseconds: nothing is published more often.
pub const EPOCH_MS: u64 = 10;

/// Live views of replicas, transfers and the stream itself, kept in memory beside the registering of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Views {
    /// The views that are kept, by name, or `[all]`; without it none, and nothing is spent on them. With views the
    /// source is read from the newest checkpoint on at every start, without one from its oldest record: what has an outcome
    /// goes to the views alone.
    pub keep: Vec<String>,
    /// How often views become visible, in milliseconds, a multiple of 10: all of them together, as of one epoch.
    pub publish_ms: u64,
    /// How long a deleted replica is remembered, in seconds of the times of events. A change that is older than
    /// this, of a replica that is not known, comes too late: it becomes a dead letter. In `dataset_progress` a file
    /// that landed longer ago is counted and no longer known by its name.
    pub forget_after_seconds: u64,
    /// Two changes of a replica that are closer than this, in milliseconds, and say different states, are counted
    /// as conflicts in `stream_health`: clocks cannot tell which was first.
    pub clock_skew_ms: u64,
    /// Where files are expected, for the view `placement`.
    pub policies: Vec<Policy>,
}

impl Default for Views {
    fn default() -> Self {
        Self {
            keep: Vec::new(),
            publish_ms: 50,
            forget_after_seconds: 7 * 24 * 3600,
            clock_skew_ms: 1000,
            policies: Vec::new(),
        }
    }
}

impl Views {
    /// The views that are kept.
    ///
    /// # Errors
    ///
    /// A name that no view has.
    pub fn names(&self) -> Result<BTreeSet<Name>, views::UnknownView> {
        if self.keep == ["all"] {
            return Ok(Name::ALL.into_iter().collect());
        }
        views::parse(self.keep.iter().map(String::as_str))
    }

    /// True when any is kept.
    pub fn are_kept(&self) -> bool {
        !self.keep.is_empty()
    }

    /// Epochs from one published epoch to the next.
    pub fn publish_every(&self) -> u64 {
        (self.publish_ms / EPOCH_MS).max(1)
    }
}
