//! SQL over the views: each statement is answered from one published epoch.
//!
//! ```text
//!   text --> judged --> parsed --> allowed? --> pin one epoch --> plan --> batches, as they are asked for
//!            (length,              (queries        |               |        within time, rows and memory
//!             depth)                only)          |               +-- judged, hardened, optimised, watched
//!                                                  +-- every table, and as_of(), is of that epoch
//! ```
//!
//! All of it is done on statement threads, which can keep nobody else waiting, and ends within its limits whatever a
//! statement asks: `docs/decisions/0001-statements-stay-in-this-process.md` says why not in processes of their own.
//!
//! In:    a statement, and whatever gives the newest [`Published`](dbb_operators::publish::Published).
//! Out:   record batches, or an [`SqlError`] with its SQLSTATE.
//! State: none between statements; within one, at most the memory it is allowed.

mod allow;
mod answer;
mod as_of;
mod bounds;
mod engine;
mod error;
#[cfg(test)]
mod every_function;
mod expand;
pub(crate) mod functions;
mod guarded;
mod harden;
mod judge;
mod memory;
mod pin;
mod running;
mod session;
mod statements;
mod tables;
mod threads;
mod watch;
mod watched;
mod work;

pub use allow::Allowed;
pub use answer::{Answer, Asked};
pub use engine::{Engine, Limits};
pub use error::SqlError;
pub use pin::Epochs;
pub use running::{Connected, Running, Who};
pub use threads::THREAD_NAME;
pub use work::Encode;
