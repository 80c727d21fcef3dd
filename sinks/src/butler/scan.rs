//! All files of a repository, as its Butler knows them, a page at a time.

use super::{ButlerError, ButlerSettings, history::plain, process::Worker, protocol::Ask};
use std::time::Duration;
use uuid::Uuid;

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
