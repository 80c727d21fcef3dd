//! The thread of one worker that writes the archive's files, and the folder they go to.

use super::{columns::Encoder, packed::Packed};
use crate::replay::{Format, ReplayError};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{Builder, JoinHandle},
};

/// Files on their way to the thread, beside the one it writes.
const DEPTH: usize = 16;

/// The folder of events without an RSE, as Hive has it.
const NO_RSE: &str = "__HIVE_DEFAULT_PARTITION__";

/// One file to write.
struct File {
    rse: Option<Arc<str>>,
    number: u64,
    events: Packed,
}

/// The thread, seen from its worker.
pub(crate) struct Files {
    sender: Sender<File>,
    thread: JoinHandle<Result<(), ReplayError>>,
}

impl Files {
    /// Starts the thread of worker `index`, which writes below `folder`.
    pub(crate) fn start(folder: PathBuf, index: usize, format: Format) -> Result<Self, ReplayError> {
        let (sender, receiver) = bounded(DEPTH);
        let thread = Builder::new()
            .name(format!("archive {index}"))
            .spawn(move || write(&folder, index, format, &receiver))
            .map_err(|source| ReplayError::Write {
                path: "a thread for the archive".into(),
                source,
            })?;
        Ok(Self { sender, thread })
    }

    /// Hands a file over; false when the thread has ended before its time.
    pub(crate) fn send(&self, rse: Option<Arc<str>>, number: u64, events: Packed) -> bool {
        self.sender.send(File { rse, number, events }).is_ok()
    }

    /// Waits until every file is written.
    pub(crate) fn finish(self) -> Result<(), ReplayError> {
        drop(self.sender);
        self.thread.join().unwrap_or_else(|_| {
            Err(ReplayError::Ended(
                "the thread that writes the archive panicked".into(),
            ))
        })
    }
}

fn write(folder: &Path, index: usize, format: Format, files: &Receiver<File>) -> Result<(), ReplayError> {
    let mut encoder = Encoder::new(format);
    let mut made: HashSet<Option<Arc<str>>> = HashSet::new();
    for file in files {
        let parent = folder.join(partition(file.rse.as_deref()));
        let failed = |path: &Path, source| ReplayError::Write {
            path: path.to_owned(),
            source,
        };
        if made.insert(file.rse.clone()) {
            fs::create_dir_all(&parent).map_err(|error| failed(&parent, error))?;
        }
        let name = format!("part-{index:03}-{:06}.{}", file.number, encoder.extension());
        let path = parent.join(name);
        let bytes = encoder
            .encode(&file.events)
            .map_err(|error| failed(&path, io::Error::other(error)))?;
        fs::write(&path, bytes).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// `rse=NAME`, with what a file system or a reader could take amiss as `%` and two digits.
fn partition(rse: Option<&str>) -> String {
    const PLAIN: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.');
    match rse {
        Some(rse) if !rse.is_empty() => {
            format!("rse={}", percent_encoding::utf8_percent_encode(rse, PLAIN))
        }
        _ => format!("rse={NO_RSE}"),
    }
}

/// The archive while it is made: a folder beside the one it will be.
#[derive(Debug, Clone)]
pub(crate) struct Making {
    target: PathBuf,
    /// Where files go meanwhile.
    pub(crate) folder: PathBuf,
}

impl Making {
    /// For an archive at `target`.
    ///
    /// # Errors
    ///
    /// There is something at `target` that is no archive, which nobody wants to lose.
    pub(crate) fn at(target: &Path) -> Result<Self, ReplayError> {
        let failed = |source| ReplayError::Write {
            path: target.to_owned(),
            source,
        };
        match fs::read_dir(target) {
            Ok(entries) => {
                for entry in entries {
                    let name = entry.map_err(failed)?.file_name();
                    if !name.as_encoded_bytes().starts_with(b"rse=") {
                        return Err(ReplayError::NoArchive {
                            path: target.to_owned(),
                            holds: name.to_string_lossy().into_owned(),
                        });
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let name = target
            .file_name()
            .ok_or_else(|| failed(io::Error::from(io::ErrorKind::InvalidInput)))?;
        let beside = |ending: &str| {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(ending);
            target.with_file_name(hidden)
        };
        Ok(Self {
            target: target.to_owned(),
            folder: beside(".new"),
        })
    }

    /// Makes the folder empty.
    pub(crate) fn begin(&self) -> Result<(), ReplayError> {
        self.abandon();
        fs::create_dir_all(&self.folder).map_err(|source| ReplayError::Write {
            path: self.folder.clone(),
            source,
        })
    }

    /// Puts the archive in its place; the one that was there goes.
    pub(crate) fn complete(&self) -> Result<(), ReplayError> {
        let failed = |source| ReplayError::Write {
            path: self.target.clone(),
            source,
        };
        let old = self.folder.with_extension("old");
        let had = match fs::rename(&self.target, &old) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed(error)),
        };
        fs::rename(&self.folder, &self.target).map_err(failed)?;
        if had {
            fs::remove_dir_all(&old).map_err(failed)?;
        }
        Ok(())
    }

    /// Removes what was made; what cannot be removed is replaced by the next run.
    pub(crate) fn abandon(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_partition_is_one_folder_whatever_the_name() {
        assert_eq!(partition(Some("SLAC_RAW.DISK-1")), "rse=SLAC_RAW.DISK-1");
        assert_eq!(partition(Some("a/../b=c é")), "rse=a%2F..%2Fb%3Dc%20%C3%A9");
        assert_eq!(partition(Some("")), "rse=__HIVE_DEFAULT_PARTITION__");
        assert_eq!(partition(None), "rse=__HIVE_DEFAULT_PARTITION__");
    }

    #[test]
    fn what_is_no_archive_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        fs::create_dir_all(target.join("rse=A")).unwrap();
        fs::write(target.join("rse=A/part-0.ndjson"), "old").unwrap();
        let making = Making::at(&target).unwrap();
        making.begin().unwrap();
        fs::create_dir_all(making.folder.join("rse=B")).unwrap();
        assert!(
            target.join("rse=A").exists(),
            "kept until the new one is complete"
        );
        making.complete().unwrap();
        assert!(target.join("rse=B").exists() && !target.join("rse=A").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        fs::write(target.join("thesis.tex"), "mine").unwrap();
        let error = Making::at(&target).unwrap_err();
        assert!(error.to_string().contains("thesis.tex"), "{error}");
    }
}
