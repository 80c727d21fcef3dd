//! Sent log: what was published, so that it can be sent again with the same numbers.
//!
//! ```text
//!   records with numbers --append--> segment, segment, segment --> Keeper: numbers of a lane, again
//!                          sync         \-- the oldest go by age and size
//! ```
//!
//! In:    records of a lane, in order, before they are given to the brokers.
//! Out:   after [`SentLog::sync`] they are on the disk; after a restart, where each lane ends.
//! State: files, and for each of them which numbers of which lanes it has.
//!
//! A process that is killed has written every record that a broker may have got. A machine that dies may lose
//! what was not synced, which has no outcome.

mod find;
mod frame;
mod published;
mod segment;
#[cfg(test)]
mod tests;

pub(crate) use find::{At, Keeper};
pub(crate) use frame::Kept;
pub use published::{Published, PublishedRecords, published};
pub(crate) use segment::Span;

use crate::topics::{SentLogSettings, TopicsError};
use dbb_events::{Lane, Rse};
use frame::{Head, Packer};
use segment::{Summary, add};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant, SystemTime},
};
use tracing::{info, warn};

/// Records of one lane.
pub(crate) struct Batch<'a> {
    pub(crate) lane: &'a Lane,
    pub(crate) rse: &'a Rse,
    pub(crate) first: u64,
    pub(crate) confirmed: u64,
    pub(crate) records: &'a [&'a Kept],
}

/// A segment as readers see it.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) id: u64,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// When the last frame was added.
    pub(super) newest: SystemTime,
    pub(super) summary: Arc<Summary>,
}

/// All segments, the one that is written last; shared with readers.
#[derive(Debug, Clone, Default)]
pub(super) struct Segments(Arc<RwLock<Vec<Segment>>>);

impl Segments {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Vec<Segment>> {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Segment>> {
        self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

pub(crate) struct SentLog {
    settings: SentLogSettings,
    segments: Segments,
    file: File,
    started: Instant,
    /// Where the next frame begins.
    written: u64,
    /// Nothing more can be added to this file.
    broken: bool,
    /// Frames that are not known to be on the disk.
    unsynced: Vec<u8>,
    /// Where each lane ends.
    lanes: BTreeMap<Lane, Span>,
    packer: Packer,
    // Locked as long as it is open.
    _lock: File,
}

impl SentLog {
    /// Opens the folder, with what was kept in it.
    pub(crate) fn open(settings: &SentLogSettings) -> Result<Self, TopicsError> {
        let folder = &settings.folder;
        fs::create_dir_all(folder).map_err(failed("make", folder))?;
        let lock = lock(folder)?;
        let mut segments = Vec::new();
        for id in segment::ids(folder).map_err(failed("list", folder))? {
            let path = segment::path(folder, id);
            let open = || {
                let summary = segment::summary(&path)?;
                let of = fs::metadata(&path)?;
                Ok((summary, of.len(), of.modified()?))
            };
            let (summary, bytes, newest) = open().map_err(failed("read", &path))?;
            segment::write_summary(&path, &summary).map_err(failed("write", &path))?;
            let summary = Arc::new(summary);
            segments.push(Segment {
                id,
                path,
                bytes,
                newest,
                summary,
            });
        }
        let mut lanes = BTreeMap::new();
        for segment in &segments {
            for (lane, span) in segment.summary.iter() {
                lanes.insert(
                    lane.clone(),
                    Span {
                        numbers: None,
                        ..span.clone()
                    },
                );
            }
        }
        let next = segments.last().map_or(0, |segment| segment.id) + 1;
        let path = segment::path(folder, next);
        let file = create(&path).map_err(failed("make", &path))?;
        segments.push(fresh(next, path));
        let mut log = Self {
            settings: settings.clone(),
            segments: Segments(Arc::new(RwLock::new(segments))),
            file,
            started: Instant::now(),
            written: 0,
            broken: false,
            unsynced: Vec::new(),
            lanes,
            packer: Packer::new().map_err(failed("begin", folder))?,
            _lock: lock,
        };
        log.carry_over().map_err(|error| log.failed("write", error))?;
        log.sync()?;
        log.prune();
        Ok(log)
    }

    /// Where each lane ends.
    pub(crate) fn lanes(&self) -> &BTreeMap<Lane, Span> {
        &self.lanes
    }

    /// For finding records while others are added.
    pub(crate) fn keeper(&self) -> Keeper {
        Keeper::new(self.segments.clone())
    }

    /// Bytes in all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.read().iter().map(|segment| segment.bytes).sum()
    }

    /// Adds records of several lanes; they replace what there is at their numbers and above. All are added, or none.
    pub(crate) fn append(&mut self, batches: &[Batch<'_>]) -> Result<(), TopicsError> {
        self.make_room()?;
        let from = self.unsynced.len();
        let mut summary = Summary::clone(&self.last().summary);
        let mut lanes = Vec::with_capacity(batches.len());
        for batch in batches {
            let head = Head {
                topic: batch.lane.topic.as_ref().into(),
                partition: batch.lane.partition,
                rse: batch.rse.as_str().into(),
                first: batch.first,
                count: batch.records.len() as u32,
                confirmed: batch.confirmed,
            };
            let packed = self
                .packer
                .pack(&head, batch.records.iter().copied(), &mut self.unsynced);
            packed.map_err(|error| self.failed("pack", error))?;
            add(&mut summary, &head);
            lanes.push((batch.lane, head.first + u64::from(head.count)));
        }
        if let Err(error) = self.file.write_all(&self.unsynced[from..]) {
            self.unsynced.truncate(from);
            // What is there of it is taken back; a file of which that fails is left alone.
            self.broken |= self.take_back().is_err();
            return Err(self.failed("write", error));
        }
        self.written += (self.unsynced.len() - from) as u64;
        for (lane, next) in lanes {
            if let Some(span) = summary.get(lane) {
                let span = Span {
                    numbers: None,
                    next,
                    ..span.clone()
                };
                self.lanes.insert(lane.clone(), span);
            }
        }
        self.publish(summary);
        Ok(())
    }

    /// Everything that was added is on the disk.
    pub(crate) fn sync(&mut self) -> Result<(), TopicsError> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.sync_data() {
            // What the system has let go of is not written by trying again: it goes into another file.
            self.broken = true;
            return Err(self.failed("sync", error));
        }
        self.unsynced.clear();
        Ok(())
    }

    /// Another file, where this one is full, old or broken. What is not known to be on the disk goes along.
    pub(crate) fn make_room(&mut self) -> Result<(), TopicsError> {
        let old = self.started.elapsed()
            > Duration::from_secs(60 * u64::from(self.settings.segment_minutes.max(1)));
        let full = self.written >= self.settings.segment_bytes;
        if !(self.broken || full || (old && self.unsynced.is_empty() && self.written > 0)) {
            return Ok(());
        }
        if !self.broken {
            self.sync()?;
        }
        let id = self.last().id + 1;
        let path = segment::path(&self.settings.folder, id);
        let mut file = create(&path).map_err(failed("make", &path))?;
        let moved = if self.broken {
            std::mem::take(&mut self.unsynced)
        } else {
            Vec::new()
        };
        if let Err(error) = file.write_all(&moved) {
            self.unsynced = moved;
            drop(fs::remove_file(&path));
            return Err(failed("write", &path)(error));
        }
        let last = self.last();
        if let Err(error) = segment::write_summary(&last.path, &last.summary) {
            // It is made again from the file when it is missing.
            warn!(path = %last.path.display(), %error, "could not write what a file of the sent log has");
        }
        let mut new = fresh(id, path);
        if !moved.is_empty() {
            // More than was moved, which does no harm.
            new.summary = last.summary.clone();
        }
        self.segments.write().push(new);
        self.file = file;
        self.written = moved.len() as u64;
        self.unsynced = moved;
        self.started = Instant::now();
        self.broken = false;
        self.carry_over().map_err(|error| self.failed("write", error))?;
        self.prune();
        Ok(())
    }

    /// Writes where each lane ends into a new file, so that the older ones may go.
    fn carry_over(&mut self) -> io::Result<()> {
        let from = self.unsynced.len();
        let mut summary = Summary::clone(&self.last().summary);
        for (lane, span) in &self.lanes {
            let head = Head {
                topic: lane.topic.as_ref().into(),
                partition: lane.partition,
                rse: span.rse.as_str().into(),
                first: span.next,
                count: 0,
                confirmed: span.confirmed,
            };
            self.packer.pack(&head, std::iter::empty(), &mut self.unsynced)?;
            add(&mut summary, &head);
        }
        if let Err(error) = self.file.write_all(&self.unsynced[from..]) {
            self.broken = true;
            return Err(error);
        }
        self.written += (self.unsynced.len() - from) as u64;
        self.publish(summary);
        Ok(())
    }

    fn prune(&mut self) {
        let keep = Duration::from_secs(3600 * u64::from(self.settings.retention_hours));
        loop {
            let (first, total) = {
                let segments = self.segments.read();
                if segments.len() < 2 {
                    return;
                }
                (
                    segments[0].clone(),
                    segments.iter().map(|segment| segment.bytes).sum::<u64>(),
                )
            };
            let old = first.newest.elapsed().is_ok_and(|age| age > keep);
            if !old && total <= self.settings.max_bytes {
                return;
            }
            if let Err(error) = segment::remove(&first.path) {
                warn!(path = %first.path.display(), %error, "could not remove an old file of the sent log");
                return;
            }
            info!(path = %first.path.display(), by_age = old, "removed the oldest file of the sent log");
            self.segments.write().remove(0);
        }
    }

    fn last(&self) -> Segment {
        // There always is one.
        self.segments
            .read()
            .last()
            .cloned()
            .unwrap_or_else(|| fresh(0, PathBuf::new()))
    }

    fn publish(&self, summary: Summary) {
        if let Some(last) = self.segments.write().last_mut() {
            last.summary = Arc::new(summary);
            last.bytes = self.written;
            last.newest = SystemTime::now();
        }
    }

    fn take_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.written)?;
        io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.written)).map(drop)
    }

    fn failed(&self, what: &'static str, error: io::Error) -> TopicsError {
        failed(what, &self.last().path)(error)
    }
}

fn fresh(id: u64, path: PathBuf) -> Segment {
    Segment {
        id,
        path,
        bytes: 0,
        newest: SystemTime::now(),
        summary: Arc::default(),
    }
}

/// A new file whose name is on the disk; what a failed attempt has left of it is overwritten.
fn create(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(file)
}

fn lock(folder: &Path) -> Result<File, TopicsError> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(failed("make", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(TopicsError::Configuration(format!(
            "the sent log `{}` is in use: another dbb publishes with it; give each process a folder of its own",
            folder.display()
        ))),
        Err(fs::TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
    }
}

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> TopicsError {
    let path = path.display().to_string();
    move |source| TopicsError::SentLog {
        what,
        path: path.clone(),
        source,
    }
}
