//! Whether the dataflow steps, and what keeps it from doing all of its work.

use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Shared by the dataflow, which reports, and the server, which tells.
///
/// *Live* means that the dataflow stepped not long ago: an orchestrator restarts what is not. *Ready* means
/// that nothing is wrong: a repository that is down is a condition, by name, and no reason to restart.
#[derive(Debug)]
pub struct Health {
    limit: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    heartbeat: Option<Instant>,
    conditions: BTreeMap<String, String>,
}

/// What `/livez` says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Liveness {
    /// False when the last step is too long ago.
    pub live: bool,
    /// Seconds since the last step; nothing before the first.
    pub heartbeat_age_seconds: Option<f64>,
}

/// What `/readyz` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// True when there is no reason against it.
    pub ready: bool,
    /// What is wrong, by the name of the thing.
    pub reasons: BTreeMap<String, String>,
}

impl Health {
    /// Starting: not ready before the first [`Health::beat`]. Dead when no beat comes for `limit`; a start, which
    /// may wait for a Butler, has no limit.
    pub fn new(limit: Duration) -> Self {
        let conditions = BTreeMap::from([(STARTING.to_owned(), "the dataflow has not started".to_owned())]);
        Self {
            limit,
            state: Mutex::new(State {
                heartbeat: None,
                conditions,
            }),
        }
    }

    /// The dataflow has stepped.
    pub fn beat(&self) {
        let mut state = self.lock();
        if state.heartbeat.replace(Instant::now()).is_none() {
            state.conditions.remove(STARTING);
        }
    }

    /// `condition` (`ledger`, `repository main`, `kafka`) is bad, for `reason`.
    pub fn fail(&self, condition: &str, reason: impl Into<String>) {
        self.lock().conditions.insert(condition.to_owned(), reason.into());
    }

    /// `condition` is good again.
    pub fn clear(&self, condition: &str) {
        self.lock().conditions.remove(condition);
    }

    /// Whether the dataflow steps.
    pub fn liveness(&self) -> Liveness {
        let age = self.lock().heartbeat.map(|at| at.elapsed());
        Liveness {
            live: age.is_none_or(|age| age <= self.limit),
            heartbeat_age_seconds: age.map(|age| age.as_secs_f64()),
        }
    }

    /// Whether all of its work is being done.
    pub fn readiness(&self) -> Readiness {
        let mut reasons = self.lock().conditions.clone();
        let liveness = self.liveness();
        if let (false, Some(age)) = (liveness.live, liveness.heartbeat_age_seconds) {
            reasons.insert("dataflow".into(), format!("has not stepped for {age:.0} seconds"));
        }
        Readiness {
            ready: reasons.is_empty(),
            reasons,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // What is in it is whole after each statement, whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The condition before the first step.
const STARTING: &str = "starting";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_step_it_is_live_but_not_ready() {
        let health = Health::new(Duration::ZERO);
        assert!(health.liveness().live);
        assert_eq!(
            health.readiness().reasons["starting"],
            "the dataflow has not started"
        );
        let health = Health::new(Duration::MAX);
        health.beat();
        assert!(health.readiness().ready);
    }

    #[test]
    fn a_dataflow_that_no_longer_steps_is_neither_live_nor_ready() {
        let health = Health::new(Duration::ZERO);
        health.beat();
        while health.liveness().live {}
        assert!(health.readiness().reasons["dataflow"].starts_with("has not stepped for"));
    }

    #[test]
    fn a_condition_is_named_until_it_is_cleared() {
        let health = Health::new(Duration::MAX);
        health.beat();
        health.fail("repository main", "database is down");
        health.fail("ledger", "disk full");
        health.clear("ledger");
        let readiness = health.readiness();
        assert!(!readiness.ready && health.liveness().live);
        assert_eq!(
            readiness.reasons.into_iter().collect::<Vec<_>>(),
            [("repository main".to_owned(), "database is down".to_owned())]
        );
        health.clear("repository main");
        assert!(health.readiness().ready);
    }
}
