//! What every sink does: deliver a batch and answer for each request in it.

use dbb_events::{Request, Settled};

/// Somewhere requests go, run off the timely worker: its answers come back as acks that
/// release capabilities. Delivering a batch twice leaves what delivering it once did.
///
/// There is no error: what could not be delivered is answered `Waiting`, and the ledger keeps it.
pub trait Sink: Send {
    /// Delivers a batch, answering for every request in it, in any order.
    fn deliver(&mut self, batch: Vec<Request>) -> Vec<Settled>;
}
