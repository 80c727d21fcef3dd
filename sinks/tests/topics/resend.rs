//! What a site asks for is sent again, what is not kept is told, and heartbeats tell the last number.

use crate::shared::{Found, events, lane, numbered, open, read, settings};
use dbb_events::{Lane, Message, Micros, Word};
use dbb_sinks::topics::{RequestSettings, TopicsSettings};
use dbb_test_services::{Kafka, scratch, wait_until};
use std::{collections::BTreeMap, time::Duration};

const LONG: Duration = Duration::from_secs(60);

/// One topic of an RSE of its own, so that tests do not hear each other.
fn listening(kafka: &Kafka, folder: Option<&std::path::Path>, name: &str) -> TopicsSettings {
    let mut settings = settings(kafka, folder);
    settings.kafka.new_topics.partitions = 2;
    settings.heartbeats.topic = format!("{name}-{{rse}}-heartbeats");
    settings.heartbeats.every_seconds = 1;
    settings.requests = Some(RequestSettings {
        topics: vec![format!(r"/(\w+\.)?{name}-(?<rse>.+)-requests/")],
        group_id: format!("{name}-requests"),
        records_per_second: 5000,
    });
    settings
}

fn ask(kafka: &Kafka, topic: &str, lane: Lane, from: u64, to: u64) {
    let word = Word::Resend {
        site: "frdf".into(),
        lane,
        from,
        to,
    };
    let created_at = Micros(1_700_000_000_000_000);
    kafka
        .produce(topic, Some(0), [Message { word, created_at }.encode()])
        .unwrap();
}

fn resent(kafka: &Kafka, topic: &str) -> Vec<Found> {
    read(kafka, topic).into_iter().filter(Found::is_resent).collect()
}

fn heard(kafka: &Kafka, topic: &str) -> Vec<Word> {
    let all = read(kafka, topic);
    all.iter()
        .map(|one| Message::decode(&one.body).unwrap().word)
        .collect()
}

#[test]
fn exactly_the_numbers_that_a_site_asks_for_are_sent_again_from_the_sent_log() {
    let kafka = Kafka::shared().unwrap();
    let folder = scratch("sent").unwrap();
    let mut settings = listening(kafka, Some(folder.path()), "asks");
    // Several files, and more than one turn.
    settings.sent_log.as_mut().unwrap().segment_bytes = 20_000;
    kafka.create_topic("usdf.asks-SLAC_RAW-requests", 1).unwrap();
    let mut sink = open(&settings);
    for batch in events("asks", 0..3000).chunks(90) {
        sink.deliver(batch.to_vec()).unwrap();
    }
    let all = read(kafka, "asks");
    // The topic has forgotten them: only the log can tell.
    for partition in 0..2 {
        kafka
            .delete_records("asks", partition, kafka.end_offset("asks", partition).unwrap())
            .unwrap();
    }
    kafka
        .produce("usdf.asks-SLAC_RAW-requests", Some(0), ["what?", "{}"])
        .unwrap();
    ask(kafka, "usdf.asks-SLAC_RAW-requests", lane("asks", 1), 17, 1203);
    ask(kafka, "usdf.asks-SLAC_RAW-requests", lane("asks", 0), 5, 5);
    ask(kafka, "usdf.asks-SLAC_RAW-requests", lane("asks", 1), 9, 3);
    wait_until("both are answered", LONG, || {
        Ok(sink.figures().snapshot().requests_total == 2)
    })
    .unwrap();
    let again: BTreeMap<(i32, u64), Found> = resent(kafka, "asks")
        .into_iter()
        .map(|one| ((one.partition, one.sequence()), one))
        .collect();
    assert_eq!(again.len(), 1188);
    for one in &all {
        let asked = (one.partition == 1 && (17..=1203).contains(&one.sequence()))
            || (one.partition, one.sequence()) == (0, 5);
        let found = again.get(&(one.partition, one.sequence()));
        assert_eq!(found.is_some(), asked, "{}/{}", one.partition, one.sequence());
        if let Some(found) = found {
            assert_eq!(
                (&found.key, &found.body, found.id()),
                (&one.key, &one.body, one.id())
            );
        }
    }
    let figures = sink.figures().snapshot();
    assert_eq!(
        (
            figures.resent_total,
            figures.unavailable_total,
            figures.bad_requests_total
        ),
        (1188, 0, 3)
    );
    // All requests are done with, also for the next process.
    wait_until("the offset is committed", LONG, || {
        Ok(kafka.committed("asks-requests", "usdf.asks-SLAC_RAW-requests", 0)? == Some(5))
    })
    .unwrap();
    // And numbers go on.
    sink.deliver(events("asks", 3000..3010)).unwrap();
    drop(sink);
    open(&settings).deliver(events("asks", 3010..3020)).unwrap();
    let fresh: Vec<Found> = read(kafka, "asks")
        .into_iter()
        .filter(|one| !one.is_resent())
        .collect();
    assert_eq!(fresh.len(), 20);
    let last = numbered(&all)
        .into_keys()
        .filter(|(partition, _)| *partition == 0)
        .map(|(_, number)| number)
        .max();
    let first = fresh.iter().find(|one| one.partition == 0).unwrap();
    assert_eq!(first.sequence(), last.unwrap() + 1);
}

#[test]
fn without_a_sent_log_the_topic_is_asked_and_what_nobody_has_is_told() {
    let kafka = Kafka::shared().unwrap();
    let settings = listening(kafka, None, "topic");
    kafka.create_topic("topic-SLAC_RAW-requests", 1).unwrap();
    let mut sink = open(&settings);
    sink.deliver(events("topic", 0..1000)).unwrap();
    let last = numbered(&read(kafka, "topic"))
        .into_keys()
        .filter(|(p, _)| *p == 0)
        .count() as u64;
    kafka.delete_records("topic", 0, 100).unwrap();
    ask(kafka, "topic-SLAC_RAW-requests", lane("topic", 0), 90, 120);
    // Of what was never published there is nothing to say.
    ask(kafka, "topic-SLAC_RAW-requests", lane("topic", 0), last, last + 7);
    wait_until("both are answered", LONG, || {
        Ok(sink.figures().snapshot().requests_total == 2)
    })
    .unwrap();
    let mut again: Vec<u64> = resent(kafka, "topic").iter().map(Found::sequence).collect();
    again.sort_unstable();
    let expected: Vec<u64> = (101..=120).chain([last]).collect();
    assert_eq!(again, expected);
    let told = heard(kafka, "topic-SLAC_RAW-heartbeats")
        .into_iter()
        .find_map(|word| match word {
            Word::Unavailable {
                lane,
                from,
                to,
                detail,
            } => Some((lane.to_string(), from, to, detail)),
            _ => None,
        });
    let (of, from, to, detail) = told.unwrap();
    assert_eq!((of.as_str(), from, to), ("topic/0", 90, 100));
    assert!(detail.contains("sent log"), "{detail}");
    assert_eq!(sink.figures().snapshot().unavailable_total, 11);
}

#[test]
fn what_was_asked_while_the_hub_was_down_is_answered_when_it_is_back() {
    let kafka = Kafka::shared().unwrap();
    let settings = listening(kafka, None, "later");
    kafka.create_topic("later-SLAC_RAW-requests", 1).unwrap();
    open(&settings).deliver(events("later", 0..300)).unwrap();
    ask(kafka, "later-SLAC_RAW-requests", lane("later", 1), 1, 50);
    // Nothing is published to it since the start, and there is no sent log that names it.
    let sink = open(&settings);
    wait_until("it is answered", LONG, || {
        Ok(sink.figures().snapshot().requests_total == 1)
    })
    .unwrap();
    let again: Vec<u64> = resent(kafka, "later").iter().map(Found::sequence).collect();
    assert_eq!(again, (1..=50).collect::<Vec<_>>());
}

#[test]
fn heartbeats_tell_the_last_number_of_every_partition_also_after_a_restart() {
    let kafka = Kafka::shared().unwrap();
    let folder = scratch("sent").unwrap();
    let settings = listening(kafka, Some(folder.path()), "beats");
    open(&settings).deliver(events("beats", 0..100)).unwrap();
    let last: BTreeMap<i32, u64> = numbered(&read(kafka, "beats")).into_keys().collect();
    let sink = open(&settings);
    wait_until("two heartbeats came", LONG, || {
        Ok(sink.figures().snapshot().heartbeats_total >= 4)
    })
    .unwrap();
    let mut told = BTreeMap::new();
    for word in heard(kafka, "beats-SLAC_RAW-heartbeats") {
        let Word::Heartbeat { lane, sequence } = word else {
            panic!("{word:?}")
        };
        assert_eq!(&*lane.topic, "beats");
        told.insert(lane.partition, sequence);
    }
    assert_eq!(told, last);
}
