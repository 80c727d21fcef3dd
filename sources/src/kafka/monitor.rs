//! Monitor: what the Kafka source knows about itself, for metrics and for readiness.

use super::commits::Commits;
use crate::{Partition, SourceError};
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
};
use tracing::{error, warn};

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
                committed: commits.confirmed(partition),
                end: end.max(next),
                // The last offsets of a partition may be marks of transactions, which are no records.
                lag: if progress.at_end.load(Relaxed) {
                    0
                } else {
                    end.saturating_sub(next)
                },
            }
        });
        KafkaSnapshot {
            commit_failures_total: commits.failures,
            partitions: partitions.collect(),
            ..state.snapshot.clone()
        }
    }
}

/// How far one partition is read; written by its worker.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) next: AtomicU64,
    pub(super) end: AtomicU64,
    pub(super) at_end: AtomicBool,
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
}

impl Monitor {
    pub(super) fn commits(&self) -> MutexGuard<'_, Commits> {
        lock(&self.commits)
    }

    /// The counters of a partition that is read from `next` on.
    pub(super) fn begin(&self, partition: &Partition, next: u64, end: u64) -> Arc<Progress> {
        let progress = Arc::new(Progress {
            next: next.into(),
            end: end.into(),
            at_end: false.into(),
        });
        lock(&self.state)
            .progress
            .insert(partition.clone(), progress.clone());
        progress
    }

    pub(super) fn forget(&self, partition: &Partition) {
        lock(&self.state).progress.remove(partition);
        self.commits().forget(partition);
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
        }
        for (partition, progress) in &state.progress {
            let found = statistics
                .topics
                .get(&*partition.stream)
                .and_then(|t| t.partitions.get(&partition.partition));
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
        warn!(%error, reason, "kafka");
        let mut state = lock(&self.0.state);
        state.snapshot.last_error = Some(reason.to_owned());
        if matches!(code, Some(Code::Authentication | Code::SaslAuthenticationFailed)) {
            state.refused = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Context {}
