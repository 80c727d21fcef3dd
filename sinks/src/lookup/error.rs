//! What can go wrong with look-ups, other than with a single file.

/// Labels cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub enum LookUpError {
    /// The settings are of no use.
    #[error("{field}: {problem}")]
    Settings {
        /// The key in the configuration.
        field: &'static str,
        /// Why not.
        problem: String,
    },
    /// A password or a token is not where it should be.
    #[error("could not read {what} from {place}")]
    Secret {
        /// What it is.
        what: &'static str,
        /// The file or the variable.
        place: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Certificates cannot be used.
    #[error("TLS for Rucio: {problem}")]
    Tls {
        /// Which file, and why not.
        problem: String,
    },
    /// The client, or its thread, could not be made.
    #[error("could not start the HTTP client")]
    Client {
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no connection to Rucio.
    #[error("Rucio at {url} cannot be reached: {why}")]
    Unreachable {
        /// Its address.
        url: String,
        /// The innermost cause.
        why: String,
    },
    /// It did not answer in time.
    #[error("Rucio at {url} did not answer within {seconds} s")]
    Silent {
        /// Its address.
        url: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Its answer broke off.
    #[error("the answer of Rucio at {url} broke off: {why}")]
    Broken {
        /// Its address.
        url: String,
        /// The innermost cause.
        why: String,
    },
    /// Rucio knows no such account, password, certificate or token, or the account may not do this.
    #[error(
        "Rucio at {url} refuses account `{account}` ({how}): {detail}; mend the credentials, no restart is needed"
    )]
    Credentials {
        /// Its address.
        url: String,
        /// The account.
        account: String,
        /// Which credentials, and where they are from.
        how: String,
        /// What Rucio says.
        detail: String,
    },
    /// It has too much to do, or is being looked after.
    #[error("Rucio at {url} is busy (status {status}): {detail}")]
    Busy {
        /// Its address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What Rucio says.
        detail: String,
        /// How long it asks to be left alone, in seconds.
        retry_after_s: Option<u64>,
    },
    /// It failed over this request.
    #[error("Rucio at {url} failed (status {status}): {detail}")]
    Failed {
        /// Its address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What Rucio says.
        detail: String,
    },
    /// It does not accept what is asked, because of one of the names in it.
    #[error("Rucio at {url} does not accept a name: {detail}")]
    Name {
        /// Its address.
        url: String,
        /// What Rucio says.
        detail: String,
    },
    /// What answers is no Rucio, or one that is too old.
    #[error("{url} answers with status {status}: {detail}; is this the address of Rucio's REST interface?")]
    Unexpected {
        /// Its address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What it says.
        detail: String,
    },
}

impl LookUpError {
    /// True when the same request may succeed later without anyone changing anything here.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Silent { .. }
                | Self::Broken { .. }
                | Self::Busy { .. }
                | Self::Failed { .. }
        )
    }

    /// True when what was asked may be the cause, so that less of it may succeed.
    pub(super) fn may_be_the_names(&self) -> bool {
        matches!(
            self,
            Self::Failed { .. } | Self::Name { .. } | Self::Broken { .. }
        )
    }
}
