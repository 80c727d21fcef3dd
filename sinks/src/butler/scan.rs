//! All files of a repository, as its Butler knows them, a page at a time.

use super::{ButlerError, ButlerSettings, history::plain, process::Worker, protocol::Ask};
use std::time::Duration;
use uuid::Uuid;

/// What is in zips, by their own indexes: a worker of the repository reads them. It starts with the first question.
pub struct Zips<'a> {
    settings: &'a ButlerSettings,
    worker: Option<Worker>,
}

impl<'a> Zips<'a> {
    /// For one repository.
    pub fn of(settings: &'a ButlerSettings) -> Self {
        Self {
            settings,
            worker: None,
        }
    }

    /// The datasets in each of the zips at `uris`; none where there is no zip that can be read.
    ///
    /// # Errors
    /// The worker does not start, or does not answer.
    pub fn members(&mut self, uris: &[String]) -> Result<Vec<Vec<Uuid>>, ButlerError> {
        let worker = match &mut self.worker {
            Some(worker) => worker,
            None => {
                self.settings.validate()?;
                self.worker.insert(Worker::start("zips", self.settings)?)
            }
        };
        let timing = &self.settings.worker;
        let per_file = timing
            .request_timeout_per_item_ms
            .saturating_mul(uris.len() as u64);
        let limit = Duration::from_secs(timing.request_timeout_s) + Duration::from_millis(per_file);
        let mut members = worker.ask(|id| Ask::Members { id, uris }, limit)?.members;
        members.resize(uris.len(), Vec::new());
        Ok(members)
    }
}

/// Starts a worker and hands each dataset that the repository has stored to `each`, with the URI of its file as requests
/// spell it: of a zip, where it is a member of one. Returns how many there are.
///
/// # Errors
/// The worker does not start, or the repository cannot be opened or does not answer: then it is unknown what else it has.
pub fn scan<E: From<ButlerError>>(
    settings: &ButlerSettings,
    each: &mut dyn FnMut(&str, Uuid) -> Result<(), E>,
) -> Result<u64, E> {
    settings.validate()?;
    let mut worker = Worker::start("scan", settings)?;
    let per_page = Duration::from_millis(settings.worker.request_timeout_per_item_ms.saturating_mul(2000));
    let limit = Duration::from_secs(settings.worker.request_timeout_s) + per_page;
    let mut found = 0;
    let mut begin = true;
    loop {
        let reply = worker.ask(|id| Ask::Scan { id, begin }, limit)?;
        begin = false;
        found += reply.rows.len() as u64;
        for (uuid, uri) in &reply.rows {
            let file = uri.split("#zip-path=").next().unwrap_or(uri);
            each(plain(file), *uuid)?;
        }
        if reply.done {
            return Ok(found);
        }
    }
}
