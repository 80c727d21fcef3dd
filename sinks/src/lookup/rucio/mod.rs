//! Rucio's REST interface, as far as a hub asks it; it only ever reads.
//!
//! ```text
//!   threads --> breaker --> pace --> token --> HTTP --> status --> lines of the answer
//!                 |                    ^
//!                 |                    \-- GET /auth/userpass, /auth/x509; or a file
//!                 \-- down: no request but one now and then
//! ```
//!
//! One [`Rucio`] is shared by all threads that ask: its connections, its token, its pace.

mod answer;
mod breaker;
mod bulk;
mod client;
mod lists;
mod metadata;
mod pace;
mod secret;
mod settings;
mod token;

pub(super) use bulk::{Bulk, Told};
pub use client::Rucio;
pub use lists::{DidType, ListedFile, ListedReplica, ListedReplicas, Listing};
pub use settings::{Auth, RucioSettings, Userpass, X509};
