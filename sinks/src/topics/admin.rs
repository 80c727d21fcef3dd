//! Admin: topics are there before the first record is for them, and as they should be.
//!
//! ```text
//!   name --> is it there? --no--> made, where that is allowed
//!                |yes
//!                v
//!            what differs from the settings is said, once
//! ```
//!
//! State: what is known of each topic: its partitions, and the longest record it takes.

use crate::topics::{NewTopics, ProducerSettings, TopicsError};
use futures::executor::block_on;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode as Code},
    types::RDKafkaErrorCode,
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// Longest that one question to the brokers may take.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// After so long it is asked again how many partitions a topic has.
const FRESH: Duration = Duration::from_secs(300);

/// A topic that cannot be used is asked for again after so long.
const CLOSED: Duration = Duration::from_secs(30);

/// What is known of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) partitions: i32,
    /// The longest batch of records that it takes, in bytes.
    pub(super) max_bytes: u32,
}

/// Why a topic cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoTopic {
    /// It is not there, and not made by us.
    Missing(String),
    /// The brokers refuse it to us.
    Refused(String),
    /// No broker answers; time helps.
    Down(String),
}

pub(super) struct Admin {
    client: AdminClient<DefaultClientContext>,
    wanted: NewTopics,
    max_record_bytes: u32,
    known: HashMap<Arc<str>, (Topic, Instant)>,
    closed: HashMap<Arc<str>, (NoTopic, Instant)>,
}

impl Admin {
    pub(super) fn open(settings: &ProducerSettings) -> Result<Self, TopicsError> {
        let config: ClientConfig = settings.client()?;
        let client = config
            .create()
            .map_err(|error| TopicsError::Configuration(format!("kafka: {error}")))?;
        Ok(Self {
            client,
            wanted: settings.new_topics.clone(),
            max_record_bytes: settings.max_record_bytes,
            known: HashMap::new(),
            closed: HashMap::new(),
        })
    }

    /// The topic, asked for or made if nothing is known of it, or not any more.
    pub(super) fn topic(&mut self, name: &Arc<str>) -> Result<Topic, NoTopic> {
        if let Some((why, since)) = self.closed.get(name)
            && since.elapsed() < CLOSED
        {
            return Err(why.clone());
        }
        if let Some((topic, since)) = self.known.get(name)
            && since.elapsed() < FRESH
        {
            return Ok(*topic);
        }
        let topic = self.find_or_make(name);
        match topic {
            Ok(topic) => {
                self.closed.remove(name);
                self.known.insert(name.clone(), (topic, Instant::now()));
                Ok(topic)
            }
            // What was known is good enough while no broker answers.
            Err(NoTopic::Down(detail)) => match self.known.get(name) {
                Some((topic, _)) => Ok(*topic),
                None => Err(NoTopic::Down(detail)),
            },
            Err(error) => {
                self.close(name, error.clone());
                Err(error)
            }
        }
    }

    /// The topic cannot be used, for some time.
    pub(super) fn close(&mut self, name: &Arc<str>, why: NoTopic) {
        self.known.remove(name);
        self.closed.insert(name.clone(), (why, Instant::now()));
    }

    /// Asks anew next time.
    pub(super) fn forget(&mut self, name: &str) {
        self.known.remove(name);
    }

    fn find_or_make(&self, name: &str) -> Result<Topic, NoTopic> {
        if let Some(partitions) = self.partitions(name)? {
            return self.verified(name, partitions);
        }
        if !self.wanted.create {
            return Err(NoTopic::Missing(format!(
                "topic `{name}` does not exist: make it, or set new_topics.create"
            )));
        }
        self.make(name)?;
        // All brokers have heard of it a little later.
        let start = Instant::now();
        loop {
            if let Some(partitions) = self.partitions(name)? {
                return self.verified(name, partitions);
            }
            if start.elapsed() > LIMIT {
                return Err(NoTopic::Down(format!(
                    "topic `{name}` was made and is not there yet"
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How many partitions it has, if it is there. Asked of all topics: a question for one would make it.
    fn partitions(&self, name: &str) -> Result<Option<i32>, NoTopic> {
        let metadata = self.client.inner().fetch_metadata(None, LIMIT).map_err(down)?;
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
            return Ok(None);
        };
        match topic.error().map(RDKafkaErrorCode::from) {
            Some(Code::TopicAuthorizationFailed) => Err(NoTopic::Refused(format!(
                "this user may not see topic `{name}`: give it the right"
            ))),
            Some(code) if code != Code::NoError => Err(NoTopic::Down(format!("topic `{name}`: {code}"))),
            _ => Ok(Some(topic.partitions().len() as i32).filter(|count| *count > 0)),
        }
    }

    fn make(&self, name: &str) -> Result<(), NoTopic> {
        let wanted = &self.wanted;
        let replication = wanted.replication.map_or(-1, |copies| copies as i32);
        let mut topic = NewTopic::new(
            name,
            wanted.partitions as i32,
            TopicReplication::Fixed(replication),
        );
        let settings: Vec<(&str, String)> = self.properties();
        for (key, value) in &settings {
            topic = topic.set(key, value);
        }
        let options = AdminOptions::new()
            .operation_timeout(Some(LIMIT))
            .request_timeout(Some(LIMIT));
        let made = block_on(self.client.create_topics([&topic], &options)).map_err(down)?;
        match made.into_iter().next() {
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code @ (Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)))) => {
                Err(NoTopic::Missing(format!(
                    "topic `{name}` does not exist and this user may not make it ({code}): make it, or give it the right"
                )))
            }
            Some(Err((
                _,
                code @ (Code::InvalidReplicationFactor
                | Code::InvalidTopic
                | Code::InvalidConfig
                | Code::PolicyViolation
                | Code::InvalidPartitions),
            ))) => Err(NoTopic::Missing(format!(
                "topic `{name}` cannot be made as new_topics says: {code}"
            ))),
            Some(Err((_, code))) => Err(NoTopic::Down(format!("topic `{name}` could not be made: {code}"))),
            Some(Ok(_)) | None => {
                info!(topic = name, partitions = wanted.partitions, "made a topic");
                Ok(())
            }
        }
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        properties(&self.wanted)
    }

    /// The topic as it is; says what is not as it should be.
    fn verified(&self, name: &str, partitions: i32) -> Result<Topic, NoTopic> {
        let options = AdminOptions::new().request_timeout(Some(LIMIT));
        let answer = block_on(
            self.client
                .describe_configs([&ResourceSpecifier::Topic(name)], &options),
        );
        let found = match answer.map_err(down)?.into_iter().next() {
            Some(Ok(found)) => found,
            // Whoever may write need not have the right to look.
            Some(Err(code)) => {
                warn!(topic = name, %code, "could not look at the settings of a topic");
                return Ok(Topic {
                    partitions,
                    max_bytes: self.max_record_bytes,
                });
            }
            None => {
                return Ok(Topic {
                    partitions,
                    max_bytes: self.max_record_bytes,
                });
            }
        };
        let max_bytes = max_bytes(&found).unwrap_or(self.max_record_bytes);
        let differs = differences(&self.wanted, self.max_record_bytes, partitions, &found);
        if !differs.is_empty() {
            let differs: Vec<String> = differs.into_iter().map(|difference| difference.what).collect();
            warn!(
                topic = name,
                differs = differs.join("; "),
                "a topic is not as the settings say"
            );
        }
        Ok(Topic {
            partitions,
            max_bytes,
        })
    }
}

/// What a topic that is made is told.
fn properties(wanted: &NewTopics) -> Vec<(&'static str, String)> {
    let retention = wanted.retention_hours.map(|hours| u64::from(hours) * 3_600_000);
    let in_sync = wanted.min_insync_replicas;
    let properties = [
        ("retention.ms", retention.map(|ms| ms.to_string())),
        ("min.insync.replicas", in_sync.map(|copies| copies.to_string())),
    ];
    properties
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

/// In what a topic is not as the settings say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Records would be lost or refused.
    pub is_harmful: bool,
    /// What, in one sentence.
    pub what: String,
}

/// How the topic that brokers tell these settings of differs from what is wanted.
pub(super) fn differences(
    wanted: &NewTopics,
    max_record_bytes: u32,
    partitions: i32,
    found: &ConfigResource,
) -> Vec<Difference> {
    let value = |key: &str| found.get(key).and_then(|entry| entry.value.clone());
    let other = |what: String| Difference {
        is_harmful: false,
        what,
    };
    let harmful = |what: String| Difference {
        is_harmful: true,
        what,
    };
    let mut differs: Vec<Difference> = properties(wanted)
        .into_iter()
        .filter_map(|(key, wanted)| {
            let is = value(key)?;
            (is != wanted).then(|| other(format!("{key} is {is}, not {wanted}")))
        })
        .collect();
    if partitions != wanted.partitions as i32 {
        differs.push(other(format!(
            "partitions are {partitions}, not {}",
            wanted.partitions
        )));
    }
    if value("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        differs.push(harmful(
            "cleanup.policy is compact: of several events of a file sites would see only the last".into(),
        ));
    }
    if let Some(max_bytes) = max_bytes(found).filter(|max_bytes| *max_bytes < max_record_bytes) {
        differs.push(harmful(format!(
            "max.message.bytes is {max_bytes}, less than max_record_bytes {max_record_bytes}: longer records will be refused"
        )));
    }
    differs
}

/// The longest batch that a topic takes.
fn max_bytes(found: &ConfigResource) -> Option<u32> {
    found.get("max.message.bytes")?.value.as_ref()?.parse().ok()
}

fn down(error: KafkaError) -> NoTopic {
    NoTopic::Down(error.to_string())
}
