//! SQL over the views: each statement is answered from one published epoch.
//!
//! ```text
//!   text --> parsed --> allowed? --> pin one epoch --> plan --> batches, as they are asked for
//!                        (queries        |                        within time, rows and memory
//!                         only)          +-- every table, and as_of(), is of that epoch
//! ```
//!
//! In:    a statement, and whatever gives the newest [`Published`](dbb_operators::publish::Published).
//! Out:   record batches, or an [`SqlError`] with its SQLSTATE.
//! State: none between statements; within one, at most the memory it is allowed.

mod allow;
mod answer;
mod as_of;
mod engine;
mod error;
pub(crate) mod functions;
mod memory;
mod pin;
mod session;
mod tables;

pub use allow::Allowed;
pub use answer::Answer;
pub use engine::{Asked, Engine, Limits, Planned};
pub use error::SqlError;
pub use pin::Epochs;
