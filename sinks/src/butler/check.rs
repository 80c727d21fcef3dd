//! What `dbb check --connect` asks of a repository.

use super::{ButlerError, ButlerSettings, process::Worker, protocol::Ask};
use std::time::Duration;

/// A repository that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// The Butler's version.
    pub butler_version: String,
    /// The dimension universe, as `daf_butler 8`.
    pub universe: String,
    /// The datastore's roots, and whether each is there.
    pub roots: Vec<(String, bool)>,
    /// Collections in the registry.
    pub collections: u64,
    /// Its instruments.
    pub instruments: Vec<String>,
    /// False for a Butler older than v30.0.1, where known UUIDs are looked up before each call.
    pub skip_existing: bool,
    /// True where raws can be ingested from their headers.
    pub has_raw_ingest_task: bool,
    /// False where it was opened for reading only: then nothing can be ingested.
    pub writeable: bool,
}

/// Starts a worker, opens the repository, and asks its database and storage one question each.
///
/// # Errors
/// The worker does not start, or the repository cannot be opened or does not answer.
pub fn check(settings: &ButlerSettings) -> Result<CheckReport, ButlerError> {
    settings.validate()?;
    let mut worker = Worker::start("check", settings)?;
    let limit = Duration::from_secs(settings.worker.request_timeout_s);
    let about = worker.ask(|id| Ask::Check { id }, limit)?.about;
    Ok(CheckReport {
        butler_version: about.butler,
        universe: format!("{} {}", about.universe_namespace, about.universe),
        roots: about
            .roots
            .iter()
            .map(|root| {
                (
                    root.clone(),
                    about.roots_exist.get(root).copied().unwrap_or(false),
                )
            })
            .collect(),
        collections: about.collections,
        instruments: about.instruments,
        skip_existing: about.skip_existing,
        has_raw_ingest_task: about.has_raw_ingest_task,
        writeable: about.writeable,
    })
}
