//! Lists of what Rucio has: replicas of files, files of a Rucio dataset, DIDs of a scope; a row at a time.
//!
//! ```text
//!   POST /replicas/list              files, or Rucio datasets --> each file, with the state and URLs at each RSE
//!   GET /dids/SCOPE/NAME/files       a Rucio dataset          --> each file of it
//!   GET /dids/SCOPE/dids/search      a scope                  --> each name of one type
//! ```
//!
//! In:    what to list.
//! Out:   its rows, given away as they come; how many, and what could not be read.
//! State: none, whatever the length. A list that breaks off is an error, and what it gave until then is true.

use super::{Rucio, client::Question};
use crate::lookup::LookUpError;
use dbb_events::{Did, ReplicaState, Rse};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use std::collections::BTreeMap;

/// All but what a URL never changes: the slashes of a name too, as Rucio's own client has it.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// Most DIDs that Rucio takes in one request.
const MOST_DIDS: usize = 1000;

/// A file and all its replicas that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedReplicas {
    /// The file.
    pub did: Did,
    /// Its size, where Rucio has it.
    pub bytes: Option<u64>,
    /// Its Adler-32, where Rucio has it.
    pub adler32: Option<String>,
    /// Where it is; RSEs without a replica are absent.
    pub at: BTreeMap<Rse, ListedReplica>,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedReplica {
    /// Its state.
    pub state: ReplicaState,
    /// Its URLs, one for each protocol.
    pub urls: Vec<String>,
}

/// A file of a Rucio dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// The file.
    pub did: Did,
    /// Its size, where Rucio has it.
    pub bytes: Option<u64>,
    /// Its Adler-32, where Rucio has it.
    pub adler32: Option<String>,
}

/// How a list went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Rows given away.
    pub rows: u64,
    /// Rows that cannot be read.
    pub bad: u64,
    /// The first of them, and why.
    pub first_bad: Option<String>,
}

/// What may be listed of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DidType {
    /// Files.
    File,
    /// Rucio datasets.
    Dataset,
    /// Containers.
    Container,
}

#[derive(Deserialize)]
struct ReplicasRow {
    scope: String,
    name: String,
    bytes: Option<u64>,
    adler32: Option<String>,
    #[serde(default)]
    rses: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    states: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct FileRow {
    scope: String,
    name: String,
    bytes: Option<u64>,
    adler32: Option<String>,
}

impl Rucio {
    /// Replicas in whatever state of `dids`, which are files, Rucio datasets or containers; only those at the RSEs of
    /// `rses`, an RSE expression, if that is given. A DID that Rucio does not know has no row.
    ///
    /// # Errors
    /// Rucio cannot be asked, or its answer breaks off.
    pub fn replicas(
        &self,
        dids: &[Did],
        rses: Option<&str>,
        each: &mut dyn FnMut(ListedReplicas),
    ) -> Result<Listing, LookUpError> {
        let mut listing = Listing::default();
        for dids in dids.chunks(MOST_DIDS) {
            let names: Vec<_> = dids
                .iter()
                .map(|did| json!({"scope": &*did.scope, "name": &*did.name}))
                .collect();
            let mut body = json!({
                "dids": names, "all_states": true, "ignore_availability": true, "resolve_archives": false,
            });
            if let Some(rses) = rses {
                body["rse_expression"] = rses.into();
            }
            let question = Question {
                method: Method::POST,
                path: "/replicas/list".into(),
                body: Some(body.to_string().into_bytes()),
                bounded: false,
            };
            self.list(&question, &mut listing, |row: ReplicasRow| {
                each(row.into_listed()?);
                Ok(())
            })?;
        }
        Ok(listing)
    }

    /// The files of `dataset`, a Rucio dataset, or of all those in a container.
    ///
    /// # Errors
    /// Rucio does not know it (status 404), cannot be asked, or its answer breaks off.
    pub fn files(&self, dataset: &Did, each: &mut dyn FnMut(ListedFile)) -> Result<Listing, LookUpError> {
        let (scope, name) = (encode(&dataset.scope), encode(&dataset.name));
        let question = Question {
            method: Method::GET,
            path: format!("/dids/{scope}/{name}/files"),
            body: None,
            bounded: false,
        };
        let mut listing = Listing::default();
        self.list(&question, &mut listing, |row: FileRow| {
            each(ListedFile {
                did: Did::new(row.scope, row.name),
                bytes: row.bytes,
                adler32: row.adler32,
            });
            Ok(())
        })?;
        Ok(listing)
    }

    /// The DIDs of one type in `scope` whose names are like `pattern`, in which `*` stands for anything.
    ///
    /// # Errors
    /// Rucio cannot be asked, or its answer breaks off.
    pub fn dids(
        &self,
        scope: &str,
        of: DidType,
        pattern: &str,
        each: &mut dyn FnMut(Did),
    ) -> Result<Listing, LookUpError> {
        let of = match of {
            DidType::File => "file",
            DidType::Dataset => "dataset",
            DidType::Container => "container",
        };
        let question = Question {
            method: Method::GET,
            path: format!(
                "/dids/{}/dids/search?type={of}&name={}",
                encode(scope),
                encode(pattern)
            ),
            body: None,
            bounded: false,
        };
        let mut listing = Listing::default();
        self.list(&question, &mut listing, |name: String| {
            each(Did::new(scope, name));
            Ok(())
        })?;
        Ok(listing)
    }

    /// All scopes.
    ///
    /// # Errors
    /// Rucio cannot be asked, or what it answers is no list of names.
    pub fn scopes(&self) -> Result<Vec<String>, LookUpError> {
        let question = Question {
            method: Method::GET,
            path: "/scopes/".into(),
            body: None,
            bounded: true,
        };
        let mut answer = Vec::new();
        self.ask(&question, &mut |line| answer.extend_from_slice(line))?;
        serde_json::from_slice(&answer).map_err(|error| LookUpError::Unexpected {
            url: self.settings().url.clone(),
            status: 200,
            detail: format!("the list of scopes cannot be read: {error}"),
        })
    }

    fn list<Row: DeserializeOwned>(
        &self,
        question: &Question,
        listing: &mut Listing,
        mut each: impl FnMut(Row) -> Result<(), String>,
    ) -> Result<(), LookUpError> {
        let before = listing.bad;
        let result = self.ask(question, &mut |line| {
            let row = serde_json::from_slice(line).map_err(|error| error.to_string());
            match row.and_then(&mut each) {
                Ok(()) => listing.rows += 1,
                Err(why) => {
                    listing.bad += 1;
                    listing.first_bad.get_or_insert_with(|| {
                        let start: String = String::from_utf8_lossy(line).chars().take(200).collect();
                        format!("{why}: {start}")
                    });
                }
            }
        });
        self.stats()
            .update(|stats| stats.lines_bad += listing.bad - before);
        result
    }
}

impl ReplicasRow {
    fn into_listed(mut self) -> Result<ListedReplicas, String> {
        let mut at = BTreeMap::new();
        for (rse, word) in self.states {
            let state =
                ReplicaState::parse(&word).ok_or_else(|| format!("nobody knows the state `{word}`"))?;
            let urls = self.rses.remove(&rse).unwrap_or_default();
            at.insert(Rse::new(rse), ListedReplica { state, urls });
        }
        match self.rses.keys().next() {
            Some(rse) => Err(format!("there is no state of the replica at {rse}")),
            None => Ok(ListedReplicas {
                did: Did::new(self.scope, self.name),
                bytes: self.bytes,
                adler32: self.adler32,
                at,
            }),
        }
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}
