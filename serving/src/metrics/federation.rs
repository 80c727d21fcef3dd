//! The numbers of what a site and a hub say to each other: gaps, requests, outcomes.

use crate::{
    catalog::{Catalog, Form},
    labels::{GapsOf, Happened, Told},
};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use std::sync::Arc;

#[derive(Debug, Clone, Default)]
pub(super) struct Federation {
    missing: Family<GapsOf, Gauge>,
    gaps: Family<GapsOf, Gauge>,
    records: Family<Happened, Counter>,
    asks: Counter,
    outcomes: Family<Told, Counter>,
    bad_headers: Gauge,
}

impl Federation {
    pub(super) fn register(&self, to: &mut Catalog) {
        use Form::{Counter, Gauge};
        to.add(
            ("missing", "records"),
            Gauge,
            &["lane", "state"],
            "Records that a hub has published and that have not arrived, by their partition at the hub: open, asked (for), \
             unavailable (the hub does not have them any more)",
            &self.missing,
        );
        to.add(
            ("gaps", ""),
            Gauge,
            &["lane", "state"],
            "Gaps in the numbers of a hub's records, likewise",
            &self.gaps,
        );
        to.add(
            ("gap", "records"),
            Counter,
            &["what"],
            "Records of gaps, by what happened to them: missed, filled (they came after all), unavailable",
            &self.records,
        );
        to.add(
            ("resend_requests", ""),
            Counter,
            &[],
            "Requests to a hub to send records again",
            &self.asks,
        );
        to.add(
            ("outcome_messages", ""),
            Counter,
            &["outcome"],
            "Outcomes that the centre was told",
            &self.outcomes,
        );
        to.add(
            ("bad_headers", "records"),
            Gauge,
            &[],
            "Records whose headers are not what a hub writes, since the start; they were read as if they had none",
            &self.bad_headers,
        );
    }

    pub(super) fn missing(&self, lane: &Arc<str>, state: &'static str, gaps: u64, records: u64) {
        let label = GapsOf {
            lane: Arc::clone(lane),
            state,
        };
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.missing.get_or_create(&label).set(whole(records));
        self.gaps.get_or_create(&label).set(whole(gaps));
    }

    pub(super) fn happened(&self, what: &'static str, records: u64) {
        self.records.get_or_create(&Happened { what }).inc_by(records);
    }

    pub(super) fn asked(&self, requests: u64) {
        self.asks.inc_by(requests);
    }

    pub(super) fn told(&self, outcome: &Arc<str>) {
        let label = Told {
            outcome: Arc::clone(outcome),
        };
        self.outcomes.get_or_create(&label).inc();
    }

    pub(super) fn bad_headers(&self, records: u64) {
        self.bad_headers.set(i64::try_from(records).unwrap_or(i64::MAX));
    }
}
