//! Where requests go and outcomes come from: Butler repositories, the ledger that remembers, and what tells labels.

pub mod butler;
pub mod clock;
pub mod ledger;
pub mod lookup;
pub mod outcomes;
pub mod sheet;
pub mod sink;
mod tls;
pub mod topics;

pub use sink::Sink;
