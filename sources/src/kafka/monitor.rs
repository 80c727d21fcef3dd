//! Monitor: what the Kafka source knows about itself, for metrics and for readiness.

use super::{commits::Commits, finding::Finding};
use crate::{Partition, Positions, SourceError};
use dbb_events::{Incarnation, Position};
use rdkafka::{
    ClientContext, Statistics,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tracing::{error, warn};

/// The same error of the client is told again after this long.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// A view of the source's statistics that outlives it.
#[derive(Clone)]
pub struct KafkaStatistics(pub(super) Arc<Monitor>);

/// The statistics at one moment; brokers report about every 2 seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KafkaSnapshot {
    /// Brokers with a connection that is up.
    pub brokers_up: usize,
    /// Brokers known.
    pub brokers_known: usize,
    /// Bytes received from brokers.
    pub received_bytes_total: u64,
    /// Records received from brokers.
    pub received_records_total: u64,
    /// Records that retention had removed before they were read.
    pub lost_records_total: u64,
    /// Records with headers of a hub that do not say what they should; each is read as if it had none.
    pub bad_headers_total: u64,
    /// Commits of offsets that failed; each is tried again.
    pub commit_failures_total: u64,
    /// Partitions found to be another than what had been counted, by [`Finding::kind`].
    pub findings_total: BTreeMap<&'static str, u64>,
    /// The last finding of each topic: when, and what a person should know.
    pub findings: BTreeMap<Arc<str>, (Instant, String)>,
    /// Who has not answered for a while, or why offsets are not stored.
    pub trouble: Option<String>,
    /// The last error the client reported; empty once all is well again.
    pub last_error: Option<String>,
    /// Each partition read.
    pub partitions: Vec<PartitionStatistics>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStatistics {
    /// The partition.
    pub partition: Partition,
    /// The offset after the last record emitted.
    pub next: u64,
    /// The offset stored by the group.
    pub committed: Option<u64>,
    /// The offset after the last record there is.
    pub end: u64,
    /// Records not yet emitted.
    pub lag: u64,
}

impl KafkaStatistics {
    /// The statistics now.
    pub fn snapshot(&self) -> KafkaSnapshot {
        let commits = self.0.commits();
        let state = lock(&self.0.state);
        let partitions = state.progress.iter().map(|(partition, progress)| {
            let (next, end) = (progress.next.load(Relaxed), progress.end.load(Relaxed));
            PartitionStatistics {
                partition: partition.clone(),
                next,
                committed: commits.confirmed(partition).map(|at| at.next),
                end: end.max(next),
                // The last offsets of a partition may be marks of transactions, which are no records.
                lag: if progress.at_end.load(Relaxed) {
                    0
                } else {
                    end.saturating_sub(next)
                },
            }
        });
        let silent = state.silent.values().map(|silence| silence.told());
        let trouble: Vec<String> = silent.chain(commits.trouble()).collect();
        KafkaSnapshot {
            commit_failures_total: commits.failures,
            partitions: partitions.collect(),
            trouble: (!trouble.is_empty()).then(|| trouble.join("; ")),
            ..state.snapshot.clone()
        }
    }
}

impl KafkaStatistics {
    /// Below these places all records are handled.
    pub fn handled(&self) -> Positions {
        self.0.commits().handled()
    }
}

/// How far one partition is read; written by its worker.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) incarnation: Incarnation,
    pub(super) next: AtomicU64,
    pub(super) end: AtomicU64,
    pub(super) at_end: AtomicBool,
    /// When its queue was last found empty, and the end was last reached: milliseconds since it began.
    hungry_ms: AtomicU64,
    at_end_ms: AtomicU64,
    began: Instant,
}

impl Progress {
    fn new(at: Position, end: u64) -> Self {
        Self {
            incarnation: at.incarnation,
            next: at.next.into(),
            end: end.into(),
            at_end: false.into(),
            hungry_ms: 0.into(),
            at_end_ms: 0.into(),
            began: Instant::now(),
        }
    }

    /// When it began to be read.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The queue is empty: more would be taken.
    pub(super) fn is_hungry(&self) {
        self.hungry_ms.store(self.now_ms(), Relaxed);
    }

    /// The end was reached.
    pub(super) fn reached_end(&self) {
        self.at_end_ms.store(self.now_ms(), Relaxed);
        self.at_end.store(true, Relaxed);
    }

    /// When its queue was last found empty, and the end was last reached.
    pub(super) fn last(&self) -> (Instant, Instant) {
        let at = |ms: &AtomicU64| self.began + Duration::from_millis(ms.load(Relaxed));
        (at(&self.hungry_ms), at(&self.at_end_ms))
    }
}

/// What is read, by the broker that leads it.
pub(super) type ByLeader = BTreeMap<i32, Vec<(Partition, Arc<Progress>)>>;

/// Somebody who does not answer.
#[derive(Debug, Clone)]
pub(super) struct Silence {
    since: Instant,
    who: String,
}

impl Silence {
    fn told(&self) -> String {
        let seconds = self.since.elapsed().as_secs();
        format!("{} has not answered for {seconds} s", self.who)
    }
}

#[derive(Default)]
pub(super) struct Monitor {
    commits: Mutex<Commits>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    snapshot: KafkaSnapshot,
    progress: BTreeMap<Partition, Arc<Progress>>,
    refused: Option<String>,
    fatal: Option<String>,
    /// Brokers that do not answer, by id.
    silent: BTreeMap<i32, Silence>,
    /// Of each partition the broker that leads it, and their names.
    leaders: BTreeMap<Partition, i32>,
    brokers: BTreeMap<i32, String>,
    /// Errors of the client: when each was last told, and how often it came since.
    told: BTreeMap<String, (Instant, u64)>,
}

impl Monitor {
    pub(super) fn commits(&self) -> MutexGuard<'_, Commits> {
        lock(&self.commits)
    }

    /// The counters of a partition that is read from there on.
    pub(super) fn begin(&self, partition: &Partition, at: Position, end: u64) -> Arc<Progress> {
        let progress = Arc::new(Progress::new(at, end));
        lock(&self.state)
            .progress
            .insert(partition.clone(), progress.clone());
        progress
    }

    pub(super) fn forget(&self, partition: &Partition) {
        lock(&self.state).progress.remove(partition);
        self.commits().forget(partition);
    }

    /// What is read, by the broker that leads it (-1 where that is not known), and the names of brokers.
    pub(super) fn reading(&self) -> (ByLeader, BTreeMap<i32, String>) {
        let state = lock(&self.state);
        let mut by_leader = ByLeader::new();
        for (partition, progress) in &state.progress {
            let leader = state.leaders.get(partition).copied().unwrap_or(-1);
            let of_it = by_leader.entry(leader).or_default();
            of_it.push((partition.clone(), Arc::clone(progress)));
        }
        (by_leader, state.brokers.clone())
    }

    /// A broker has answered, or has not since `asked`.
    pub(super) fn heard(&self, broker: i32, who: impl FnOnce() -> String, silent_since: Option<Instant>) {
        let mut state = lock(&self.state);
        match silent_since {
            None => {
                if let Some(silence) = state.silent.remove(&broker) {
                    let seconds = silence.since.elapsed().as_secs();
                    tracing::info!(who = silence.who, seconds, "answers again");
                }
            }
            Some(since) => {
                state.silent.entry(broker).or_insert_with(|| {
                    let who = who();
                    warn!(
                        who,
                        "does not answer: it is asked again and again, and this is told once"
                    );
                    Silence { since, who }
                });
            }
        }
    }

    /// Of brokers that lead nothing of ours nobody asks any more.
    pub(super) fn asks_only(&self, brokers: impl Fn(i32) -> bool) {
        lock(&self.state).silent.retain(|broker, _| brokers(*broker));
    }

    /// Says what was found of a partition.
    pub(super) fn found(&self, partition: &Partition, finding: Finding) {
        let told = finding.told(partition);
        error!(%partition, kind = finding.kind(), "{told}");
        let mut state = lock(&self.state);
        *state.snapshot.findings_total.entry(finding.kind()).or_default() += 1;
        let found = (Instant::now(), told);
        state
            .snapshot
            .findings
            .insert(Arc::clone(&partition.stream), found);
    }

    pub(super) fn add_lost(&self, records: u64) {
        lock(&self.state).snapshot.lost_records_total += records;
    }

    pub(super) fn add_bad_headers(&self) {
        lock(&self.state).snapshot.bad_headers_total += 1;
    }

    /// The last error, for the message of whoever gives up.
    pub(super) fn last_error(&self) -> Option<String> {
        lock(&self.state).snapshot.last_error.clone()
    }

    /// Why no broker will ever let us in, if so.
    pub(super) fn refused(&self) -> Option<String> {
        lock(&self.state).refused.clone()
    }

    /// Ends the source: every later poll fails.
    pub(super) fn set_fatal(&self, detail: String) {
        error!(detail, "kafka source cannot go on");
        lock(&self.state).fatal.get_or_insert(detail);
    }

    pub(super) fn check_fatal(&self, service: &str) -> Result<(), SourceError> {
        match &lock(&self.state).fatal {
            Some(detail) => Err(SourceError::Unreachable {
                what: service.to_owned(),
                detail: detail.clone(),
            }),
            None => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What librdkafka calls back: all of it ends in the monitor or in the log.
pub(super) struct Context(pub(super) Arc<Monitor>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        dbb_kafka::log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        let state = &mut *lock(&self.0.state);
        let known = statistics.brokers.values().filter(|broker| broker.nodeid >= 0);
        state.snapshot.brokers_known = known.clone().count();
        state.snapshot.brokers_up = known
            .filter(|broker| matches!(&*broker.state, "UP" | "UPDATE"))
            .count();
        state.snapshot.received_bytes_total = statistics.rx_bytes.max(0) as u64;
        state.snapshot.received_records_total = statistics.rxmsgs.max(0) as u64;
        if state.snapshot.brokers_up > 0 && state.snapshot.brokers_up == state.snapshot.brokers_known {
            state.snapshot.last_error = None;
            state.told.clear();
        }
        state.brokers = statistics
            .brokers
            .values()
            .filter(|broker| broker.nodeid >= 0)
            .map(|broker| (broker.nodeid, broker.nodename.clone()))
            .collect();
        state.leaders.clear();
        for (partition, progress) in &state.progress {
            let found = statistics
                .topics
                .get(&*partition.stream)
                .and_then(|t| t.partitions.get(&partition.partition));
            if let Some(leader) = found.map(|found| found.leader) {
                state.leaders.insert(partition.clone(), leader);
            }
            if let Some(end) = found.and_then(|found| u64::try_from(found.hi_offset).ok()) {
                progress.end.store(end, Relaxed);
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        // Told on the partition's own queue.
        if matches!(code, Some(Code::PartitionEOF | Code::AutoOffsetReset)) {
            return;
        }
        let mut state = lock(&self.0.state);
        // The client says each attempt of each connection: once is enough, with their number from time to time.
        let (told, times) = state.told.entry(error.to_string()).or_insert((Instant::now(), 0));
        *times += 1;
        if *times == 1 || told.elapsed() > TELL_EVERY {
            *told = Instant::now();
            warn!(%error, reason, times, "kafka");
        }
        state.snapshot.last_error = Some(reason.to_owned());
        if matches!(code, Some(Code::Authentication | Code::SaslAuthenticationFailed)) {
            state.refused = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Context {}
