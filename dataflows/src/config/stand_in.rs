//! Settings of crates above which this one stands, until they have them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kafka.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSettings {
    /// Brokers.
    pub brokers: Vec<String>,
    /// Group.
    pub group_id: String,
    /// Client.
    pub client_id: Option<String>,
    /// Topics.
    pub topics: Vec<String>,
}
