//! How the ledger is configured.

use crate::ledger::LedgerError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where the ledger is and how long it remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerSettings {
    /// `sqlite:PATH`, a file on a local disk (its folder must exist), or `postgresql://USER@HOST/DATABASE`.
    /// With PostgreSQL on another host TLS is used and the host's certificate is checked, unless the
    /// URL says `sslmode=disable`.
    pub url: String,
    /// File with the password for PostgreSQL, so that it need not stand in the URL.
    pub password_file: Option<PathBuf>,
    /// File with the certificates (PEM) that PostgreSQL's certificate is checked against; the system's
    /// where none is named.
    pub ca_file: Option<PathBuf>,
    /// Days after which events that ended well are forgotten with their history; what waits or was
    /// refused is kept, and so is the present state of each file. 0 keeps everything: a row takes some hundred bytes.
    pub retention_days: u32,
    /// Most bytes the ledger may hold; when they are reached `dbb` stops reading and says so.
    pub max_bytes: Option<u64>,
    /// Most bytes kept of the body of one dead letter; the head is kept of longer ones.
    pub max_body_bytes: usize,
    /// Most events that come back in one go, and most in flight at once.
    pub due_batch: usize,
    /// Milliseconds between two looks at what is due.
    pub due_poll_ms: u64,
    /// Most rows that are forgotten in one transaction, which is also how long writing may be held up.
    pub prune_batch: usize,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self {
            url: "sqlite:dbb-ledger.sqlite".into(),
            password_file: None,
            ca_file: None,
            retention_days: 0,
            max_bytes: None,
            max_body_bytes: 1 << 20,
            due_batch: 1000,
            due_poll_ms: 200,
            prune_batch: 2000,
        }
    }
}

/// Which database the URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    Sqlite(PathBuf),
    Postgres(String),
}

impl LedgerSettings {
    pub(crate) fn location(&self) -> Result<Location, LedgerError> {
        if let Some(path) = self.url.strip_prefix("sqlite:") {
            // `sqlite:///srv/x` is the same file as `sqlite:/srv/x`.
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(LedgerError::Configuration(
                    "ledger.url `sqlite:` names no file".into(),
                ));
            }
            return Ok(Location::Sqlite(PathBuf::from(path)));
        }
        if self.url.starts_with("postgresql://") || self.url.starts_with("postgres://") {
            return Ok(Location::Postgres(self.url.clone()));
        }
        Err(LedgerError::Configuration(
            "ledger.url starts with neither `sqlite:` nor `postgresql://`".into(),
        ))
    }

    /// The SQLite file; `None` for PostgreSQL.
    pub fn sqlite_path(&self) -> Option<PathBuf> {
        match self.location() {
            Ok(Location::Sqlite(path)) => Some(path),
            _ => None,
        }
    }

    /// What is doubtful but not wrong: one sentence each, for `check` and for the log at start.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(path) = self.sqlite_path() {
            let folder = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            if let Some(kind) = super::network_fs::network_fs(folder) {
                warnings.push(format!(
                    "the ledger `{}` is on {kind}, where SQLite's locks cannot be relied on: use a local disk or PostgreSQL",
                    path.display()
                ));
            }
        }
        warnings
    }

    /// The URL without its password, for messages.
    pub fn shown_url(&self) -> String {
        match self.url.split_once("://") {
            Some((scheme, rest)) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let authority = &rest[..end];
                match authority.rsplit_once('@') {
                    Some((user, host)) => {
                        let user = user.split_once(':').map_or(user, |(name, _)| name);
                        format!("{scheme}://{user}@{host}{}", shown_query(&rest[end..]))
                    }
                    None => format!("{scheme}://{authority}{}", shown_query(&rest[end..])),
                }
            }
            None => self.url.clone(),
        }
    }
}

/// The path of a URL; the query, which may hold a password, is left out.
fn shown_query(rest: &str) -> &str {
    rest.split_once('?').map_or(rest, |(path, _)| path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(url: &str) -> LedgerSettings {
        LedgerSettings {
            url: url.into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_password_never_shows() {
        for url in [
            "postgresql://me:secret@db/x?sslmode=require",
            "postgresql://me@db/x?password=secret",
        ] {
            assert_eq!(settings(url).shown_url(), "postgresql://me@db/x");
        }
    }

    #[test]
    fn a_sqlite_url_may_have_slashes() {
        for url in ["sqlite:/srv/l.db", "sqlite:///srv/l.db"] {
            assert_eq!(settings(url).sqlite_path().unwrap(), PathBuf::from("/srv/l.db"));
        }
        assert_eq!(
            settings("sqlite:l.db").sqlite_path().unwrap(),
            PathBuf::from("l.db")
        );
    }

    #[test]
    fn other_databases_are_refused_by_name() {
        let error = settings("mysql://x").location().unwrap_err();
        assert!(error.to_string().contains("postgresql://"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let read: Result<LedgerSettings, _> = serde_json::from_str(r#"{"url": "sqlite:x", "retention": 3}"#);
        assert!(read.unwrap_err().to_string().contains("retention"));
    }
}
