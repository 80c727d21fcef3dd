//! The sink of one Butler repository.
//!
//! ```text
//!   batch --> older than what was applied? superseded; a late landing of what is gone is looked for all the same
//!         --> repository down? all wait, at once
//!         --> worker --> answers, settled
//!                |
//!                +-- died or hung: the same again; again: halved, until one file is left alone with it
//! ```
//!
//! In:    requests for this repository.
//! Out:   an answer for each; what is answered `Ingested` or `Removed` is committed in the registry.
//! State: the worker process, the circuit breaker, what was applied lately.

mod breaker;
mod known;

use super::{
    Applied, ButlerError, ButlerSettings, ButlerStats, History, Removal, VerifyMode,
    history::Recent,
    process::Worker,
    protocol::{Ask, Class, Gone, Item, Reply},
    settle::{passing, settle, unasked},
    story,
};
use crate::Sink;
use breaker::{Down, with_causes};
use dbb_events::{Action, Dependency, Did, Micros, Outcome, Reason, Refusal, Request, Settled};
use known::{became, described, removal};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::warn;

/// Bytes a second that any storage can read, where whole files are read for their checksums.
const SLOW_BYTES_S: f64 = 1e7;
/// A worker that has not answered for longer, beside reading bytes, is said to hang.
const SILENT: Duration = Duration::from_secs(6);
/// Seconds until the next try where the ledger does not tell: until it answers, none can be written down either.
const LEDGER_AWAY_S: i64 = 2;
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
        match self.start_worker() {
            Ok(_) => {
                // Something may have waited for it since before this process.
                self.came_back = true;
                Ok(())
            }
            Err(error) => {
                self.trip(&error);
                Err(error)
            }
        }
    }

    /// What became last of these requests' files.
    fn applied(&mut self, batch: &[Request]) -> Result<HashMap<Did, Applied>, String> {
        let start = Instant::now();
        let dids: Vec<Did> = batch.iter().map(|request| request.did.clone()).collect();
        let mut applied = self.history.applied(&self.name, &dids)?;
        for did in dids {
            // Nobody else writes of this repository: the ledger is never ahead.
            if let Some(recent) = self.recent.get(&did) {
                applied.insert(did, recent.clone());
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        self.stats.update(|stats| stats.history_seconds += seconds);
        Ok(applied)
    }

    /// Answers for requests of which no two are for one file, and all for files that have landed, or all for files
    /// that are gone.
    fn ask(&mut self, requests: Vec<Request>, applied: &HashMap<Did, Applied>) -> Vec<Settled> {
        if requests.is_empty() {
            return Vec::new();
        }
        let mut outcomes: Vec<Option<Settled>> = requests.iter().map(|_| None).collect();
        if let Err(why) = self.ready() {
            return self.all_wait(requests, &why);
        }
        let began = now();
        let mut failures_left = 2 * ALONE + usize::BITS - requests.len().leading_zeros();
        // First in, first out: both halves are tried before either is halved again, so that a file that
        // takes the worker down is soon followed by a success.
        let mut parts = VecDeque::from([Part {
            positions: (0..requests.len()).collect(),
            failures: 0,
        }]);
        let mut hangs = 0;
        while let Some(mut part) = parts.pop_front() {
            let error = match self.send(&requests, &part.positions, applied) {
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
            .map(|settled| attempted(settled, began))
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

    fn send(
        &mut self,
        requests: &[Request],
        positions: &[usize],
        applied: &HashMap<Did, Applied>,
    ) -> Result<Reply, ButlerError> {
        let mut landed = Vec::new();
        let mut gone = Vec::new();
        for &k in positions {
            let request = &requests[k];
            match request.action {
                Action::Register(kind) => landed.push(Item::of(k, kind, request)),
                Action::Remove => gone.push(removal(k, request, applied.get(&request.did))),
            }
        }
        if !gone.is_empty() {
            return self.forget(gone);
        }
        let bytes = positions
            .iter()
            .filter_map(|&k| requests[k].bytes)
            .fold(0, u64::saturating_add);
        let limit = self.limit(positions.len(), bytes);
        let most = SILENT + self.reading(bytes);
        self.asked(most, |sink| {
            sink.start_worker()?
                .ask(|id| Ask::Ingest { id, items: landed }, limit)
        })
    }

    /// Does what asks the worker, and notes meanwhile that it does; longer than `most` is too long.
    fn asked<T>(&mut self, most: Duration, ask: impl FnOnce(&mut Self) -> T) -> T {
        self.stats
            .update(|stats| stats.asked = Some((Instant::now(), most)));
        let answer = ask(self);
        self.stats.update(|stats| stats.asked = None);
        answer
    }

    fn forget(&mut self, items: Vec<Gone>) -> Result<Reply, ButlerError> {
        let datasets = items.iter().map(|gone| gone.uuids.len().max(1)).sum();
        let limit = self.limit(datasets, 0);
        self.asked(SILENT, |sink| {
            sink.start_worker()?.ask(|id| Ask::Forget { id, items }, limit)
        })
    }

    /// Landings of files that are gone by now: whatever was registered from one, if `dbb` died before it wrote so
    /// down, is forgotten.
    fn superseded_by_removal(&mut self, requests: Vec<Request>, by: Vec<Micros>) -> Vec<Settled> {
        if requests.is_empty() {
            return Vec::new();
        }
        if let Err(why) = self.ready() {
            return self.all_wait(requests, &why);
        }
        let gone = requests.iter().enumerate().map(|(k, request)| Gone {
            k,
            uuids: described(&request.sidecar).into_iter().collect(),
            uris: vec![Arc::clone(&request.uri)],
            registered: false,
        });
        let began = now();
        match self.forget(gone.collect()) {
            Ok(reply) => {
                let mut open: HashMap<usize, _> =
                    reply.items.into_iter().map(|answer| (answer.k, answer)).collect();
                open.retain(|_, answer| answer.class == Class::RetryLater);
                requests
                    .into_iter()
                    .zip(by)
                    .enumerate()
                    .map(|(k, (request, by))| match open.remove(&k) {
                        Some(answer) => settle(request, answer, now(), &self.settings.patience),
                        None => unasked(request, Outcome::Superseded { by }, now()),
                    })
                    .map(|settled| attempted(settled, began))
                    .collect()
            }
            Err(error) => {
                let why = self.trip(&error);
                let waiting = self.all_wait(requests, &why).into_iter();
                waiting.map(|settled| attempted(settled, began)).collect()
            }
        }
    }

    fn limit(&self, items: usize, bytes: u64) -> Duration {
        let worker = &self.settings.worker;
        Duration::from_secs(worker.request_timeout_s)
            + Duration::from_millis(worker.request_timeout_per_item_ms.saturating_mul(items as u64))
            + self.reading(bytes)
    }

    /// Longest that reading so many bytes for their checksums may take.
    fn reading(&self, bytes: u64) -> Duration {
        let verify = &self.settings.verify;
        if verify.mode == VerifyMode::Checksum && verify.read_bytes {
            let bytes_s = verify
                .rate_mb_s
                .map_or(SLOW_BYTES_S, |rate| (rate * 1e6).min(SLOW_BYTES_S));
            // A day at most, whatever the events say of sizes.
            Duration::from_secs_f64((bytes as f64 / bytes_s).min(86_400.0))
        } else {
            Duration::ZERO
        }
    }

    /// The end of a file that takes the worker down whenever it is alone with it.
    fn alone(&self, request: &Request, error: &ButlerError) -> Outcome {
        // The place is what somebody will look at; a file that is gone may have none.
        let which: &dyn std::fmt::Display = if request.uri.is_empty() {
            &request.did
        } else {
            &request.uri
        };
        let detail = format!("{}, each of {ALONE} times with {which} alone", with_causes(error));
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

    fn round(
        &mut self,
        requests: Vec<Request>,
        applied: &mut HashMap<Did, Applied>,
        settled: &mut Vec<Settled>,
    ) -> Vec<Request> {
        let mut current = Vec::with_capacity(requests.len());
        let (mut late, mut late_by) = (Vec::new(), Vec::new());
        for request in requests {
            match applied.get(&request.did) {
                Some(last) if last.supersedes(&request) => {
                    let by = last.version;
                    let is_late = last.state.is_gone() && !request.action.is_removal();
                    if is_late && self.settings.removal != Removal::Off {
                        late.push(request);
                        late_by.push(by);
                    } else {
                        settled.push(unasked(request, Outcome::Superseded { by }, now()));
                    }
                }
                _ => current.push(request),
            }
        }
        settled.extend(self.superseded_by_removal(late, late_by));
        let round = story::newest(current);
        let gone: Vec<bool> = round
            .first
            .iter()
            .map(|request| request.action.is_removal())
            .collect();
        let (removals, landings) = round
            .first
            .into_iter()
            .partition(|request| request.action.is_removal());
        let mut removals = self.ask(removals, applied).into_iter();
        let mut landings = self.ask(landings, applied).into_iter();
        // Back in the order of the round, which its followers know.
        let answered: Vec<Settled> = gone
            .into_iter()
            .filter_map(|gone| if gone { removals.next() } else { landings.next() })
            .collect();
        for answer in &answered {
            if answer.outcome.is_registered() || answer.outcome.is_gone() {
                let did = &answer.request.did;
                let now = became(answer, applied.get(did));
                self.recent.note(did, now.clone());
                applied.insert(did.clone(), now);
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
                let why = format!("the ledger did not tell what was applied: {problem}");
                let now = now();
                let wait = |request| {
                    let outcome = Outcome::Waiting {
                        dependency: Dependency::Time,
                        not_before: now.plus_seconds(LEDGER_AWAY_S),
                        detail: why.clone(),
                        counts: false,
                    };
                    unasked(request, outcome, now)
                };
                batch.into_iter().map(wait).collect()
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
    crate::clock::now()
}

/// An answer of an attempt that began then.
fn attempted(settled: Settled, began: Micros) -> Settled {
    let micros = settled.at.0.saturating_sub(began.0);
    Settled {
        took: Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0))),
        ..settled
    }
}
