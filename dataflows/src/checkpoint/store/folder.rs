//! A store in a folder. A file is written under another name, synced, and only then given its own.

use super::Stored;
use bytes::Bytes;
use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

/// What a file is called until it is whole: nobody who lists the folder sees it.
const UNFINISHED: &str = ".tmp";
/// No writer takes this long for one file: what is older was left by one that was killed.
const LEFT: Duration = Duration::from_secs(600);

pub(super) struct Folder {
    root: PathBuf,
    written: AtomicU64,
}

impl Folder {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            written: AtomicU64::new(0),
        }
    }

    pub(super) fn make(&self) -> io::Result<()> {
        make(&self.root)
    }

    /// False when there is a file of that name and `create` is wanted.
    pub(super) fn put(&self, path: &str, bytes: &Bytes, create: bool) -> io::Result<bool> {
        let target = self.root.join(path);
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(ErrorKind::InvalidInput.into());
        };
        make(parent)?;
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let unfinished = parent.join(format!(
            ".{}.{}-{number}{UNFINISHED}",
            name.to_string_lossy(),
            process::id()
        ));
        let done = write(&unfinished, bytes).and_then(|()| {
            if create {
                fs::hard_link(&unfinished, &target)
            } else {
                fs::rename(&unfinished, &target)
            }
        });
        if create || done.is_err() {
            // If this fails too, `sweep` removes it one day.
            let _ = fs::remove_file(&unfinished);
        }
        match done {
            Err(error) if create && error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            other => other?,
        }
        sync(parent)?;
        Ok(true)
    }

    pub(super) fn open(&self, path: &str) -> io::Result<File> {
        File::open(self.root.join(path))
    }

    pub(super) fn size(&self, path: &str) -> io::Result<Option<u64>> {
        match fs::metadata(self.root.join(path)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn range(&self, path: &str, range: Range<u64>) -> io::Result<Bytes> {
        let file = File::open(self.root.join(path))?;
        let length = range.end.saturating_sub(range.start);
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes.into())
    }

    pub(super) fn list(&self, folder: &str) -> io::Result<Vec<Stored>> {
        let mut files = Vec::new();
        for entry in entries(&self.root.join(folder))? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
                continue;
            };
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => files.push(Stored {
                    path: format!("{folder}/{name}"),
                    bytes: metadata.len(),
                }),
                Ok(_) => {}
                // Removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    pub(super) fn delete(&self, path: &str) -> io::Result<()> {
        match fs::remove_file(self.root.join(path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn sweep(&self, folder: &str) -> io::Result<()> {
        let now = SystemTime::now();
        for entry in entries(&self.root.join(folder))? {
            let entry = entry?;
            let name = entry.file_name();
            let unfinished = name
                .to_str()
                .is_some_and(|name| name.starts_with('.') && name.ends_with(UNFINISHED));
            let Ok(metadata) = entry.metadata() else { continue };
            let age = metadata
                .modified()
                .ok()
                .and_then(|at| now.duration_since(at).ok());
            if unfinished && age.is_some_and(|age| age > LEFT) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// The entries of a folder; none where there is no folder yet.
fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// What was given a name in `folder` keeps it through a loss of power.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder and those above it that are not there.
fn make(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new(""));
    make(parent)?;
    match fs::create_dir(folder) {
        // By another process of the same cluster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) if parent.as_os_str().is_empty() => sync(Path::new(".")),
        Ok(()) => sync(parent),
    }
}
