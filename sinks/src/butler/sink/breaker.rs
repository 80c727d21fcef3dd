//! The circuit breaker of a repository, and the worker behind it.
//!
//! ```text
//!   closed --an error that is not some file's--> open, all wait --a probe answers--> closed, those that waited are due
//!                                                 ^  |
//!                                                 \--/ from 1 to 3 seconds apart, with requests or without
//! ```

use super::{ButlerSink, now};
use crate::butler::{ButlerError, process::Worker, protocol::Ask, settle::unasked};
use dbb_events::{Dependency, Outcome, Request, Settled};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{debug, info, warn};

/// Longest that a probe of a repository that was down may take.
const PROBE: Duration = Duration::from_secs(15);
/// Shortest and longest time between two probes.
const PROBE_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));
/// Between two tries to tell the ledger that the repository is back.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long a sink that has nothing to look after may be left alone.
const AT_REST: Duration = Duration::from_secs(3600);
/// A worker that has not started by then is said to hang: it has much to read.
const START: Duration = Duration::from_secs(30);
/// The circuit breaker, open.
pub(super) struct Down {
    until: Instant,
    pause: Duration,
    pub(super) why: String,
}

impl ButlerSink {
    pub(super) fn start_worker(&mut self) -> Result<&mut Worker, ButlerError> {
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => {
                let (name, settings) = (Arc::clone(&self.name), self.settings.clone());
                let worker = self.asked(START, |_| Worker::start(&name, &settings))?;
                self.stats.update(|stats| {
                    stats.worker_starts += 1;
                    stats.worker_id = Some(worker.id());
                    stats.butler_version.clone_from(&worker.about().butler);
                });
                worker
            }
        };
        Ok(self.worker.insert(worker))
    }

    /// Makes sure that there is a repository to send to; else says why not, without delay.
    pub(super) fn ready(&mut self) -> Result<(), String> {
        match &self.down {
            None => {}
            Some(down) if Instant::now() < down.until => return Err(down.why.clone()),
            Some(_) => {
                let probed = self.asked(super::SILENT, |sink| {
                    sink.start_worker()
                        .and_then(|worker| worker.ask(|id| Ask::Ping { id }, PROBE))
                });
                if let Err(error) = probed {
                    return Err(self.trip(&error));
                }
                self.down = None;
                self.came_back = true;
                self.stats.update(|stats| stats.down = false);
                info!(repository = %self.name, "the Butler repository answers again");
            }
        }
        if let Err(error) = self.start_worker() {
            return Err(self.trip(&error));
        }
        Ok(())
    }

    /// Looks whether a repository that is down answers again, though nobody has a request for it; and makes what waits
    /// for it due once it does.
    pub fn probe(&mut self) {
        if self
            .down
            .as_ref()
            .is_some_and(|down| Instant::now() >= down.until)
        {
            // Why not is in the breaker.
            let _ = self.ready();
        }
        if !self.came_back {
            return;
        }
        match self.history.is_back(&self.name) {
            Ok(rows) => {
                self.came_back = false;
                if rows > 0 {
                    info!(repository = %self.name, rows, "what waited for the repository is due");
                }
            }
            Err(problem) => {
                debug!(repository = %self.name, problem, "the ledger does not know yet that it is back")
            }
        }
    }

    /// How long until [`ButlerSink::probe`] is to be called, if no request comes before.
    pub fn probe_in(&self) -> Duration {
        match &self.down {
            Some(down) => down.until.saturating_duration_since(Instant::now()),
            None if self.came_back => TELL_EVERY,
            None => AT_REST,
        }
    }

    /// Opens the circuit breaker.
    pub(super) fn trip(&mut self, error: &ButlerError) -> String {
        let why = with_causes(error);
        let pause = match &self.down {
            Some(down) => (down.pause * 2).min(PROBE_EVERY.1),
            None => {
                warn!(repository = %self.name, "the Butler repository is down: {why}");
                PROBE_EVERY.0
            }
        };
        if !matches!(error, ButlerError::Down { .. }) {
            self.lose_worker(error);
        }
        self.down = Some(Down {
            until: Instant::now() + pause,
            pause,
            why: why.clone(),
        });
        self.stats.update(|stats| {
            stats.down = true;
            stats.trouble.clone_from(&why);
        });
        why
    }

    /// Lets go of a worker that is of no more use; the next request starts another.
    pub(super) fn lose_worker(&mut self, error: &ButlerError) {
        // One that failed in its own code lives on.
        if matches!(error, ButlerError::Failed { .. }) {
            return;
        }
        if self.worker.take().is_some() {
            warn!(repository = %self.name, "{}; it is started again", with_causes(error));
        }
        self.stats.update(|stats| {
            stats.worker_failures += 1;
            stats.worker_id = None;
            stats.trouble = with_causes(error);
        });
    }

    pub(super) fn all_wait(&self, requests: Vec<Request>, why: &str) -> Vec<Settled> {
        requests
            .into_iter()
            .map(|request| self.wait(request, why))
            .collect()
    }

    pub(super) fn wait(&self, request: Request, why: &str) -> Settled {
        let now = now();
        let outcome = Outcome::Waiting {
            dependency: Dependency::Repository,
            not_before: now.plus_seconds(self.settings.patience.down_retry_s.into()),
            detail: why.to_owned(),
            counts: false,
        };
        unasked(request, outcome, now)
    }

    /// Makes all that wait for the repository due, with the first answer that it gives again.
    pub(super) fn tell_it_is_back(&mut self, settled: &mut [Settled]) {
        let key = Dependency::Repository.key();
        let waits = |outcome: &Outcome| {
            matches!(
                outcome,
                Outcome::Waiting {
                    dependency: Dependency::Repository,
                    ..
                }
            )
        };
        if self.came_back
            && let Some(answer) = settled.iter_mut().find(|answer| !waits(&answer.outcome))
        {
            answer.provides.push(key.as_str().into());
            self.came_back = false;
        }
    }
}

pub(super) fn with_causes(error: &ButlerError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
