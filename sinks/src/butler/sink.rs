//! The sink of one Butler repository.
//!
//! ```text
//!   batch --> older than what was applied? superseded
//!         --> repository down? all wait, at once
//!         --> worker --> answers, settled
//!                |
//!                +-- died or hung: the same again; again: halved, until one file is left alone with it
//! ```
//!
//! In:    requests for this repository.
//! Out:   an answer for each; what is answered `Ingested` is committed in the registry.
//! State: the worker process, the circuit breaker, versions applied lately.

use super::{
    ButlerError, ButlerSettings, ButlerStats, History, VerifyMode,
    history::Recent,
    process::Worker,
    protocol::{Ask, Item, Reply},
    settle::{passing, settle, unasked},
    story,
};
use crate::Sink;
use dbb_events::{Dependency, Did, Micros, Outcome, Reason, Refusal, Request, Settled};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tracing::{info, warn};

/// Longest that a probe of a repository that was down may take.
const PROBE: Duration = Duration::from_secs(15);
/// Shortest and longest time between two probes.
const PROBE_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Bytes a second that any storage can read, where whole files are read for their checksums.
const SLOW_BYTES_S: f64 = 1e7;
/// Times one file may take the worker down with it, alone, before it is answered for.
const ALONE: u32 = 2;
/// Times in a row the worker may hang before it is the repository that hangs, and not some file: a
/// SQLite registry locked by another program looks like this.
const HANGS: u32 = 6;

/// Drives one Butler repository.
pub struct ButlerSink {
    name: Arc<str>,
    settings: ButlerSettings,
    history: Box<dyn History + Send>,
    recent: Recent,
    worker: Option<Worker>,
    down: Option<Down>,
    /// It has come back, and no answer has told the ledger so yet.
    came_back: bool,
    stats: Arc<ButlerStats>,
}

/// The circuit breaker, open.
struct Down {
    until: Instant,
    pause: Duration,
    why: String,
}

/// Requests, by position, that are sent to the worker together.
struct Part {
    positions: Vec<usize>,
    failures: u32,
}

impl ButlerSink {
    /// A sink for the repository that the configuration calls `name`. The worker starts with the
    /// first batch, or with [`ButlerSink::warm`].
    ///
    /// # Errors
    /// The settings are of no use.
    pub fn new(
        name: impl Into<Arc<str>>,
        settings: ButlerSettings,
        history: Box<dyn History + Send>,
    ) -> Result<Self, ButlerError> {
        settings.validate()?;
        Ok(Self {
            name: name.into(),
            settings,
            history,
            recent: Recent::default(),
            worker: None,
            down: None,
            came_back: false,
            stats: Arc::default(),
        })
    }

    /// Its counters, which may be read at any time from any thread.
    pub fn stats(&self) -> Arc<ButlerStats> {
        Arc::clone(&self.stats)
    }

    /// Starts the worker, so that the first batch need not wait for it.
    ///
    /// # Errors
    /// It does not start. The sink is usable all the same: it tries again, and batches wait.
    pub fn warm(&mut self) -> Result<(), ButlerError> {
        self.start_worker().map(drop)
    }

    /// The versions already applied of these requests' files.
    fn applied(&mut self, batch: &[Request]) -> Result<HashMap<Did, Micros>, String> {
        let start = Instant::now();
        let dids: Vec<Did> = batch.iter().map(|request| request.did.clone()).collect();
        let mut applied = self.history.applied(&self.name, &dids)?;
        for did in dids {
            if let Some(version) = self.recent.version(&did) {
                let known = applied.entry(did).or_insert(version);
                *known = version.max(*known);
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        self.stats.update(|stats| stats.history_seconds += seconds);
        Ok(applied)
    }

    /// Answers for requests of which no two are for one file.
    fn ask(&mut self, requests: Vec<Request>) -> Vec<Settled> {
        let mut outcomes: Vec<Option<Settled>> = requests.iter().map(|_| None).collect();
        if let Err(why) = self.ready() {
            return self.all_wait(requests, &why);
        }
        let mut failures_left = 2 * ALONE + usize::BITS - requests.len().leading_zeros();
        // First in, first out: both halves are tried before either is halved again, so that a file that
        // takes the worker down is soon followed by a success.
        let mut parts = VecDeque::from([Part {
            positions: (0..requests.len()).collect(),
            failures: 0,
        }]);
        let mut hangs = 0;
        while let Some(mut part) = parts.pop_front() {
            let error = match self.send(&requests, &part.positions) {
                Ok(reply) => {
                    hangs = 0;
                    self.take(reply, &requests, &part.positions, &mut outcomes);
                    continue;
                }
                Err(error) => error,
            };
            hangs += u32::from(matches!(error, ButlerError::Hung { .. }));
            if !error.may_be_the_items() || hangs >= HANGS {
                self.trip(&error);
                break;
            }
            self.lose_worker(&error);
            part.failures += 1;
            failures_left = failures_left.saturating_sub(1);
            match part.positions[..] {
                [position] if part.failures >= ALONE => {
                    let request = &requests[position];
                    let outcome = self.alone(request, &error);
                    outcomes[position] = Some(unasked(request.clone(), outcome, now()));
                }
                _ if failures_left == 0 => {
                    // Whatever it is, it is not one file: all of them have had their turn.
                    for position in part
                        .positions
                        .into_iter()
                        .chain(parts.drain(..).flat_map(|part| part.positions))
                    {
                        let request = &requests[position];
                        let detail = format!("{error}, again and again");
                        let outcome =
                            passing(request, Reason::Butler, detail, now(), &self.settings.patience);
                        outcomes[position] = Some(unasked(request.clone(), outcome, now()));
                    }
                }
                [_] => parts.push_back(part),
                // Once may have been anybody's fault.
                _ if part.failures == 1 => parts.push_back(part),
                _ => {
                    let right = part.positions.split_off(part.positions.len() / 2);
                    for positions in [part.positions, right] {
                        // A half that fails once more is halved again.
                        parts.push_back(Part {
                            positions,
                            failures: 1,
                        });
                    }
                }
            }
        }
        let why = self
            .down
            .as_ref()
            .map_or("the worker did not answer", |down| &down.why)
            .to_owned();
        requests
            .into_iter()
            .zip(outcomes)
            .map(|(request, settled)| settled.unwrap_or_else(|| self.wait(request, &why)))
            .collect()
    }

    /// Turns the worker's answers into outcomes.
    fn take(
        &self,
        reply: Reply,
        requests: &[Request],
        positions: &[usize],
        outcomes: &mut [Option<Settled>],
    ) {
        let now = now();
        let (types, runs) = self.stats.note_new(&reply.new_dataset_types, &reply.new_runs);
        for dataset_type in types {
            warn!(repository = %self.name, dataset_type, "a dataset type is new to the repository");
        }
        for run in runs {
            warn!(repository = %self.name, run, "a RUN is new to the repository");
        }
        self.stats.update(|stats| {
            stats.worker_requests += 1;
            stats.butler_calls += reply.calls;
            stats.worker_seconds += reply.ms / 1e3;
        });
        for answer in reply.items {
            // An answer to nothing that was asked is dropped; a request without one waits.
            if let Some(request) = positions
                .binary_search(&answer.k)
                .is_ok()
                .then(|| requests.get(answer.k))
                .flatten()
            {
                let position = answer.k;
                outcomes[position] = Some(settle(request.clone(), answer, now, &self.settings.patience));
            }
        }
    }

    fn send(&mut self, requests: &[Request], positions: &[usize]) -> Result<Reply, ButlerError> {
        let items = positions.iter().map(|&k| Item::of(k, &requests[k])).collect();
        let bytes = positions
            .iter()
            .filter_map(|&k| requests[k].bytes)
            .fold(0, u64::saturating_add);
        let limit = self.limit(positions.len(), bytes);
        self.start_worker()?.ask(|id| Ask::Ingest { id, items }, limit)
    }

    fn limit(&self, items: usize, bytes: u64) -> Duration {
        let (worker, verify) = (&self.settings.worker, &self.settings.verify);
        let reading = if verify.mode == VerifyMode::Checksum && verify.read_bytes {
            let bytes_s = verify
                .rate_mb_s
                .map_or(SLOW_BYTES_S, |rate| (rate * 1e6).min(SLOW_BYTES_S));
            // A day at most, whatever the events say of sizes.
            Duration::from_secs_f64((bytes as f64 / bytes_s).min(86_400.0))
        } else {
            Duration::ZERO
        };
        Duration::from_secs(worker.request_timeout_s)
            + Duration::from_millis(worker.request_timeout_per_item_ms.saturating_mul(items as u64))
            + reading
    }

    fn start_worker(&mut self) -> Result<&mut Worker, ButlerError> {
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => {
                let worker = Worker::start(&self.name, &self.settings)?;
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
    fn ready(&mut self) -> Result<(), String> {
        match &self.down {
            None => {}
            Some(down) if Instant::now() < down.until => return Err(down.why.clone()),
            Some(_) => {
                let probed = self
                    .start_worker()
                    .and_then(|worker| worker.ask(|id| Ask::Ping { id }, PROBE));
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

    /// Opens the circuit breaker.
    fn trip(&mut self, error: &ButlerError) -> String {
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
    fn lose_worker(&mut self, error: &ButlerError) {
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

    /// The end of a file that takes the worker down whenever it is alone with it.
    fn alone(&self, request: &Request, error: &ButlerError) -> Outcome {
        let detail = format!(
            "{}, each of {ALONE} times with {} alone",
            with_causes(error),
            request.uri
        );
        match error {
            // Somebody else may have killed it, or the storage may hang.
            ButlerError::Died { killed: true, .. }
            | ButlerError::Hung { .. }
            | ButlerError::Failed { .. } => {
                passing(request, Reason::Butler, detail, now(), &self.settings.patience)
            }
            _ => Outcome::Refused(Refusal {
                reason: Reason::Butler,
                detail,
            }),
        }
    }

    fn all_wait(&self, requests: Vec<Request>, why: &str) -> Vec<Settled> {
        requests
            .into_iter()
            .map(|request| self.wait(request, why))
            .collect()
    }

    fn wait(&self, request: Request, why: &str) -> Settled {
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
    fn tell_it_is_back(&mut self, settled: &mut [Settled]) {
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

    fn round(
        &mut self,
        requests: Vec<Request>,
        applied: &mut HashMap<Did, Micros>,
        settled: &mut Vec<Settled>,
    ) -> Vec<Request> {
        let mut current = Vec::with_capacity(requests.len());
        for request in requests {
            match applied.get(&request.did) {
                Some(&by) if request.created_at < by => {
                    settled.push(unasked(request, Outcome::Superseded { by }, now()));
                }
                _ => current.push(request),
            }
        }
        let round = story::newest(current);
        let answered = self.ask(round.first);
        for answer in &answered {
            if matches!(
                answer.outcome,
                Outcome::Ingested | Outcome::AlreadyThere | Outcome::AlreadyThereElsewhere { .. }
            ) {
                let did = &answer.request.did;
                self.recent.note(did, answer.request.created_at);
                applied.insert(did.clone(), answer.request.created_at);
            }
        }
        for (leader, request) in round.followers {
            settled.push(Settled {
                request,
                ..answered[leader].clone()
            });
        }
        settled.extend(answered);
        round.later
    }
}

impl Sink for ButlerSink {
    fn deliver(&mut self, batch: Vec<Request>) -> Vec<Settled> {
        let start = Instant::now();
        let size = batch.len();
        let mut settled = match self.applied(&batch) {
            Ok(mut applied) => {
                let mut settled = Vec::with_capacity(size);
                let mut rest = batch;
                while !rest.is_empty() {
                    rest = self.round(rest, &mut applied, &mut settled);
                }
                settled
            }
            Err(problem) => {
                warn!(repository = %self.name, problem, "the ledger did not tell what was applied: the batch waits");
                self.all_wait(
                    batch,
                    &format!("the ledger did not tell what was applied: {problem}"),
                )
            }
        };
        self.tell_it_is_back(&mut settled);
        for answer in &settled {
            self.stats.count(&answer.outcome);
        }
        self.stats.update(|stats| {
            stats.batches += 1;
            stats.requests += size as u64;
            stats.largest_batch = stats.largest_batch.max(size as u64);
            stats.deliver_seconds += start.elapsed().as_secs_f64();
        });
        settled
    }
}

fn now() -> Micros {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}

fn with_causes(error: &ButlerError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
