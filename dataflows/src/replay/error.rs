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
