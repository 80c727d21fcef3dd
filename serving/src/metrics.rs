//! The numbers of a running dataflow; what each means is said where it is registered.
//!
//! Cheap to clone: all clones count into the same numbers, from any thread.

use crate::{
    catalog::{Catalog, Form},
    labels::{Build, Compared, Ending, Leg, Repository, Stream, TopicPartition, WaitsFor, Why},
};
use asked::Questions;
pub use checkpoint::Checkpointed;
use checkpoint::Checkpoints;
use dbb_events::{DeadLetter, Dependency, Kind, Micros, Outcome, Outgoing, Sent, Settled};
use federation::Federation;
use hub::Hub;
pub use hub::{LookedUp, Publishing};
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

type Seconds = Gauge<f64, AtomicU64>;
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Seconds of one call: from a local lookup to a stuck database.
const CALL_SECONDS: [f64; 14] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0,
];
/// Seconds of an event's way: dense around the seconds that are promised, up to a day of backlog.
const WAY_SECONDS: [f64; 17] = [
    0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 300.0, 1800.0, 10_800.0,
    86_400.0,
];
/// Datasets of one call.
const BATCH_DATASETS: [f64; 11] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 10_000.0,
];

/// The numbers; the methods are the events that change them.
#[derive(Debug, Clone)]
pub struct Metrics {
    catalog: Arc<Catalog>,
    received: Family<Stream, Counter>,
    outcomes: Family<Ending, Counter>,
    compared: Family<Compared, Counter>,
    dead_letters: Family<Why, Counter>,
    not_for_us: Family<Why, Counter>,
    findings: Family<Why, Gauge>,
    repeats: Counter,
    lag: Family<TopicPartition, Gauge>,
    brokers: Family<Stream, Gauge>,
    waiting: Family<WaitsFor, Gauge>,
    oldest_waiting: Family<WaitsFor, Seconds>,
    in_flight: Gauge,
    oldest_epoch: Seconds,
    batches: Histograms<Repository>,
    butler_calls: Histograms<Repository>,
    worker_restarts: Family<Repository, Counter>,
    ledger_writes: Histogram,
    ledger_bytes: Gauge,
    going_round: Gauge,
    ways: Histograms<Leg>,
    questions: Questions,
    checkpoints: Checkpoints,
    federation: Federation,
    hub: Hub,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(env!("CARGO_PKG_VERSION"))
    }
}

impl Metrics {
    /// All at zero, for `version` of the program.
    pub fn new(version: &'static str) -> Self {
        let mut catalog = Catalog::default();
        let calls = || Histogram::new(CALL_SECONDS);
        let ways = || Histogram::new(WAY_SECONDS);
        let batches = || Histogram::new(BATCH_DATASETS);
        let mut metrics = Self {
            catalog: Arc::default(),
            received: Family::default(),
            outcomes: Family::default(),
            compared: Family::default(),
            dead_letters: Family::default(),
            not_for_us: Family::default(),
            findings: Family::default(),
            repeats: Counter::default(),
            lag: Family::default(),
            brokers: Family::default(),
            waiting: Family::default(),
            oldest_waiting: Family::default(),
            in_flight: Gauge::default(),
            oldest_epoch: Seconds::default(),
            batches: Family::new_with_constructor(batches as fn() -> Histogram),
            butler_calls: Family::new_with_constructor(calls as fn() -> Histogram),
            worker_restarts: Family::default(),
            ledger_writes: Histogram::new(CALL_SECONDS),
            ledger_bytes: Gauge::default(),
            going_round: Gauge::default(),
            ways: Family::new_with_constructor(ways as fn() -> Histogram),
            questions: Questions::default(),
            checkpoints: Checkpoints::default(),
            federation: Federation::default(),
            hub: Hub::default(),
        };
        let build: Family<Build, Gauge> = Family::default();
        build.get_or_create(&Build { version }).set(1);
        metrics.register(&mut catalog);
        catalog.add(
            ("build_info", ""),
            Form::Gauge,
            &["version"],
            "Always 1; the label is the version",
            &build,
        );
        metrics.catalog = Arc::new(catalog);
        metrics
    }

    fn register(&self, to: &mut Catalog) {
        use Form::{Counter, Gauge, Histogram};
        let repository: &[&str] = &["repository"];
        to.add(
            ("received", "records"),
            Counter,
            &["stream"],
            "Records read, by topic; `files` for recorded events",
            &self.received,
        );
        to.add(
            ("outcomes", ""),
            Counter,
            &["repository", "rse", "kind", "outcome"],
            "Answers of repositories; an event that waits is counted each time it is tried",
            &self.outcomes,
        );
        to.add(
            ("registered_files", ""),
            Counter,
            &["repository", "verified"],
            "Files registered, by what was compared with them before: size, checksum; unverified where it was asked for \
             and the storage could not tell; not_asked",
            &self.compared,
        );
        to.add(
            ("dead_letters", ""),
            Counter,
            &["reason"],
            "Events that became dead letters",
            &self.dead_letters,
        );
        to.add(
            ("not_for_us", "records"),
            Counter,
            &["reason"],
            "Records that are nobody's here: other event types, files without a label for the Butler",
            &self.not_for_us,
        );
        to.add(
            ("source_findings", ""),
            Gauge,
            &["reason"],
            "Partitions that were not gone on with where they had been left, since the start: topic_made_again, \
             log_went_back, ledger_lost (the ledger is another, or an older copy)",
            &self.findings,
        );
        to.add(
            ("repeats", "records"),
            Counter,
            &[],
            "Records that repeat an event still remembered",
            &self.repeats,
        );
        to.add(
            ("consumer_lag", "records"),
            Gauge,
            &["topic", "partition"],
            "Records of the partition above the committed offset",
            &self.lag,
        );
        to.add(
            ("broker_connected", ""),
            Gauge,
            &["stream"],
            "1 while a message broker is subscribed to, 0 while it is not: what it holds then is not read",
            &self.brokers,
        );
        to.add(
            ("waiting", "events"),
            Gauge,
            &["dependency"],
            "Events that wait in the ledger, by what they wait for: dimension, file, repository, labels, embargo, time",
            &self.waiting,
        );
        to.add(
            ("oldest_waiting", "seconds"),
            Gauge,
            &["dependency"],
            "How long the oldest of them has waited; 0 if none does",
            &self.oldest_waiting,
        );
        to.add(
            ("in_flight", "events"),
            Gauge,
            &[],
            "Events that were read and have no outcome yet",
            &self.in_flight,
        );
        to.add(
            ("oldest_epoch", "seconds"),
            Gauge,
            &[],
            "Age of the oldest epoch whose outcomes are not durable: rising without end means stuck",
            &self.oldest_epoch,
        );
        to.add(
            ("batch", "datasets"),
            Histogram,
            repository,
            "Requests in one delivery to a repository",
            &self.batches,
        );
        to.add(
            ("butler_call", "seconds"),
            Histogram,
            repository,
            "Time that a repository took for one delivery; its `_count` is the number of calls",
            &self.butler_calls,
        );
        to.add(
            ("worker_restarts", ""),
            Counter,
            repository,
            "Starts of a repository's worker process after the first",
            &self.worker_restarts,
        );
        to.add(
            ("ledger_write", "seconds"),
            Histogram,
            &[],
            "Time of one transaction of the ledger",
            &self.ledger_writes,
        );
        to.add(
            ("ledger_size", "bytes"),
            Gauge,
            &[],
            "Size of the ledger on disk",
            &self.ledger_bytes,
        );
        to.add(
            ("going_round", "rows"),
            Gauge,
            &[],
            "Rows of the ledger that are tried again and again and get nowhere; they are tried less and less often",
            &self.going_round,
        );
        to.add(
            ("stage", "seconds"),
            Histogram,
            &["stage"],
            "Time of an event's way, from the times inside it: landed_to_created (Rucio), created_to_appended (Hermes, \
             mirror), appended_to_read, read_to_settled (dbb), landed_to_settled (the whole, waiting included)",
            &self.ways,
        );
        self.questions.register(to);
        self.checkpoints.register(to);
        self.federation.register(to);
        self.hub.register(to);
    }

    /// `count` records were read from `stream`. Files, which may be many, count together: a topic's name has no
    /// slash, a path that was found in a folder has one.
    pub fn received(&self, stream: &Arc<str>, count: u64) {
        let is_file =
            stream.contains('/') && !["stomp:", "outbox:"].iter().any(|kind| stream.starts_with(kind));
        let stream = if is_file {
            "files".into()
        } else {
            Arc::clone(stream)
        };
        self.received.get_or_create(&Stream { stream }).inc_by(count);
    }

    /// A repository has answered.
    pub fn settled(&self, settled: &Settled) {
        let request = &settled.request;
        let ending = Ending {
            repository: Arc::clone(&request.target),
            rse: Arc::clone(&request.rse.0),
            kind: request.action.kind().map_or("removal", Kind::as_str),
            outcome: settled.outcome.as_str(),
        };
        self.outcomes.get_or_create(&ending).inc();
        if matches!(settled.outcome, Outcome::Ingested) {
            let compared = Compared {
                repository: Arc::clone(&request.target),
                verified: settled.verified.as_str(),
            };
            self.compared.get_or_create(&compared).inc();
        }
        match &settled.outcome {
            Outcome::Refused(refusal) => self.count_dead_letter(refusal.reason.as_str()),
            Outcome::Ingested if request.waiting_since.is_none() => {
                self.way("landed_to_created", request.landed_at, Some(request.created_at));
                self.way(
                    "created_to_appended",
                    Some(request.created_at),
                    request.appended_at,
                );
                self.way("appended_to_read", request.appended_at, Some(request.read_at));
                self.way("read_to_settled", Some(request.read_at), Some(settled.at));
                self.way("landed_to_settled", request.landed_at, Some(settled.at));
            }
            // An event that has waited was read again: only the whole way means something.
            Outcome::Ingested => self.way("landed_to_settled", request.landed_at, Some(settled.at)),
            _ => {}
        }
    }

    /// An event became a dead letter before any repository saw it.
    pub fn dead_letter(&self, letter: &DeadLetter) {
        self.count_dead_letter(letter.reason.as_str());
    }

    fn count_dead_letter(&self, reason: &str) {
        self.dead_letters
            .get_or_create(&Why {
                reason: reason.into(),
            })
            .inc();
    }

    /// Observes the time between two moments that are both known; clocks that disagree make no negative time.
    fn way(&self, stage: &'static str, from: Option<Micros>, to: Option<Micros>) {
        if let (Some(from), Some(to)) = (from, to) {
            self.ways
                .get_or_create(&Leg { stage })
                .observe(to.seconds_since(from).max(0.0));
        }
    }

    /// `count` records are nobody's here, for `reason`.
    pub fn not_for_us(&self, reason: &Arc<str>, count: u64) {
        self.not_for_us
            .get_or_create(&Why {
                reason: Arc::clone(reason),
            })
            .inc_by(count);
    }

    /// `count` records repeated an event.
    pub fn repeats(&self, count: u64) {
        self.repeats.inc_by(count);
    }

    /// `records` of a partition lie above its committed offset.
    pub fn consumer_lag(&self, topic: &Arc<str>, partition: i32, records: i64) {
        self.lag
            .get_or_create(&TopicPartition {
                topic: Arc::clone(topic),
                partition,
            })
            .set(records);
    }

    /// A message broker is subscribed to, or is not.
    pub fn broker(&self, stream: &Arc<str>, connected: bool) {
        let stream = Arc::clone(stream);
        self.brokers
            .get_or_create(&Stream { stream })
            .set(i64::from(connected));
    }

    /// `events` wait for things of this class (see [`dependency_class`]), the oldest for `oldest_seconds`.
    pub fn waiting(&self, dependency: &'static str, events: u64, oldest_seconds: f64) {
        let label = WaitsFor { dependency };
        self.waiting
            .get_or_create(&label)
            .set(i64::try_from(events).unwrap_or(i64::MAX));
        self.oldest_waiting
            .get_or_create(&label)
            .set(oldest_seconds.max(0.0));
    }

    /// `events` are in flight; the oldest open epoch has this age.
    pub fn progress(&self, in_flight_events: usize, oldest_epoch: Duration) {
        self.in_flight
            .set(i64::try_from(in_flight_events).unwrap_or(i64::MAX));
        self.oldest_epoch.set(oldest_epoch.as_secs_f64());
    }

    /// A repository took `took` for a delivery of `datasets`.
    pub fn butler_call(&self, repository: &Arc<str>, datasets: usize, took: Duration) {
        let label = Repository {
            repository: Arc::clone(repository),
        };
        self.batches.get_or_create(&label).observe(datasets as f64);
        self.butler_calls
            .get_or_create(&label)
            .observe(took.as_secs_f64());
    }

    /// The worker of a repository was started again.
    pub fn worker_restarted(&self, repository: &Arc<str>) {
        self.worker_restarts
            .get_or_create(&Repository {
                repository: Arc::clone(repository),
            })
            .inc();
    }

    /// One transaction of the ledger took `took`.
    pub fn ledger_written(&self, took: Duration) {
        self.ledger_writes.observe(took.as_secs_f64());
    }

    /// The ledger takes `bytes` on disk.
    pub fn ledger_size(&self, bytes: u64) {
        self.ledger_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// So many rows of the ledger come back again and again and get nowhere.
    pub fn going_round(&self, rows: u64) {
        self.going_round.set(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// Checkpoints stand so at `now`.
    pub fn checkpoints(&self, now: Micros, at: &Checkpointed) {
        self.checkpoints.set(now, at);
    }

    /// Of a lane so many `gaps` stand so, and so many `records` of them have not come.
    pub fn missing(&self, lane: &Arc<str>, state: &'static str, gaps: u64, records: u64) {
        self.federation.missing(lane, state, gaps, records);
    }

    /// `records` of a gap were `missed`, `filled`, or are `unavailable`.
    pub fn gap_records(&self, what: &'static str, records: u64) {
        self.federation.happened(what, records);
    }

    /// A hub was asked by so many messages to send records again.
    pub fn asked(&self, requests: u64) {
        self.federation.asked(requests);
    }

    /// The centre was told of an outcome.
    pub fn told(&self, outcome: &Arc<str>) {
        self.federation.told(outcome);
    }

    /// So many partitions were found to be another than what had been counted, since the start.
    pub fn findings(&self, reason: &'static str, partitions: u64) {
        let label = Why {
            reason: reason.into(),
        };
        let partitions = i64::try_from(partitions).unwrap_or(i64::MAX);
        self.findings.get_or_create(&label).set(partitions);
    }

    /// So many records had bad headers since the start.
    pub fn bad_headers(&self, records: u64) {
        self.federation.bad_headers(records);
    }

    /// What a hub publishes stands so.
    pub fn publishing(&self, now: &Publishing) {
        self.hub.publishing(now);
    }

    /// A record of a hub was not simply published.
    pub fn sent(&self, sent: &Sent) {
        match &sent.outcome {
            Outcome::Published => {}
            outcome => {
                self.hub.ended(hub::why(sent));
                if let Outcome::Refused(refusal) = outcome {
                    self.count_dead_letter(refusal.reason.as_str());
                }
            }
        }
    }

    /// A file landed where `policy` does not want it.
    pub fn unexpected(&self, landed: &Outgoing, policy: &str) {
        self.hub.unexpected(landed, policy);
    }

    /// Look-ups stand so.
    pub fn looked_up(&self, now: &LookedUp) {
        self.hub.looked_up(now);
    }

    /// A connection of `sql` or `http` was closed for want of places: an `idle` one, or a new one as all were `full`.
    pub fn turned_away(&self, by: &'static str, outcome: &'static str) {
        self.questions.turned_away(by, outcome);
    }

    /// A question about views, asked by `sql` or `http`, ended after `took`.
    pub fn question(&self, by: &'static str, outcome: &'static str, took: Duration) {
        self.questions.ended(by, outcome, took);
    }

    /// `rows` of answers were sent.
    pub fn rows_sent(&self, by: &'static str, rows: u64) {
        self.questions.rows(by, rows);
    }

    /// So many connections `more`, or fewer when negative.
    pub fn connections(&self, by: &'static str, more: i64) {
        self.questions.connections(by, more);
    }

    /// So many SQL statements `more` run, or fewer when negative.
    pub fn statements_running(&self, more: i64) {
        self.questions.running(more);
    }

    /// So many SQL statements may be worked on at once.
    pub fn statement_places(&self, most: usize) {
        self.questions.places(i64::try_from(most).unwrap_or(i64::MAX));
    }

    /// All numbers in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut page = String::new();
        // A string cannot fail to take more.
        let _ = text::encode(&mut page, self.catalog.registry());
        page
    }

    /// What is in it, for documentation.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }
}

/// The class of a dependency, as labels know it.
pub fn dependency_class(dependency: &Dependency) -> &'static str {
    match dependency {
        Dependency::Dimension(_) => "dimension",
        Dependency::File(_) => "file",
        Dependency::Repository => "repository",
        Dependency::Labels | Dependency::Released => "labels",
        Dependency::Embargo => "embargo",
        Dependency::Time => "time",
    }
}

mod asked;
mod checkpoint;
mod federation;
mod hub;
#[cfg(test)]
mod tests;
