//! Listing: which files there are, where each is to begin, and which worker reads it.

use super::{
    LOOK_EVERY, LogSettings,
    file::{Identity, LogFile},
};
use crate::{Offsets, SourceError};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read},
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
    /// Reads files from their beginning, wherever an earlier run has left them.
    from_beginning: bool,
    /// How many files have been read at each path.
    generations: BTreeMap<PathBuf, u32>,
    /// The files being read, under whatever name.
    read: BTreeSet<Identity>,
    /// The files of other processes' workers.
    others: BTreeMap<PathBuf, Identity>,
    /// Found and not yet taken over by their worker.
    found: Vec<(usize, LogFile)>,
    scanned: Instant,
}

impl Listing {
    pub(super) fn new(
        settings: &LogSettings,
        workers: Range<usize>,
        peers: usize,
        stored: Arc<Offsets>,
        from_beginning: bool,
    ) -> Self {
        Self {
            settings: settings.clone(),
            workers,
            peers,
            stored,
            from_beginning,
            generations: BTreeMap::new(),
            read: BTreeSet::new(),
            others: BTreeMap::new(),
            found: Vec::new(),
            scanned: Instant::now(),
        }
    }

    /// The files there are at the start, by worker.
    pub(super) fn first(&mut self) -> Result<BTreeMap<usize, Vec<LogFile>>, SourceError> {
        let mut paths = BTreeSet::new();
        for path in &self.settings.paths {
            files_below(path, true, &mut paths).map_err(|error| {
                SourceError::Configuration(format!("cannot read log files at `{}`: {error}", path.display()))
            })?;
        }
        let mut files: BTreeMap<usize, Vec<LogFile>> = BTreeMap::new();
        for (index, path) in paths.into_iter().enumerate() {
            let worker = index % self.peers;
            if let Some(identity) = identity_of(&path)
                && let Some(file) = self.add(path, identity, worker)
            {
                files.entry(worker).or_default().push(file);
            }
        }
        Ok(files)
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
        let mut paths = BTreeSet::new();
        for path in &self.settings.paths {
            if let Err(error) = files_below(path, true, &mut paths)
                && error.kind() != io::ErrorKind::NotFound
            {
                warn!(path = %path.display(), %error, "could not look for new files");
            }
        }
        for path in paths {
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
        if !self.workers.contains(&worker) {
            self.others.insert(path, identity);
            return None;
        }
        self.read.insert(identity);
        Some(LogFile::new(
            path,
            identity,
            stream(&name, generation),
            if self.from_beginning { 0 } else { from },
            self.settings.max_line_bytes,
            self.settings.follow,
        ))
    }

    /// Where an earlier run has left the file, and under which number.
    fn start_of(&self, path: &Path, name: &str) -> (u32, u64) {
        let newest = self
            .stored
            .iter()
            .filter_map(|(partition, offset)| Some((generation_of(&partition.stream, name)?, *offset)))
            .max();
        match newest {
            None => (1, 0),
            Some((generation, offset)) if is_plain_and_shorter(path, offset) => {
                warn!(
                    file = name,
                    offset, "file is shorter than what was read of it: taken for a new one"
                );
                (generation + 1, 0)
            }
            Some(start) => start,
        }
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

/// All files at or below `path`, without hidden ones unless `path` itself is one.
pub(crate) fn files_below(path: &Path, named: bool, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    let hidden = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    if hidden && !named {
        return Ok(());
    }
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            match files_below(&entry?.path(), false, files) {
                // Removed while we looked, or a link to nowhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    } else if metadata.is_file() {
        files.insert(path.to_owned());
    }
    Ok(())
}

fn identity_of(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn is_plain_and_shorter(path: &Path, offset: u64) -> bool {
    let mut magic = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4).read_to_end(&mut magic));
    let compressed = magic.starts_with(&[0x1f, 0x8b])
        || magic.ends_with(&[0xb5, 0x2f, 0xfd])
        || magic.ends_with(&[0x2a, 0x4d, 0x18]);
    read.is_ok() && !compressed && fs::metadata(path).is_ok_and(|metadata| metadata.size() < offset)
}
