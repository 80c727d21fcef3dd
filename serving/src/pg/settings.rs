//! How SQL is served, as configured.

use crate::{secret::SecretPlace, sql::Limits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// SQL over the PostgreSQL protocol. Off loopback it needs `tls` and `users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SqlSettings {
    /// Where to listen, `address:port`; nowhere by default.
    pub listen: Option<String>,
    /// The certificate that the server shows.
    pub tls: Option<TlsFiles>,
    /// Who may ask, and where their passwords are. On loopback, anyone may when there are none.
    pub users: BTreeMap<String, SecretPlace>,
    /// Most connections at once, 1 to 10 000; one more is told so (SQLSTATE 53300).
    #[schemars(range(min = 1, max = 10_000))]
    pub max_connections: u32,
    /// Most bytes of one message of a client that has logged in: of a statement with its values. 10 000 to 67 108 864;
    /// one more ends the connection (SQLSTATE 08P01). Before the login it is 10 000.
    #[schemars(range(min = 10_000, max = 67_108_864))]
    pub max_message_bytes: u32,
    /// Longest a statement may take, its rows included, in milliseconds. A client may ask for less, by
    /// `set statement_timeout`.
    #[schemars(range(min = 1))]
    pub statement_timeout_ms: u64,
    /// Longest a connection may be silent, in milliseconds.
    #[schemars(range(min = 1))]
    pub idle_timeout_ms: u64,
    /// Most rows of one answer.
    #[schemars(range(min = 1))]
    pub max_rows: u64,
    /// Most memory of one statement, in MiB: what it sorts, groups and joins.
    #[schemars(range(min = 1))]
    pub statement_memory_mib: u32,
    /// Most memory of all statements together, in MiB.
    #[schemars(range(min = 1))]
    pub memory_mib: u32,
    /// Statements that are worked on at once, 1 to 1000, each by a thread of its own and at a lower priority than the
    /// dataflow; further ones wait for their turn. Few save processors, and let few long statements keep short ones waiting.
    #[schemars(range(min = 1, max = 1000))]
    pub threads: u16,
    /// A statement that takes longer, its rows included, is in the log, in milliseconds; none, when it is 0.
    pub log_slower_than_ms: u64,
}

impl Default for SqlSettings {
    fn default() -> Self {
        Self {
            listen: None,
            tls: None,
            users: BTreeMap::new(),
            max_connections: 50,
            max_message_bytes: 2 << 20,
            statement_timeout_ms: 30_000,
            idle_timeout_ms: 3_600_000,
            max_rows: 10_000_000,
            statement_memory_mib: 256,
            memory_mib: 512,
            threads: 64,
            log_slower_than_ms: 5_000,
        }
    }
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The file of the certificate, and of those that vouch for it.
    pub certificate_file: PathBuf,
    /// The file of the key.
    pub key_file: PathBuf,
}

impl SqlSettings {
    pub(super) fn limits(&self) -> Limits {
        let bytes = |mib: u32| usize::try_from(u64::from(mib) << 20).unwrap_or(usize::MAX);
        Limits {
            time: Duration::from_millis(self.statement_timeout_ms).min(Limits::NONE.time),
            rows: self.max_rows,
            memory_bytes: bytes(self.statement_memory_mib),
            all_memory_bytes: bytes(self.memory_mib),
            threads: usize::from(self.threads.max(1)),
            slow: (self.log_slower_than_ms > 0).then(|| Duration::from_millis(self.log_slower_than_ms)),
        }
    }
}
