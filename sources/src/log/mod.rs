//! Log: recorded events in files of one JSON document a line, plain, gzip or zstd, or in the rows of Parquet.
//!
//! ```text
//!   paths --> listing --> file --> blocks --> lines --> records
//!                 ^         |
//!                 +---------+  followed: new files, new lines, files replaced or cut short
//! ```
//!
//! In:    files and folders; bare bodies or `{"topic","key","value"}` lines.
//! Out:   one record a line that is not blank, in the order of the file; its offset is the position of
//!        the line's first byte in the uncompressed text, or the number of rows before it. Files follow each other by
//!        name.
//! State: one open file; when following, each file that changed within the last hour. A record shares
//!        the memory of the block it was read in.
//!
//! The stream of a file is its path. A file that takes the place of another, or was cut short, while
//! it is followed is a stream of its own, `path#2`: offsets within a stream only rise.

mod file;
mod lines;
mod listing;

use crate::{Begin, Extent, Gap, OffsetStore, Offsets, Partition, Polled, Source, SourceError, Waker};
use dbb_events::Received;
use file::{LogFile, Progress};
use listing::Listing;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// How often followed files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Which files to read, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// Files, and folders that are read with all below them; hidden files are left out.
    pub paths: Vec<PathBuf>,
    /// Goes on when the end is reached: new lines, and new files in the folders.
    #[serde(default)]
    pub follow: bool,
    /// The longest line that is read, in bytes; of a longer one the first MiB at most becomes a dead letter.
    #[serde(default = "max_line_bytes")]
    pub max_line_bytes: usize,
}

fn max_line_bytes() -> usize {
    8 * 1024 * 1024
}

impl LogSettings {
    /// The settings that read `paths` once.
    pub fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            paths: paths.into_iter().collect(),
            follow: false,
            max_line_bytes: max_line_bytes(),
        }
    }
}

/// A source that reads `paths` once from the beginning and remembers nothing, pipes too.
///
/// # Errors
///
/// A path that cannot be looked at.
pub fn read_once(paths: impl IntoIterator<Item = PathBuf>) -> Result<Box<dyn Source>, SourceError> {
    let settings = LogSettings::of(paths);
    let sources = opened(&settings, 0..1, 1, Arc::new(Nothing), Extent::default(), true)?;
    let none = || SourceError::Configuration("no paths of log files are given".into());
    sources.into_iter().next().ok_or_else(none)
}

/// Nothing is remembered.
struct Nothing;

impl OffsetStore for Nothing {
    fn load(&self) -> Result<Offsets, String> {
        Ok(Offsets::new())
    }

    fn store(&self, _handled: &Offsets) -> Result<(), String> {
        Ok(())
    }
}

/// One source for each of `workers`, which are some of `peers` workers in all.
///
/// The first file goes to the first worker, the second to the second, and so on; a file found later,
/// when following, to the worker that the hash of its path says.
pub fn open(
    settings: &LogSettings,
    workers: Range<usize>,
    peers: usize,
    store: Arc<dyn OffsetStore>,
    extent: Extent,
) -> Result<Vec<Box<dyn Source>>, SourceError> {
    opened(settings, workers, peers, store, extent, false)
}

fn opened(
    settings: &LogSettings,
    workers: Range<usize>,
    peers: usize,
    store: Arc<dyn OffsetStore>,
    extent: Extent,
    takes_pipes: bool,
) -> Result<Vec<Box<dyn Source>>, SourceError> {
    if settings.paths.is_empty() {
        return Err(SourceError::Configuration(
            "no paths of log files are given".into(),
        ));
    }
    let stored = store.load().map_err(|detail| SourceError::Unreachable {
        what: "the store of offsets".into(),
        detail,
    })?;
    let mut settings = settings.clone();
    settings.follow &= !extent.once;
    let stored = Arc::new(stored);
    let mut listing = Listing::new(
        &settings,
        workers.clone(),
        peers.max(1),
        Arc::clone(&stored),
        extent.begin.clone(),
    );
    let mut files = listing.first(takes_pipes)?;
    let mut failures = listing.take_failures();
    let listing = Arc::new(Mutex::new(listing));
    let mut known = (*stored).clone();
    if let Begin::At(offsets) = &extent.begin {
        // What is below was handled before the checkpoint was written.
        for (partition, at) in &**offsets {
            let known = known.entry(partition.clone()).or_default();
            *known = (*known).max(at.next);
        }
    }
    let known = Arc::new(known);
    Ok(workers
        .map(|worker| {
            Box::new(LogSource {
                worker,
                follow: settings.follow,
                files: files.remove(&worker).unwrap_or_default().into(),
                resting: Vec::new(),
                looked: Instant::now(),
                failures: std::mem::take(&mut failures).into(),
                known: Arc::clone(&known),
                caught_up: false,
                listing: listing.clone(),
                store: store.clone(),
            }) as Box<dyn Source>
        })
        .collect())
}

struct LogSource {
    worker: usize,
    follow: bool,
    /// Files with something to read, or not yet looked at.
    files: VecDeque<LogFile>,
    /// Files read to their end, when following.
    resting: Vec<LogFile>,
    looked: Instant,
    /// What went wrong since the last poll that had nothing else to say.
    failures: VecDeque<SourceError>,
    /// What an earlier run has handled of each file.
    known: Arc<Offsets>,
    caught_up: bool,
    listing: Arc<Mutex<Listing>>,
    store: Arc<dyn OffsetStore>,
}

impl LogSource {
    /// Wakes the files that have grown, and takes over new ones.
    fn look(&mut self) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        let resting = std::mem::take(&mut self.resting);
        for mut file in resting {
            if file.has_more() {
                self.files.push_back(file);
            } else if file.has_gone() {
                lock(&self.listing).forget(&file);
            } else {
                self.resting.push(file);
            }
        }
        let mut listing = lock(&self.listing);
        self.files.extend(listing.found_for(self.worker));
        self.failures.extend(listing.take_failures());
    }
}

impl Source for LogSource {
    fn poll(&mut self, batch: &mut Vec<Received>, max: usize) -> Result<Polled, SourceError> {
        if let Some(failure) = self.failures.pop_front() {
            return Err(failure);
        }
        let before = batch.len();
        while let Some(file) = self.files.front_mut() {
            match file.read(batch, max.saturating_sub(batch.len() - before)) {
                Ok(Progress::More) => return Ok(Polled::More),
                Ok(Progress::End) => {
                    if let Some(file) = self.files.pop_front()
                        && self.follow
                    {
                        self.resting.push(file);
                    }
                }
                Err(error) => {
                    // The lines before the fault go first, then the fault, then the other files.
                    self.files.pop_front();
                    self.failures.push_back(error);
                    return Ok(Polled::More);
                }
            }
        }
        self.caught_up = true;
        if !self.follow {
            return Ok(Polled::Finished);
        }
        self.look();
        Ok(if self.files.is_empty() {
            Polled::Idle
        } else {
            Polled::More
        })
    }

    fn known_to(&self, partition: &Partition) -> u64 {
        self.known.get(partition).copied().unwrap_or(0)
    }

    fn begins(&mut self) -> Offsets {
        let next = |file: &LogFile| (file.partition(), file.next());
        self.files.iter().map(next).collect()
    }

    fn take_gaps(&mut self) -> Vec<Gap> {
        lock(&self.listing).take_gaps()
    }

    fn caught_up(&self) -> bool {
        self.caught_up
    }

    fn ack(&mut self, handled: &Offsets) -> Result<(), SourceError> {
        self.store.store(handled).map_err(SourceError::Commit)
    }

    fn flush(&mut self) -> Result<(), SourceError> {
        self.store.flush().map_err(SourceError::Commit)
    }

    fn set_waker(&mut self, _: Waker) {
        // Nothing wakes: followed files are looked at when a tick polls.
    }
}

fn lock(listing: &Mutex<Listing>) -> MutexGuard<'_, Listing> {
    listing.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
