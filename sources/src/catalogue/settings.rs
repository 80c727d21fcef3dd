//! What the catalogue source is told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Rucio's own table of replicas, where its database administrator grants a look: a snapshot of it at the start,
/// then every change, by PostgreSQL logical replication.
///
/// The role needs `REPLICATION`, `SELECT` on `replicas` and `rses`, and a publication made once:
/// `CREATE PUBLICATION dbb FOR TABLE replicas`; the server runs with `wal_level = logical`. Its replication slot is temporary: a
/// `dbb` that is down keeps nothing on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogueSettings {
    /// The database: `postgresql://reader@rucio-db.example.org/rucio`. TLS unless it is this machine, or the
    /// URL says `sslmode=disable`.
    pub url: String,
    /// A file that holds the password; its last line end is left out.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Certificates to trust, in PEM; the system's if not given.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The schema in which Rucio's tables are.
    #[serde(default = "public_schema")]
    pub schema: String,
    /// The publication.
    #[serde(default = "publication")]
    pub publication: String,
    /// How often changes are asked for, in milliseconds.
    #[serde(default = "poll_ms")]
    pub poll_ms: u64,
}

fn public_schema() -> String {
    "public".into()
}

fn publication() -> String {
    "dbb".into()
}

fn poll_ms() -> u64 {
    50
}

impl CatalogueSettings {
    /// The settings for `url`, the rest by default.
    pub fn of(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password_file: None,
            ca_file: None,
            schema: public_schema(),
            publication: publication(),
            poll_ms: poll_ms(),
        }
    }
}
