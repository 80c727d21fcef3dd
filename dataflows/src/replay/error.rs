//! What can go wrong in a replay, beside what is wrong with the input.

use std::path::PathBuf;

/// A replay that cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file or folder could not be written.
    #[error("could not write `{path}`")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The archive was to replace something else.
    #[error("`{path}` is no archive: it holds `{holds}`")]
    NoArchive {
        /// The folder.
        path: PathBuf,
        /// What was found in it.
        holds: String,
    },
    /// The archive would be put where one is already.
    #[error(
        "`{path}` holds an archive already (`{holds}`), which is left as it is: name another folder, or ask for \
         --archive-replace"
    )]
    ArchiveThere {
        /// The folder.
        path: PathBuf,
        /// What was found in it.
        holds: String,
    },
    /// Another process makes the same archive.
    #[error("the archive `{path}` is being made by another dbb")]
    BeingMade {
        /// The folder.
        path: PathBuf,
    },
    /// What is on the disk is not what workers say they have written.
    #[error(
        "{written} events were written to the archive, and {counted} are on the disk, in {files} files: nothing is put \
         at `{path}`"
    )]
    Miscounted {
        /// The folder.
        path: PathBuf,
        /// Events that workers have written.
        written: u64,
        /// Events in files.
        counted: u64,
        /// The files.
        files: u64,
    },
    /// A worker, or a thread of one, ended before its time.
    #[error("{0}")]
    Ended(String),
}

/// The error with its causes, in one line.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
