//! Why nothing could be served.

use crate::sql::SqlError;
use std::path::PathBuf;

/// A server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address means nothing.
    #[error("`{listen}` is no address that can be listened on")]
    Address {
        /// As configured.
        listen: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The address is another program's, or not this host's.
    #[error("could not listen on `{listen}` for health and metrics")]
    Bind {
        /// As configured.
        listen: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No thread could be started.
    #[error("could not start the thread for health and metrics")]
    Thread(#[source] std::io::Error),
    /// The address is another program's, or not this host's.
    #[error("could not listen on `{listen}` for SQL")]
    SqlBind {
        /// As configured.
        listen: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The address is another program's, or not this host's.
    #[error("could not listen on `{listen}` for the other processes of the cluster")]
    PeerBind {
        /// As configured.
        listen: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others than this host could ask, and anyone could read on the way or say to be anyone.
    #[error("`{listen}` is not this host alone, so {what} needed: {next}, or listen on 127.0.0.1")]
    Unprotected {
        /// As configured.
        listen: String,
        /// What is missing.
        what: &'static str,
        /// What to do.
        next: &'static str,
    },
    /// A password, a token, a certificate or a key cannot be had.
    #[error("could not read {what} from {place}")]
    Secret {
        /// What it is.
        what: String,
        /// Where it should be.
        place: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A certificate and its key, which do not make a server.
    #[error("certificate `{certificate}` and key `{key}` cannot be used for TLS")]
    Tls {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The SQL engine does not start.
    #[error("could not start the SQL engine")]
    Engine(#[from] SqlError),
}

impl ServeError {
    /// True when the same may succeed later without anyone changing anything: the port may come free.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Bind { .. } | Self::SqlBind { .. } | Self::PeerBind { .. } | Self::Thread(_)
        )
    }
}
