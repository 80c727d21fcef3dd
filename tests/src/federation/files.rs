//! The files of the site, as Rucio has them.
//!
//! ```text
//!   events of the demo site --> files --> registered at USDF, each with its labels; datasets; rules for FrDF
//! ```

use super::{Federation, at_usdf};
use crate::{Recorded, Site};
use anyhow::{Context, Result};
use dbb_events::Micros;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

/// A file of the site.
#[derive(Debug, Clone)]
pub struct File {
    pub(super) scope: String,
    pub(super) name: String,
    /// Where it is to go.
    pub(super) rse: String,
    bytes: u64,
    adler32: String,
    /// What `rucio-register` tells Rucio of it.
    metadata: Value,
    /// What a Butler has of it.
    pub(super) uuids: Vec<String>,
}

/// What was asked for of one RSE.
#[derive(Debug)]
pub struct Rule {
    id: String,
    /// The Rucio dataset, `SCOPE:NAME`.
    pub dataset: String,
    /// The RSE it is to be at.
    pub rse: String,
    /// How many files it has.
    pub files: usize,
}

impl Federation {
    /// Registers the next `count` files at USDF as `rucio-register` does, and asks for them at FrDF; one rule an RSE.
    pub fn register(&mut self, count: usize) -> Result<Vec<Rule>> {
        let begin = self.registered;
        self.registered = (begin + count).min(self.files.len());
        let files = self.files[begin..self.registered].to_vec();
        let mut by_rse: BTreeMap<&str, Vec<&File>> = BTreeMap::new();
        for file in &files {
            by_rse.entry(&file.rse).or_default().push(file);
        }
        let mut rules = Vec::new();
        for (rse, files) in by_rse {
            let replicas: Vec<Value> = files.iter().map(|file| file.replica()).collect();
            let (scope, name) = (&files[0].scope, format!("night/{begin}/{rse}"));
            let dataset = json!({"scope": scope, "name": name});
            let rule = json!({"dids": [dataset], "copies": 1, "rse_expression": rse});
            let mut client = |method, arguments| self.rucio.client(method, arguments);
            client("add_replicas", json!({"rse": at_usdf(rse), "files": replicas}))?;
            client("add_dataset", dataset.clone())?;
            client(
                "attach_dids",
                json!({"scope": scope, "name": name, "dids": dids(&files)}),
            )?;
            let id = client("add_replication_rule", rule)?;
            rules.push(Rule {
                id: id[0].as_str().context("no rule")?.into(),
                dataset: format!("{scope}:{name}"),
                rse: rse.into(),
                files: files.len(),
            });
        }
        Ok(rules)
    }

    /// Everything is copied to where rules want it; Hermes tells of it.
    pub fn transfer(&mut self) -> Result<()> {
        self.rucio.transfer()?;
        self.rucio.daemon("hermes")?;
        self.rucio.daemon("conveyor-finisher")
    }

    /// Ends rules; what only they wanted is removed, and Hermes tells of it.
    pub fn remove(&mut self, rules: &[Rule]) -> Result<()> {
        for rule in rules {
            self.rucio.expire(&rule.id)?;
        }
        self.rucio.reap()?;
        self.rucio.daemon("hermes")
    }

    /// Lists what is in the datasets of these rules, for the centre.
    pub fn list(&mut self, rules: &[Rule]) -> Result<()> {
        let folder = self.folder("listings")?;
        for rule in rules {
            let (scope, name) = rule.dataset.split_once(':').context("no DID")?;
            let dataset = json!({"scope": scope, "name": name});
            let files = self.rucio.client("list_files", dataset.clone())?;
            // The centre's clock is Rucio's: this machine's.
            let mut text = format!(
                "{}\n",
                json!({"contents_of": dataset, "listed_at": now()?.to_string()})
            );
            for file in files.as_array().into_iter().flatten() {
                text += &format!(
                    "{}\n",
                    json!({"scope": file["scope"], "name": file["name"], "bytes": file["bytes"]})
                );
            }
            let (file, ready) = (format!("{folder}/.new"), format!("{folder}/{}.ndjson", rule.id));
            fs::write(&file, text)?;
            fs::rename(file, ready)?;
        }
        Ok(())
    }
}

pub(super) fn of(site: &Site) -> Result<Vec<File>> {
    let uuids: BTreeMap<String, Vec<String>> = site
        .expected()?
        .events
        .into_iter()
        .filter_map(|event| Some((event.did?, event.uuids)))
        .collect();
    let mut files: Vec<File> = Vec::new();
    for record in Recorded::of(site)? {
        let event: Value = serde_json::from_slice(&record.value)?;
        let payload = &event["payload"];
        let text = |name: &str| Some(payload[name].as_str()?.to_owned());
        let did = record.did().context("an event without a file")?;
        files.push(File {
            scope: text("scope").context("no scope")?,
            name: text("name").context("no name")?,
            rse: text("dst-rse").context("no RSE")?,
            bytes: payload["bytes"].as_u64().context("no size")?,
            adler32: text("checksum-adler").context("no checksum")?,
            metadata: json!({
                "rubin_butler": payload["rubin_butler"],
                "rubin_sidecar": payload["rubin_sidecar"],
            }),
            uuids: uuids.get(&did).cloned().unwrap_or_default(),
        });
    }
    files.sort_by_key(|file| file.metadata["rubin_butler"] != "dim_file");
    Ok(files)
}

impl File {
    fn replica(&self) -> Value {
        json!({
            "scope": self.scope, "name": self.name, "bytes": self.bytes, "adler32": self.adler32,
            "meta": self.metadata,
        })
    }
}

pub(super) fn dids(files: &[&File]) -> Vec<Value> {
    files
        .iter()
        .map(|file| json!({"scope": file.scope, "name": file.name}))
        .collect()
}

fn now() -> Result<Micros> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Micros(i64::try_from(since.as_micros())?))
}
