//! How long does it take from an append to Kafka until SQL tells of it, on an idle system?
//!
//! ```text
//! make bench BENCH=latency
//! ```
//!
//! One record at a time, asked for again and again until the answer has it. Under load, `make soak` measures the same.

// A bench reports its failure by stopping.
#![allow(clippy::expect_used, missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use dbb_test_services::{Kafka, Process, Program, free_port, scratch, wait_until};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use std::{
    path::Path,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn latency(c: &mut Criterion) {
    let kafka = Kafka::start().expect("a broker");
    kafka.create_topic("latency", 1).expect("a topic");
    let folder = scratch("latency").expect("a folder");
    let sql = format!("127.0.0.1:{}", free_port().expect("a port"));
    let _dbb = start(&kafka, folder.path(), &sql);
    let mut client = None;
    wait_until("dbb answers", PATIENCE, || {
        client = connect(&sql).ok();
        Ok(client.is_some())
    })
    .expect("dbb answers");
    let mut client = client.expect("a client");
    // Its own thread hears of the answers: a flush would wait up to 100 ms for them.
    let producer: ThreadedProducer<DefaultProducerContext> =
        kafka.config().set("linger.ms", "0").create().expect("a producer");
    let event = dbb_bench::synthetic::events(1);
    let mut sent = 0i64;
    let mut group = c.benchmark_group("latency");
    group.sample_size(20).measurement_time(Duration::from_secs(10));
    group.bench_function("append to SQL", |b| {
        b.iter_custom(|times| {
            let mut all = Duration::ZERO;
            for _ in 0..times {
                sent += 1;
                let begun = Instant::now();
                producer
                    .send(BaseRecord::<(), str>::to("latency").payload(event.trim()))
                    .map_err(|(error, _)| error)
                    .expect("a record");
                while told(&mut client) < sent {
                    assert!(begun.elapsed() < PATIENCE, "record {sent} is in no answer");
                }
                all += begun.elapsed();
            }
            all
        });
    });
    group.finish();
}

fn start(kafka: &Kafka, folder: &Path, sql: &str) -> Process {
    let config = folder.join("dbb.yaml");
    let text = format!(
        "source: {{kafka: {{brokers: [\"{}\"], group_id: latency, topics: [latency]}}}}\n\
         ledger: {{url: \"sqlite:{}\"}}\n\
         views: {{keep: [all]}}\n\
         sql: {{listen: \"{sql}\"}}\n",
        kafka.bootstrap(),
        folder.join("ledger.sqlite").display(),
    );
    std::fs::write(&config, text).expect("a configuration");
    let dbb = dbb_bench::program().expect("an optimised dbb");
    let program = Program::new(dbb, folder.join("dbb.log"));
    program.arg("run").arg(&config).start().expect("dbb starts")
}

fn connect(sql: &str) -> Result<postgres::Client, postgres::Error> {
    let (host, port) = sql.split_once(':').expect("host and port");
    let mut settings = postgres::Config::new();
    settings.host(host).port(port.parse().expect("a number"));
    settings.user("dbb").dbname("dbb").connect(postgres::NoTls)
}

/// The records that what is published has.
fn told(client: &mut postgres::Client) -> i64 {
    let answer = client
        .simple_query("select next_offset from as_of()")
        .expect("an answer");
    let rows = answer.iter().filter_map(|message| match message {
        postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse::<i64>().ok(),
        _ => None,
    });
    rows.max().unwrap_or(0)
}

criterion_group!(benches, latency);
criterion_main!(benches);
