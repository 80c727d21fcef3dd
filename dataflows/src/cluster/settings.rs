//! What several processes of a site are told of each other, beside the hosts file.

use dbb_serving::secret::SecretPlace;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Several processes as one: `dbb run CONFIG --hosts FILE --process K`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterSettings {
    /// Where the token is with which processes prove to each other that they belong together.
    pub token: Option<SecretPlace>,
    /// Where this process listens for the others, `address:port`, if that is not what the hosts file calls it.
    pub listen: Option<String>,
    /// How long a start waits until all processes have met, in seconds.
    #[schemars(range(min = 1))]
    pub connect_seconds: u64,
    /// A process that was not heard of for as many seconds is given up, and the cluster with it.
    #[schemars(range(min = 1))]
    pub patience_seconds: u64,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            token: None,
            listen: None,
            connect_seconds: 60,
            patience_seconds: 8,
        }
    }
}
