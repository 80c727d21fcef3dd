//! Settings of crates above which this one stands, until they have them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

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

/// Files.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// Paths.
    pub paths: Vec<PathBuf>,
    /// Follow.
    pub follow: bool,
}

/// Ledger.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerSettings {
    /// Where.
    pub url: String,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self {
            url: "sqlite:./dbb-ledger.sqlite".into(),
        }
    }
}

/// Butler.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ButlerSettings {
    /// Where.
    pub butler: String,
    /// Transfer.
    pub transfer: Transfer,
}

/// Transfer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Transfer {
    /// Raw.
    pub raw_file: String,
    /// Product.
    pub data_product: String,
    /// Zip.
    pub zip_file: String,
}

impl Default for Transfer {
    fn default() -> Self {
        Self {
            raw_file: "direct".into(),
            data_product: "direct".into(),
            zip_file: "direct".into(),
        }
    }
}
