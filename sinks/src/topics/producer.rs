//! Producer settings: which brokers are published to, as whom, and how topics that are not there are made.

use crate::topics::TopicsError;
use dbb_kafka::Security;
use rdkafka::ClientConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which brokers to publish to, as whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProducerSettings {
    /// Brokers to ask first, `host:port`.
    pub brokers: Vec<String>,
    /// The name by which brokers' logs and quotas know this program.
    #[serde(default = "client_id")]
    pub client_id: String,
    /// Encryption and login.
    #[serde(default)]
    pub security: Security,
    /// How records are compressed on their way and in the topic.
    #[serde(default)]
    pub compression: Compression,
    /// How long a record waits for others to go with, in milliseconds.
    #[serde(default = "linger_ms")]
    pub linger_ms: u32,
    /// Most bytes of one record: key, headers and body. A longer one is refused. Topics that take less are an error.
    #[serde(default = "max_record_bytes")]
    pub max_record_bytes: u32,
    /// Topics that do not exist yet.
    #[serde(default)]
    pub new_topics: NewTopics,
    /// Further properties of librdkafka, by its own names.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// How topics that do not exist are made; those that do are compared with it, and what differs is said at start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewTopics {
    /// Whether they are made at all. Without it, records for a topic that is not there wait in the ledger.
    pub create: bool,
    /// Partitions of a topic.
    pub partitions: u32,
    /// Copies of each record; the brokers' default without it.
    pub replication: Option<u32>,
    /// Copies that must be written before a record counts as published; the brokers' default without it.
    pub min_insync_replicas: Option<u32>,
    /// How long a topic keeps records, in hours; the brokers' default without it.
    pub retention_hours: Option<u32>,
}

impl Default for NewTopics {
    fn default() -> Self {
        Self {
            create: true,
            partitions: 6,
            replication: None,
            min_insync_replicas: None,
            retention_hours: None,
        }
    }
}

/// How records are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    None,
    /// Fast, to about a third.
    #[default]
    Lz4,
    /// To about a fifth, for slow lines.
    Zstd,
    /// For old readers.
    Gzip,
}

fn client_id() -> String {
    "dbb".into()
}

fn linger_ms() -> u32 {
    5
}

fn max_record_bytes() -> u32 {
    1_000_000
}

/// What no record may be lost, skipped or reordered without.
const OURS: [&str; 9] = [
    "bootstrap.servers",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "acks",
    "request.required.acks",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "transactional.id",
    "message.max.bytes",
];

impl ProducerSettings {
    /// The settings with nothing but what has no default.
    pub fn of(brokers: impl Into<String>) -> Self {
        let brokers = brokers.into();
        Self {
            brokers: brokers
                .split(',')
                .map(|broker| broker.trim().to_owned())
                .collect(),
            client_id: client_id(),
            security: Security::default(),
            compression: Compression::default(),
            linger_ms: linger_ms(),
            max_record_bytes: max_record_bytes(),
            new_topics: NewTopics::default(),
            options: BTreeMap::new(),
        }
    }

    /// In librdkafka's words, what a client of any kind needs to be let in.
    pub(super) fn client(&self) -> Result<ClientConfig, TopicsError> {
        if self.brokers.is_empty() {
            return Err(TopicsError::Configuration(
                "publishing to kafka needs brokers".into(),
            ));
        }
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", &self.client_id)
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.keepalive.enable", "true");
        self.security.apply(&mut config)?;
        Ok(config)
    }

    /// In librdkafka's words, a producer that waits for brokers as long as it takes, and keeps the order. A batch has
    /// at most `batch_bytes`. With `gapless` the first record that is not taken ends the producer.
    pub(super) fn producer(&self, batch_bytes: u32, gapless: bool) -> Result<ClientConfig, TopicsError> {
        let mut config = self.client()?;
        let compression = match self.compression {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
            Compression::Gzip => "gzip",
        };
        config
            .set("compression.type", compression)
            .set("linger.ms", self.linger_ms.to_string())
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", "262144")
            .set("topic.metadata.propagation.max.ms", "10000")
            .set("retry.backoff.ms", "50");
        for (name, value) in &self.options {
            if OURS.contains(&name.as_str()) {
                return Err(TopicsError::Configuration(format!(
                    "kafka option `{name}` cannot be set: dbb depends on its value"
                )));
            }
            config.set(name, value);
        }
        config
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", gapless.to_string())
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("batch.size", batch_bytes.to_string())
            // The client counts more than the broker does.
            .set(
                "message.max.bytes",
                (self.max_record_bytes.saturating_add(64 * 1024)).to_string(),
            );
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn options_are_passed_on_except_those_that_would_lose_or_reorder_records() {
        let mut settings = ProducerSettings::of("a:1, b:2");
        settings.options.insert("socket.timeout.ms".into(), "1000".into());
        let config = settings.producer(1000, true).unwrap();
        assert_eq!(config.get("socket.timeout.ms"), Some("1000"));
        assert_eq!(config.get("bootstrap.servers"), Some("a:1,b:2"));
        settings.options.insert("acks".into(), "1".into());
        let error = settings.producer(1000, true).unwrap_err();
        assert!(error.to_string().contains("`acks`"), "{error}");
    }
}
