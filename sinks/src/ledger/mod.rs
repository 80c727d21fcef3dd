//! The ledger: one durable outcome for each event, and what waits until it is due.
//!
//! ```text
//!   entries (answers, dead letters, counts) --> one transaction --> events, files, attempts, counts
//!   what is due <-- timer, dependency that came, operator's retry <--/
//! ```
//!
//! In:    [`dbb_events::Entry`], any number of times and in any order.
//! Out:   [`dbb_events::Due`] events; answers to operators (`explain`, `dead-letters`, counts).
//! State: a SQLite file, or tables in PostgreSQL; in memory only caches.
//! When [`Ledger::write`] has returned, every entry it was given survives a loss of power.

mod dead_letters;
mod due;
mod durations;
pub mod error;
mod fold;
mod gaps;
mod generation;
pub mod health;
mod holder;
mod identity;
mod network_fs;
pub mod offsets;
mod parked;
mod postgres;
mod postgres_connect;
mod postgres_session;
mod process;
mod prune;
mod read;
mod recent;
mod release;
mod rounds;
mod row;
mod schema;
mod seed;
pub mod settings;
mod sqlite;
pub mod state;
mod statements;
mod store;
mod story;
mod wake;
mod words;
mod write;
pub mod writer;

pub use dbb_database::Kept;
pub use dead_letters::{Filter, Selection};
pub use due::Waiting;
pub use durations::Durations;
pub use error::LedgerError;
pub use gaps::{GapRow, GapState, GapSum};
pub use generation::{Generation, Who};
pub use health::{Condition, Health};
pub use holder::Holder;
pub use identity::NewestMark;
pub use network_fs::network_fs;
pub use offsets::Offsets;
pub use process::Process;
pub use prune::Pruned;
pub use read::Tally;
pub use row::Row;
pub use seed::Seed;
pub use settings::LedgerSettings;
pub use state::State;
pub use story::{Attempt, FileRow, Selector, Story};
pub use write::Written;
pub use writer::LedgerPorts;

use recent::Recent;
use settings::Location;
use std::time::Duration;
use store::Store;
use words::{Ids, Words};

/// One connection to the ledger. Several may be open at once, in one process or many; what they write is
/// fenced by [`Generation`].
pub struct Ledger {
    store: Box<dyn Store>,
    settings: LedgerSettings,
    words: Words,
    ids: Ids,
    recent: Recent,
    /// Writes since the size was looked at; it is at the first one.
    unmeasured_writes: u32,
    /// Rows up to this one have been looked at by the present round of pruning.
    pruned_to: i64,
    newest: NewestMark,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ledger({})", self.settings.shown_url())
    }
}

impl Ledger {
    /// Opens the ledger, and makes its tables where there are none.
    ///
    /// # Errors
    /// [`LedgerError::Older`] and [`LedgerError::Newer`] for the tables of another version of `dbb`.
    pub fn open(settings: &LedgerSettings) -> Result<Self, LedgerError> {
        let mut ledger = Self::connect(settings)?;
        schema::ensure(&mut *ledger.store)?;
        Ok(ledger)
    }

    fn connect(settings: &LedgerSettings) -> Result<Self, LedgerError> {
        let store: Box<dyn Store> = match settings.location()? {
            Location::Sqlite(path) => Box::new(sqlite::Sqlite::open(&path)?),
            Location::Postgres(url) => Box::new(postgres::Postgres::open(settings, &url)?),
        };
        Ok(Self {
            store,
            settings: settings.clone(),
            words: Words::default(),
            ids: Ids::default(),
            recent: Recent::default(),
            unmeasured_writes: 0,
            pruned_to: 0,
            newest: NewestMark::default(),
        })
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &LedgerSettings {
        &self.settings
    }

    /// Lets each call take as long as `limit`: little where somebody waits for it, much where all of a large ledger is
    /// read.
    pub fn set_limit(&mut self, limit: Duration) {
        self.store.set_limit(limit);
    }

    /// How its session with PostgreSQL is kept; `None` for SQLite.
    pub fn kept(&self) -> Option<Kept> {
        self.store.kept()
    }

    /// Bytes in use.
    pub fn size_bytes(&mut self) -> Result<u64, LedgerError> {
        self.store.size_bytes()
    }

    /// Runs `f` in one transaction. With a generation, only if that is still the newest; without one the
    /// newest is held back meanwhile, so that the two can't wait for each other's rows.
    fn transaction<T>(
        &mut self,
        generation: Option<Generation>,
        f: impl FnOnce(&mut Self) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        self.words.trim();
        self.store.begin()?;
        let done = self.fence(generation).and_then(|()| {
            let value = f(self)?;
            if generation.is_some() {
                self.ids.take("mark");
            }
            let mark = self.mark_within();
            self.ids.save(&mut *self.store)?;
            self.store.commit()?;
            self.is_durable(mark);
            Ok(value)
        });
        if done.is_err() {
            self.store.rollback();
            self.words.forget();
        }
        done
    }
}

/// Takes the tables to this program's schema: the schemas before (0 for a new ledger) and after.
pub fn migrate(settings: &LedgerSettings) -> Result<(i64, i64), LedgerError> {
    let mut ledger = Ledger::connect(settings)?;
    // It may have every row to rewrite.
    ledger.set_limit(Duration::from_secs(86_400));
    schema::upgrade(&mut *ledger.store)
}
