//! The lines between `dbb` and its worker: one JSON object each.
//!
//! ```text
//!   open   --> hello            ingest --> an answer for each item, or fatal
//!   forget --> likewise         ping   --> pong, after asking the database
//!   check  --> check            scan   --> a page of what is stored
//!   exists --> what is known of some UUIDs
//! ```

use super::settings::{Allow, Removal, Transfer, Verify};
use dbb_events::{Kind, Request};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// The version of these lines.
pub(super) const PROTOCOL: u32 = 1;

/// A line to the worker.
#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(super) enum Ask<'a> {
    /// The first line.
    Open {
        butler: &'a str,
        transfer: &'a Transfer,
        removal: Removal,
        verify: &'a Verify,
        allow: &'a Allow,
        memory_mib: Option<u32>,
    },
    /// Register these files.
    Ingest { id: u64, items: Vec<Item<'a>> },
    /// Be without the datasets of these files, which are gone.
    Forget { id: u64, items: Vec<Gone> },
    /// Does the database answer?
    Ping { id: u64 },
    /// The next page of all that is stored, or the first.
    Scan { id: u64, begin: bool },
    /// The datasets in these zips, by their own indexes.
    Members { id: u64, uris: &'a [String] },
    /// Do the database and the storage answer, and what are they?
    Check { id: u64 },
}

/// One file to register.
#[derive(Debug, Serialize)]
pub(super) struct Item<'a> {
    /// Its number in the request.
    pub(super) k: usize,
    pub(super) kind: &'static str,
    pub(super) uri: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) sidecar: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) adler32: Option<&'a str>,
}

/// One file that is gone.
#[derive(Debug, Serialize)]
pub(super) struct Gone {
    /// Its number in the request.
    pub(super) k: usize,
    /// What was registered from it, as far as that is known.
    pub(super) uuids: Vec<Uuid>,
    /// Where it was, in one spelling or more.
    pub(super) uris: Vec<Arc<str>>,
    /// True where it is known to have been registered.
    pub(super) registered: bool,
}

impl<'a> Item<'a> {
    pub(super) fn of(k: usize, kind: Kind, request: &'a Request) -> Self {
        Self {
            k,
            kind: kind.as_str(),
            uri: &request.uri,
            sidecar: &request.sidecar,
            bytes: request.bytes,
            adler32: request.adler32.as_deref(),
        }
    }
}

/// What the worker says of itself and its repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Hello {
    pub(super) proto: u32,
    #[serde(default)]
    pub(super) fatal: Option<Fatal>,
    #[serde(flatten)]
    pub(super) about: About,
}

/// The environment and the repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct About {
    pub(super) butler: String,
    pub(super) universe: i64,
    pub(super) universe_namespace: String,
    pub(super) roots: Vec<String>,
    pub(super) writeable: bool,
    pub(super) skip_existing: bool,
    pub(super) has_raw_ingest_task: bool,
    pub(super) collections: u64,
    pub(super) instruments: Vec<String>,
    pub(super) roots_exist: BTreeMap<String, bool>,
}

/// Why nothing can be said about any item.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Fatal {
    /// `db_down`, `config`, `error` or `protocol`.
    pub(super) class: String,
    pub(super) detail: String,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Reply {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) ms: f64,
    #[serde(default)]
    pub(super) fatal: Option<Fatal>,
    #[serde(default)]
    pub(super) items: Vec<Answer>,
    /// Writing calls of the Butler.
    #[serde(default)]
    pub(super) calls: u64,
    #[serde(default)]
    pub(super) new_dataset_types: Vec<String>,
    #[serde(default)]
    pub(super) new_runs: Vec<String>,
    /// Of a scan: datasets and their URIs.
    #[serde(default)]
    pub(super) rows: Vec<(Uuid, String)>,
    /// Of zips: the datasets in each.
    #[serde(default)]
    pub(super) members: Vec<Vec<Uuid>>,
    /// Of a scan: true with the last of them.
    #[serde(default)]
    pub(super) done: bool,
    #[serde(flatten)]
    pub(super) about: About,
}

/// The answer for one file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Answer {
    pub(super) k: usize,
    pub(super) class: Class,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) detail: String,
    /// `dimension:...`, `file:...` or `time`.
    #[serde(default)]
    pub(super) waits_for: String,
    /// Where it is, if that is elsewhere.
    #[serde(default)]
    pub(super) uri: String,
    #[serde(default)]
    pub(super) uuids: Vec<Uuid>,
    #[serde(default)]
    pub(super) verified: String,
    #[serde(default)]
    pub(super) provides: Vec<Arc<str>>,
}

/// How a file fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Class {
    Done,
    AlreadyThere,
    AlreadyThereElsewhere,
    Removed,
    NotThere,
    KeptElsewhere,
    RetryLater,
    Refused,
}
