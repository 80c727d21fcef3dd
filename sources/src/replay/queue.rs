//! Queue: which parts of which files there are, handed out one by one to whoever asks.
//!
//! In:    files and folders.
//! Out:   parts: segments of plain event files, all other files whole. What is not read, and why.
//! State: the list of parts, and how many are handed out.

use super::{Input, Kind, text::Limits};
use crate::{
    SourceError,
    format::{Format, Headed},
    paths::{Found, meant},
};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

/// Bytes of a segment.
const SEGMENT: u64 = 8 * 1024 * 1024;

/// Bytes of a block.
const BLOCK: u64 = 1024 * 1024;

/// The longest line that is read; of a longer one the first MiB counts, which is more than an event may have.
const LINE: usize = 8 * 1024 * 1024;

/// The parts of a replay that this process reads.
#[derive(Debug)]
pub struct Queue {
    parts: Vec<Part>,
    next: AtomicUsize,
    files: usize,
    bytes: u64,
    count: Arc<AtomicU64>,
    /// What is not read, until it is told.
    left_out: Mutex<Vec<(PathBuf, String)>>,
    pub(super) limits: Limits,
}

/// How a file is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stored {
    /// In this format.
    As(Format),
    /// In one that is known when it is opened, which can be done once.
    Once,
    /// In one that is not read: why.
    Refused(String),
}

/// What one reader reads at a stretch.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) file: Arc<str>,
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) stored: Stored,
    /// Its bytes as stored; for a plain file, those in which its lines begin.
    pub(super) span: (u64, u64),
    /// The size of the file.
    pub(super) size: u64,
}

impl Queue {
    /// The parts of `inputs` for process number `process` of `processes`, which all see the same files.
    ///
    /// A file that is named as a journal or a listing is none of the events of a folder that holds it.
    ///
    /// # Errors
    ///
    /// [`SourceError::Configuration`] for paths that cannot be looked at, and a file that is two things.
    pub fn open(inputs: &[Input], process: usize, processes: usize) -> Result<Arc<Self>, SourceError> {
        let limits = Limits {
            block: BLOCK,
            line: LINE,
        };
        Self::with(inputs, (process, processes.max(1)), SEGMENT, limits).map(Arc::new)
    }

    pub(super) fn with(
        inputs: &[Input],
        (process, processes): (usize, usize),
        segment: u64,
        limits: Limits,
    ) -> Result<Self, SourceError> {
        let (files, left_out) = files(inputs)?;
        let (mut whole, mut segments) = (Vec::new(), Vec::new());
        let count = files.len();
        for (index, (path, (kind, once))) in files.into_iter().enumerate() {
            // What cannot be read now is told when its turn comes.
            let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            let stored = match once {
                true => Stored::Once,
                false => match Headed::open(&path).map_or(Ok(Format::Plain), |(_, head)| Format::of(&head)) {
                    Ok(format) => Stored::As(format),
                    Err(why) => Stored::Refused(why),
                },
            };
            let cuts = match (kind, &stored) {
                (Kind::Event, Stored::As(Format::Plain)) => size.div_ceil(segment).max(1),
                _ => 1,
            };
            let file: Arc<str> = path.display().to_string().into();
            for cut in 0..cuts {
                if (index as u64 + cut) % processes as u64 != process as u64 {
                    continue;
                }
                let to = if cut + 1 == cuts {
                    size
                } else {
                    (cut + 1) * segment
                };
                let parts = if cuts == 1 { &mut whole } else { &mut segments };
                parts.push(Part {
                    file: file.clone(),
                    path: path.clone(),
                    kind,
                    stored: stored.clone(),
                    span: (cut * segment, to),
                    size,
                });
            }
        }
        // The largest first: with one of them left, all readers but one would be idle.
        whole.sort_by_key(|part| std::cmp::Reverse(part.size));
        whole.append(&mut segments);
        Ok(Self {
            bytes: whole.iter().map(|part| part.span.1 - part.span.0).sum(),
            parts: whole,
            next: AtomicUsize::new(0),
            files: count,
            count: Arc::default(),
            // One process tells, for all.
            left_out: Mutex::new(if process == 0 { left_out } else { Vec::new() }),
            limits,
        })
    }

    /// How many files there are, for all processes.
    pub fn files(&self) -> usize {
        self.files
    }

    /// Bytes to read, as stored.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes read so far, as stored.
    pub fn bytes_read(&self) -> u64 {
        self.count.load(Relaxed).min(self.bytes)
    }

    /// Something that is not read, and why; each once.
    pub(super) fn take_left_out(&self) -> Option<(PathBuf, String)> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(super) fn count(&self) -> Arc<AtomicU64> {
        self.count.clone()
    }

    pub(super) fn take(&self) -> Option<Part> {
        // Asked once more by each reader when all is handed out.
        self.parts.get(self.next.fetch_add(1, Relaxed)).cloned()
    }
}

/// Of each file what it is, and whether it can be read once only.
type Files = BTreeMap<PathBuf, (Kind, bool)>;

/// The files of all inputs, each once and in the order of their names; and what is not read.
fn files(inputs: &[Input]) -> Result<(Files, Vec<(PathBuf, String)>), SourceError> {
    let mut kinds = Files::new();
    let mut left_out = BTreeMap::new();
    for input in inputs {
        let path = meant(&input.path);
        let mut found = Found::default();
        found.look(path).map_err(|error| {
            SourceError::Configuration(format!("cannot read `{}`: {error}", path.display()))
        })?;
        left_out.append(&mut found.left_out);
        let once = found.pipes.into_iter().map(|path| (path, true));
        for (path, once) in found.files.into_iter().map(|path| (path, false)).chain(once) {
            match kinds.entry(path) {
                Entry::Vacant(entry) => {
                    entry.insert((input.kind, once));
                }
                Entry::Occupied(mut entry) => match (entry.get().0, input.kind) {
                    (Kind::Event, kind) => entry.get_mut().0 = kind,
                    (_, Kind::Event) => {}
                    (one, other) if one == other => {}
                    _ => {
                        let path = entry.key().display();
                        return Err(SourceError::Configuration(format!(
                            "`{path}` is given as two things: a file is a journal, or one listing"
                        )));
                    }
                },
            }
        }
    }
    Ok((kinds, left_out.into_iter().rev().collect()))
}
