//! Rounds: what comes back due again and again without getting anywhere is slowed down, and said.
//!
//! ```text
//!   due rows --> offered before, a moment ago? --no, or a few times--> go
//!                          \--time after time--> held back: 1 s, 2 s, 4 s ... [`LONGEST`]
//! ```
//!
//! State: when each row was offered last, and how often in quick succession; of the last [`KEPT_FOR`].

use crate::ledger::fold::Key;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Quick returns that are nobody's fault: an arrival wakes, an operator asks again.
const FREE: u32 = 5;
/// Sooner than this after the time it was held back for is quick.
const QUICK: Duration = Duration::from_secs(1);
/// Longest that a row is held back. What waits for an arrival is woken by it, so it is not held back for longer
/// than [`QUICK`].
const LONGEST: Duration = Duration::from_secs(300);
/// A row that was not offered for so long starts afresh.
const KEPT_FOR: Duration = Duration::from_secs(900);
/// Rows remembered before those too old are looked for.
const MANY: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Round {
    offered: Instant,
    quick: u32,
}

impl Round {
    fn is_held(self) -> bool {
        self.quick >= FREE
    }

    fn held_for(self, is_woken: bool) -> Duration {
        let Some(doublings) = self.quick.checked_sub(FREE) else {
            return Duration::ZERO;
        };
        let held = QUICK.saturating_mul(1 << doublings.min(20));
        held.min(if is_woken { QUICK } else { LONGEST })
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rounds(HashMap<Key, Round>);

impl Rounds {
    /// Takes note that the row is due at `now`: `None` if it may go, or how long it is to be held back.
    /// `is_woken` where an arrival makes it due.
    pub(super) fn due(&mut self, key: &Key, is_woken: bool, now: Instant) -> Option<Duration> {
        if self.0.len() > MANY {
            self.0
                .retain(|_, round| now.duration_since(round.offered) < KEPT_FOR);
        }
        let round = self.0.entry(key.clone()).or_insert(Round {
            offered: now,
            quick: 0,
        });
        let since = now.duration_since(round.offered);
        let held = round.held_for(is_woken);
        if since < held {
            return Some(held - since);
        }
        round.quick = match since < held + QUICK {
            true => round.quick.saturating_add(1),
            false => 0,
        };
        round.offered = now;
        None
    }

    /// It has come to its end.
    pub(super) fn ended(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// Rows that go round at `now`.
    pub(super) fn going_round(&self, now: Instant) -> u64 {
        let still = |round: &Round| now.duration_since(round.offered) < round.held_for(false) + 3 * QUICK;
        self.0
            .values()
            .filter(|round| round.is_held() && still(round))
            .count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbb_events::EventId;

    fn key(event: u128) -> Key {
        (EventId(event), "main".into())
    }

    /// How often a row that is due again 100 ms after each offer is offered within `seconds`.
    fn offers(seconds: u64, is_woken: bool) -> u32 {
        let (mut rounds, begun) = (Rounds::default(), Instant::now());
        let mut now = begun;
        let mut offers = 0;
        while now < begun + Duration::from_secs(seconds) {
            if rounds.due(&key(1), is_woken, now).is_none() {
                offers += 1;
            }
            now += Duration::from_millis(100);
        }
        offers
    }

    #[test]
    fn a_row_that_goes_round_is_tried_less_and_less_often() {
        assert_eq!(offers(3600, false), 24);
        assert!(offers(60, true) >= 60, "an arrival may help any moment");
    }

    #[test]
    fn a_row_that_comes_back_in_its_time_is_never_held_back() {
        let (mut rounds, mut now) = (Rounds::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(rounds.due(&key(1), false, now), None);
            now += QUICK;
        }
        assert_eq!(rounds.going_round(now), 0);
    }

    #[test]
    fn what_ended_is_forgotten_and_what_goes_round_is_counted() {
        let (mut rounds, now) = (Rounds::default(), Instant::now());
        for event in [1, 2] {
            for _ in 0..=FREE {
                rounds.due(&key(event), false, now);
            }
        }
        assert_eq!(rounds.due(&key(1), false, now), Some(QUICK));
        assert_eq!(rounds.going_round(now), 2);
        rounds.ended(&key(1));
        assert_eq!(rounds.due(&key(1), false, now), None);
        assert_eq!(rounds.going_round(now), 1);
        assert_eq!(rounds.going_round(now + KEPT_FOR), 0);
    }
}
