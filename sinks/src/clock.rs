//! The clock: the time of this machine, which does not follow a jump at once.
//!
//! ```text
//!   the machine's time --as time passes--> that
//!                      \--jumped--> as if it had not, for [`DOUBT`]; then that
//! ```
//!
//! A clock that goes to the next month for a few seconds makes nothing old, due or late. One that was set for good is
//! followed a minute later.

use dbb_events::Micros;
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// For so long a jump is not believed.
const DOUBT: Duration = Duration::from_secs(60);
/// A smaller difference between the two clocks of the machine is none.
const SLACK_US: i64 = 2_000_000;

/// The time of this machine.
pub fn now() -> Micros {
    static CLOCK: Mutex<Option<Clock>> = Mutex::new(None);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let steady = Instant::now();
    Micros(
        clock
            .get_or_insert_with(|| Clock::at(wall, steady))
            .now(wall, steady),
    )
}

#[derive(Debug)]
struct Clock {
    /// Both clocks when they agreed last.
    agreed: (i64, Instant),
    doubted_since: Option<Instant>,
}

impl Clock {
    fn at(wall: i64, steady: Instant) -> Self {
        Self {
            agreed: (wall, steady),
            doubted_since: None,
        }
    }

    fn now(&mut self, wall: i64, steady: Instant) -> i64 {
        let passed = steady.saturating_duration_since(self.agreed.1);
        let expected = self
            .agreed
            .0
            .saturating_add(i64::try_from(passed.as_micros()).unwrap_or(i64::MAX));
        if wall.abs_diff(expected) <= SLACK_US as u64 {
            *self = Self::at(wall, steady);
            return wall;
        }
        let since = *self.doubted_since.get_or_insert_with(|| {
            let seconds = wall.saturating_sub(expected) / 1_000_000;
            tracing::warn!(
                seconds,
                "the clock of this machine has jumped: it is not followed for a minute"
            );
            steady
        });
        if steady.saturating_duration_since(since) < DOUBT {
            return expected;
        }
        tracing::warn!("the clock of this machine stays where it jumped to: it is followed");
        *self = Self::at(wall, steady);
        wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: i64 = 1_800_000_000_000_000;
    const MONTH_S: i64 = 30 * 86_400;

    /// What the clock says a second apart, where the machine's has these errors, in seconds.
    fn says(errors: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let steady = Instant::now();
        let mut clock = Clock::at(BEGUN, steady);
        (1i64..)
            .zip(errors)
            .map(|(second, error)| {
                let at = steady + Duration::from_secs(second.unsigned_abs());
                let wall = BEGUN + (second + error) * 1_000_000;
                (clock.now(wall, at) - BEGUN) / 1_000_000 - second
            })
            .collect()
    }

    #[test]
    fn a_jump_that_is_taken_back_never_was() {
        for jump in [MONTH_S, -MONTH_S] {
            assert_eq!(
                says([0, jump, jump, jump, jump, 0, 1, 0]),
                [0, 0, 0, 0, 0, 0, 1, 0]
            );
        }
    }

    #[test]
    fn a_clock_that_was_set_for_good_is_followed_a_minute_later() {
        let told = says(std::iter::once(0).chain(std::iter::repeat_n(3600, 100)));
        assert!(told[..61].iter().all(|error| *error == 0));
        assert!(told[61..].iter().all(|error| *error == 3600));
    }

    #[test]
    fn a_clock_that_is_corrected_bit_by_bit_is_followed() {
        assert_eq!(says(0..50), (0..50).collect::<Vec<_>>());
    }
}
