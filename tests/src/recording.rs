//! The events of a site as records of Kafka, published by the test piece by piece.

use crate::Site;
use anyhow::{Context, Result, bail, ensure};
use dbb_test_services::{Kafka, root};
use flate2::read::GzDecoder;
use rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufRead, BufReader},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A megabyte of sidecar is among what a site must live with.
const MAX_RECORD_BYTES: &str = "8388608";

/// One line of a recording.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Where it goes.
    pub topic: String,
    /// The event.
    pub value: Vec<u8>,
}

impl Recorded {
    /// All lines of a site's recording, in order; one that is no record goes to the topic of the line before.
    pub fn of(site: &Site) -> Result<Vec<Self>> {
        let mut files: Vec<_> = fs::read_dir(site.path().join("events"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        files.sort();
        let mut all: Vec<Self> = Vec::new();
        for file in files {
            let bytes = fs::read(&file)?;
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let record: Option<serde_json::Value> = serde_json::from_slice(line).ok();
                let field = |name: &str| Some(record.as_ref()?.get(name)?.as_str()?.to_owned());
                all.push(match (field("topic"), field("value")) {
                    (Some(topic), Some(value)) => Self {
                        topic,
                        value: value.into_bytes(),
                    },
                    _ => Self {
                        topic: all.last().context("the first line is no record")?.topic.clone(),
                        value: line.to_vec(),
                    },
                });
            }
        }
        Ok(all)
    }

    /// The events of these nights, in the order received.
    pub fn of_nights(topic: &str, names: &[&str]) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for name in names {
            let path = root().join(format!("tests/data/rucio-events/night-{name}-events.ndjson.gz"));
            for line in BufReader::new(GzDecoder::new(File::open(path)?)).lines() {
                all.push(Self {
                    topic: topic.into(),
                    value: line?.into_bytes(),
                });
            }
        }
        Ok(all)
    }

    /// The file it is about, `scope:name`, if it can be read.
    pub fn did(&self) -> Option<String> {
        let event: serde_json::Value = serde_json::from_slice(&self.value).ok()?;
        let text = |name: &str| Some(event.get("payload")?.get(name)?.as_str()?.to_owned());
        Some(format!("{}:{}", text("scope")?, text("name")?))
    }

    /// True if it says that a file has landed which a Butler is to know.
    pub fn is_for_a_butler(&self) -> bool {
        let event: Option<serde_json::Value> = serde_json::from_slice(&self.value).ok();
        event.is_none_or(|event| {
            let type_ = event.get("event_type").and_then(|word| word.as_str());
            type_ == Some("transfer-done")
                && event["payload"]
                    .get("rubin_butler")
                    .is_some_and(|kind| !kind.is_null())
        })
    }
}

/// Makes the topics of these records that are not in `there` yet, and adds them.
pub fn create_topics<'a>(
    kafka: &Kafka,
    records: impl IntoIterator<Item = &'a Recorded>,
    partitions: i32,
    there: &mut BTreeSet<String>,
) -> Result<()> {
    for record in records {
        if there.insert(record.topic.clone()) {
            kafka.create_topic_with(
                &record.topic,
                partitions,
                &[("max.message.bytes", MAX_RECORD_BYTES)],
            )?;
        }
    }
    Ok(())
}

/// What is at each place: topic, partition, offset.
pub type Places = BTreeMap<(String, i32, i64), Vec<u8>>;

/// Appends records to Kafka and knows where each one came to be.
pub struct Publisher {
    producer: ThreadedProducer<Deliveries>,
    partitions: i32,
    next: i32,
}

impl Publisher {
    /// For topics of `partitions` partitions, to which records go in turn.
    pub fn new(kafka: &Kafka, partitions: i32) -> Result<Self> {
        Self::made(kafka, partitions, false)
    }

    /// The same, where what is sent again because a broker was killed is there once; nobody tells where.
    pub fn once(kafka: &Kafka, partitions: i32) -> Result<Self> {
        Self::made(kafka, partitions, true)
    }

    fn made(kafka: &Kafka, partitions: i32, once: bool) -> Result<Self> {
        let producer = kafka
            .config()
            .set("message.max.bytes", MAX_RECORD_BYTES)
            .set("acks", "all")
            .set("enable.idempotence", once.to_string())
            .set("linger.ms", "2")
            // Longer than a broker that was killed takes to come back.
            .set("message.timeout.ms", "120000")
            .create_with_context(Deliveries::default())?;
        Ok(Self {
            producer,
            partitions,
            next: 0,
        })
    }

    /// Hands records over; they are appended in the background.
    pub fn send<'a>(&mut self, records: impl IntoIterator<Item = &'a Recorded>) -> Result<()> {
        for record in records {
            let partition = self.next % self.partitions;
            self.next += 1;
            let sent = BaseRecord::to(&record.topic)
                .key("message")
                .payload(&record.value)
                .partition(partition);
            if let Err((error, _)) = self.producer.send(sent) {
                bail!("could not publish to {}: {error}", record.topic);
            }
        }
        Ok(())
    }

    /// Returns when all records handed over are on their brokers.
    pub fn flush(&self) -> Result<()> {
        self.producer.flush(Duration::from_secs(130))?;
        let failures = self
            .producer
            .context()
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failures
            .clone();
        ensure!(failures.is_empty(), "records were not taken: {failures:?}");
        Ok(())
    }

    /// What is at each place: topic, partition, offset.
    pub fn places(&self) -> Places {
        self.producer
            .context()
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .places
            .clone()
    }
}

/// What is in Kafka, read back: of a record that was sent again nobody tells who wrote it where it is.
pub struct Appended {
    consumer: BaseConsumer,
    next: BTreeMap<(String, i32), i64>,
    places: Places,
}

impl Appended {
    /// Of all `partitions` of these topics.
    pub fn new(kafka: &Kafka, topics: &BTreeSet<String>, partitions: i32) -> Result<Self> {
        let consumer: BaseConsumer = kafka
            .config()
            .set("group.id", "reads back")
            .set("enable.auto.commit", "false")
            .create()?;
        let mut all = TopicPartitionList::new();
        for (topic, partition) in topics
            .iter()
            .flat_map(|topic| (0..partitions).map(move |n| (topic, n)))
        {
            all.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&all)?;
        Ok(Self {
            consumer,
            next: BTreeMap::new(),
            places: BTreeMap::new(),
        })
    }

    /// What is at each place (topic, partition, offset), at least below the offsets `bound`.
    pub fn below(&mut self, bound: &BTreeMap<(String, i32), i64>) -> Result<&Places> {
        let deadline = Instant::now() + Duration::from_secs(130);
        while bound
            .iter()
            .any(|(of, to)| self.next.get(of).copied().unwrap_or(0) < *to)
        {
            ensure!(
                Instant::now() < deadline,
                "records below {bound:?} cannot be read back"
            );
            // Errors are those of brokers that are away.
            if let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(100)) {
                let of = (message.topic().to_owned(), message.partition());
                let place = (of.0.clone(), of.1, message.offset());
                self.next.insert(of, message.offset() + 1);
                self.places
                    .insert(place, message.payload().unwrap_or_default().to_vec());
            }
        }
        Ok(&self.places)
    }
}

#[derive(Clone, Default)]
struct Deliveries(Arc<Mutex<Delivered>>);

#[derive(Default)]
struct Delivered {
    failures: Vec<String>,
    places: Places,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut delivered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(message) => {
                let place = (message.topic().to_owned(), message.partition(), message.offset());
                delivered
                    .places
                    .insert(place, message.payload().unwrap_or_default().to_vec());
            }
            Err((error, _)) => delivered.failures.push(error.to_string()),
        }
    }
}
