//! A Rucio that is down is left alone, but for one request now and then.
//!
//! ```text
//!   closed --a request failed--> open --its pause is over--> one request may try --it worked--> closed
//!                                  ^                                  |
//!                                  \------failed: twice the pause-----/
//! ```

use dbb_events::Micros;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Whether requests may be made; shared by all threads.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<Option<Down>>);

#[derive(Debug, Clone)]
struct Down {
    since: Micros,
    why: String,
    pause: Duration,
    next: Instant,
}

/// What may be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admit {
    /// Ask.
    Go,
    /// Do not: it is down since then.
    Wait { why: String, since: Micros },
}

impl Breaker {
    /// Whether a request may be made at `now`. The one that may try a Rucio that is down has `patience` to say how
    /// that went, before another may.
    pub(super) fn admit(&self, now: Instant, patience: Duration) -> Admit {
        match &mut *self.lock() {
            None => Admit::Go,
            Some(down) if now >= down.next => {
                down.next = now + patience;
                Admit::Go
            }
            Some(down) => Admit::Wait {
                why: down.why.clone(),
                since: down.since,
            },
        }
    }

    /// A request has worked: true if it is the first that did.
    pub(super) fn worked(&self) -> bool {
        self.lock().take().is_some()
    }

    /// A request has failed; `at_least` is how long Rucio, or good manners, ask for a pause. Tells since when it is
    /// down, and whether this is the first that failed so.
    pub(super) fn failed(
        &self,
        why: &str,
        at_least: Option<Duration>,
        now: Instant,
        clock: Micros,
    ) -> (Micros, bool) {
        let mut state = self.lock();
        let pause = state
            .as_ref()
            .map_or(SHORTEST, |down| (down.pause * 2).min(LONGEST));
        let pause = pause.max(at_least.unwrap_or_default()).min(LONGEST * 5);
        let news = state.as_ref().is_none_or(|down| down.why != why);
        let since = state.as_ref().map_or(clock, |down| down.since);
        *state = Some(Down {
            since,
            why: why.to_owned(),
            pause,
            next: now + pause,
        });
        (since, news)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Down>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CLOCK: Micros = Micros(1_800_000_000_000_000);
    const PATIENCE: Duration = Duration::from_secs(120);

    fn goes(breaker: &Breaker, now: Instant) -> bool {
        breaker.admit(now, PATIENCE) == Admit::Go
    }

    #[test]
    fn while_it_is_down_one_request_at_a_time_may_try() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        assert!(goes(&breaker, now));
        assert_eq!(breaker.failed("down", None, now, CLOCK), (CLOCK, true));
        assert!(!goes(&breaker, now));
        let later = now + SHORTEST;
        assert!(goes(&breaker, later));
        assert!(!goes(&breaker, later));
        assert!(breaker.worked());
        assert!(goes(&breaker, later) && goes(&breaker, later));
        assert!(!breaker.worked());
    }

    #[test]
    fn the_pauses_double_and_it_is_told_since_when() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        let mut pauses = Vec::new();
        for n in 0..9 {
            let (since, news) = breaker.failed("down", None, now, CLOCK.plus_seconds(n));
            assert_eq!((since, news), (CLOCK, n == 0));
            let start = now;
            while !goes(&breaker, now) {
                now += Duration::from_millis(500);
            }
            pauses.push((now - start).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_pause_that_rucio_asks_for_is_kept() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        breaker.failed("busy", Some(Duration::from_secs(30)), now, CLOCK);
        assert!(!goes(&breaker, now + Duration::from_secs(29)));
        assert!(goes(&breaker, now + Duration::from_secs(30)));
    }

    #[test]
    fn one_that_never_said_how_it_went_keeps_others_out_for_a_while_only() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        breaker.failed("down", None, now, CLOCK);
        assert!(goes(&breaker, now + SHORTEST));
        assert!(goes(&breaker, now + SHORTEST + PATIENCE));
    }
}
