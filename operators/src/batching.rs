//! How requests are gathered into one call.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How datasets are gathered into one Butler call: by count, bytes or time, whichever is first.
///
/// A call costs 55 to 80 ms and each dataset in it about 1 ms, so that 500 to 1000 make the most of
/// it; a larger batch only makes a failure dearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batching {
    /// Most datasets in one call, 1 to 10 000.
    pub max_datasets: usize,
    /// Most bytes of events in one call; a call has at least one event, whatever its size.
    pub max_bytes: usize,
    /// Longest a dataset waits for its batch to fill, in milliseconds, while the repository is free.
    pub max_wait_ms: u64,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            max_datasets: 500,
            max_bytes: 16 << 20,
            max_wait_ms: 500,
        }
    }
}
