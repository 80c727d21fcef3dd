//! What can go wrong between `dbb` and the topics it publishes to.

/// Publishing that cannot start, or has been told to end.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// The settings cannot work as they are: someone must change them.
    #[error("{0}")]
    Configuration(String),
    /// No broker answers; waiting may help.
    #[error("{what} is unreachable: {detail}")]
    Unreachable {
        /// The service, by name and address.
        what: String,
        /// What it answered, or did not.
        detail: String,
    },
    /// The sent log could not be opened, read or written.
    #[error("the sent log could not {what} `{path}`{}", hint(source))]
    SentLog {
        /// What was being done.
        what: &'static str,
        /// The file or folder.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It was told to stop while it waited: what was not confirmed has no outcome.
    #[error("told to stop before the brokers had confirmed everything")]
    Stopped,
}

impl TopicsError {
    /// True when the same call may succeed later without anyone changing anything here.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl From<dbb_kafka::BadSettings> for TopicsError {
    fn from(error: dbb_kafka::BadSettings) -> Self {
        Self::Configuration(error.to_string())
    }
}

/// What the operator can do, where the error tells.
fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull
        | std::io::ErrorKind::QuotaExceeded
        | std::io::ErrorKind::FileTooLarge => ": make room there",
        std::io::ErrorKind::PermissionDenied => ": let this user write there",
        _ => "",
    }
}

/// The error and what it came from, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
