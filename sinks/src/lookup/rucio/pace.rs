//! No more than so many requests a second, whoever makes them.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many requests may be made at once after a pause.
const BURST: u32 = 5;

/// Hands out the moments at which requests may be made.
#[derive(Debug)]
pub(super) struct Pace {
    /// Between two requests; none where there is no limit.
    interval: Option<Duration>,
    /// When the next one would be, were there no burst.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(per_second: Option<f64>) -> Self {
        Self {
            interval: per_second.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            next: Mutex::new(None),
        }
    }

    /// How long the next request has to wait at `now`; the turn is taken.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let Some(interval) = self.interval else {
            return Duration::ZERO;
        };
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + interval);
        (turn - now).saturating_sub(interval * (BURST - 1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn after_a_burst_requests_are_evenly_apart() {
        let pace = Pace::new(Some(10.0));
        let now = Instant::now();
        let waits: Vec<_> = (0..8).map(|_| pace.wait(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 100, 200, 300]);
        let later = now + Duration::from_secs(10);
        assert_eq!(pace.wait(later), Duration::ZERO);
    }

    #[test]
    fn in_any_second_there_are_at_most_the_rate_and_a_burst() {
        let pace = Pace::new(Some(50.0));
        let start = Instant::now();
        let mut now = start;
        let mut made = 0;
        while now < start + Duration::from_secs(2) {
            now += pace.wait(now);
            made += 1;
        }
        assert!((100..=106).contains(&made), "{made}");
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let pace = Pace::new(None);
        assert!((0..1000).all(|_| pace.wait(Instant::now()).is_zero()));
    }
}
