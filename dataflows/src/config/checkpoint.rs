//! Where checkpoints of the views are kept, and how often they are made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Checkpoints: what views hold, written every so often, so that a start goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoint {
    /// A folder (`/var/lib/dbb/checkpoints`, also `file:///...`) or `s3://bucket/prefix`; without it there are none,
    /// and views are made anew at every start, from the oldest record there is. It is for one `dbb` alone, and all
    /// processes of a cluster must reach it.
    /// Credentials for S3 come from the usual variables, `AWS_ACCESS_KEY_ID` and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// From one checkpoint to the next, in seconds, 1 to 3600: what a start has to read again.
    pub every_seconds: u64,
    /// Checkpoints that are kept, 2 to 1000: if the newest turns out damaged, the one before is used.
    pub keep: usize,
    /// How long a checkpoint that cannot be written is tried again while work goes on, in seconds. After that the
    /// program ends. What waits to be written is held in memory.
    pub give_up_seconds: u64,
    /// Goes on from checkpoints of another pipeline: other sources, or another ledger. Views then hold what both told.
    /// Only for the one start at which that is wanted; without it such checkpoints are refused.
    pub adopt: bool,
    /// Where S3 is, if not at AWS: `https://s3.example.org`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region of the bucket; that of `AWS_REGION` or `AWS_DEFAULT_REGION` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Allows an `endpoint` without encryption.
    pub allow_http: bool,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self {
            url: None,
            every_seconds: 30,
            keep: 3,
            give_up_seconds: 600,
            adopt: false,
            endpoint: None,
            region: None,
            allow_http: false,
        }
    }
}

impl Checkpoint {
    /// Epochs from one checkpoint to the next.
    pub fn every_epochs(&self) -> u64 {
        (self.every_seconds.saturating_mul(1000) / super::views::EPOCH_MS).max(1)
    }
}
