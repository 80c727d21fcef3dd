//! Doors: who is turned away, and why; counted, and logged once for many.
//!
//! In:    each connection that is refused.
//! Out:   `dbb_refused_connections_total`; at most one line in the log for each door and reason in [`QUIET`].
//! State: when each was told last, and how many it were since.

use crate::labels::Refusal;
use prometheus_client::metrics::{counter::Counter, family::Family};
use std::{
    collections::BTreeMap,
    fmt::Display,
    net::IpAddr,
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Between two lines about the same.
const QUIET: Duration = Duration::from_secs(10);

/// Of the whole process: the doors of a cluster are older than the metrics of a run.
static REFUSED: LazyLock<Family<Refusal, Counter>> = LazyLock::new(Family::default);
static TOLD: Mutex<BTreeMap<(&str, &str), Told>> = Mutex::new(BTreeMap::new());

struct Told {
    last: Instant,
    since: u64,
}

/// Why somebody is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// What was said is not the protocol.
    Malformed,
    /// Nothing, or not enough, was said in time.
    Silent,
    /// Too many were at the door who had not said who they are.
    Crowded,
    /// All places are taken.
    Full,
    /// The token or the password was not proven.
    Unproven,
}

impl Reason {
    /// The word of the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Silent => "silent",
            Self::Crowded => "crowded",
            Self::Full => "full",
            Self::Unproven => "unproven",
        }
    }
}

/// Counts that somebody `from` there was turned away at `door`, and says so, with what there is to say of this one.
pub fn refuse(door: &'static str, reason: Reason, from: IpAddr, why: &dyn Display) {
    let reason = reason.as_str();
    REFUSED.get_or_create(&Refusal { door, reason }).inc();
    tracing::debug!(door, reason, %from, %why, "a connection is refused");
    if let Some(count) = due(door, reason, Instant::now()) {
        tracing::warn!(door, reason, count, last_from = %from, last = %why, "connections are refused");
    }
}

/// How many there are to tell of, if it is time.
fn due(door: &'static str, reason: &'static str, now: Instant) -> Option<u64> {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    match told.get_mut(&(door, reason)) {
        None => {
            told.insert((door, reason), Told { last: now, since: 0 });
            Some(1)
        }
        Some(told) if now.duration_since(told.last) < QUIET => {
            told.since += 1;
            None
        }
        Some(told) => {
            told.last = now;
            Some(std::mem::take(&mut told.since) + 1)
        }
    }
}

/// How many were refused at `door` for `reason`, in this process.
pub fn refused_so_far(door: &'static str, reason: Reason) -> u64 {
    let reason = reason.as_str();
    REFUSED.get_or_create(&Refusal { door, reason }).get()
}

/// All that were refused.
pub(crate) fn refused() -> &'static Family<Refusal, Counter> {
    &REFUSED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_with_its_count() {
        let now = Instant::now();
        let told: Vec<_> = (0..100).filter_map(|_| due("a", "silent", now)).collect();
        assert_eq!(told, [1]);
        assert_eq!(due("a", "silent", now + QUIET), Some(100));
        assert_eq!(due("b", "silent", now), Some(1));
    }
}
