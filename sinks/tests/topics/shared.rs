//! Events to publish, and the topics read back.

use dbb_events::{Again, Class, Did, EventId, Lane, Micros, Outgoing, Place, Rse, message::header};
use dbb_sinks::topics::{SentLogSettings, Share, TopicsSettings, TopicsSink};
use dbb_test_services::{Kafka, watermarks};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

/// A record as it is in its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) partition: i32,
    pub(crate) key: String,
    pub(crate) body: Vec<u8>,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Found {
    pub(crate) fn sequence(&self) -> u64 {
        self.headers[header::SEQUENCE].parse().unwrap()
    }

    pub(crate) fn id(&self) -> &str {
        &self.headers[header::ID]
    }

    pub(crate) fn is_resent(&self) -> bool {
        self.headers.contains_key(header::RESENT)
    }
}

/// Everything that a topic has, partition by partition in the order of offsets.
pub(crate) fn read(kafka: &Kafka, topic: &str) -> Vec<Found> {
    let consumer: BaseConsumer = kafka
        .config()
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let metadata = consumer
        .fetch_metadata(Some(topic), Duration::from_secs(30))
        .unwrap();
    let partitions = metadata.topics()[0].partitions().len() as i32;
    let mut all = Vec::new();
    for partition in 0..partitions {
        let (low, high) = watermarks(&consumer, topic, partition).unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(low))
            .unwrap();
        consumer.assign(&list).unwrap();
        let (mut next, start) = (low, Instant::now());
        while next < high {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "{topic}/{partition}: {next} of {high}"
            );
            let Some(message) = consumer.poll(Duration::from_millis(100)) else {
                continue;
            };
            let message = message.unwrap();
            next = message.offset() + 1;
            let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
            let headers = message.headers().map(|headers| {
                let all = headers.iter().map(|one| (one.key.to_owned(), text(one.value)));
                all.collect()
            });
            all.push(Found {
                partition,
                key: text(message.key()),
                body: message.payload().unwrap_or_default().to_vec(),
                headers: headers.unwrap_or_default(),
            });
        }
    }
    all
}

/// Numbers of each partition are 1, 2, 3 ... but for repeats of the same record: then the ids by partition and number.
pub(crate) fn numbered(found: &[Found]) -> BTreeMap<(i32, u64), String> {
    let mut ids: BTreeMap<(i32, u64), String> = BTreeMap::new();
    let mut last: BTreeMap<i32, u64> = BTreeMap::new();
    for one in found {
        let (partition, number) = (one.partition, one.sequence());
        let last = last.entry(partition).or_default();
        let before = ids.insert((partition, number), one.id().to_owned());
        match before {
            Some(before) => assert_eq!(
                before,
                one.id(),
                "two records have number {number} of partition {partition}"
            ),
            None => assert_eq!(number, *last + 1, "partition {partition} skips a number"),
        }
        *last = (*last).max(number);
    }
    ids
}

/// Event `n`, of a file of its own.
pub(crate) fn event(topic: &str, n: u64) -> Outgoing {
    let name = format!("night/{n:06}.fits");
    let body = format!(
        r#"{{"event_type":"transfer-done","payload":{{"scope":"raw","name":"{name}","text":"é\u0000 {}"}},"created_at":"2026-11-27 20:00:00"}}"#,
        "x".repeat((n % 700) as usize)
    );
    Outgoing {
        event: EventId(u128::from(n) + 1),
        place: Place {
            stream: "rucio".into(),
            partition: 0,
            offset: n,
            line: None,
        },
        event_type: "transfer-done".into(),
        did: Did::new("raw", name),
        rse: Rse::new("SLAC_RAW"),
        url: None,
        source_url: None,
        dataset: None,
        class: Class::Landed,
        labelled: true,
        topic: topic.into(),
        landed_at: None,
        created_at: Micros(1_700_000_000_000_000 + n as i64),
        appended_at: None,
        read_at: Micros(1_700_000_000_000_000),
        again: None,
        body: body.clone().into(),
        source: body.into(),
    }
}

pub(crate) fn events(topic: &str, numbers: std::ops::Range<u64>) -> Vec<Outgoing> {
    numbers.map(|n| event(topic, n)).collect()
}

/// As the ledger sends it again.
pub(crate) fn again(outgoing: Outgoing) -> Outgoing {
    let again = Again {
        event: outgoing.event,
        target: "".into(),
        attempts: 1,
        waiting_since: None,
        released: false,
    };
    Outgoing {
        again: Some(again),
        ..outgoing
    }
}

/// Settings for a test: four partitions, with a sent log in `folder` if there is one; nobody listens to requests.
pub(crate) fn settings(kafka: &Kafka, folder: Option<&Path>) -> TopicsSettings {
    let mut settings = TopicsSettings::of(kafka.bootstrap());
    settings.kafka.new_topics.partitions = 4;
    settings.sent_log = folder.map(SentLogSettings::of);
    settings.requests = None;
    settings
}

pub(crate) fn open(settings: &TopicsSettings) -> TopicsSink {
    TopicsSink::open(settings, &[], Share::default(), Arc::new(AtomicBool::new(false))).unwrap()
}

pub(crate) fn lane(topic: &str, partition: i32) -> Lane {
    Lane {
        topic: topic.into(),
        partition,
    }
}
