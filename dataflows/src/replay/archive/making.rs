//! The archive while it is made: a folder beside the one it will be, held by one `dbb`.
//!
//! ```text
//!   .NAME.new (locked) --> files --> counted --> NAME          what was at NAME before: refused, or asked to be replaced
//! ```

use crate::replay::{Format, ReplayError};
use memchr::memchr_iter;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Making {
    target: PathBuf,
    /// Where files go meanwhile.
    pub(crate) folder: PathBuf,
    /// The archive that is there may go.
    replaces: bool,
    /// The folder, locked by the process that began it.
    held: Option<File>,
}

/// What is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counted {
    pub(crate) events: u64,
    pub(crate) files: u64,
}

impl Making {
    /// For an archive at `target`.
    ///
    /// # Errors
    ///
    /// There is something at `target` that is no archive, which nobody wants to lose; or one that is not to be replaced.
    pub(crate) fn at(target: &Path, replaces: bool) -> Result<Self, ReplayError> {
        let name = target
            .file_name()
            .ok_or_else(|| failed(target)(io::Error::from(io::ErrorKind::InvalidInput)))?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(".new");
        let making = Self {
            target: target.to_owned(),
            folder: target.with_file_name(hidden),
            replaces,
            held: None,
        };
        making.look()?;
        Ok(making)
    }

    /// May this archive have its place?
    fn look(&self) -> Result<(), ReplayError> {
        let target = &self.target;
        let entries = match fs::read_dir(target) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(target)(error)),
        };
        for entry in entries {
            let name = entry.map_err(failed(target))?.file_name();
            let holds = name.to_string_lossy().into_owned();
            let path = target.clone();
            if !name.as_encoded_bytes().starts_with(b"rse=") {
                return Err(ReplayError::NoArchive { path, holds });
            }
            if !self.replaces {
                return Err(ReplayError::ArchiveThere { path, holds });
            }
        }
        Ok(())
    }

    /// Makes the folder empty, and holds it until this ends.
    pub(crate) fn begin(&mut self) -> Result<(), ReplayError> {
        let folder = &self.folder;
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let held = File::open(folder).map_err(failed(folder))?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ReplayError::BeingMade {
                    path: self.target.clone(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(folder)(error)),
        }
        // What a run left that was killed.
        for entry in fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            fs::remove_dir_all(&path).map_err(failed(&path))?;
        }
        let old = self.old();
        if old.exists() && !self.target.exists() {
            // It was killed between two renames.
            fs::rename(&old, &self.target).map_err(failed(&self.target))?;
            self.look()?;
        } else if old.exists() {
            fs::remove_dir_all(&old).map_err(failed(&old))?;
        }
        self.held = Some(held);
        Ok(())
    }

    /// Counts what is in the folder: all workers have ended.
    pub(crate) fn count(&self, format: Format) -> Result<Counted, ReplayError> {
        let mut counted = Counted::default();
        let mut buffer = vec![0; 1 << 20];
        for rse in entries(&self.folder)? {
            for file in entries(&rse)? {
                let events = match format {
                    Format::Ndjson => lines(&file, &mut buffer),
                    Format::Parquet => rows(&file),
                };
                counted.events += events.map_err(failed(&file))?;
                counted.files += 1;
            }
        }
        Ok(counted)
    }

    /// Puts the archive in its place; the one that was there goes, if it may.
    pub(crate) fn complete(&self) -> Result<(), ReplayError> {
        let failed = failed(&self.target);
        let old = self.old();
        let had = match self.replaces {
            true => match fs::rename(&self.target, &old) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(failed(error)),
            },
            // A folder with something in it is not renamed over.
            false => false,
        };
        fs::rename(&self.folder, &self.target).map_err(&failed)?;
        if had {
            fs::remove_dir_all(&old).map_err(&failed)?;
        }
        Ok(())
    }

    /// Removes what was made by this process.
    pub(crate) fn abandon(&self) {
        if self.held.is_some() {
            // What cannot be removed is removed by the next run.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    fn old(&self) -> PathBuf {
        self.folder.with_extension("old")
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> ReplayError {
    let path = path.to_owned();
    move |source| ReplayError::Write {
        path: path.clone(),
        source,
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, ReplayError> {
    let entries = fs::read_dir(folder).map_err(failed(folder))?;
    entries
        .map(|entry| Ok(entry.map_err(failed(folder))?.path()))
        .collect()
}

fn lines(path: &Path, buffer: &mut [u8]) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut lines = 0;
    loop {
        match file.read(buffer)? {
            0 => return Ok(lines),
            read => lines += memchr_iter(b'\n', &buffer[..read]).count() as u64,
        }
    }
}

fn rows(path: &Path) -> io::Result<u64> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    Ok(u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with(target: &Path, file: &str) {
        let path = target.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "old\n").unwrap();
    }

    #[test]
    fn what_is_no_archive_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        with(&target, "thesis.tex");
        for replaces in [false, true] {
            let error = Making::at(&target, replaces).unwrap_err();
            assert!(error.to_string().contains("thesis.tex"), "{error}");
        }
    }

    #[test]
    fn an_archive_is_replaced_when_asked_for_and_once_the_new_one_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        with(&target, "rse=A/part-0.ndjson");
        let error = Making::at(&target, false).unwrap_err();
        assert!(error.to_string().contains("rse=A"), "{error}");
        let mut making = Making::at(&target, true).unwrap();
        making.begin().unwrap();
        with(&making.folder, "rse=B/part-0.ndjson");
        assert!(target.join("rse=A").exists());
        let counted = Counted { events: 1, files: 1 };
        assert_eq!(making.count(Format::Ndjson).unwrap(), counted);
        making.complete().unwrap();
        assert!(target.join("rse=B").exists() && !target.join("rse=A").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_archive_that_came_meanwhile_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        let mut making = Making::at(&target, false).unwrap();
        making.begin().unwrap();
        with(&making.folder, "rse=B/part-0.ndjson");
        with(&target, "rse=A/part-0.ndjson");
        making.complete().unwrap_err();
        assert!(target.join("rse=A/part-0.ndjson").exists());
    }

    #[test]
    fn two_do_not_make_one_archive() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        let mut one = Making::at(&target, false).unwrap();
        one.begin().unwrap();
        with(&one.folder, "rse=A/part-0.ndjson");
        let mut other = Making::at(&target, false).unwrap();
        let error = other.begin().unwrap_err();
        assert!(error.to_string().contains("being made"), "{error}");
        other.abandon();
        one.complete().unwrap();
        assert!(target.join("rse=A/part-0.ndjson").exists());
    }

    #[test]
    fn an_archive_that_was_moved_aside_by_a_killed_run_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        with(&folder.path().join(".out.old"), "rse=A/part-0.ndjson");
        let mut making = Making::at(&target, false).unwrap();
        making.begin().unwrap_err();
        assert!(target.join("rse=A/part-0.ndjson").exists());
    }
}
