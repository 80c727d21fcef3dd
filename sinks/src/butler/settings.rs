//! What a configuration says about one Butler repository.

use super::ButlerError;
use dbb_events::Kind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One Butler repository and how it is to be written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ButlerSettings {
    /// The repository: a folder, a `butler.yaml`, a URI, or a name in the site's repository index.
    pub butler: String,
    /// The Python process that opens it.
    #[serde(default)]
    pub worker: WorkerSettings,
    /// How files get into the repository's datastore.
    #[serde(default)]
    pub transfer: Transfer,
    /// What to do when a file that was registered is gone from its RSE, as `deletion-done` and
    /// `deletion-not-found` tell. No file is ever deleted.
    #[serde(default)]
    pub removal: Removal,
    /// What is compared with the file before it is registered.
    #[serde(default)]
    pub verify: Verify,
    /// Which dataset types and RUNs may be written.
    #[serde(default)]
    pub allow: Allow,
    /// How long to wait for what may yet succeed.
    #[serde(default)]
    pub patience: Patience,
}

/// The Python process that drives the Butler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerSettings {
    /// The command and its arguments; the path of the worker's script is added as the last one.
    /// A site sources its stack first with
    /// `[bash, -c, 'source /opt/stack/loadLSST.sh && setup lsst_distrib && exec python3 "$0"']`.
    pub command: Vec<String>,
    /// Environment variables for it, beside those of `dbb` itself.
    pub environment: BTreeMap<String, String>,
    /// Longest it may take to start and open the repository, in seconds.
    pub start_timeout_s: u64,
    /// Longest a request may take, in seconds, apart from what each file adds.
    pub request_timeout_s: u64,
    /// What each file adds to that, in milliseconds.
    pub request_timeout_per_item_ms: u64,
    /// Most memory that it may have, in MiB, 512 or more; no limit if null. A file that needs more takes the worker down, is
    /// found by that, and refused; the others go on.
    pub memory_mib: Option<u32>,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            command: vec!["python3".into()],
            environment: BTreeMap::new(),
            start_timeout_s: 120,
            request_timeout_s: 60,
            request_timeout_per_item_ms: 50,
            memory_mib: Some(4096),
        }
    }
}

/// How files get into the datastore, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Transfer {
    /// Single datasets.
    pub data_product: TransferMode,
    /// Raw exposures.
    pub raw_file: TransferMode,
    /// Zips of datasets.
    pub zip_file: TransferMode,
}

impl Default for Transfer {
    fn default() -> Self {
        Self {
            data_product: TransferMode::Direct,
            raw_file: TransferMode::Direct,
            zip_file: TransferMode::Direct,
        }
    }
}

/// One of the Butler's transfer modes.
///
/// Files belong to Rucio: `direct` refers to them where they are, and the Butler never deletes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TransferMode {
    /// The file stays where it is and is known by its absolute URI.
    Direct,
    /// In place where the file is inside the datastore's root, else linked or copied into it.
    Auto,
    /// Copied into the datastore.
    Copy,
    /// Linked into the datastore.
    Link,
}

/// What becomes of the datasets of a file that is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Removal {
    /// They stay as they are; events that tell of it are counted.
    #[default]
    Off,
    /// The Butler forgets where they are, and keeps their registry rows: they may come back.
    Unstore,
    /// The Butler forgets them altogether.
    Purge,
}

impl Removal {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Removal::Off => "off",
            Removal::Unstore => "unstore",
            Removal::Purge => "purge",
        }
    }
}

/// What is compared with the file before it is registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    /// How much to compare. What the storage cannot tell is recorded as unverified, never refused.
    pub mode: VerifyMode,
    /// Read the whole file where the storage has no checksum of its own.
    pub read_bytes: bool,
    /// Most to read for checksums, in megabytes (1e6 bytes) a second, all files together; no limit if absent.
    pub rate_mb_s: Option<f64>,
    /// Files asked for at once.
    pub concurrency: u32,
    /// Longest the storage may take to tell of one file, in seconds, apart from reading its bytes.
    pub timeout_s: f64,
}

impl Default for Verify {
    fn default() -> Self {
        Self {
            mode: VerifyMode::Size,
            read_bytes: false,
            rate_mb_s: None,
            concurrency: 32,
            timeout_s: 30.0,
        }
    }
}

/// How much of a file is compared with what Rucio believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VerifyMode {
    /// Its size.
    Size,
    /// Its size and its adler32, as far as the storage tells.
    Checksum,
    /// Nothing.
    None,
}

/// Which dataset types and RUNs may be written: shell patterns, or regular expressions after `re:`.
///
/// Absent allows all; those new to the repository are counted and warned of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// Dataset types.
    pub dataset_types: Option<Vec<String>>,
    /// RUN collections.
    pub runs: Option<Vec<String>>,
}

/// How long to wait for what may yet succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Patience {
    /// Shortest time to the next try, in seconds; it doubles with each.
    pub retry_s: u32,
    /// Longest time to the next try, in seconds.
    pub retry_max_s: u32,
    /// Tries before a passing fault becomes a dead letter.
    pub max_attempts: u32,
    /// Tries before a file that is not there becomes a dead letter.
    pub file_missing_attempts: u32,
    /// Longest to wait for a dimension record or a file beside it, in seconds.
    pub max_wait_s: u64,
    /// Time to the next try where the repository is down, in seconds; such tries are not counted. The first
    /// file that gets through makes all others due at once.
    pub down_retry_s: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            retry_s: 10,
            retry_max_s: 3600,
            max_attempts: 10,
            file_missing_attempts: 5,
            max_wait_s: 7 * 24 * 3600,
            down_retry_s: 30,
        }
    }
}

impl ButlerSettings {
    /// The repository at `butler`, all else as by default.
    pub fn new(butler: impl Into<String>) -> Self {
        Self {
            butler: butler.into(),
            worker: WorkerSettings::default(),
            transfer: Transfer::default(),
            removal: Removal::default(),
            verify: Verify::default(),
            allow: Allow::default(),
            patience: Patience::default(),
        }
    }

    /// Says what no schema can.
    ///
    /// # Errors
    /// [`ButlerError::Settings`] names the key.
    pub fn validate(&self) -> Result<(), ButlerError> {
        let bad = |field, problem: &str| {
            Err(ButlerError::Settings {
                field,
                problem: problem.into(),
            })
        };
        if self.butler.is_empty() {
            return bad("butler", "is empty");
        }
        if self.worker.command.first().is_none_or(String::is_empty) {
            return bad("worker.command", "names no program");
        }
        if self.worker.memory_mib.is_some_and(|mib| mib < 512) {
            return bad("worker.memory_mib", "is below 512");
        }
        if self.verify.concurrency == 0 || self.verify.concurrency > 1024 {
            return bad("verify.concurrency", "is not from 1 to 1024");
        }
        if !(self.verify.timeout_s > 0.0 && self.verify.timeout_s <= 3600.0) {
            return bad("verify.timeout_s", "is not above 0 and at most 3600");
        }
        if self
            .verify
            .rate_mb_s
            .is_some_and(|rate| !(rate > 0.0 && rate.is_finite()))
        {
            return bad("verify.rate_mb_s", "is not above 0");
        }
        if self.patience.retry_s == 0 || self.patience.retry_max_s < self.patience.retry_s {
            return bad("patience.retry_s", "is not from 1 to `retry_max_s`");
        }
        Ok(())
    }
}

impl Transfer {
    /// The mode for files of `kind`; dimension files are imported, not transferred.
    pub fn of(&self, kind: Kind) -> TransferMode {
        match kind {
            Kind::DataProduct => self.data_product,
            Kind::RawFile => self.raw_file,
            Kind::ZipFile => self.zip_file,
            Kind::DimFile => TransferMode::Direct,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_repository_alone_is_enough() {
        let settings: ButlerSettings = serde_json::from_str(r#"{"butler": "/repo"}"#).unwrap();
        assert_eq!(settings, ButlerSettings::new("/repo"));
        settings.validate().unwrap();
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let error =
            serde_json::from_str::<ButlerSettings>(r#"{"butler": "/repo", "verify": {"mod": "size"}}"#);
        assert!(error.unwrap_err().to_string().contains("`mod`"));
    }

    #[test]
    fn what_cannot_work_names_its_key() {
        let mut settings = ButlerSettings::new("/repo");
        settings.worker.command.clear();
        let error = settings.validate().unwrap_err();
        assert_eq!(error.to_string(), "worker.command: names no program");
    }
}
