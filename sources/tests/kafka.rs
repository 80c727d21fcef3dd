//! The Kafka source against real brokers: what it emits, where it resumes, what it survives.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "kafka/brokers.rs"]
mod brokers;
#[path = "kafka/incarnations.rs"]
mod incarnations;
#[path = "kafka/resumed.rs"]
mod resumed;

use dbb_events::{Incarnation, Mark, Marks, Position, Received};
use dbb_sources::{
    Begin, Extent, Gap, KafkaSettings, Offsets, Partition, Polled, Source, SourceError,
    kafka::{self, KafkaStatistics, Mechanism, Protocol, Security, Start},
};
use dbb_test_services::{Kafka, KafkaOptions, scratch};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread::sleep,
    time::{Duration, Instant},
};

const ONCE: Extent = Extent {
    once: true,
    begin: Begin::Unhandled,
};

type Sources = (Vec<Box<dyn Source>>, KafkaStatistics);

fn settings(kafka: &Kafka, group: &str, topics: &[&str]) -> KafkaSettings {
    KafkaSettings {
        discover_seconds: 1,
        ..KafkaSettings::of(kafka.bootstrap(), group, topics)
    }
}

fn open(settings: &KafkaSettings, workers: usize) -> Sources {
    kafka::open(settings, 0..workers, workers, Extent::default()).unwrap()
}

/// Polls all sources until `count` records came, and a little longer.
fn read(sources: &mut [Box<dyn Source>], count: usize) -> Vec<Received> {
    let (mut batch, start) = (Vec::new(), Instant::now());
    while batch.len() < count {
        for source in &mut *sources {
            source.poll(&mut batch, 100).unwrap();
        }
        assert!(
            start.elapsed() < Duration::from_secs(90),
            "only {} of {count} records came",
            batch.len()
        );
        sleep(Duration::from_millis(2));
    }
    for _ in 0..150 {
        for source in &mut *sources {
            source.poll(&mut batch, 100).unwrap();
        }
        sleep(Duration::from_millis(2));
    }
    batch
}

/// Polls one source to its end.
fn drain(source: &mut Box<dyn Source>) -> Vec<Received> {
    let (mut batch, start) = (Vec::new(), Instant::now());
    while source.poll(&mut batch, 100).unwrap() != Polled::Finished {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "no end after {} records",
            batch.len()
        );
        sleep(Duration::from_millis(2));
    }
    batch
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn values(batch: &[Received]) -> BTreeSet<usize> {
    batch
        .iter()
        .map(|record| std::str::from_utf8(&record.body).unwrap().parse().unwrap())
        .collect()
}

/// The offsets after all of these records.
fn after(batch: &[Received]) -> Offsets {
    let mut offsets = BTreeMap::new();
    for record in batch {
        let partition = Partition {
            stream: record.place.stream.clone(),
            partition: record.place.partition,
        };
        let next = offsets.entry(partition).or_insert(0);
        assert!(*next <= record.place.offset, "offsets rise within a partition");
        *next = record.place.offset + 1;
    }
    offsets
}

#[test]
fn all_is_emitted_once_and_after_a_restart_what_was_not_acked() {
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("restart", 6).unwrap();
    kafka.produce("restart", None, numbers(0..3000)).unwrap();
    let settings = settings(kafka, "restart", &["restart"]);
    let (mut sources, statistics) = open(&settings, 3);
    let first = read(&mut sources, 3000);
    assert_eq!((first.len(), values(&first)), (3000, (0..3000).collect()));
    assert!(
        first
            .iter()
            .all(|record| record.topic.as_deref() == Some("restart") && record.appended_at.is_some())
    );
    let all = after(&first);
    assert_eq!(all.len(), 6);
    // Half of each partition is handled; each worker tells its own.
    let half: Offsets = all
        .iter()
        .map(|(partition, next)| (partition.clone(), next / 2))
        .collect();
    for source in &mut sources {
        source.ack(&half).unwrap();
    }
    sources[0].flush().unwrap();
    assert_eq!(kafka.committed("restart", "restart", 4).unwrap(), Some(250));
    // An ack never takes anything back.
    sources[0]
        .ack(&half.keys().map(|partition| (partition.clone(), 1)).collect())
        .unwrap();
    sources[0].flush().unwrap();
    let snapshot = statistics.snapshot();
    assert!(
        snapshot
            .partitions
            .iter()
            .all(|p| p.next == 500 && p.committed == Some(250) && p.lag == 0),
        "{snapshot:?}"
    );
    drop(sources);

    let (mut sources, _) = open(&settings, 1);
    let again = read(&mut sources, 1500);
    assert_eq!(again.len(), 1500);
    assert!(again.iter().all(|record| record.place.offset >= 250));
    sources[0].ack(&all).unwrap();
    sources[0].flush().unwrap();
    drop(sources);
    assert!(read(&mut open(&settings, 2).0, 0).is_empty());
}

#[test]
fn new_topics_and_partitions_are_picked_up_while_running() {
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("grow-a", 1).unwrap();
    kafka.produce("grow-a", None, numbers(0..10)).unwrap();
    // What is there at the start is skipped, what comes later is not.
    let settings = KafkaSettings {
        start: Start::Latest,
        ..settings(kafka, "grow", &[r"/(mirror\.)?grow-\w+/"])
    };
    let (mut sources, statistics) = open(&settings, 2);
    assert!(read(&mut sources, 0).is_empty());
    kafka.create_topic("mirror.grow-b", 3).unwrap();
    kafka.create_topic("other", 1).unwrap();
    kafka.produce("mirror.grow-b", None, numbers(10..40)).unwrap();
    kafka.produce("other", None, numbers(90..99)).unwrap();
    kafka.add_partitions("grow-a", 3).unwrap();
    kafka.produce("grow-a", None, numbers(40..70)).unwrap();
    let batch = read(&mut sources, 60);
    assert_eq!((batch.len(), values(&batch)), (60, (10..70).collect()));
    for source in &mut sources {
        source.ack(&after(&batch)).unwrap();
        source.flush().unwrap();
    }
    assert_eq!(kafka.committed("grow", "mirror.grow-b", 2).unwrap(), Some(10));
    // A topic that is deleted and made again is a new one.
    kafka.delete_topic("mirror.grow-b").unwrap();
    let start = Instant::now();
    while statistics.snapshot().partitions.len() > 3 {
        read(&mut sources, 0);
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    kafka.create_topic("mirror.grow-b", 1).unwrap();
    kafka.produce("mirror.grow-b", None, numbers(70..75)).unwrap();
    assert_eq!(values(&read(&mut sources, 5)), (70..75).collect());
}

#[test]
fn a_group_with_a_live_member_is_refused_by_name() {
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("taken", 1).unwrap();
    for protocol in ["classic", "consumer"] {
        let group = format!("taken-{protocol}");
        let other: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap())
            .set("group.id", &group)
            .set("group.protocol", protocol)
            .set("client.id", "ctrl_ingestd")
            .create()
            .unwrap();
        other.subscribe(&["taken"]).unwrap();
        let start = Instant::now();
        while other.assignment().unwrap().count() == 0 {
            other.poll(Duration::from_millis(100));
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "the other program got no partition"
            );
        }
        let settings = settings(kafka, &group, &["taken"]);
        let error = kafka::open(&settings, 0..1, 1, Extent::default())
            .map(drop)
            .unwrap_err();
        assert!(matches!(error, SourceError::Configuration(_)), "{error}");
        assert!(error.to_string().contains(&group), "{error}");
        if protocol == "classic" {
            assert!(
                error.to_string().contains("`ctrl_ingestd` at /127.0.0.1"),
                "{error}"
            );
            assert_eq!(kafka::check(&settings).unwrap().members.len(), 1);
        }
        drop(other);
        kafka::open(&settings, 0..1, 1, Extent::default())
            .map(drop)
            .unwrap();
    }
}

#[test]
fn a_finished_source_has_emitted_all_committed_transactions_and_no_aborted_one() {
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("transactions", 2).unwrap();
    let producer: BaseProducer = kafka.config().set("transactional.id", "t").create().unwrap();
    let limit = Duration::from_secs(30);
    producer.init_transactions(limit).unwrap();
    for (round, commit) in [true, false, true, false].into_iter().enumerate() {
        producer.begin_transaction().unwrap();
        for n in round * 10..round * 10 + 10 {
            let value = n.to_string();
            producer
                .send(
                    BaseRecord::<(), str>::to("transactions")
                        .partition(0)
                        .payload(&value),
                )
                .unwrap();
        }
        if commit {
            producer.commit_transaction(limit).unwrap();
        } else {
            producer.flush(limit).unwrap();
            producer.abort_transaction(limit).unwrap();
        }
    }
    let settings = settings(kafka, "transactions", &["transactions"]);
    let (mut sources, statistics) = kafka::open(&settings, 0..3, 3, ONCE).unwrap();
    let mut all = Vec::new();
    for source in &mut sources {
        all.extend(drain(source));
    }
    assert_eq!((all.len(), values(&all)), (20, (0..10).chain(20..30).collect()));
    assert!(
        statistics.snapshot().partitions.iter().all(|p| p.lag == 0),
        "{:?}",
        statistics.snapshot()
    );
}

#[test]
fn records_removed_unread_are_counted_and_reading_goes_on() {
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("gap", 1).unwrap();
    kafka.produce("gap", None, numbers(0..100)).unwrap();
    let mut settings = settings(kafka, "gap", &["gap"]);
    settings.read_ahead_bytes = 64 * 1024;
    let (mut sources, _) = open(&settings, 1);
    let first = read(&mut sources, 100);
    sources[0].ack(&after(&first[..10])).unwrap();
    sources[0].flush().unwrap();
    drop(sources);
    kafka.delete_records("gap", 0, 40).unwrap();
    assert_eq!(kafka::check(&settings).unwrap().topics[0].partitions[0].lost, 30);
    let (mut sources, statistics) = open(&settings, 1);
    let second = read(&mut sources, 60);
    assert_eq!(values(&second), (40..100).collect());
    assert_eq!(statistics.snapshot().lost_records_total, 30);

    // Retention overtakes a reader that runs: it has read ahead what its memory holds, no more.
    let pad = "0".repeat(10_000);
    kafka
        .produce("gap", None, (100..900).map(|n| format!("{pad}{n}")))
        .unwrap();
    sleep(Duration::from_secs(2));
    kafka.delete_records("gap", 0, 890).unwrap();
    let mut third = Vec::new();
    let start = Instant::now();
    while third
        .last()
        .is_none_or(|record: &Received| record.place.offset < 899)
    {
        sources[0].poll(&mut third, 100).unwrap();
        assert!(start.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_millis(2));
    }
    let lost = statistics.snapshot().lost_records_total - 30;
    assert!(lost > 100, "{lost}");
    assert_eq!(third.len() as u64, 800 - lost);
    after(&third);
}

#[test]
fn a_worker_that_found_nothing_is_woken() {
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("wake", 1).unwrap();
    let (mut sources, _) = open(&settings(kafka, "wake", &["wake"]), 1);
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    sources[0].set_waker(Arc::new(move || {
        counter.fetch_add(1, SeqCst);
    }));
    let mut batch = Vec::new();
    for round in 1..=3 {
        while sources[0].poll(&mut batch, 100).unwrap() != Polled::Idle || calls.swap(0, SeqCst) > 0 {
            sleep(Duration::from_millis(100));
        }
        kafka.produce("wake", None, ["1"]).unwrap();
        let start = Instant::now();
        while calls.load(SeqCst) == 0 {
            assert!(start.elapsed() < Duration::from_secs(30), "nobody called");
            sleep(Duration::from_millis(1));
        }
        while batch.len() < round {
            sources[0].poll(&mut batch, 100).unwrap();
        }
    }
}

#[test]
fn processes_of_one_cluster_share_the_partitions_and_keep_to_their_own() {
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("shares", 5).unwrap();
    kafka.produce("shares", None, numbers(0..500)).unwrap();
    let settings = settings(kafka, "shares", &["shares"]);
    let (mut first, _) = kafka::open(&settings, 0..1, 3, Extent::default()).unwrap();
    let (mut second, _) = kafka::open(&settings, 1..3, 3, Extent::default()).unwrap();
    let (one, two) = (read(&mut first, 1), read(&mut second, 1));
    assert_eq!(one.len() + two.len(), 500);
    let (mine, theirs) = (after(&one), after(&two));
    assert!(!mine.is_empty() && mine.keys().all(|partition| !theirs.contains_key(partition)));
    // Told of all, each commits what it reads itself.
    first[0]
        .ack(&mine.into_iter().chain(theirs.clone()).collect())
        .unwrap();
    first[0].flush().unwrap();
    let Partition { stream, partition } = theirs.keys().next().unwrap();
    assert_eq!(kafka.committed("shares", stream, *partition).unwrap(), Some(0));
}

#[test]
fn headers_of_a_hub_are_read_and_bad_ones_are_counted_and_left_out() {
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("usdf.R-raw", 1).unwrap();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .create()
        .unwrap();
    let sent: [&[(&str, &str)]; 6] = [
        &[("dbb-lane", "R-raw/3"), ("dbb-sequence", "1"), ("dbb-id", "0f")],
        &[
            ("dbb-lane", "R-raw/3"),
            ("dbb-sequence", "2"),
            ("dbb-resent", "1"),
        ],
        &[("other", "x")],
        &[("dbb-lane", "R-raw"), ("dbb-sequence", "3")],
        &[("dbb-lane", "R-raw/3"), ("dbb-sequence", "0")],
        &[("dbb-sequence", "5")],
    ];
    for (number, pairs) in sent.iter().enumerate() {
        let mut headers = OwnedHeaders::new();
        for (key, value) in *pairs {
            headers = headers.insert(Header {
                key,
                value: Some(value.as_bytes()),
            });
        }
        let body = number.to_string();
        let record = BaseRecord::<(), _>::to("usdf.R-raw").partition(0).payload(&body);
        producer.send(record.headers(headers)).unwrap();
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    let (mut sources, statistics) = open(&settings(kafka, "headers", &["usdf.R-raw"]), 1);
    let read = read(&mut sources, 6);
    let marks: Vec<Option<Marks>> = read
        .iter()
        .map(|record| record.marks.as_deref().cloned())
        .collect();
    let mark = |sequence, resent| {
        Some(Marks {
            lane: "R-raw/3".parse().unwrap(),
            sequence,
            resent,
        })
    };
    assert_eq!(marks, [mark(1, false), mark(2, true), None, None, None, None]);
    assert_eq!(statistics.snapshot().bad_headers_total, 3);
}
