//! The hub: what the site that runs Rucio publishes of its events, for each RSE.

use dbb_operators::hub::{Embargo, TopicSettings};
use dbb_sinks::lookup::LookUpSettings;
use dbb_sinks::topics::TopicsSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The events of a whole Rucio, with the labels that sites need, published in topics of each RSE. In place of `routes`
/// and `repositories`: where a hub is, files are not registered. Where files are expected is told in `views.policies`,
/// with which a hub compares what lands: what should not be there is published too, and counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hub {
    /// Which topic each event goes to.
    #[serde(default)]
    pub topics: TopicSettings,
    /// Where it is published, and what is kept of it to be sent again.
    pub publish: TopicsSettings,
    /// Where labels are looked up that an event does not bring; without it nothing is looked up, and a file without
    /// labels in its event is no Butler dataset.
    #[serde(default)]
    pub lookup: Option<LookUpSettings>,
    /// How files are gathered into one look-up.
    #[serde(default)]
    pub asking: Asking,
    /// Files that must not be at every RSE yet.
    #[serde(default)]
    pub embargoes: Vec<Embargo>,
}

/// How files are gathered into one look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Asking {
    /// Most files in one, 1 to 10 000.
    pub max_files: usize,
    /// Longest a file waits for others, in milliseconds, while no look-up is under way.
    pub max_wait_ms: u64,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            max_files: 500,
            max_wait_ms: 20,
        }
    }
}
