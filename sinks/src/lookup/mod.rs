//! What tells the labels of a file: a bounded memory, sidecar documents beside the file, Rucio.
//!
//! ```text
//!   asks --> cache --> documents --> Rucio: POST /dids/bulkmeta, 500 DIDs a request --> labels
//!              ^           \------------\-----> labels, remembered
//!              \--- read by the operator too, which asks only for what is not in it
//! ```
//!
//! In:    [`Ask`]s in batches, from any number of threads.
//! Out:   for each of them labels, that they must wait, or that they will never be known.
//! State: the cache, bounded by bytes and entries and thrown away at the end; the token of a session with Rucio.
//!
//! Nothing is ever blocked by a Rucio that is down: asks are answered at once with "later", without counting, while
//! single requests try whether it is back.

mod cache;
mod chain;
mod documents;
mod error;
mod labels;
mod patience;
pub mod rucio;
mod settings;
mod sidecar;
mod stats;

pub use cache::Cache;
pub use chain::LookUps;
pub use error::LookUpError;
pub use patience::LabelPatience;
pub use settings::{CacheSettings, DocumentSettings, LookUpSettings, UrlPrefix};
pub use stats::{LookUpSnapshot, LookUpStats};

use dbb_events::{Ask, Found, Micros};
use std::time::{SystemTime, UNIX_EPOCH};

/// Somewhere labels are known, asked off the timely worker.
///
/// Asking twice is harmless; what is answered may change while the file is written or its metadata are set.
pub trait LookUp: Send {
    /// Answers each of `asks`, in their order.
    fn look_up(&mut self, asks: Vec<Ask>) -> Vec<(Ask, Found)>;
}

fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
