//! What can go wrong with a checkpoint.

use dbb_operators::Epoch;
use std::io;

/// A checkpoint cannot be written, found or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The configuration names no store that there could be.
    #[error("checkpoint.url `{url}` {problem}")]
    Url {
        /// What it says.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The store did not do what it was asked.
    #[error("could not {action} `{path}` in the checkpoint store `{store}`: {next}")]
    Store {
        /// What was asked.
        action: &'static str,
        /// Of which file.
        path: String,
        /// Where.
        store: String,
        /// What to do.
        next: &'static str,
        /// True when the same may work later without anyone changing anything.
        transient: bool,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file is not there, or is not what was written.
    #[error("checkpoint file `{path}` {problem}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Written by a newer version of this program.
    #[error(
        "checkpoint `{path}` has format {format}, and this dbb knows formats up to {known}: run the newer dbb that \
         wrote it"
    )]
    Newer {
        /// The manifest.
        path: String,
        /// Its format.
        format: u32,
        /// What is known here.
        known: u32,
    },
    /// Its rows were written by a version of this program that writes them otherwise.
    #[error(
        "checkpoint `{path}` holds `{kind}` of version {version}, and this dbb reads version {known}: run the dbb that \
         wrote it ({by}), or set checkpoint.url to an empty folder to make the views anew"
    )]
    Kind {
        /// The manifest.
        path: String,
        /// Of which state.
        kind: String,
        /// The version of its rows.
        version: u16,
        /// The version that is known here.
        known: u16,
        /// Which dbb wrote it.
        by: String,
    },
    /// It holds a kind of state that is not known here.
    #[error(
        "checkpoint `{path}` holds `{kind}`, which this dbb does not know: run the dbb that wrote it ({by})"
    )]
    UnknownKind {
        /// The manifest.
        path: String,
        /// The kind of state.
        kind: String,
        /// Which dbb wrote it.
        by: String,
    },
    /// It was made by something else.
    #[error(
        "the checkpoints in `{store}` are those of another pipeline ({found}), not of this one ({wanted}): set \
         checkpoint.url to a folder of its own, or checkpoint.adopt to true for one start, to go on from them all the same"
    )]
    Pipeline {
        /// Where.
        store: String,
        /// Whose they are.
        found: String,
        /// Who asked.
        wanted: String,
    },
    /// There are checkpoints, and none can be used.
    #[error(
        "none of the {} checkpoints in `{store}` can be used: {}; bring the files back, or set checkpoint.url to an \
         empty folder to make the views anew",
        .tried.len(), .tried.join("; ")
    )]
    NoneUsable {
        /// Where.
        store: String,
        /// Each with what is wrong with it.
        tried: Vec<String>,
    },
    /// A newer generation writes here.
    #[error(
        "the checkpoints in `{store}` are written by generation {newest}, and this process is generation {ours}: \
         another dbb has taken over, or the ledger was replaced"
    )]
    Fenced {
        /// Where.
        store: String,
        /// Of this process.
        ours: i64,
        /// Of the newest manifest.
        newest: i64,
    },
    /// There is a manifest of this epoch and this generation already.
    #[error(
        "the checkpoint of epoch {epoch} in `{store}` was written by somebody else: run one dbb on a folder"
    )]
    Taken {
        /// Where.
        store: String,
        /// The epoch.
        epoch: Epoch,
    },
    /// There is another file of the name that one was to have.
    #[error("there is another file `{path}` in the checkpoint store `{store}`: run one dbb on a folder")]
    Occupied {
        /// The file.
        path: String,
        /// Where.
        store: String,
    },
    /// Rows that cannot be what was handed out.
    #[error(transparent)]
    Rows(#[from] dbb_operators::checkpoint::Damaged),
    /// Rows could not be made into a file.
    #[error("could not encode rows of `{kind}`")]
    Encode {
        /// Of which state.
        kind: String,
        /// Why.
        source: parquet::errors::ParquetError,
    },
}

impl CheckpointError {
    /// True when the same may work later without anyone changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store { transient: true, .. })
    }

    pub(crate) fn damaged(path: &str, problem: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.into(),
            problem: problem.into(),
        }
    }

    /// A file that a checkpoint is to name is not as it was written.
    pub(super) fn lost(path: &str, store: &str, problem: &str) -> Self {
        Self::Store {
            action: "keep",
            path: path.into(),
            store: store.into(),
            next: "bring the file back, or start again: views are made anew where no checkpoint is whole",
            transient: true,
            source: problem.into(),
        }
    }

    pub(super) fn io(action: &'static str, path: &str, store: &str, source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let (next, transient) = match source.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
                ("the disk is full, make room on it", true)
            }
            Kind::PermissionDenied => ("let this user write there, or set checkpoint.url", false),
            Kind::ReadOnlyFilesystem => (
                "it is read-only, mount it for writing or set checkpoint.url",
                false,
            ),
            Kind::NotFound | Kind::NotADirectory => ("is the folder still there", false),
            _ => ("look at the disk", true),
        };
        Self::Store {
            action,
            path: path.into(),
            store: store.into(),
            next,
            transient,
            source: Box::new(source),
        }
    }

    pub(super) fn remote(action: &'static str, path: &str, store: &str, source: object_store::Error) -> Self {
        use object_store::Error as E;
        let (next, transient) = match &source {
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                ("check the credentials and what the bucket allows them", false)
            }
            E::NotFound { .. } => ("is the bucket there", false),
            _ => ("is the service up", true),
        };
        Self::Store {
            action,
            path: path.into(),
            store: store.into(),
            next,
            transient,
            source: Box::new(source),
        }
    }
}
