//! Numbers: consecutive in the order of appending, whatever happens to topics.

use crate::shared::{again, event, events, lane, numbered, open, read, settings};
use dbb_events::{Outcome, Reason, message::header};
use dbb_sinks::topics::{Share, TopicsError, TopicsSettings, TopicsSink, partition_of};
use dbb_test_services::{Kafka, scratch};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicBool},
};

#[test]
fn records_are_numbered_in_the_order_of_appending_and_are_what_was_to_be_published() {
    let kafka = Kafka::shared().unwrap();
    let folder = scratch("sent").unwrap();
    let mut sink = open(&settings(kafka, Some(folder.path())));
    // Made by the sink, with four partitions.
    let all = events("numbered", 0..5000);
    for batch in all.chunks(1700) {
        assert_eq!(
            sink.deliver(batch.to_vec()).unwrap(),
            [],
            "nothing to say of what went well"
        );
    }
    let found = read(kafka, "numbered");
    assert_eq!(numbered(&found).len(), 5000);
    let partitions: BTreeSet<i32> = found.iter().map(|one| one.partition).collect();
    assert_eq!(partitions.len(), 4, "all partitions are used");
    let by_key: BTreeMap<&str, _> = found.iter().map(|one| (one.key.as_str(), one)).collect();
    for outgoing in &all {
        let key = format!("raw:{}", outgoing.did.name);
        let one = by_key[key.as_str()];
        assert_eq!(one.body, outgoing.body, "byte for byte");
        assert_eq!(one.partition, partition_of(key.as_bytes(), 4));
        assert_eq!(one.headers[header::ID], outgoing.event.to_string());
        assert_eq!(one.headers[header::SOURCE], outgoing.place.to_string());
        assert_eq!(one.headers[header::LANE], format!("numbered/{}", one.partition));
        assert_eq!(one.headers.len(), 4, "{:?}", one.headers);
    }
    let figures = sink.figures().snapshot();
    assert_eq!(figures.published_total.values().sum::<u64>(), 5000);
    assert_eq!(figures.confirm_seconds.iter().sum::<u64>(), 3);
    assert!(
        figures.sent_log_bytes > 50_000 && figures.trouble.is_none(),
        "{figures:?}"
    );
    let confirmed: u64 = sink
        .lanes()
        .all()
        .iter()
        .map(|(_, standing)| standing.confirmed)
        .sum();
    assert_eq!(confirmed, 5000);
}

#[test]
fn what_the_ledger_had_sent_again_is_answered_and_each_topic_answers_for_its_own() {
    let kafka = Kafka::shared().unwrap();
    let mut settings = settings(kafka, None);
    settings.kafka.new_topics.create = false;
    settings.kafka.max_record_bytes = 2000;
    kafka.create_topic("answers", 2).unwrap();
    let mut sink = open(&settings);
    let mut long = event("answers", 1);
    long.body = "x".repeat(2001).into();
    let batch = vec![
        event("answers", 0),
        long,
        again(event("answers", 2)),
        event("no-such-topic", 3),
    ];
    let sent = sink.deliver(batch).unwrap();
    let outcome = |n: u64| {
        let of = sent.iter().find(|one| one.outgoing.place.offset == n);
        of.map(|one| one.outcome.clone())
    };
    assert_eq!(outcome(0), None);
    let Some(Outcome::Refused(refusal)) = outcome(1) else {
        panic!("{}", sent.len())
    };
    assert_eq!(refusal.reason, Reason::TooLarge);
    assert!(
        refusal.detail.contains("topic `answers` takes 2000"),
        "{}",
        refusal.detail
    );
    assert_eq!(outcome(2), Some(Outcome::Published));
    let Some(Outcome::Waiting { detail, .. }) = outcome(3) else {
        panic!("{}", sent.len())
    };
    assert!(
        detail.contains("`no-such-topic` does not exist: make it"),
        "{detail}"
    );
    assert_eq!(numbered(&read(kafka, "answers")).len(), 2);
    assert_eq!(sink.figures().snapshot().refused_total, 1);
}

#[test]
fn after_a_restart_numbers_go_on_where_the_topic_ends_or_the_sent_log_when_it_is_empty() {
    let kafka = Kafka::shared().unwrap();
    let folder = scratch("sent").unwrap();
    let with_log = settings(kafka, Some(folder.path()));
    let publish =
        |settings: &TopicsSettings, range| open(settings).deliver(events("goes-on", range)).unwrap();
    publish(&with_log, 0..100);
    publish(&with_log, 100..200);
    // Without a log, the topic alone tells.
    publish(&settings(kafka, None), 200..300);
    assert_eq!(numbered(&read(kafka, "goes-on")).len(), 300);
    publish(&with_log, 300..400);
    let before: BTreeMap<i32, u64> = numbered(&read(kafka, "goes-on")).into_keys().collect();
    // Retention.
    for partition in 0..4 {
        empty(kafka, "goes-on", partition);
    }
    publish(&with_log, 400..500);
    let found = read(kafka, "goes-on");
    assert_eq!(found.len(), 100);
    let mut next = before.clone();
    for one in &found {
        let last = next.get_mut(&one.partition).unwrap();
        *last += 1;
        assert_eq!(one.sequence(), *last, "partition {}", one.partition);
    }
    // Without the log they are at least never given twice.
    for partition in 0..4 {
        empty(kafka, "goes-on", partition);
    }
    publish(&settings(kafka, None), 500..600);
    for one in read(kafka, "goes-on") {
        assert!(
            one.sequence() > next[&one.partition],
            "partition {}",
            one.partition
        );
    }
}

/// As retention does.
fn empty(kafka: &Kafka, topic: &str, partition: i32) {
    let end = kafka.end_offset(topic, partition).unwrap();
    kafka.delete_records(topic, partition, end).unwrap();
}

#[test]
fn a_topic_that_is_made_again_or_has_more_partitions_goes_on() {
    let kafka = Kafka::shared().unwrap();
    let folder = scratch("sent").unwrap();
    let settings = settings(kafka, Some(folder.path()));
    open(&settings).deliver(events("made-again", 0..40)).unwrap();
    let last: BTreeMap<i32, u64> = numbered(&read(kafka, "made-again")).into_keys().collect();
    kafka.delete_topic("made-again").unwrap();
    kafka.create_topic("made-again", 5).unwrap();
    open(&settings).deliver(events("made-again", 40..90)).unwrap();
    let found = read(kafka, "made-again");
    assert_eq!(found.len(), 50);
    let mut first: BTreeMap<i32, u64> = BTreeMap::new();
    for one in &found {
        first.entry(one.partition).or_insert(one.sequence());
    }
    for (partition, first) in first {
        assert_eq!(
            first,
            last.get(&partition).copied().unwrap_or(0) + 1,
            "partition {partition}"
        );
    }
}

#[test]
fn what_a_topic_no_longer_takes_is_refused_and_no_number_is_lost_by_it() {
    let kafka = Kafka::shared().unwrap();
    let folder = scratch("sent").unwrap();
    let mut settings = settings(kafka, Some(folder.path()));
    settings.kafka.compression = dbb_sinks::topics::Compression::None;
    let mut sink = open(&settings);
    sink.deliver(events("shrinks", 0..200)).unwrap();
    // Behind its back: only the broker knows.
    let change = [
        "--bootstrap-server",
        &kafka.bootstrap(),
        "--alter",
        "--topic",
        "shrinks",
        "--add-config",
        "max.message.bytes=3000",
    ];
    kafka.tool("kafka.admin.ConfigCommand", &change).unwrap();
    // The broker hears of it a little later than it answers.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let mut batch = events("shrinks", 200..400);
    for n in [0, 77, 150] {
        batch[n].body = "x".repeat(5000).into();
    }
    let sent = sink.deliver(batch).unwrap();
    let refused: Vec<u64> = sent.iter().map(|one| one.outgoing.place.offset).collect();
    let there: Vec<usize> = read(kafka, "shrinks")
        .iter()
        .map(|one| one.body.len())
        .filter(|bytes| *bytes > 3000)
        .collect();
    assert_eq!(
        (refused.as_slice(), there.as_slice()),
        ([200, 277, 350].as_slice(), [].as_slice())
    );
    for one in &sent {
        assert_eq!(one.outgoing.body.len(), 5000);
        assert!(matches!(&one.outcome, Outcome::Refused(refusal) if refusal.reason == Reason::TooLarge));
    }
    // From now on it is known.
    let start = sink.figures().snapshot().producer_restarts_total;
    sink.deliver(events("shrinks", 400..600)).unwrap();
    assert!(sink.figures().snapshot().producer_restarts_total <= start + 1);
    assert_eq!(numbered(&read(kafka, "shrinks")).len(), 597);
    // What was refused is not sent by the next process.
    drop(sink);
    open(&settings).deliver(events("shrinks", 600..610)).unwrap();
    let ids = numbered(&read(kafka, "shrinks"));
    assert_eq!(ids.len(), 607);
    assert!(
        sent.iter()
            .all(|one| !ids.values().any(|id| *id == one.outgoing.event.to_string()))
    );
}

#[test]
fn records_of_somebody_else_do_not_matter() {
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("foreign", 1).unwrap();
    kafka
        .produce("foreign", Some(0), (0..300).map(|n| n.to_string()))
        .unwrap();
    let mut settings = settings(kafka, None);
    settings.kafka.new_topics.partitions = 1;
    open(&settings).deliver(events("foreign", 0..10)).unwrap();
    open(&settings).deliver(events("foreign", 10..20)).unwrap();
    let found = read(kafka, "foreign");
    assert_eq!(numbered(&found[300..]).len(), 20);
    assert_eq!(
        open(&settings).lanes().get(&lane("foreign", 0)),
        None,
        "only of topics that are known"
    );
}

#[test]
fn two_processes_cannot_have_one_sent_log() {
    let kafka = Kafka::shared().unwrap();
    let folder = scratch("sent").unwrap();
    let settings = settings(kafka, Some(folder.path()));
    let _first = open(&settings);
    let error = TopicsSink::open(&settings, &[], Share::default(), Arc::new(AtomicBool::new(false)))
        .err()
        .unwrap();
    assert!(matches!(error, TopicsError::Configuration(_)));
    assert!(
        error.to_string().contains("another dbb publishes with it"),
        "{error}"
    );
}
