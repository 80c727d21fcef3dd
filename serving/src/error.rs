//! Why nothing could be served.

/// The HTTP side could not start.
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
}

impl ServeError {
    /// True when the same may succeed later without anyone changing anything: the port may come free.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Address { .. })
    }
}
