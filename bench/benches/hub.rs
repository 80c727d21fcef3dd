//! How many events a second does a hub take from Kafka to topics, with labels known and with every file looked up?
//!
//! ```text
//! make release && make bench BENCH=hub              # EVENTS=1000000 for more
//! ```
//!
//! The events of night a, again and again with other names of files; a stand-in for Rucio that answers each request in
//! 20 ms. "Cold" asks for every file; "warm" tells of the same files once more, by other requests. While events are
//! appended `dbb` is stopped (SIGSTOP). Measured is the optimised program; its processor time and the broker's are stated apart.

// A measurement reports on standard output, and its failure by stopping.
#![allow(clippy::expect_used, missing_docs, clippy::print_stdout)]

use dbb_test_services::{Kafka, Metadata, Process, Program, RucioStub, scratch, wait_until};
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use serde_json::{Value, json};
use std::{
    path::Path,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(600);
const PARTITIONS: i32 = 4;
const TOPIC: &str = "events";

fn main() {
    // Cargo runs benches as tests too: nothing is measured then.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let wanted = std::env::var("EVENTS").ok().and_then(|n| n.parse().ok());
    let wanted: usize = wanted.unwrap_or(200_000);
    let night = dbb_bench::capture("night-a-events").expect("the night");
    let night: Vec<&str> = night.lines().collect();
    let rounds = wanted.div_ceil(night.len());
    let rucio = RucioStub::start(labels(&night, rounds), Duration::from_millis(20)).expect("a stand-in");
    let kafka = Kafka::start().expect("a broker");
    kafka.create_topic(TOPIC, PARTITIONS).expect("a topic");
    let folder = scratch("hub").expect("a folder");
    let mut dbb = start(&kafka, folder.path(), &rucio.url());
    // The topics are made by the first events.
    let mut told = tell(&kafka, &night, 0..1, "first");
    until_committed(&kafka, told);
    for temperature in ["cold", "warm"] {
        dbb.signal("STOP").expect("it stops");
        let events = tell(&kafka, &night, 1..rounds + 1, temperature);
        told += events;
        let (asked, own, of_broker) = (rucio.asked().0, cpu(&[dbb.id()]), cpu(&kafka.process_ids()));
        let begun = Instant::now();
        dbb.signal("CONT").expect("it goes on");
        until_committed(&kafka, told);
        let took = begun.elapsed().as_secs_f64();
        let (asked, each) = (rucio.asked().0 - asked, 1e6 / events as f64);
        println!(
            "{temperature}: {events} events in {took:.2} s, {:.0} a second; processor time {:.1} us an event, the broker's \
             {:.1}; {asked} requests to Rucio, {:.2} for 1000 events; load {}",
            events as f64 / took,
            (cpu(&[dbb.id()]) - own) * each,
            (cpu(&kafka.process_ids()) - of_broker) * each,
            asked as f64 * 1000.0 / events as f64,
            std::fs::read_to_string("/proc/loadavg")
                .unwrap_or_default()
                .trim(),
        );
    }
}

/// An event of a round: of a file of that round, by a request of its own.
fn of_round(event: &str, round: usize, what: &str) -> String {
    event
        .replacen("\"name\": \"", &format!("\"name\": \"r{round}/"), 1)
        .replacen(
            "\"request-id\": \"",
            &format!("\"request-id\": \"{what}{round}-"),
            1,
        )
}

fn labels(night: &[&str], rounds: usize) -> Metadata {
    let sidecar = json!({
        "id": "95fb898e-a577-5690-8e9c-b1d180f220b0",
        "datasetType": {"name": "raw", "storageClass": "Exposure", "dimensions": ["instrument", "detector", "exposure"]},
        "dataId": {"dataId": {"instrument": "LSSTCam", "detector": 0, "exposure": 2_026_040_100_001_u64, "band": "r",
            "day_obs": 20_260_401, "group": "20260401T000001", "physical_filter": "r_57"}},
        "run": "LSSTCam/raw/all",
    });
    let Value::Object(labels) = json!({"rubin_butler": "raw_file", "rubin_sidecar": sidecar.to_string()})
    else {
        return Metadata::new();
    };
    let mut known = Metadata::new();
    for event in night {
        let event: Value = serde_json::from_str(event).expect("an event");
        if event["event_type"] == "transfer-done" {
            let text = |name: &str| event["payload"][name].as_str().unwrap_or_default().to_owned();
            for round in 0..=rounds {
                known.insert(
                    format!("{}:r{round}/{}", text("scope"), text("name")),
                    labels.clone(),
                );
            }
        }
    }
    known
}

fn tell(kafka: &Kafka, night: &[&str], rounds: std::ops::Range<usize>, what: &str) -> usize {
    let mut settings = kafka.config();
    settings
        .set("linger.ms", "20")
        .set("queue.buffering.max.messages", "1000000");
    let producer: ThreadedProducer<DefaultProducerContext> = settings.create().expect("a producer");
    let mut told = 0;
    for round in rounds {
        for event in night {
            let event = of_round(event, round, what);
            let partition = told as i32 % PARTITIONS;
            let mut record = BaseRecord::<(), _>::to(TOPIC)
                .payload(event.as_bytes())
                .partition(partition);
            while let Err((_, back)) = producer.send(record) {
                std::thread::sleep(Duration::from_millis(5));
                record = back;
            }
            told += 1;
        }
    }
    producer.flush(PATIENCE).expect("all is stored");
    told
}

fn until_committed(kafka: &Kafka, told: usize) {
    let consumer: BaseConsumer = kafka
        .config()
        .set("group.id", "hub")
        .create()
        .expect("a consumer");
    wait_until("all is committed", PATIENCE, || {
        let mut asked = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            asked.add_partition(TOPIC, partition);
        }
        let committed = consumer.committed_offsets(asked, Duration::from_secs(30))?;
        let offsets = committed
            .elements()
            .into_iter()
            .map(|at| at.offset().to_raw().unwrap_or(0).max(0));
        Ok(offsets.sum::<i64>() >= told as i64)
    })
    .expect("all is published");
}

fn start(kafka: &Kafka, folder: &Path, rucio: &str) -> Process {
    let (brokers, path) = (kafka.bootstrap(), folder.display());
    std::fs::write(folder.join("token"), "a-token\n").expect("a token");
    let text = format!(
        r#"
source: {{kafka: {{brokers: ["{brokers}"], group_id: hub, topics: [{TOPIC}]}}}}
ledger: {{url: "sqlite:{path}/ledger.sqlite"}}
workers: 2
limits: {{max_in_flight_events: 20000}}
http: {{listen: null}}
hub:
  publish:
    kafka: {{brokers: ["{brokers}"], new_topics: {{partitions: 4, replication: 1}}}}
    sent_log: {{folder: "{path}/sent"}}
  lookup:
    rucio: {{url: "{rucio}", account: dbb, auth: {{token_file: "{path}/token"}}, requests_per_second: null}}
    threads: 8
"#
    );
    let config = folder.join("dbb.yaml");
    std::fs::write(&config, text).expect("a configuration");
    let dbb = dbb_bench::program().expect("an optimised dbb");
    let program = Program::new(dbb, folder.join("dbb.log"));
    program.arg("run").arg(&config).start().expect("dbb starts")
}

/// Processor time of these processes so far, in seconds.
fn cpu(ids: &[u32]) -> f64 {
    let ticks = |id: &u32| -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
    };
    ids.iter().filter_map(ticks).sum::<f64>() / 100.0
}
