//! Figures: what was published, sent again and refused, for metrics.

use crate::topics::wire::{Trouble, lock};
use dbb_events::Class;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Upper bounds of the classes of [`TopicsSnapshot::confirm_seconds`]; what is longer is in a last class.
pub const CONFIRM_SECONDS: [f64; 8] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// Figures that go on counting; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct TopicsFigures(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    published: Mutex<BTreeMap<(Arc<str>, Class), u64>>,
    confirm: [AtomicU64; CONFIRM_SECONDS.len() + 1],
    confirm_micros: AtomicU64,
    refused: AtomicU64,
    resent: AtomicU64,
    unavailable: AtomicU64,
    requests: AtomicU64,
    bad_requests: AtomicU64,
    heartbeats: AtomicU64,
    producers: AtomicU64,
    log_bytes: AtomicU64,
    publishing: Trouble,
    messages: Mutex<Option<Trouble>>,
}

/// The figures at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopicsSnapshot {
    /// Records published, by topic and class; those sent again are not among them.
    pub published_total: BTreeMap<(Arc<str>, Class), u64>,
    /// Batches by how long their records took to be confirmed: the classes of [`CONFIRM_SECONDS`].
    pub confirm_seconds: Vec<u64>,
    /// All of these times together, in seconds.
    pub confirm_seconds_sum: f64,
    /// Records that their topics did not take.
    pub refused_total: u64,
    /// Records sent again because a site asked.
    pub resent_total: u64,
    /// Records that a site asked for and that are not kept any more.
    pub unavailable_total: u64,
    /// Requests of sites that were answered.
    pub requests_total: u64,
    /// Requests that could not be understood.
    pub bad_requests_total: u64,
    /// Heartbeats sent: one for each partition and time.
    pub heartbeats_total: u64,
    /// Producers that were made anew after one could not go on.
    pub producer_restarts_total: u64,
    /// Bytes in the sent log.
    pub sent_log_bytes: u64,
    /// What keeps publishing waiting just now.
    pub trouble: Option<String>,
    /// What keeps heartbeats and resending waiting just now.
    pub message_trouble: Option<String>,
}

impl TopicsFigures {
    /// The figures now.
    pub fn snapshot(&self) -> TopicsSnapshot {
        let inner = &*self.0;
        TopicsSnapshot {
            published_total: lock(&inner.published).clone(),
            confirm_seconds: inner.confirm.iter().map(|count| count.load(Relaxed)).collect(),
            confirm_seconds_sum: inner.confirm_micros.load(Relaxed) as f64 / 1e6,
            refused_total: inner.refused.load(Relaxed),
            resent_total: inner.resent.load(Relaxed),
            unavailable_total: inner.unavailable.load(Relaxed),
            requests_total: inner.requests.load(Relaxed),
            bad_requests_total: inner.bad_requests.load(Relaxed),
            heartbeats_total: inner.heartbeats.load(Relaxed),
            producer_restarts_total: inner.producers.load(Relaxed),
            sent_log_bytes: inner.log_bytes.load(Relaxed),
            trouble: inner.publishing.get(),
            message_trouble: lock(&inner.messages).as_ref().and_then(Trouble::get),
        }
    }

    /// What keeps publishing waiting.
    pub(super) fn trouble(&self) -> Trouble {
        self.0.publishing.clone()
    }

    /// The messenger of heartbeats and resending tells here what keeps it waiting.
    pub(super) fn messenger(&self, trouble: Trouble) {
        *lock(&self.0.messages) = Some(trouble);
    }

    pub(super) fn published(&self, counts: BTreeMap<(Arc<str>, Class), u64>, took: Duration) {
        let mut published = lock(&self.0.published);
        for (key, count) in counts {
            *published.entry(key).or_default() += count;
        }
        let class = CONFIRM_SECONDS
            .iter()
            .position(|bound| took.as_secs_f64() <= *bound);
        self.0.confirm[class.unwrap_or(CONFIRM_SECONDS.len())].fetch_add(1, Relaxed);
        self.0.confirm_micros.fetch_add(took.as_micros() as u64, Relaxed);
    }

    pub(super) fn add_refused(&self, records: u64) {
        self.0.refused.fetch_add(records, Relaxed);
    }

    pub(super) fn add_resent(&self, records: u64) {
        self.0.resent.fetch_add(records, Relaxed);
    }

    pub(super) fn add_unavailable(&self, records: u64) {
        self.0.unavailable.fetch_add(records, Relaxed);
    }

    pub(super) fn add_request(&self) {
        self.0.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn add_bad_request(&self) {
        self.0.bad_requests.fetch_add(1, Relaxed);
    }

    pub(super) fn add_heartbeats(&self, lanes: u64) {
        self.0.heartbeats.fetch_add(lanes, Relaxed);
    }

    pub(super) fn add_producer(&self) {
        self.0.producers.fetch_add(1, Relaxed);
    }

    pub(super) fn set_log_bytes(&self, bytes: u64) {
        self.0.log_bytes.store(bytes, Relaxed);
    }
}
