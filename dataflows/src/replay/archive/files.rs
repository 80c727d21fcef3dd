//! The thread of one worker that writes the archive's files.
//!
//! A file is made new or not at all: none is ever written over another.

use super::{columns::Encoder, folder_name::folder_name, packed::Packed};
use crate::replay::{Format, ReplayError};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::{
    collections::HashSet,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{Builder, JoinHandle},
};

/// Files on their way to the thread, beside the one it writes.
const DEPTH: usize = 16;

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
        let parent = folder.join(folder_name(file.rse.as_deref()));
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
        let written = fs::File::create_new(&path).and_then(|mut new| new.write_all(bytes));
        written.map_err(|error| failed(&path, error))?;
    }
    Ok(())
}
