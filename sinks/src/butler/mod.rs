//! Butler repositories: one worker process in Python for each, driven over pipes.
//!
//! ```text
//!   requests --> newest of each file --> worker (JSON lines) --> answer by item --> outcomes
//!                     |                     |  dead, hung: killed, started again, sent again
//!                  history               Butler
//! ```
//!
//! In:    requests for one repository, in any order.
//! Out:   one [`dbb_events::Settled`] for each.
//! State: the worker; whether the repository is down; the versions of files applied lately.

mod check;
mod error;
mod history;
mod lines;
mod process;
mod protocol;
mod scan;
mod settings;
mod settle;
mod sink;
mod stats;
mod story;

pub use check::{CheckReport, check};
pub use error::ButlerError;
pub(crate) use history::plain;
pub use history::{Applied, History, NoHistory};
pub use scan::{Zips, scan};
pub use settings::{
    Allow, ButlerSettings, Patience, Removal, Transfer, TransferMode, Verify, VerifyMode, WorkerSettings,
};
pub use sink::ButlerSink;
pub use stats::{ButlerStats, StatsSnapshot};
