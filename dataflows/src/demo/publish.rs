//! Publishes a recording to Kafka, as Hermes and MirrorMaker would have.
//!
//! ```text
//!   events/*.ndjson --> topics <RSE>-<scope>, key `message`
//! ```
//!
//! A line that is no `{"topic", "key", "value"}` record goes, as it is, to the topic of the line before it.

use anyhow::{Context, Result, bail, ensure};
use rdkafka::{
    ClientConfig, ClientContext, Message,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer},
};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// Records of more than a megabyte are among those a site must live with.
const MAX_RECORD_BYTES: &str = "8388608";
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Record {
    topic: String,
    key: Option<String>,
    value: String,
}

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The topics, all of them new.
    pub topics: Vec<String>,
    /// The records.
    pub records: usize,
}

/// Makes the topics of a recording (with `partitions` each) and appends its lines in their order.
///
/// # Errors
///
/// The recording cannot be read, a topic exists already, or a broker did not take a record.
pub fn publish(brokers: &str, events: &Path, partitions: i32) -> Result<Published> {
    let mut topics = BTreeSet::new();
    for_each_line(events, |topic, _, _| {
        topics.insert(topic.to_owned());
        Ok(())
    })?;
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("message.max.bytes", MAX_RECORD_BYTES);
    create(&config, &topics, partitions)?;

    let failures = Failures::default();
    config
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("compression.type", "zstd");
    let producer: ThreadedProducer<Failures> = config.create_with_context(failures.clone())?;
    let mut records = 0;
    for_each_line(events, |topic, key, value| {
        let mut record = BaseRecord::to(topic).key(key).payload(value);
        while let Err((error, back)) = producer.send(record) {
            ensure!(
                error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull),
                "could not publish to {topic}: {error}"
            );
            record = back;
            thread::sleep(Duration::from_millis(10));
        }
        records += 1;
        Ok(())
    })?;
    producer
        .flush(TIMEOUT)
        .context("the brokers did not take all records")?;
    if let Some(failure) = failures.first() {
        bail!("a record was not taken: {failure}");
    }
    Ok(Published {
        topics: topics.into_iter().collect(),
        records,
    })
}

fn create(config: &ClientConfig, topics: &BTreeSet<String>, partitions: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let new: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|name| {
            NewTopic::new(name, partitions, TopicReplication::Fixed(1))
                .set("max.message.bytes", MAX_RECORD_BYTES)
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let options = AdminOptions::new()
        .operation_timeout(Some(TIMEOUT))
        .request_timeout(Some(TIMEOUT));
    let made = runtime
        .block_on(admin.create_topics(&new, &options))
        .context("could not make topics")?;
    for result in made {
        if let Err((topic, code)) = result {
            bail!("could not make topic {topic}: {code}: the demo wants a broker, or a name, of its own");
        }
    }
    Ok(())
}

/// Calls `each` with the topic, key and body of every line, files in the order of their names.
fn for_each_line(events: &Path, mut each: impl FnMut(&str, &str, &[u8]) -> Result<()>) -> Result<()> {
    let entries = fs::read_dir(events).with_context(|| format!("could not read {}", events.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("could not read {}", file.display()))?;
        let mut before = None;
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Record>(line) {
                Ok(record) => {
                    each(
                        &record.topic,
                        record.key.as_deref().unwrap_or("message"),
                        record.value.as_bytes(),
                    )?;
                    before = Some(record.topic);
                }
                Err(_) => {
                    let topic = before.as_deref().with_context(|| {
                        format!("{} starts with a line that is no record", file.display())
                    })?;
                    each(topic, "message", line)?;
                }
            }
        }
    }
    Ok(())
}

/// Keeps the failures that brokers report after a record was handed over.
#[derive(Clone, Default)]
struct Failures(Arc<Mutex<Vec<String>>>);

impl Failures {
    fn first(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .first()
            .cloned()
    }
}

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let failure = format!("{error} (topic {})", message.topic());
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(failure);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_that_is_no_record_goes_to_the_topic_before() {
        let folder = tempfile::tempdir().unwrap();
        let good = r#"{"topic": "A-raw", "key": "message", "value": "{\"x\": 1}"}"#;
        fs::write(folder.path().join("2.ndjson"), format!("{good}\n")).unwrap();
        let mut first = good.replace("A-raw", "B-raw").into_bytes();
        first.extend_from_slice(b"\n\xff{cut\n");
        fs::write(folder.path().join("1.ndjson"), first).unwrap();
        let mut seen = Vec::new();
        for_each_line(folder.path(), |topic, key, value| {
            seen.push((topic.to_owned(), key.to_owned(), value.to_vec()));
            Ok(())
        })
        .unwrap();
        let record = |topic: &str, value: &[u8]| (topic.to_owned(), "message".to_owned(), value.to_vec());
        assert_eq!(
            seen,
            [
                record("B-raw", b"{\"x\": 1}"),
                record("B-raw", b"\xff{cut"),
                record("A-raw", b"{\"x\": 1}")
            ]
        );
        fs::write(folder.path().join("0.ndjson"), "no record\n").unwrap();
        assert!(for_each_line(folder.path(), |_, _, _| Ok(())).is_err());
    }
}
