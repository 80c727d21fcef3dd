//! `POST /dids/bulkmeta`: what Rucio knows of many DIDs, a line of JSON each. Those that it does not know have no line.

use super::{Rucio, client::Question};
use crate::lookup::LookUpError;
use dbb_events::Did;
use reqwest::Method;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// What was answered.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    /// By DID; columns and labels side by side.
    pub(super) found: HashMap<Did, Map<String, Value>>,
    /// The first line that cannot be read, and why not: whose it is cannot be told.
    pub(super) bad: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    dids: Vec<Name<'a>>,
    inherit: bool,
    plugin: &'a str,
}

#[derive(Serialize)]
struct Name<'a> {
    scope: &'a str,
    name: &'a str,
}

impl Rucio {
    /// Logs in, and asks for the metadata of a DID that is not there.
    ///
    /// # Errors
    /// Rucio cannot be asked.
    pub fn check(&self) -> Result<(), LookUpError> {
        self.metadata(&[Did::new("dbb", "dbb-is-it-well")]).map(drop)
    }

    /// The metadata of `dids`, in one request.
    pub(super) fn metadata(&self, dids: &[Did]) -> Result<Metadata, LookUpError> {
        let body = Body {
            dids: dids
                .iter()
                .map(|did| Name {
                    scope: &did.scope,
                    name: &did.name,
                })
                .collect(),
            // What datasets are labelled with is not the file's.
            inherit: false,
            plugin: &self.settings().plugin,
        };
        let question = Question {
            method: Method::POST,
            path: "/dids/bulkmeta".into(),
            body: Some(
                serde_json::to_vec(&body).map_err(|error| LookUpError::Client { source: error.into() })?,
            ),
            bounded: true,
        };
        let mut answer = Metadata::default();
        let mut bad = 0;
        let result = self.ask(&question, &mut |line| match entry(line) {
            Ok((did, metadata)) => {
                answer.found.insert(did, metadata);
            }
            Err(why) => {
                bad += 1;
                answer.bad.get_or_insert(why);
            }
        });
        self.stats().update(|stats| {
            stats.dids += dids.len() as u64;
            stats.lines_bad += bad;
        });
        result.map(|()| answer)
    }
}

fn entry(line: &[u8]) -> Result<(Did, Map<String, Value>), String> {
    let metadata: Map<String, Value> = serde_json::from_slice(line)
        .map_err(|error| format!("a line of its answer cannot be read: {error}"))?;
    match (metadata.get("scope"), metadata.get("name")) {
        (Some(Value::String(scope)), Some(Value::String(name))) => {
            Ok((Did::new(scope.as_str(), name.as_str()), metadata))
        }
        _ => Err("a line of its answer has no `scope` and `name`".into()),
    }
}
