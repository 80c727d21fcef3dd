//! Checkpoints: what operators keep, on disk or in S3, and back again.
//!
//! ```text
//!   Collected --writer, one a process--> shards --> Written --through the dataflow--> committer --> manifest
//!                                          ^                                              |
//!                                          \-- merged in background, those no longer named are removed
//!
//!   newest sound manifest --find--> Found --a range of keys, base and deltas merged--> rows of each kind
//! ```
//!
//! In:    the changed rows of each process at one closed epoch, and the offsets they are the fold of.
//! Out:   a manifest for each epoch, written last and once; at a start the rows of the newest that is sound.
//! State: the manifest before, and what is being written. While the store is down, all that was collected since
//!        waits in memory: about the size of the changes of that time, without a bound.
//!
//! Once a manifest is there, the state it names survives whatever ends the process; until then the one before does.

mod checksum;
mod committer;
mod compact;
mod encode;
mod error;
mod find;
mod found;
mod intact;
mod manifest;
mod merge;
mod names;
mod patience;
mod prune;
mod scrub;
mod shard;
mod shards;
mod status;
mod store;
mod writer;

pub use crate::config::Checkpoint as Settings;
pub use checksum::is_there;
pub use committer::{Commit, Committer, CommitterPorts, CommitterSettings};
pub use error::CheckpointError;
pub use find::{Listed, PARTS, find, list, open, verify};
pub use found::{Found, OnError};
pub use manifest::{FORMAT, Manifest, Next, Role, ShardEntry};
pub use shard::look;
pub use status::{Figures, Newest, Status};
pub use store::Store;
pub use writer::{Writer, WriterPorts, WriterSettings, Written};
