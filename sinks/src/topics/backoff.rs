//! Backoff: how long to wait before brokers are asked again.

use crate::topics::TopicsError;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// The first pause; each is twice as long as the one before.
const FIRST: Duration = Duration::from_millis(50);

/// The longest.
const LONGEST: Duration = Duration::from_secs(5);

/// Longest that a stop is not noticed.
const STEP: Duration = Duration::from_millis(20);

pub(super) struct Backoff {
    next: Duration,
    stop: Arc<AtomicBool>,
}

impl Backoff {
    pub(super) fn new(stop: &Arc<AtomicBool>) -> Self {
        Self {
            next: FIRST,
            stop: stop.clone(),
        }
    }

    /// Waits, and longer the next time.
    pub(super) fn wait(&mut self) -> Result<(), TopicsError> {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        let start = Instant::now();
        while start.elapsed() < pause {
            if self.stop.load(Relaxed) {
                return Err(TopicsError::Stopped);
            }
            thread::sleep(STEP.min(pause));
        }
        Ok(())
    }
}
