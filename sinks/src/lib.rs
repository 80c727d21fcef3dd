//! Where requests go and outcomes come from: Butler repositories, and the ledger that remembers.

pub mod butler;
pub mod ledger;
pub mod sink;
pub mod topics;

pub use sink::Sink;
