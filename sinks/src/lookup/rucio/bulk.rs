//! Many DIDs, asked for so that each has its own answer, whatever is wrong with others.
//!
//! ```text
//!   DIDs --> parts of `bulk` --> answered whole: metadata, or unknown
//!                            --> failed, or lines that cannot be read: is Rucio itself well?
//!                                  yes: halves, and halves of them, down to the one to blame
//!                                  no: all wait
//! ```
//!
//! State: how many DIDs Rucio manages in one request, and one that it is known to know.

use super::{Rucio, breaker::Admit};
use crate::lookup::LookUpError;
use dbb_events::{Did, Micros};
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Requests that may fail while the DIDs to blame are looked for in one part. Those left then wait.
const MOST_FAILURES: usize = 100;
/// How long refused credentials are not tried again: accounts get locked for less.
const AFTER_REFUSAL: Duration = Duration::from_secs(15);

/// Asks for metadata; clones share what they learn of Rucio.
#[derive(Debug, Clone)]
pub(in crate::lookup) struct Bulk {
    rucio: Rucio,
    shared: Arc<Learnt>,
}

#[derive(Debug)]
struct Learnt {
    size: AtomicUsize,
    known: Mutex<Option<Did>>,
}

/// What is told of one DID.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::lookup) enum Told {
    /// Its metadata.
    Metadata(Map<String, Value>),
    /// Rucio has no such DID.
    Unknown,
    /// Rucio fails over this DID alone, and why.
    Trouble(String),
    /// Rucio cannot be asked since then, and why.
    Down { why: String, since: Micros },
}

impl Bulk {
    pub(in crate::lookup) fn new(rucio: Rucio) -> Self {
        let size = AtomicUsize::new(rucio.settings().bulk);
        Self {
            rucio,
            shared: Arc::new(Learnt {
                size,
                known: Mutex::new(None),
            }),
        }
    }

    /// Every one of `dids`, which are distinct, with what is told of it.
    pub(in crate::lookup) fn look(&self, mut dids: Vec<Did>) -> HashMap<Did, Told> {
        let mut told = HashMap::with_capacity(dids.len());
        while !dids.is_empty() {
            let settings = self.rucio.settings();
            // A request may be tried twice, each time with a token to fetch first.
            let patience = Duration::from_secs(4 * (settings.timeout_s + settings.connect_timeout_s));
            let (why, since) = match self.rucio.breaker().admit(Instant::now(), patience) {
                Admit::Wait { why, since } => (why, since),
                Admit::Go => {
                    let size = self.shared.size.load(Ordering::Relaxed).clamp(1, dids.len());
                    let part = dids.split_off(dids.len() - size);
                    match self.part(part, &mut told) {
                        Ok(()) => {
                            self.worked(size);
                            continue;
                        }
                        Err((error, unasked)) => {
                            dids.extend(unasked);
                            self.failed(&error, size)
                        }
                    }
                }
            };
            let down = Told::Down { why, since };
            told.extend(dids.drain(..).map(|did| (did, down.clone())));
        }
        told
    }

    /// One part; an error is Rucio's own, and comes with the DIDs of which nothing is told yet.
    fn part(&self, dids: Vec<Did>, told: &mut HashMap<Did, Told>) -> Result<(), (LookUpError, Vec<Did>)> {
        let mut parts = vec![dids];
        let (mut failures, mut is_well) = (0, false);
        while let Some(part) = parts.pop() {
            let (left, why, unknown) = match self.rucio.metadata(&part) {
                Ok(answer) => {
                    is_well = true;
                    let (left, why) = self.take(part, answer, told);
                    match why {
                        Some(why) => (left, why, false),
                        None => {
                            self.rucio
                                .stats()
                                .update(|stats| stats.dids_unknown += left.len() as u64);
                            told.extend(left.into_iter().map(|did| (did, Told::Unknown)));
                            continue;
                        }
                    }
                }
                Err(error) => {
                    failures += 1;
                    is_well = is_well || matches!(error, LookUpError::Name { .. });
                    if !error.may_be_the_names()
                        || failures > MOST_FAILURES
                        || !(is_well || self.is_well(&part))
                    {
                        parts.push(part);
                        return Err((error, parts.concat()));
                    }
                    is_well = true;
                    let unknown = matches!(error, LookUpError::Failed { status: 404, .. });
                    (part, error.to_string(), unknown)
                }
            };
            match left.as_slice() {
                [] => {}
                [did] => {
                    let verdict = if unknown {
                        Told::Unknown
                    } else {
                        Told::Trouble(why)
                    };
                    told.insert(did.clone(), verdict);
                }
                _ => {
                    let (first, second) = left.split_at(left.len() / 2);
                    parts.extend([first.to_vec(), second.to_vec()]);
                }
            }
        }
        Ok(())
    }

    /// Takes what was answered; returns the DIDs that have no line, and why that says nothing of them.
    fn take(
        &self,
        part: Vec<Did>,
        mut answer: super::metadata::Metadata,
        told: &mut HashMap<Did, Told>,
    ) -> (Vec<Did>, Option<String>) {
        let mut left = Vec::new();
        let mut known = None;
        for did in part {
            match answer.found.remove(&did) {
                Some(metadata) => {
                    known = Some(did.clone());
                    told.insert(did, Told::Metadata(metadata));
                }
                None => left.push(did),
            }
        }
        if known.is_some() {
            *self.known() = known;
        }
        (left, answer.bad)
    }

    /// Asks for something that is surely not to blame: another DID, known or else one that does not exist.
    fn is_well(&self, part: &[Did]) -> bool {
        let known = self.known().clone().filter(|did| !part.contains(did));
        let scope = part.first().map_or("dbb", |did| &did.scope);
        let other = known.unwrap_or_else(|| Did::new(scope, "dbb-is-it-well"));
        self.rucio.metadata(&[other]).is_ok()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Did>> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worked(&self, size: usize) {
        let most = self.rucio.settings().bulk;
        if size < most && size == self.shared.size.load(Ordering::Relaxed) {
            self.shared
                .size
                .store((size + size / 4 + 1).min(most), Ordering::Relaxed);
        }
        if self.rucio.breaker().worked() {
            tracing::info!(url = self.rucio.settings().url, "Rucio answers again");
            self.rucio.stats().update(|stats| stats.down = false);
        }
    }

    fn failed(&self, error: &LookUpError, size: usize) -> (String, Micros) {
        let pause = match error {
            LookUpError::Credentials { .. } | LookUpError::Secret { .. } => Some(AFTER_REFUSAL),
            LookUpError::Busy { retry_after_s, .. } => retry_after_s.map(Duration::from_secs),
            LookUpError::Silent { .. } => {
                self.shared.size.store((size / 2).max(1), Ordering::Relaxed);
                None
            }
            _ => None,
        };
        let why = said(error);
        let (since, news) = self
            .rucio
            .breaker()
            .failed(&why, pause, Instant::now(), super::super::now());
        if news {
            tracing::warn!(why, "Rucio cannot be asked: files wait for their labels");
        }
        self.rucio.stats().update(|stats| {
            stats.down = true;
            stats.trouble.clone_from(&why);
        });
        (why, since)
    }
}

/// An error with its causes, in one sentence.
fn said(error: &LookUpError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
