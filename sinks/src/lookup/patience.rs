//! How long to wait for labels, and what then.
//!
//! ```text
//!   the file has no labels yet --> later, twice as late each time --> after `max_wait_s` a dead letter
//!   Rucio does not answer      --> later, never counted
//! ```

use dbb_events::{Again, Dependency, Found, Micros, Outcome, Reason, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long to wait for labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LabelPatience {
    /// Time to the next try where nothing is known of a file yet, in seconds; it doubles with each.
    pub retry_s: u32,
    /// Longest time to the next try, in seconds.
    pub retry_max_s: u32,
    /// Longest to wait for the labels of a file, in seconds; then it is a dead letter.
    pub max_wait_s: u64,
    /// Time to the next try where Rucio does not answer, in seconds; such tries are not counted. The longer it is
    /// down the longer it is, up to `down_retry_max_s`.
    pub down_retry_s: u32,
    /// Longest time to the next try where Rucio does not answer, in seconds.
    pub down_retry_max_s: u32,
}

impl Default for LabelPatience {
    fn default() -> Self {
        Self {
            retry_s: 10,
            retry_max_s: 3600,
            max_wait_s: 24 * 3600,
            down_retry_s: 10,
            down_retry_max_s: 300,
        }
    }
}

impl LabelPatience {
    /// The first answer to an ask of which nothing is known, and `detail` says why.
    pub(super) fn not_yet(&self, dependency: Dependency, detail: String, now: Micros) -> Found {
        Found::Later(Outcome::Waiting {
            dependency,
            not_before: now.plus_seconds(self.retry_s.into()),
            detail,
            counts: true,
        })
    }

    /// The answer to an ask that cannot be put to Rucio, which is down since then.
    pub(super) fn down(&self, detail: String, since: Micros, now: Micros) -> Found {
        let down_s = now.seconds_since(since).max(0.0) as i64;
        let wait_s = down_s.clamp(self.down_retry_s.into(), self.down_retry_max_s.into());
        Found::Later(Outcome::Waiting {
            dependency: Dependency::Labels,
            not_before: now.plus_seconds(wait_s),
            detail,
            counts: false,
        })
    }

    /// The answer for an event that the ledger has sent again: tried later each time, until it has waited too long.
    pub fn weigh(&self, found: Found, again: Option<&Again>, now: Micros) -> Found {
        let (
            Found::Later(Outcome::Waiting {
                dependency,
                detail,
                counts: true,
                ..
            }),
            Some(again),
        ) = (&found, again)
        else {
            return found;
        };
        let waited_s = again.waiting_since.map_or(0.0, |since| now.seconds_since(since));
        if waited_s >= self.max_wait_s as f64 {
            return Found::Refused(Refusal {
                reason: Reason::WaitedTooLong,
                detail: format!("waited {:.1} days for its labels: {detail}", waited_s / 86_400.0),
            });
        }
        let wait_s = u64::from(self.retry_s) << again.attempts.min(20);
        Found::Later(Outcome::Waiting {
            dependency: dependency.clone(),
            not_before: now.plus_seconds(wait_s.min(self.retry_max_s.into()) as i64),
            detail: detail.clone(),
            counts: true,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use dbb_events::EventId;

    const NOW: Micros = Micros(1_800_000_000_000_000);

    fn again(attempts: u32, waited_s: i64) -> Again {
        Again {
            event: EventId(1),
            target: "".into(),
            attempts,
            waiting_since: Some(NOW.plus_seconds(-waited_s)),
            released: false,
        }
    }

    fn wait_s(found: &Found) -> f64 {
        match found {
            Found::Later(Outcome::Waiting { not_before, .. }) => not_before.seconds_since(NOW),
            other => panic!("{other:?} does not wait"),
        }
    }

    #[test]
    fn the_time_between_tries_doubles_up_to_its_bound() {
        let patience = LabelPatience::default();
        let first = patience.not_yet(Dependency::Labels, "why".into(), NOW);
        assert_eq!(wait_s(&first), 10.0);
        let after = |attempts| wait_s(&patience.weigh(first.clone(), Some(&again(attempts, 60)), NOW));
        assert_eq!(
            [after(0), after(1), after(2), after(40)],
            [10.0, 20.0, 40.0, 3600.0]
        );
        assert_eq!(patience.weigh(first.clone(), None, NOW), first);
    }

    #[test]
    fn what_has_waited_too_long_is_a_dead_letter_that_says_for_what() {
        let patience = LabelPatience::default();
        let first = patience.not_yet(Dependency::Labels, "Rucio knows no DID raw:x".into(), NOW);
        let Found::Refused(refusal) = patience.weigh(first, Some(&again(9, 86_400)), NOW) else {
            panic!();
        };
        assert_eq!(refusal.reason, Reason::WaitedTooLong);
        assert_eq!(
            refusal.detail,
            "waited 1.0 days for its labels: Rucio knows no DID raw:x"
        );
    }

    #[test]
    fn while_rucio_is_down_nothing_becomes_a_dead_letter_and_the_tries_grow_rare() {
        let patience = LabelPatience::default();
        let down = |since_s: i64| patience.down("down".into(), NOW.plus_seconds(-since_s), NOW);
        assert_eq!(
            [0, 60, 3600].map(|since_s| wait_s(&down(since_s))),
            [10.0, 60.0, 300.0]
        );
        let week = again(50, 7 * 86_400);
        assert_eq!(patience.weigh(down(60), Some(&week), NOW), down(60));
    }
}
