//! Replay: recorded events, journals and listings through the graph of the live dataflow, as fast as they are read.
//!
//! ```text
//!   files --> blocks --> lines --> facts --by DID--> views ----> files, SQL, a table
//!                            \---> packed events --by identity--> archive
//! ```
//!
//! In:    files of recorded events, of the replica journal, of listings.
//! Out:   views and archive, complete or not at all, and a report of what was read and what was wrong with it.
//! State: that of the views; what is read but not yet applied is a few blocks of each worker.
//!
//! The views are the same, byte for byte, whatever the workers and processes; of the archive the rows are.

mod archive;
mod cluster;
mod error;
mod input;
mod options;
mod output;
mod report;
mod work;

pub use crate::cluster::Hosts;
pub use error::ReplayError;
pub use options::{ArchiveOptions, Format, ReplayOptions};
pub use report::{Finding, Found, Read, Report};

use crate::{
    cluster::{Workers, execute},
    runtime::Control,
    views::ViewSettings,
};
use archive::making::Making;
use dbb_operators::publish::{Published, Publisher};
use dbb_sources::replay::Queue;
use report::Progress;
use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use work::Shared;

/// Between two looks at the progress.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks at whether all is done.
const WAIT: Duration = Duration::from_millis(5);

/// What a replay came to.
pub struct Replayed {
    /// What was read, and what was wrong with it. Of several processes the first has it, for all of them.
    pub report: Report,
    /// The views at the end; `None` on all processes but the first.
    pub views: Option<Arc<Published>>,
}

/// Reads everything once and makes what `options` asks for.
///
/// # Errors
///
/// What cannot be read at all, or written: [`dbb_sources::SourceError`], [`ReplayError`].
pub fn run(options: &ReplayOptions) -> anyhow::Result<Replayed> {
    let started = Instant::now();
    let first = options.hosts.as_ref().is_none_or(|hosts| hosts.process == 0);
    if let Some(folder) = &options.out
        && first
    {
        output::make(folder)?;
    }
    let making = match &options.archive {
        Some(archive) => {
            let mut making = Making::at(&archive.folder, archive.replaces)?;
            // The others write only once they are connected to the first.
            if first {
                making.begin()?;
            }
            Some(making)
        }
        None => None,
    };
    let ended = dataflow(options, making.as_ref(), started);
    let finished = ended.and_then(|replayed| {
        if first {
            write(options, making.as_ref(), &replayed)?;
        }
        Ok(replayed)
    });
    if let Some(making) = &making
        && first
        && finished.is_err()
    {
        making.abandon();
    }
    finished
}

/// Runs the dataflow to its end.
fn dataflow(options: &ReplayOptions, making: Option<&Making>, started: Instant) -> anyhow::Result<Replayed> {
    let (process, processes) = match &options.hosts {
        Some(hosts) => (hosts.process, hosts.addresses.len()),
        None => (0, 1),
    };
    let members = cluster::joined(options)?;
    let queue = Queue::open(&options.inputs(), process, processes)?;
    let archive = making.zip(options.archive.as_ref());
    let shared = Arc::new(Shared {
        views: ViewSettings {
            eager: true,
            gather: processes > 1,
            clock_skew_us: i64::try_from(options.clock_skew_ms.saturating_mul(1000)).unwrap_or(i64::MAX),
            policies: Arc::clone(&options.policies),
            ..ViewSettings::of(options.views.clone())
        },
        archive: archive.map(|(making, archive)| archive::Settings {
            folder: making.folder.clone(),
            format: archive.format,
            rows: archive.rows,
        }),
        queue,
        until: options.until,
        publisher: Arc::new(Publisher::new(0)),
        report: Mutex::default(),
        progress: Progress::default(),
        control: Arc::new(Control::new(options.workers)),
    });
    let workers = {
        let shared = Arc::clone(&shared);
        members.iter().for_each(|members| members.ready());
        execute(options.workers, members, move |worker| {
            work::work(worker, &shared)
        })?
    };
    for error in joined(workers, options.progress, &shared, started)? {
        shared.control.fail(format!("a worker ended: {error}"));
    }
    if let Some(failure) = shared.control.failure() {
        return Err(failure.into());
    }
    let mut report = std::mem::take(&mut *shared.report.lock().unwrap_or_else(PoisonError::into_inner));
    report.finish();
    report.elapsed = started.elapsed();
    Ok(Replayed {
        report,
        views: shared.publisher.newest(),
    })
}

/// Waits for the workers, and shows meanwhile how far they are; the errors of those that failed.
fn joined(workers: Workers, shows: bool, shared: &Shared, started: Instant) -> anyhow::Result<Vec<String>> {
    let bar = shows.then(|| report::bar(shared.queue.bytes()));
    let control = Arc::clone(&shared.control);
    let waiting = thread::Builder::new()
        .name("replay".into())
        .spawn(move || ended(workers, &control))?;
    if let Some(bar) = bar {
        while !waiting.is_finished() {
            shared.progress.show(&bar, shared.queue.bytes_read(), started);
            thread::sleep(LOOK);
        }
        bar.finish_and_clear();
    }
    let errors = waiting.join();
    Ok(errors.map_err(|_| ReplayError::Ended("the thread that waits for the workers panicked".into()))?)
}

/// Waits until all is done, on all processes; or until this one has failed, of which the others are told.
fn ended(workers: Workers, control: &Control) -> Vec<String> {
    while !workers.have_left() {
        if let Some(failure) = control.failure().filter(|_| workers.is_part()) {
            workers.abandon(&failure.to_string(), false);
            return Vec::new();
        }
        thread::sleep(WAIT);
    }
    match control.failure().filter(|_| workers.is_part()) {
        Some(failure) => {
            workers.abandon(&failure.to_string(), false);
            Vec::new()
        }
        None => workers.join(),
    }
}

/// Writes the views and puts the archive in its place.
fn write(options: &ReplayOptions, making: Option<&Making>, replayed: &Replayed) -> anyhow::Result<()> {
    if let (Some(folder), Some(views)) = (&options.out, &replayed.views) {
        let wanted = options.views.iter().flat_map(|name| name.tables());
        let tables = wanted.filter_map(|name| Some((*name, views.tables.get(name)?)));
        output::write(folder, options.format, tables)?;
    }
    if let (Some(making), Some(archive)) = (making, &options.archive) {
        let counted = making.count(archive.format)?;
        let (written, files) = replayed.report.archived.unwrap_or_default();
        if (written, files) != (counted.events, counted.files) {
            return Err(ReplayError::Miscounted {
                path: archive.folder.clone(),
                written,
                counted: counted.events,
                files: counted.files,
            }
            .into());
        }
        making.complete()?;
    }
    Ok(())
}
