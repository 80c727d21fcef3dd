//! Queue: which parts of which files there are, handed out one by one to whoever asks.
//!
//! In:    files and folders.
//! Out:   parts: segments of plain event files, all other files whole.
//! State: the list of parts, and how many are handed out.

use super::{Input, Kind, format::Format, text::Limits};
use crate::{SourceError, log::files_below};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs,
    path::PathBuf,
    sync::{
        Arc,
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
    pub(super) limits: Limits,
}

/// What one reader reads at a stretch.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) file: Arc<str>,
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) format: Format,
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
        let files = files(inputs)?;
        let (mut whole, mut segments) = (Vec::new(), Vec::new());
        let count = files.len();
        for (index, (path, kind)) in files.into_iter().enumerate() {
            // What cannot be read now is told when its turn comes.
            let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            let format = Format::of(&path).unwrap_or(Format::Plain);
            let cuts = match (kind, format) {
                (Kind::Event, Format::Plain) => size.div_ceil(segment).max(1),
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
                    format,
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

    pub(super) fn count(&self) -> Arc<AtomicU64> {
        self.count.clone()
    }

    pub(super) fn take(&self) -> Option<Part> {
        // Asked once more by each reader when all is handed out.
        self.parts.get(self.next.fetch_add(1, Relaxed)).cloned()
    }
}

/// The files of all inputs, each once and in the order of their names, and what they are.
fn files(inputs: &[Input]) -> Result<BTreeMap<PathBuf, Kind>, SourceError> {
    let mut kinds: BTreeMap<PathBuf, Kind> = BTreeMap::new();
    for input in inputs {
        let mut files = BTreeSet::new();
        files_below(&input.path, true, &mut files).map_err(|error| {
            SourceError::Configuration(format!("cannot read `{}`: {error}", input.path.display()))
        })?;
        for file in files {
            match kinds.entry(file) {
                Entry::Vacant(entry) => {
                    entry.insert(input.kind);
                }
                Entry::Occupied(mut entry) => match (*entry.get(), input.kind) {
                    (Kind::Event, kind) => *entry.get_mut() = kind,
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
    Ok(kinds)
}
