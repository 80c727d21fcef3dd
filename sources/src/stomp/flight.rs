//! Flight: how much of a broker's messages is in memory, so that no more is read than may be.
//!
//! ```text
//!   message comes: took --> queue, dataflow, ledger --> handled: landed --> is there room again? read on
//! ```
//!
//! In:    bytes of messages as they come, and as their events have outcomes.
//! Out:   whether more may be read.
//! State: one number. It outlives connections, for so do messages: a broker that breaks off and sends others gains nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// What a message costs beside its body and its names, in bytes: about what its parts are kept in.
pub(super) const OVERHEAD: u64 = 512;

/// The bytes of one broker's messages that have no outcome.
#[derive(Debug)]
pub(super) struct Flight {
    bytes: AtomicU64,
    most: u64,
    room: Notify,
}

impl Flight {
    /// Nothing yet, of at most `most` bytes and the message that exceeds them.
    pub(super) fn of(most: u64) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            most,
            room: Notify::new(),
        }
    }

    pub(super) fn took(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn landed(&self, bytes: u64) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before >= self.most && before - bytes < self.most {
            // One who waits, or the next who does.
            self.room.notify_one();
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.most
    }

    /// Returns when there is room.
    pub(super) async fn room(&self) {
        while self.is_full() {
            self.room.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_message_may_exceed_and_then_all_wait_until_there_is_room() {
        let flight = Flight::of(100);
        flight.took(99);
        assert!(!flight.is_full());
        flight.took(1000);
        assert!(flight.is_full());
        flight.landed(99);
        assert!(flight.is_full());
        flight.landed(1000);
        assert!(!flight.is_full());
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(flight.room());
    }
}
