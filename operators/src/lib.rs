//! Streams to streams: one operator a file, no I/O; the time comes in as an argument.

pub mod arrival;
pub mod batching;
pub mod checkpoint;
pub mod classify;
pub mod decode;
pub mod deliver;
pub mod distinct;
pub mod facts;
pub mod hub;
pub mod identify;
pub mod mapping;
pub mod port;
pub mod publish;
pub mod replicas;
pub mod route;
pub mod sequences;
pub mod tell;
pub mod tell_table;
pub mod views;
mod watermark;

pub use arrival::{Arrival, Incoming};
pub use batching::Batching;
pub use classify::{Classified, Nobodys, classify};
pub use dbb_events::Again;

/// The time of the dataflow: a number that worker 0 announces every few milliseconds.
pub type Epoch = u64;
