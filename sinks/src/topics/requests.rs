//! Requests: what sites ask for, read from their topics.
//!
//! In:    messages of all topics that match; new ones are found while running.
//! Out:   requests, and what is none.
//! State: of each partition, the offsets that are not done.
//!
//! Frontier: an offset is committed when everything below it is done, so what was asked is not forgotten.

use crate::topics::{ProducerSettings, RequestSettings, TopicsError};
use dbb_events::{Lane, Message as Said, Rse, Word};
use dbb_kafka::Wanted;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    message::BorrowedMessage,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// How often new topics are looked for.
const DISCOVER: Duration = Duration::from_secs(10);

/// Longest that one question to the brokers may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Most messages in one go.
const MOST: usize = 100;

/// A site asks for records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) site: Arc<str>,
    pub(super) lane: Lane,
    pub(super) from: u64,
    pub(super) to: u64,
    /// The RSE of the topic it came by, where the pattern tells.
    pub(super) rse: Option<Rse>,
    at: (String, i32, i64),
}

/// A message of a site.
pub(super) enum Asked {
    Resend(Request),
    /// It is none; it is done with.
    Bad {
        place: String,
        detail: String,
    },
}

pub(super) struct Requests {
    consumer: BaseConsumer,
    wanted: Vec<Wanted>,
    subscribed: BTreeSet<String>,
    looked: Option<Instant>,
    open: BTreeMap<(String, i32), Progress>,
}

#[derive(Default)]
struct Progress {
    /// Offsets that are not done.
    open: BTreeSet<i64>,
    /// The offset after the last that was read.
    next: i64,
}

impl Requests {
    pub(super) fn open(kafka: &ProducerSettings, settings: &RequestSettings) -> Result<Self, TopicsError> {
        let mut config = kafka.client()?;
        config
            .set("group.id", &settings.group_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("allow.auto.create.topics", "false")
            .set("session.timeout.ms", "10000")
            // While there is much to send again nobody polls.
            .set("max.poll.interval.ms", "86400000");
        let consumer = config
            .create()
            .map_err(|error| TopicsError::Configuration(format!("kafka: {error}")))?;
        let wanted = settings.topics.iter().map(|topic| Wanted::parse(topic));
        Ok(Self {
            consumer,
            wanted: wanted.collect::<Result<_, _>>()?,
            subscribed: BTreeSet::new(),
            looked: None,
            open: BTreeMap::new(),
        })
    }

    /// What has come; waits so long for the first. Without `more` nothing is read.
    pub(super) fn poll(&mut self, wait: Duration, more: bool) -> Vec<Asked> {
        self.discover();
        let mut asked = Vec::new();
        let mut wait = wait;
        while more && asked.len() < MOST {
            let one = match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    let at = (message.topic().to_owned(), message.partition(), message.offset());
                    let progress = self.open.entry((at.0.clone(), at.1)).or_default();
                    progress.next = at.2 + 1;
                    progress.open.insert(at.2);
                    read(&message, at, &self.wanted)
                }
                Some(Err(error)) => {
                    // It mends itself.
                    tracing::debug!(%error, "requests");
                    break;
                }
            };
            wait = Duration::ZERO;
            match one {
                Ok(request) => asked.push(Asked::Resend(request)),
                Err((at, detail)) => {
                    asked.push(Asked::Bad {
                        place: format!("{}[{}]@{}", at.0, at.1, at.2),
                        detail,
                    });
                    self.done_at(&at);
                }
            }
        }
        asked
    }

    /// The request has been answered.
    pub(super) fn done(&mut self, request: &Request) {
        self.done_at(&request.at);
    }

    fn done_at(&mut self, (topic, partition, offset): &(String, i32, i64)) {
        let Some(progress) = self.open.get_mut(&(topic.clone(), *partition)) else {
            return;
        };
        progress.open.remove(offset);
        let next = progress.open.first().copied().unwrap_or(progress.next);
        let mut list = TopicPartitionList::new();
        // Fails only for offsets that are none.
        let _ = list.add_partition_offset(topic, *partition, Offset::Offset(next));
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            warn!(%topic, partition, %error, "could not commit which requests are answered: they may be answered again");
        }
    }

    /// Subscribes to topics that match and were not there.
    fn discover(&mut self) {
        if self.looked.is_some_and(|at| at.elapsed() < DISCOVER) {
            return;
        }
        self.looked = Some(Instant::now());
        let metadata = match self.consumer.fetch_metadata(None, LIMIT) {
            Ok(metadata) => metadata,
            Err(error) => {
                tracing::debug!(%error, "topics of requests");
                return;
            }
        };
        let names = metadata.topics().iter().map(|topic| topic.name());
        let found: BTreeSet<String> = names
            .filter(|name| self.wanted.iter().any(|wanted| wanted.matches(name)))
            .map(str::to_owned)
            .collect();
        if found.is_empty() || found == self.subscribed {
            return;
        }
        let names: Vec<&str> = found.iter().map(String::as_str).collect();
        match self.consumer.subscribe(&names) {
            Ok(()) => {
                info!(topics = names.join(", "), "listening for requests");
                self.subscribed = found;
            }
            Err(error) => warn!(%error, "could not subscribe to the topics of requests"),
        }
    }
}

/// The request in a message, or where it is and why it is none.
fn read(
    message: &BorrowedMessage<'_>,
    at: (String, i32, i64),
    wanted: &[Wanted],
) -> Result<Request, ((String, i32, i64), String)> {
    let rse = wanted.iter().find_map(|wanted| match wanted {
        Wanted::Pattern(pattern) => Some(Rse::new(pattern.captures(&at.0)?.name("rse")?.as_str())),
        Wanted::Name(_) => None,
    });
    match Said::decode(message.payload().unwrap_or_default()) {
        Ok(Said {
            word: Word::Resend { site, lane, from, to },
            ..
        }) => {
            if from == 0 || from > to {
                return Err((at, format!("numbers {from} to {to} are no range")));
            }
            Ok(Request {
                site,
                lane,
                from,
                to,
                rse,
                at,
            })
        }
        Ok(_) => Err((at, "it is another message than dbb-resend".into())),
        Err(error) => Err((at, error.to_string())),
    }
}
