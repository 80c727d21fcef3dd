//! Where records are put: files in a folder, or a Kafka topic.
//!
//! Either tells up to where everything is durable; the source hears of nothing else.

use crate::{
    cli::{Exit, exit::Told},
    config::settings::Record,
};
use dbb_events::Received;
use dbb_sinks::topics::{Messenger, Post, TopicsError};
use dbb_sources::{Offsets, Partition, record::Recorder};
use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

/// Records published at once.
const MOST: usize = 2000;

/// Longest that a record waits for others.
const GATHER: Duration = Duration::from_millis(20);

/// Somewhere records are put.
pub(super) trait Target {
    /// Takes a record; false if it is there already.
    fn write(&mut self, record: &Received) -> anyhow::Result<bool>;

    /// Makes what it took durable, if it is time; then up to where everything is.
    fn settle(&mut self) -> anyhow::Result<Option<Offsets>>;

    /// Makes all that it took durable; then up to where everything is.
    fn complete(&mut self) -> anyhow::Result<Option<Offsets>>;

    /// What was put where, in one line, and whether something is to be looked at.
    fn told(&self) -> (String, bool);
}

impl Target for Recorder {
    fn write(&mut self, record: &Received) -> anyhow::Result<bool> {
        Ok(Recorder::write(self, record)?)
    }

    fn settle(&mut self) -> anyhow::Result<Option<Offsets>> {
        Ok(self.rotate()?)
    }

    fn complete(&mut self) -> anyhow::Result<Option<Offsets>> {
        Ok(Recorder::complete(self)?)
    }

    fn told(&self) -> (String, bool) {
        let mut text = format!("{} records in `{}`", self.records(), self.folder().display());
        if self.not_text() > 0 {
            let count = self.not_text();
            text += &format!(", {count} were no text, and are recorded with U+FFFD in its place");
        }
        (text, false)
    }
}

/// A Kafka topic.
pub(super) struct Topic {
    messenger: Messenger,
    topic: Arc<str>,
    /// Taken, and not published.
    posts: Vec<Post>,
    records: Vec<Received>,
    since: Instant,
    published: Offsets,
    count: u64,
    /// For what the topic does not take.
    refused: Option<Recorder>,
}

impl Topic {
    /// Publishes as `record` says; once `stop` is set no broker is waited for any longer.
    pub(super) fn open(
        record: &Record,
        stop: Arc<AtomicBool>,
        refused: Option<Recorder>,
    ) -> anyhow::Result<Self> {
        let (Some(kafka), Some(topic)) = (&record.kafka, &record.topic) else {
            let hint = "write `record: {topic: rucio.events, kafka: {brokers: [...]}}`";
            return Err(Told::new(
                Exit::Configuration,
                "the configuration names no topic to record to",
                hint,
            )
            .into());
        };
        Ok(Self {
            messenger: Messenger::open(kafka, stop)?,
            topic: topic.as_str().into(),
            posts: Vec::new(),
            records: Vec::new(),
            since: Instant::now(),
            published: Offsets::new(),
            count: 0,
            refused,
        })
    }

    /// Keeps what the topic will never take in files; without a folder for them nothing after it can be published.
    fn keep(&mut self, index: usize, detail: &str) -> anyhow::Result<()> {
        let record = &self.records[index];
        let place = &record.place;
        let Some(recorder) = &mut self.refused else {
            let message = format!("a record is not taken: {place}: {detail}");
            let hint = "raise `max.message.bytes` of the topic and `record.kafka.max_record_bytes`, or give a folder for such \
                        records with `--out`";
            return Err(Told::new(Exit::Problems, message, hint).into());
        };
        recorder.write(record)?;
        tracing::error!(%place, detail, "a record is not taken by the topic, and is kept in the folder");
        Ok(())
    }
}

impl Target for Topic {
    fn write(&mut self, record: &Received) -> anyhow::Result<bool> {
        if self.posts.is_empty() {
            self.since = Instant::now();
        }
        let did = dbb_events::decode(&record.body)
            .ok()
            .and_then(|event| event.did());
        self.posts.push(Post {
            topic: Arc::clone(&self.topic),
            partition: None,
            key: did.map(|did| did.to_string()).unwrap_or_default(),
            headers: Vec::new(),
            body: record.body.to_vec(),
        });
        self.records.push(record.clone());
        Ok(true)
    }

    fn settle(&mut self) -> anyhow::Result<Option<Offsets>> {
        let due = self.posts.len() >= MOST || self.since.elapsed() >= GATHER;
        if due { self.complete() } else { Ok(None) }
    }

    fn complete(&mut self) -> anyhow::Result<Option<Offsets>> {
        if self.posts.is_empty() {
            return Ok(None);
        }
        let refused = match self.messenger.send(&self.posts) {
            Ok(refused) => refused,
            Err(TopicsError::Stopped) => {
                tracing::warn!(
                    records = self.posts.len(),
                    "the topic's brokers did not confirm in time: these come again"
                );
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let count = refused.len();
        for not in refused {
            self.keep(not.index, &not.detail)?;
        }
        if let Some(recorder) = self.refused.as_mut().filter(|_| count > 0) {
            recorder.complete()?;
        }
        for record in self.records.drain(..) {
            let partition = Partition {
                stream: record.place.stream,
                partition: record.place.partition,
            };
            self.published.insert(partition, record.place.offset + 1);
        }
        self.count += (self.posts.len() - count) as u64;
        self.posts.clear();
        Ok(Some(self.published.clone()))
    }

    fn told(&self) -> (String, bool) {
        let text = format!("{} records in topic `{}`", self.count, self.topic);
        match &self.refused {
            Some(recorder) if recorder.records() > 0 => {
                let (count, folder) = (recorder.records(), recorder.folder().display());
                (
                    format!("{text}, {count} that it does not take in `{folder}`"),
                    true,
                )
            }
            _ => (text, false),
        }
    }
}
