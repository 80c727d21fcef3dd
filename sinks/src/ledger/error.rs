//! What can go wrong between `dbb` and its ledger, and whether waiting helps.

/// A ledger that cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A newer process has taken the ledger over: this one must stop, its writes are lost on nobody,
    /// because whatever it had not written is delivered to the newer one.
    #[error(
        "the ledger is held by generation {newest}, this process is generation {ours}: another dbb was started on it"
    )]
    Fenced {
        /// The generation of this process.
        ours: i64,
        /// The newest one.
        newest: i64,
    },
    /// Another process holds the ledger, and lives.
    #[error(
        "the ledger `{what}` is held by another dbb, which lives: process {pid} on host `{host}`, since {since}"
    )]
    Held {
        /// The ledger, without its password.
        what: String,
        /// The machine of the other.
        host: String,
        /// Its process.
        pid: u32,
        /// When it started.
        since: dbb_events::Micros,
    },
    /// The ledger has reached its configured size.
    #[error(
        "the ledger holds {bytes} bytes and may hold {max}: raise ledger.max_bytes, shorten ledger.retention_days or resolve dead letters"
    )]
    Full {
        /// Bytes in use.
        bytes: u64,
        /// `ledger.max_bytes`.
        max: u64,
    },
    /// The storage under the ledger has no room left.
    #[error("no room left for the ledger {what}: {detail}")]
    DiskFull {
        /// The ledger, without its password.
        what: String,
        /// What the storage said.
        detail: String,
    },
    /// Written by a newer `dbb`.
    #[error("the ledger has schema {found}, this dbb knows up to {known}: use a newer dbb")]
    Newer {
        /// The schema found.
        found: i64,
        /// The newest schema this program knows.
        known: i64,
    },
    /// Written by an older `dbb`.
    #[error("the ledger has schema {found}, this dbb needs {needed}: stop dbb and run `dbb ledger migrate`")]
    Older {
        /// The schema found.
        found: i64,
        /// The schema this program needs.
        needed: i64,
    },
    /// This is not the ledger any more that was written to, or not all of it: the process must stop, and the next one
    /// reads again what is missing here.
    #[error("the ledger {what} is not what it was: {detail}")]
    Replaced {
        /// The ledger, without its password.
        what: String,
        /// What has happened to it.
        detail: String,
    },
    /// Out of reach, or busy for too long; waiting may help.
    #[error("the ledger {what} is unreachable: {detail}")]
    Unreachable {
        /// The ledger, without its password.
        what: String,
        /// What it answered, or did not.
        detail: String,
    },
    /// The settings cannot work as they are: someone must change them.
    #[error("{0}")]
    Configuration(String),
    /// The ledger answered what it never should: damage, a missing table, a wrong type.
    #[error("the ledger {what} failed: {detail}")]
    Failed {
        /// The ledger, without its password.
        what: String,
        /// What it answered.
        detail: String,
    },
}

impl LedgerError {
    /// True when the same call may succeed later without anyone changing anything here: the writer
    /// tries again for as long as it takes. A ledger that is full is one of these, because retention,
    /// an operator or a larger disk makes room.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Full { .. } | Self::DiskFull { .. }
        )
    }
}
