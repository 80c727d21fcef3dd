//! How long from an event in Hermes's broker to its record in the topic of the RSE, with labels known?
//!
//! ```text
//! make release && make bench BENCH=hermes           # RATE=500 EVENTS=10000
//! ```
//!
//! The `transfer-done` of night a, each of a file of its own, are sent to a real ActiveMQ, as Hermes sends them: once to
//! make the topics and the labels known, and then, by other requests, evenly at `RATE` a second. Measured is the time from
//! the frame to the broker until a consumer of the topics has the record.

// A measurement reports on standard output, and its failure by stopping.
#![allow(clippy::expect_used, missing_docs, clippy::print_stdout)]

use dbb_test_services::{ActiveMq, Kafka, Metadata, Process, Program, RucioStub, Stomp, scratch, wait_until};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    path::Path,
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(120);
const EVENTS: &str = "/topic/rucio.events";

fn main() {
    // Cargo runs benches as tests too: nothing is measured then.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let number = |name: &str, or: usize| {
        let given = std::env::var(name).ok().and_then(|n| n.parse().ok());
        given.unwrap_or(or)
    };
    let (rate, wanted) = (number("RATE", 500), number("EVENTS", 10_000));
    let bodies = landings(wanted);
    let rucio = RucioStub::start(labels(&bodies), Duration::from_millis(20)).expect("a stand-in");
    let (kafka, broker) = (
        Kafka::start().expect("brokers"),
        ActiveMq::start().expect("a broker"),
    );
    let folder = scratch("hermes").expect("a folder");
    let dbb = start(&kafka, &broker, folder.path(), &rucio.url());
    let mut hermes = Stomp::connect(broker.port(), &[]).expect("a connection");
    let log = folder.path().join("dbb.log");
    wait_until("the hub has subscribed", PATIENCE, || {
        Ok(std::fs::read_to_string(&log).is_ok_and(|text| text.contains("subscribed")))
    })
    .expect("it subscribes");
    for body in &bodies {
        hermes
            .post(EVENTS, &[], body.to_string().as_bytes())
            .expect("it is sent");
    }
    let mut topics = Topics::new(&kafka);
    wait_until("all topics have their records", PATIENCE, || {
        Ok(topics.ends()?.1 >= bodies.len())
    })
    .expect("all is published");
    topics.read_from_here();
    let asked = rucio.asked().0;
    let sender = thread::spawn(move || at_rate(&mut hermes, &bodies, rate));
    let mut came: HashMap<String, Instant> = HashMap::new();
    while came.len() < wanted {
        let message = topics
            .consumer
            .poll(PATIENCE)
            .expect("records go on coming")
            .expect("a record");
        let now = Instant::now();
        let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        came.entry(key).or_insert(now);
    }
    let sent = sender.join().expect("all is sent");
    let mut took: Vec<f64> = sent
        .iter()
        .filter_map(|(key, sent)| Some(came.get(key)?.duration_since(*sent).as_secs_f64() * 1e3))
        .collect();
    took.sort_by(f64::total_cmp);
    let at = |part: usize| took[(took.len() - 1) * part / 100];
    println!(
        "{} events, {rate} a second: from Hermes's broker to the topic of the RSE p50 {:.0} ms, p99 {:.0}, most {:.0}; {} \
         requests to Rucio; load {}",
        took.len(),
        at(50),
        at(99),
        at(100),
        rucio.asked().0 - asked,
        std::fs::read_to_string("/proc/loadavg")
            .unwrap_or_default()
            .trim(),
    );
    drop(dbb);
}

/// So many `transfer-done`, each of a file of its own.
fn landings(wanted: usize) -> Vec<Value> {
    let night = dbb_bench::capture("night-a-events").expect("the night");
    let events: Vec<Value> = night
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|event: &Value| event["event_type"] == "transfer-done")
        .collect();
    let renamed = |number: usize| {
        let mut event = events[number % events.len()].clone();
        let payload = &mut event["payload"];
        payload["name"] = format!("{number}/{}", payload["name"].as_str().unwrap_or_default()).into();
        payload["request-id"] = format!("{number:032x}").into();
        event
    };
    (0..wanted).map(renamed).collect()
}

fn key(event: &Value) -> String {
    let text = |name: &str| event["payload"][name].as_str().unwrap_or_default();
    format!("{}:{}", text("scope"), text("name"))
}

fn labels(bodies: &[Value]) -> Metadata {
    let sidecar = json!({
        "id": "95fb898e-a577-5690-8e9c-b1d180f220b0",
        "datasetType": {"name": "raw", "storageClass": "Exposure", "dimensions": ["instrument", "detector", "exposure"]},
        "dataId": {"dataId": {"instrument": "LSSTCam", "detector": 0, "exposure": 2_026_040_100_001_u64, "day_obs": 20_260_401}},
        "run": "LSSTCam/raw/all",
    });
    let Value::Object(labels) = json!({"rubin_butler": "raw_file", "rubin_sidecar": sidecar.to_string()})
    else {
        return Metadata::new();
    };
    bodies.iter().map(|body| (key(body), labels.clone())).collect()
}

/// Sends all of them evenly, as other requests; when each was sent.
fn at_rate(hermes: &mut Stomp, bodies: &[Value], rate: usize) -> Vec<(String, Instant)> {
    let begun = Instant::now();
    let mut sent = Vec::with_capacity(bodies.len());
    for (number, body) in bodies.iter().enumerate() {
        let mut body = body.clone();
        body["payload"]["request-id"] = format!("f{number:031x}").into();
        let text = body.to_string();
        let due = begun + Duration::from_secs_f64(number as f64 / rate as f64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        hermes.post(EVENTS, &[], text.as_bytes()).expect("it is sent");
        sent.push((key(&body), now));
    }
    sent
}

/// The topics of RSEs.
struct Topics {
    consumer: BaseConsumer,
}

impl Topics {
    fn new(kafka: &Kafka) -> Self {
        let consumer = kafka
            .config()
            .set("group.id", "measure")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "1")
            .create()
            .expect("a consumer");
        Self { consumer }
    }

    /// The ends of their partitions, and how many records they have.
    fn ends(&self) -> anyhow::Result<(TopicPartitionList, usize)> {
        let metadata = self.consumer.fetch_metadata(None, PATIENCE)?;
        let (mut ends, mut records) = (TopicPartitionList::new(), 0);
        for topic in metadata.topics() {
            let is_internal = topic.name().starts_with("__") || topic.name().ends_with("-heartbeats");
            for partition in topic.partitions().iter().filter(|_| !is_internal) {
                let (low, high) = self
                    .consumer
                    .fetch_watermarks(topic.name(), partition.id(), PATIENCE)?;
                ends.add_partition_offset(topic.name(), partition.id(), Offset::Offset(high))?;
                records += (high - low) as usize;
            }
        }
        Ok((ends, records))
    }

    fn read_from_here(&mut self) {
        let (ends, _) = self.ends().expect("the ends");
        self.consumer.assign(&ends).expect("they are assigned");
    }
}

fn start(kafka: &Kafka, broker: &ActiveMq, folder: &Path, rucio: &str) -> Process {
    let (brokers, path, port) = (kafka.bootstrap(), folder.display(), broker.port());
    std::fs::write(folder.join("token"), "a-token\n").expect("a token");
    let text = format!(
        r#"
source: {{stomp: {{brokers: ["127.0.0.1:{port}"], destination: {EVENTS}, client_id: hub}}}}
ledger: {{url: "sqlite:{path}/ledger.sqlite"}}
http: {{listen: null}}
hub:
  publish:
    kafka: {{brokers: ["{brokers}"], new_topics: {{partitions: 4, replication: 1}}}}
    sent_log: {{folder: "{path}/sent"}}
  lookup:
    rucio: {{url: "{rucio}", account: dbb, auth: {{token_file: "{path}/token"}}, requests_per_second: null}}
"#
    );
    let config = folder.join("dbb.yaml");
    std::fs::write(&config, text).expect("a configuration");
    let dbb = dbb_bench::program().expect("an optimised dbb");
    let program = Program::new(dbb, folder.join("dbb.log"));
    program.arg("run").arg(&config).start().expect("dbb starts")
}
