//! Settings of the outbox source.

use crate::database::Database;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Rucio's own table of messages in PostgreSQL, for sites without a message broker: the rows of one service, which are
/// removed when their events have a durable outcome, as Hermes removes what it has sent.
///
/// Rucio writes a row for each service in `services_list` of the section `[hermes]` of its configuration, and drops names
/// that its Hermes does not know, in whatever spelling: 38.5.5 knows INFLUX, ELASTIC, EMAIL and ACTIVEMQ, 41.5.1 SYSLOG too, a
/// patched one others. Hermes serves those in lower case. So a spelling such as `Influx`, of one that nobody uses, is
/// nobody's but ours: `services_list = kafka,elastic,Influx`. Set `query_by_service = True` there too: otherwise Hermes looks
/// at the oldest rows of all services, and stops at ours while `dbb` is down. The role needs `SELECT` and `DELETE` on `messages`.
/// The connection must keep its session: connect directly, not through a pooler in transaction mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutboxSettings {
    /// The database: `postgresql://dbb@rucio-db.example.org/rucio`. TLS unless it is this machine, or the URL says
    /// `sslmode=disable`.
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
    /// The service whose rows are read, exactly as Rucio's `services_list` spells it. No other program may read them.
    pub service: String,
    /// How often new rows are looked for, in milliseconds.
    #[serde(default = "poll_ms")]
    pub poll_ms: u64,
    /// Most rows that are read ahead of their removal, 1 to 100 000.
    #[serde(default = "prefetch")]
    pub prefetch: u32,
}

fn public_schema() -> String {
    "public".into()
}

fn poll_ms() -> u64 {
    200
}

fn prefetch() -> u32 {
    5000
}

impl OutboxSettings {
    /// The settings for `url` and a service, the rest by default.
    pub fn of(url: impl Into<String>, service: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password_file: None,
            ca_file: None,
            schema: public_schema(),
            service: service.into(),
            poll_ms: poll_ms(),
            prefetch: prefetch(),
        }
    }

    /// What cannot work, each with its key within the section.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if !["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| self.url.starts_with(scheme))
        {
            found.push(("url", "does not start with `postgresql://`".into()));
        }
        for (key, text) in [("schema", &self.schema), ("service", &self.service)] {
            if text.is_empty() {
                found.push((key, "is empty".into()));
            }
        }
        if self.poll_ms == 0 {
            found.push(("poll_ms", "must be 1 or more, not 0".into()));
        }
        if !(1..=100_000).contains(&self.prefetch) {
            found.push(("prefetch", format!("must be 1 to 100000, not {}", self.prefetch)));
        }
        found
    }

    /// The stream of its places: without user and password.
    pub fn stream(&self) -> String {
        let place = self.database().place().unwrap_or_default();
        format!("outbox:{place}/{}", self.service)
    }

    pub(super) fn database(&self) -> Database<'_> {
        Database {
            section: "source.outbox",
            what: "Rucio's database",
            url: &self.url,
            password_file: self.password_file.as_deref(),
            ca_file: self.ca_file.as_deref(),
        }
    }
}
