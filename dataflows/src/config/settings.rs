//! The configuration of a site: what a file may say, what it means, and what is meant if it says nothing.
//!
//! The sections of a source, a repository and the ledger are the structs of their own crates. The comments
//! here are the reference that users read: `dbb config reference` is made from them.

use super::{
    checkpoint::Checkpoint,
    federation::{Gaps, Outcomes},
    hub::Hub,
    views::Views,
};
use crate::cluster::ClusterSettings;
use dbb_operators::Batching;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use dbb_serving::{http::ViewsSettings, pg::SqlSettings};
use dbb_sinks::{butler::ButlerSettings, ledger::LedgerSettings, topics::ProducerSettings};
use dbb_sources::{
    CatalogueSettings, KafkaSettings, ListingsSettings, LogSettings, OutboxSettings, StompSettings,
};

/// Everything that a `dbb` of one site is told.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "dbb configuration")]
pub struct Config {
    /// Where events come from: exactly one of the sources.
    pub source: SourceSettings,
    /// Where the outcome of every event is kept.
    pub ledger: LedgerSettings,
    /// A name for this `dbb`, the same after each restart and no other's. One that starts under the name of the holder
    /// of the ledger takes it over at once. To be set where a restart gets another host name or process numbers of its
    /// own, as in containers; elsewhere a holder whose process is gone is known without.
    pub instance: String,
    /// The storage elements of this site, by the name Rucio has for them.
    pub rses: BTreeMap<String, RseSettings>,
    /// Which file goes to which repositories. A file that no route fits becomes a dead letter.
    pub routes: Vec<Route>,
    /// The Butler repositories, by names of your choice.
    pub repositories: BTreeMap<String, ButlerSettings>,
    /// The hub, in place of routes and repositories: where Rucio is, its events are published for each RSE.
    pub hub: Option<Hub>,
    /// What `dbb record --to-kafka` publishes to.
    pub record: Record,
    /// What a hub has published and what did not arrive of it.
    pub gaps: Option<Gaps>,
    /// Telling the centre what became of each event.
    pub outcomes: Option<Outcomes>,
    /// Live views.
    pub views: Views,
    /// What views hold, kept from run to run.
    pub checkpoint: Checkpoint,
    /// How datasets are gathered into one Butler call.
    pub batching: Batching,
    /// Timely workers (threads), 1 to 64. One is enough for tens of thousands of events a second.
    pub workers: usize,
    /// Several processes as one.
    pub cluster: ClusterSettings,
    /// How repeated events are recognised.
    pub identify: Identify,
    /// What may be in memory.
    pub limits: Limits,
    /// How the program ends.
    pub shutdown: Shutdown,
    /// Health, readiness, metrics and views over HTTP.
    pub http: Http,
    /// The views in SQL.
    pub sql: SqlSettings,
    /// The log, on standard error.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            source: SourceSettings::default(),
            ledger: LedgerSettings::default(),
            instance: String::new(),
            rses: BTreeMap::new(),
            routes: Vec::new(),
            repositories: BTreeMap::new(),
            hub: None,
            record: Record::default(),
            gaps: None,
            outcomes: None,
            views: Views::default(),
            checkpoint: Checkpoint::default(),
            batching: Batching::default(),
            workers: 1,
            cluster: ClusterSettings::default(),
            identify: Identify::default(),
            limits: Limits::default(),
            shutdown: Shutdown::default(),
            http: Http::default(),
            sql: SqlSettings::default(),
            log: Log::default(),
        }
    }
}

/// Where events come from: one of Kafka, message brokers, Rucio's outbox and recorded files; and what else views are told.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceSettings {
    /// Kafka topics.
    pub kafka: Option<KafkaSettings>,
    /// Recorded events in files.
    pub log: Option<LogSettings>,
    /// Message brokers that Rucio's Hermes sends to, over STOMP.
    pub stomp: Option<StompSettings>,
    /// Rucio's own table of messages, where there is no broker.
    pub outbox: Option<OutboxSettings>,
    /// Rucio's own table of replicas, for the views: what events do not tell.
    pub catalogue: Option<CatalogueSettings>,
    /// Listings of replicas, and of the contents of Rucio datasets, for the views.
    pub listings: Option<ListingsSettings>,
}

impl SourceSettings {
    /// The sources of events that are given, by their keys.
    pub fn of_events(&self) -> Vec<&'static str> {
        [
            ("kafka", self.kafka.is_some()),
            ("log", self.log.is_some()),
            ("stomp", self.stomp.is_some()),
            ("outbox", self.outbox.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect()
    }

    /// The source, by its key, if what it has given once it does not give again.
    pub fn read_once(&self) -> Option<&'static str> {
        self.of_events()
            .into_iter()
            .find(|key| ["stomp", "outbox"].contains(key))
    }
}

/// What `dbb record --to-kafka` publishes to: events of a message broker, or of an outbox, which can be read only once.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Record {
    /// The topic; events keep their order within a partition, which is chosen by DID.
    pub topic: Option<String>,
    /// Its brokers.
    pub kafka: Option<ProducerSettings>,
}

/// A storage element.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RseSettings {
    /// How the URLs of its replicas become what the Butler knows files by; the longest that fits is used.
    pub prefixes: Vec<Prefix>,
}

/// The start of a URL, and what stands in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prefix {
    /// What a replica's URL starts with: `davs://dtn.example.org:443/rucio/raw_disk/`.
    pub from: String,
    /// What replaces it: an absolute folder, or a URI that the Butler can read. Empty: nothing, what
    /// follows the prefix is looked up under the datastore's root.
    pub to: String,
}

/// Files of one RSE, or of one scope on it, and where they go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// The RSE on which the file landed; one of `rses`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rse: Option<String>,
    /// The scope of the file; any if not given. Of two routes that fit, the one with the scope is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// In place of `rse` and `scope`: files for which `RSE-scope`, or the RSE alone, is this word, as in
    /// the topic map of ctrl_ingestd. Such a route has its own `prefixes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rse_scope: Option<String>,
    /// Prefixes of an `rse_scope` route, in place of those of an RSE.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<Prefix>,
    /// Further topics on which these files may be announced, beside `RSE-scope` and `RSE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// The repositories, by their names in `repositories`.
    pub repositories: Vec<String>,
}

/// How repeated events are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identify {
    /// How long the identity of an event is remembered in memory, in seconds. A repeat that comes later is
    /// still registered only once: the ledger and the Butler know it.
    pub remember_seconds: u64,
}

impl Default for Identify {
    fn default() -> Self {
        Self {
            remember_seconds: 3600,
        }
    }
}

/// What may be in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most events that were read and have no outcome yet, at most 20 000; reading pauses above it.
    pub max_in_flight_events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_in_flight_events: 10_000,
        }
    }
}

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// How long the outcomes of what has been read are waited for after SIGTERM, in seconds. What has none
    /// by then is read again at the next start.
    pub drain_seconds: u64,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { drain_seconds: 30 }
    }
}

/// Health, readiness and metrics over HTTP.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port for `/livez`, `/readyz` and `/metrics`; null for none. Nothing there needs a password:
    /// open it to other hosts only within your network.
    pub listen: Option<String>,
    /// Names of this host by which it may be asked, beside `localhost` and the host in `listen`: `dbb.example.org`, without a
    /// port. They count where no token is needed, for views, and where only this host can ask, for metrics; `/livez` and
    /// `/readyz` answer to any name.
    pub hosts: Vec<String>,
    /// Most connections at once, 1 to 10 000. Then one that asks nothing makes room for the next; where all are being
    /// answered, the next is told to come back (status 503).
    #[schemars(range(min = 1, max = 10_000))]
    pub max_connections: u32,
    /// Longest a connection may take for the head of a request, or be silent between two, in milliseconds.
    #[schemars(range(min = 1))]
    pub idle_timeout_ms: u64,
    /// Views, under `/api/v1/views` at the same address, where any are kept.
    pub views: ViewsSettings,
}

impl Http {
    /// What is taken of those who connect.
    pub fn limits(&self) -> dbb_serving::Limits {
        dbb_serving::Limits {
            max_connections: self.max_connections,
            idle: std::time::Duration::from_millis(self.idle_timeout_ms),
            hosts: self.hosts.clone(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: Some("127.0.0.1:9327".into()),
            hosts: Vec::new(),
            max_connections: 256,
            idle_timeout_ms: 10_000,
            views: ViewsSettings::default(),
        }
    }
}

/// The log, on standard error.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `text` for people, `json` for a log collector.
    pub format: LogFormat,
    /// The least level that is written.
    pub level: LogLevel,
}

/// The form of a line of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A level of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What stopped something.
    Error,
    /// And what somebody should look at.
    Warn,
    /// And starts, stops, and a line for each turn of events.
    #[default]
    Info,
    /// And each batch.
    Debug,
    /// And each event.
    Trace,
}

impl LogLevel {
    /// The word, as in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}
