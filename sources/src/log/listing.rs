//! Listing: which files there are, where each is to begin, and which worker reads it.

use super::{
    LOOK_EVERY, LogSettings,
    file::{Identity, LogFile},
};
use crate::{
    Begin, Gap, Offsets, Partition, SourceError,
    format::{Format, Headed, count_rows},
    paths::{Found, meant},
};
use dbb_events::Position;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::Range,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

/// Folders are read again this many looks apart.
const SCAN_EVERY: u32 = 10;

pub(super) struct Listing {
    settings: LogSettings,
    workers: Range<usize>,
    peers: usize,
    stored: Arc<Offsets>,
    /// With which line each file begins.
    begin: Begin,
    /// Streams that were found at the start.
    begun: BTreeSet<Arc<str>>,
    /// Found and not yet taken.
    gaps: Vec<Gap>,
    /// How many files have been read at each path.
    generations: BTreeMap<PathBuf, u32>,
    /// The files being read, under whatever name.
    read: BTreeSet<Identity>,
    /// The files of other processes' workers.
    others: BTreeMap<PathBuf, Identity>,
    /// Found and not yet taken over by their worker.
    found: Vec<(usize, LogFile)>,
    scanned: Instant,
    /// What is not read, and was told.
    left_out: BTreeSet<PathBuf>,
    /// To be told.
    failures: Vec<SourceError>,
}

impl Listing {
    pub(super) fn new(
        settings: &LogSettings,
        workers: Range<usize>,
        peers: usize,
        stored: Arc<Offsets>,
        begin: Begin,
    ) -> Self {
        Self {
            settings: settings.clone(),
            workers,
            peers,
            stored,
            begin,
            begun: BTreeSet::new(),
            gaps: Vec::new(),
            generations: BTreeMap::new(),
            read: BTreeSet::new(),
            others: BTreeMap::new(),
            found: Vec::new(),
            scanned: Instant::now(),
            left_out: BTreeSet::new(),
            failures: Vec::new(),
        }
    }

    /// The files there are at the start, by worker.
    ///
    /// # Errors
    ///
    /// A path that cannot be looked at; a pipe, unless `takes_pipes`.
    pub(super) fn first(&mut self, takes_pipes: bool) -> Result<BTreeMap<usize, Vec<LogFile>>, SourceError> {
        let mut found = Found::default();
        for path in &self.settings.paths {
            let path = meant(path);
            found.look(path).map_err(|error| {
                SourceError::Configuration(format!("cannot read log files at `{}`: {error}", path.display()))
            })?;
        }
        if let Some(pipe) = found.pipes.first().filter(|_| !takes_pipes) {
            return Err(SourceError::Configuration(format!(
                "`{}` can be read only once, and what is under way when dbb ends must be read again: write it to a file, \
                 or read it with `dbb replay` or `dbb check`",
                pipe.display()
            )));
        }
        self.leave_out(found.left_out);
        let mut paths = found.files;
        paths.append(&mut found.pipes);
        let mut files: BTreeMap<usize, Vec<LogFile>> = BTreeMap::new();
        for (index, path) in paths.into_iter().enumerate() {
            let worker = index % self.peers;
            if let Some(identity) = identity_of(&path)
                && let Some(file) = self.add(path, identity, worker)
            {
                files.entry(worker).or_default().push(file);
            }
        }
        self.look_for_gaps();
        Ok(files)
    }

    /// What is missing of files that were there when the checkpoint was written, and are not any more.
    fn look_for_gaps(&mut self) {
        let Begin::At(offsets) = &self.begin else {
            return;
        };
        // One process tells, for all.
        if !self.workers.contains(&0) {
            return;
        }
        for (partition, Position { next: from, .. }) in &**offsets {
            // Up to there at least it had been read, by the run that wrote no other checkpoint.
            let read_to = self.stored.get(partition).copied().unwrap_or(0);
            if read_to > *from && !self.begun.contains(&partition.stream) {
                self.gaps.push(Gap {
                    partition: partition.clone(),
                    from: *from,
                    to: read_to,
                    records: None,
                });
            }
        }
    }

    /// The gaps found since the last call.
    pub(super) fn take_gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps)
    }

    /// Notes what is not read, to be told once, by one process for all.
    fn leave_out(&mut self, left_out: BTreeMap<PathBuf, String>) {
        for (path, why) in left_out {
            if self.workers.contains(&0) && self.left_out.insert(path.clone()) {
                let path = path.display().to_string();
                self.failures.push(SourceError::LeftOut { path, why });
            }
        }
    }

    /// What is not read, found since the last call.
    pub(super) fn take_failures(&mut self) -> Vec<SourceError> {
        std::mem::take(&mut self.failures)
    }

    /// The files that have come since, for `worker`.
    pub(super) fn found_for(&mut self, worker: usize) -> Vec<LogFile> {
        if self.scanned.elapsed() >= LOOK_EVERY * SCAN_EVERY {
            self.scanned = Instant::now();
            self.scan();
        }
        let (mine, others) = std::mem::take(&mut self.found)
            .into_iter()
            .partition(|(owner, _)| *owner == worker);
        self.found = others;
        let mine: Vec<(usize, LogFile)> = mine;
        mine.into_iter().map(|(_, file)| file).collect()
    }

    /// The file is not read any more. Under another name it would be read again: repeats do no harm,
    /// while a new file may have got the inode of one that was removed.
    pub(super) fn forget(&mut self, file: &LogFile) {
        self.read.remove(&file.identity);
    }

    fn scan(&mut self) {
        let mut found = Found::default();
        for path in &self.settings.paths {
            if let Err(error) = found.look(meant(path))
                && error.kind() != io::ErrorKind::NotFound
            {
                warn!(path = %path.display(), %error, "could not look for new files");
            }
        }
        self.leave_out(found.left_out);
        for path in found.files {
            let Some(identity) = identity_of(&path) else {
                continue;
            };
            // Known under this name or another one: it was only renamed.
            if self.read.contains(&identity) || self.others.get(&path) == Some(&identity) {
                continue;
            }
            let worker = (xxh3_64(path.as_os_str().as_encoded_bytes()) % self.peers as u64) as usize;
            if let Some(file) = self.add(path, identity, worker) {
                self.found.push((worker, file));
            }
        }
    }

    /// The file for its worker, if that is one of ours.
    fn add(&mut self, path: PathBuf, identity: Identity, worker: usize) -> Option<LogFile> {
        let name = path.display().to_string();
        let (generation, from) = match self.generations.get(&path) {
            Some(generation) => (generation + 1, 0),
            None => self.start_of(&path, &name),
        };
        self.generations.insert(path.clone(), generation);
        let stream = stream(&name, generation);
        self.begun.insert(Arc::clone(&stream));
        if !self.workers.contains(&worker) {
            self.others.insert(path, identity);
            return None;
        }
        self.read.insert(identity);
        Some(LogFile::new(
            path,
            identity,
            stream,
            from,
            self.settings.max_line_bytes,
            self.settings.follow,
        ))
    }

    /// Where to begin with a file, and under which number.
    fn start_of(&mut self, path: &Path, name: &str) -> (u32, u64) {
        let named = match &self.begin {
            Begin::At(offsets) => Some(Arc::clone(offsets)),
            Begin::Unhandled | Begin::Oldest => None,
        };
        let named = named.iter().flat_map(|named| named.iter());
        let stored = self.stored.iter().map(|(partition, offset)| (partition, *offset));
        let newest = stored
            .chain(named.map(|(partition, at)| (partition, at.next)))
            .filter_map(|(partition, offset)| Some((generation_of(&partition.stream, name)?, offset)))
            .max();
        let Some((generation, offset)) = newest else {
            return (1, 0);
        };
        let partition = Partition {
            stream: stream(name, generation),
            partition: 0,
        };
        if is_shorter(path, offset) {
            warn!(
                file = name,
                offset, "file is shorter than what was read of it: taken for a new one"
            );
            if let Some(Position { next: from, .. }) = self.begin.named(&partition)
                && from == offset
            {
                self.gaps.push(Gap {
                    partition,
                    from,
                    to: from,
                    records: None,
                });
            }
            return (generation + 1, 0);
        }
        let from = match &self.begin {
            Begin::Unhandled => offset,
            Begin::Oldest => 0,
            Begin::At(_) => self.begin.named(&partition).map_or(0, |at| at.next),
        };
        (generation, from)
    }
}

fn stream(name: &str, generation: u32) -> Arc<str> {
    match generation {
        1 => name.into(),
        _ => format!("{name}#{generation}").into(),
    }
}

fn generation_of(stream: &str, name: &str) -> Option<u32> {
    match stream.strip_prefix(name)? {
        "" => Some(1),
        rest => rest.strip_prefix('#')?.parse().ok(),
    }
}

fn identity_of(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// True if less is at `path` than was read of it; of what is packed nobody can tell.
fn is_shorter(path: &Path, offset: u64) -> bool {
    let Ok((file, head)) = Headed::open(path) else {
        return false;
    };
    let now = match Format::of(&head) {
        Ok(Format::Plain) => file.metadata().ok().map(|metadata| metadata.size()),
        Ok(Format::Parquet) => file.into_file().and_then(|file| count_rows(file).ok()),
        Ok(Format::Gzip | Format::Zstd) | Err(_) => None,
    };
    now.is_some_and(|now| now < offset)
}
