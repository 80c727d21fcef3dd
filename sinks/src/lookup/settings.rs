//! What a configuration says about look-ups.

use super::{LabelPatience, LookUpError, rucio::RucioSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How labels are learnt that are not in the event itself. Asked in this order: what is remembered, documents, Rucio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LookUpSettings {
    /// Rucio's REST interface.
    pub rucio: Option<RucioSettings>,
    /// Sidecar documents beside the files.
    pub documents: Option<DocumentSettings>,
    /// Labels to add to events beside `rubin_butler` and `rubin_sidecar`, where a file has them.
    pub labels: Vec<String>,
    /// What is remembered of files.
    pub cache: CacheSettings,
    /// Threads that look up: requests to Rucio at once, 1 to 64.
    pub threads: usize,
    /// How long to wait for labels.
    pub patience: LabelPatience,
}

impl Default for LookUpSettings {
    fn default() -> Self {
        Self {
            rucio: None,
            documents: None,
            labels: Vec::new(),
            cache: CacheSettings::default(),
            threads: 4,
            patience: LabelPatience::default(),
        }
    }
}

/// What is remembered of files, so that a file that goes to several RSEs is asked for once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    /// Most files.
    pub max_files: u64,
    /// Most memory for their labels, in bytes.
    pub max_bytes: u64,
    /// How long labels are believed, in seconds: labels that are changed in Rucio are seen after that.
    pub ttl_s: u64,
    /// How long it is believed that a file has no `rubin_butler`, in seconds. That a DID is unknown is never remembered.
    pub unlabelled_ttl_s: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            max_files: 500_000,
            max_bytes: 512 << 20,
            ttl_s: 3600,
            unlabelled_ttl_s: 60,
        }
    }
}

/// Sidecar documents: JSON or YAML, one for each file or one for all files of a folder.
///
/// A document of one file is a serialised DatasetRef, or `{rubin_butler: ..., rubin_sidecar: <DatasetRef>, ...}`. A
/// document of many is a mapping of file names to such, or a list of such with `file: NAME` in each. File names are
/// those in the document's own folder. The index of a zip and Butler export files are other things and not read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DocumentSettings {
    /// Where files are seen from here: the start of their URLs and the folder that stands for it. The URL where the
    /// file landed is tried first, then the one it was copied from; the longest prefix that fits is used.
    pub prefixes: Vec<UrlPrefix>,
    /// Names of the document of one file, the first that is there: `{name}` is the file's name, `{stem}` is that
    /// without its last extension. A document in JSON ends in `.json`, any other is YAML.
    pub one_per_file: Vec<String>,
    /// Names of the documents of a whole folder, the first that names the file.
    pub one_per_folder: Vec<String>,
    /// Dataset types whose files are `raw_file` where the document has no `rubin_butler`; others are `data_product`.
    pub raw_dataset_types: Vec<String>,
    /// Largest document, in bytes.
    pub max_bytes: u64,
    /// Most levels of nesting in it.
    pub max_depth: usize,
    /// Memory for documents of whole folders, in bytes of their text.
    pub remember_bytes: u64,
}

impl Default for DocumentSettings {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
        Self {
            prefixes: Vec::new(),
            one_per_file: names(&["{name}.json", "{name}.yaml"]),
            one_per_folder: names(&["sidecars.json", "sidecars.yaml"]),
            raw_dataset_types: names(&["raw"]),
            max_bytes: 64 << 20,
            max_depth: 32,
            remember_bytes: 64 << 20,
        }
    }
}

/// The start of URLs, and the folder where their files are seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UrlPrefix {
    /// What a file's URL starts with: `davs://dtn.example.org:443/rucio/raw_disk/`.
    pub from: String,
    /// The absolute folder that stands in its place.
    pub to: String,
}

impl LookUpSettings {
    /// Says what no schema can.
    ///
    /// # Errors
    /// [`LookUpError::Settings`] names the key.
    pub fn validate(&self) -> Result<(), LookUpError> {
        let bad = |field, problem: &str| {
            Err(LookUpError::Settings {
                field,
                problem: problem.into(),
            })
        };
        if !(1..=64).contains(&self.threads) {
            return bad("threads", "is not from 1 to 64");
        }
        if self.cache.max_files == 0 || self.cache.max_bytes < self.cache.max_files {
            return bad("cache.max_files", "is not from 1 to `max_bytes`");
        }
        if self.patience.retry_s == 0 || self.patience.retry_max_s < self.patience.retry_s {
            return bad("patience.retry_s", "is not from 1 to `retry_max_s`");
        }
        if self.patience.down_retry_s == 0 || self.patience.down_retry_max_s < self.patience.down_retry_s {
            return bad("patience.down_retry_s", "is not from 1 to `down_retry_max_s`");
        }
        if let Some(rucio) = &self.rucio {
            rucio.validate()?;
        }
        let Some(documents) = &self.documents else {
            return Ok(());
        };
        if documents.prefixes.is_empty() {
            return bad("documents.prefixes", "is empty: no file can be found");
        }
        if documents
            .prefixes
            .iter()
            .any(|prefix| prefix.from.is_empty() || !prefix.to.starts_with('/'))
        {
            return bad(
                "documents.prefixes",
                "has one without a start of URLs, or without an absolute folder",
            );
        }
        let named = |template: &String| template.contains("{name}") || template.contains("{stem}");
        let plain = |name: &String| !name.is_empty() && !name.contains('/');
        if !documents
            .one_per_file
            .iter()
            .all(|name| named(name) && plain(name))
        {
            return bad(
                "documents.one_per_file",
                "has one without `{name}` or `{stem}`, or with a `/`",
            );
        }
        if !documents
            .one_per_folder
            .iter()
            .all(|name| !named(name) && plain(name))
        {
            return bad("documents.one_per_folder", "has one that is no plain file name");
        }
        if !(4..=100).contains(&documents.max_depth) {
            return bad("documents.max_depth", "is not from 4 to 100");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn validated(json: &str) -> String {
        let settings: LookUpSettings = serde_json::from_str(json).unwrap();
        settings
            .validate()
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn nothing_need_be_said() {
        assert_eq!(validated("{}"), "");
        assert_eq!(
            validated(r#"{"documents": {"prefixes": [{"from": "davs://h/", "to": "/data/"}]}}"#),
            ""
        );
    }

    #[test]
    fn what_cannot_work_names_its_key() {
        for (json, wanted) in [
            (r#"{"threads": 0}"#, "threads: "),
            (r#"{"documents": {}}"#, "documents.prefixes: "),
            (
                r#"{"documents": {"prefixes": [{"from": "davs://h/", "to": "data"}]}}"#,
                "documents.prefixes: ",
            ),
            (
                r#"{"documents": {"prefixes": [{"from": "x", "to": "/"}], "one_per_file": ["all.json"]}}"#,
                "documents.one_per_file: ",
            ),
            (
                r#"{"documents": {"prefixes": [{"from": "x", "to": "/"}], "one_per_folder": ["../all.json"]}}"#,
                "documents.one_per_folder: ",
            ),
            (
                r#"{"rucio": {"url": "ftp://h", "account": "dbb"}}"#,
                "rucio.url: ",
            ),
        ] {
            let problem = validated(json);
            assert!(problem.starts_with(wanted), "{json}: {problem}");
        }
    }
}
