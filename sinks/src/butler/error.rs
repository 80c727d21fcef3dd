//! What can go wrong between here and a Butler, other than with a single file.

/// The worker or its repository cannot be used now.
#[derive(Debug, thiserror::Error)]
pub enum ButlerError {
    /// The settings are of no use.
    #[error("{field}: {problem}")]
    Settings {
        /// The key in the configuration.
        field: &'static str,
        /// Why not.
        problem: String,
    },
    /// The command could not be run.
    #[error("could not start the Butler worker `{command}`")]
    Start {
        /// The command as configured.
        command: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It ended, or closed its output.
    #[error("the Butler worker ended ({how}){last_words}")]
    Died {
        /// Its exit status, or the signal.
        how: String,
        /// True after SIGKILL, which comes from outside.
        killed: bool,
        /// The end of its log.
        last_words: String,
    },
    /// It did not answer in time, and was killed.
    #[error("the Butler worker did not answer within {seconds} s and was killed")]
    Hung {
        /// How long it was waited for.
        seconds: u64,
    },
    /// It answered, but not in this protocol.
    #[error("the Butler worker's answer cannot be read: {problem}")]
    Protocol {
        /// What is wrong with it.
        problem: String,
    },
    /// The registry's database does not answer.
    #[error("the registry of `{repository}` does not answer: {detail}")]
    Down {
        /// The repository.
        repository: String,
        /// What the worker said.
        detail: String,
    },
    /// The repository could not be opened.
    #[error("could not open the Butler repository `{repository}`: {detail}")]
    Open {
        /// The repository.
        repository: String,
        /// What the worker said.
        detail: String,
    },
    /// The request failed as a whole, for a reason that is nobody's.
    #[error("the Butler worker failed: {detail}")]
    Failed {
        /// What the worker said.
        detail: String,
    },
}

impl ButlerError {
    /// True when it is unknown what was done, and the items themselves may be the cause.
    pub(super) fn may_be_the_items(&self) -> bool {
        matches!(
            self,
            Self::Died { .. } | Self::Hung { .. } | Self::Protocol { .. } | Self::Failed { .. }
        )
    }
}
