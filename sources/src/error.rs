//! What can go wrong between a source and the place it reads.

/// A source that cannot go on, or cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The settings cannot work as they are: someone must change them.
    #[error("{0}")]
    Configuration(String),
    /// A service is out of reach; waiting may help.
    #[error("{what} is unreachable: {detail}")]
    Unreachable {
        /// The service, by name and address.
        what: String,
        /// What it answered, or did not.
        detail: String,
    },
    /// A file could not be read.
    #[error("could not read `{path}`")]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file or folder is not read, and someone can do something about it.
    #[error("`{path}` is not read: {why}")]
    LeftOut {
        /// Which.
        path: String,
        /// What it is, and what to do.
        why: String,
    },
    /// All of a file was read, and something about it is odd.
    #[error("`{path}`: {what}")]
    Odd {
        /// The file.
        path: String,
        /// What.
        what: String,
    },
    /// Offsets could not be stored.
    #[error("could not store offsets: {0}")]
    Commit(String),
}

impl From<dbb_kafka::BadSettings> for SourceError {
    fn from(error: dbb_kafka::BadSettings) -> Self {
        Self::Configuration(error.to_string())
    }
}

impl SourceError {
    /// True when one part of the source, such as a damaged file, is given up, or odd, and the rest goes on.
    pub fn is_partial(&self) -> bool {
        matches!(self, Self::File { .. } | Self::LeftOut { .. } | Self::Odd { .. })
    }

    /// True when the same call may succeed later without anyone changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Commit(_))
    }
}
