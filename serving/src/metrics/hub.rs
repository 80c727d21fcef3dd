//! The numbers of a hub.

use crate::{
    catalog::{Catalog, Form},
    labels::{Policy, Published, Why},
};
use dbb_events::{Class, Outgoing, Sent};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

/// What look-ups have done since the start.
#[derive(Debug, Clone, Default)]
pub struct LookedUp {
    /// Files whose labels were in memory.
    pub known: u64,
    /// Files that were asked for.
    pub asked: u64,
    /// Requests to Rucio, and those of them that failed.
    pub requests: (u64, u64),
    /// Files in memory, and bytes of their labels.
    pub cache: (u64, u64),
    /// True while Rucio does not answer.
    pub down: bool,
}

/// What was published since the start.
#[derive(Debug, Clone, Default)]
pub struct Publishing {
    /// Records, by topic and class.
    pub published: BTreeMap<(Arc<str>, Class), u64>,
    /// Records that their topics did not take.
    pub refused: u64,
    /// Records sent again because a site had asked.
    pub resent: u64,
    /// Records that a site has asked for and that are not kept any more.
    pub unavailable: u64,
    /// Requests of sites that were answered.
    pub requests: u64,
    /// Heartbeats sent.
    pub heartbeats: u64,
    /// Bytes in the sent log.
    pub sent_log_bytes: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Hub {
    published: Family<Published, Counter>,
    refused: Counter,
    resent: Counter,
    unavailable: Counter,
    resend_requests: Counter,
    heartbeats: Counter,
    sent_log: Gauge,
    ended: Family<Why, Counter>,
    unexpected: Family<Policy, Counter>,
    known: Counter,
    asked: Counter,
    requests: Counter,
    failed: Counter,
    cached: Gauge,
    cached_bytes: Gauge,
    down: Gauge,
}

impl Hub {
    pub(super) fn register(&self, to: &mut Catalog) {
        use Form::{Counter, Gauge};
        to.add(
            ("published", "records"),
            Counter,
            &["topic", "class"],
            "Of a hub: records that their topics have, by class: landed, deletion, file, dead_letter; of the last class \
             are those of RSEs and scopes that no topic is for, and unreadable ones",
            &self.published,
        );
        to.add(
            ("topic_refused", "records"),
            Counter,
            &[],
            "Of a hub: records that their topics did not take",
            &self.refused,
        );
        to.add(
            ("resent", "records"),
            Counter,
            &[],
            "Of a hub: records sent again because a site had asked for them",
            &self.resent,
        );
        to.add(
            ("resend_unavailable", "records"),
            Counter,
            &[],
            "Of a hub: records that a site has asked for and that are not kept any more",
            &self.unavailable,
        );
        to.add(
            ("resend_requests", ""),
            Counter,
            &[],
            "Of a hub: requests of sites that were answered",
            &self.resend_requests,
        );
        to.add(
            ("heartbeats", ""),
            Counter,
            &[],
            "Of a hub: heartbeats sent, one for each partition and time",
            &self.heartbeats,
        );
        to.add(
            ("sent_log", "bytes"),
            Gauge,
            &[],
            "Of a hub: what is kept of published records, to be sent again",
            &self.sent_log,
        );
        to.add(
            ("unpublished", "records"),
            Counter,
            &["reason"],
            "Of a hub: records that were not published when they came, by what they wait for (labels, embargo, time) or \
             why they were refused; one that waits is counted each time it is tried",
            &self.ended,
        );
        to.add(
            ("unexpected", "files"),
            Counter,
            &["rse", "policy"],
            "Of a hub: files that landed at an RSE where a placement policy does not want them; they are published all \
             the same",
            &self.unexpected,
        );
        to.add(
            ("labels_known", "files"),
            Counter,
            &[],
            "Of a hub: files whose labels were in memory",
            &self.known,
        );
        to.add(
            ("labels_asked", "files"),
            Counter,
            &[],
            "Of a hub: files whose labels were looked up",
            &self.asked,
        );
        to.add(
            ("rucio_requests", ""),
            Counter,
            &[],
            "Of a hub: requests to Rucio, those for tokens and those that failed among them",
            &self.requests,
        );
        to.add(
            ("rucio_failed_requests", ""),
            Counter,
            &[],
            "Of a hub: requests to Rucio that failed",
            &self.failed,
        );
        to.add(
            ("labels_cached", "files"),
            Gauge,
            &[],
            "Of a hub: files whose labels are in memory now",
            &self.cached,
        );
        to.add(
            ("labels_cached", "bytes"),
            Gauge,
            &[],
            "Of a hub: about the memory that these take",
            &self.cached_bytes,
        );
        to.add(
            ("rucio_down", ""),
            Gauge,
            &[],
            "Of a hub: 1 while Rucio does not answer: events whose labels are not known wait, all others go on",
            &self.down,
        );
    }

    pub(super) fn publishing(&self, now: &Publishing) {
        for ((topic, class), records) in &now.published {
            let label = Published {
                topic: Arc::clone(topic),
                class: class.as_str(),
            };
            set(&self.published.get_or_create(&label), *records);
        }
        set(&self.refused, now.refused);
        set(&self.resent, now.resent);
        set(&self.unavailable, now.unavailable);
        set(&self.resend_requests, now.requests);
        set(&self.heartbeats, now.heartbeats);
        self.sent_log.set(gauge(now.sent_log_bytes));
    }

    pub(super) fn ended(&self, reason: &str) {
        self.ended
            .get_or_create(&Why {
                reason: reason.into(),
            })
            .inc();
    }

    pub(super) fn unexpected(&self, landed: &Outgoing, policy: &str) {
        let label = Policy {
            rse: Arc::clone(&landed.rse.0),
            policy: policy.into(),
        };
        self.unexpected.get_or_create(&label).inc();
    }

    pub(super) fn looked_up(&self, now: &LookedUp) {
        set(&self.known, now.known);
        set(&self.asked, now.asked);
        set(&self.requests, now.requests.0);
        set(&self.failed, now.requests.1);
        self.cached.set(gauge(now.cache.0));
        self.cached_bytes.set(gauge(now.cache.1));
        self.down.set(i64::from(now.down));
    }
}

/// Takes over what somebody else counts.
fn set(counter: &Counter, n: u64) {
    counter.inner().store(n, Ordering::Relaxed);
}

fn gauge(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Why a record was not published, as a label.
pub(super) fn why(sent: &Sent) -> &'static str {
    use dbb_events::Outcome;
    match &sent.outcome {
        Outcome::Waiting { dependency, .. } => super::dependency_class(dependency),
        Outcome::Refused(refusal) => refusal.reason.as_str(),
        outcome => outcome.as_str(),
    }
}
