//! Settings of the Kafka source, and what they become for librdkafka.

use crate::SourceError;
use dbb_kafka::{Security, Wanted};
use rdkafka::ClientConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which topics to read, from where, as whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// Brokers to ask first, `host:port`.
    pub brokers: Vec<String>,
    /// The consumer group that stores the offsets. No other program may read with it meanwhile.
    pub group_id: String,
    /// Topics by name, or all whose whole name matches a regular expression between slashes:
    /// `/(usdf\.)?SLAC_.*/`. Topics that appear later are read from their beginning.
    pub topics: Vec<String>,
    /// The name by which brokers' logs and quotas know this program.
    #[serde(default = "client_id")]
    pub client_id: String,
    /// Where to begin a partition of which the group has committed nothing.
    #[serde(default)]
    pub start: Start,
    /// Encryption and login.
    #[serde(default)]
    pub security: Security,
    /// Longest a broker waits for more records before it answers, in milliseconds.
    #[serde(default = "fetch_wait_ms")]
    pub fetch_wait_ms: u32,
    /// Most that is read ahead, over all partitions known at the start, in bytes.
    #[serde(default = "read_ahead_bytes")]
    pub read_ahead_bytes: usize,
    /// How often new topics and partitions are looked for, in seconds.
    #[serde(default = "discover_seconds")]
    pub discover_seconds: u64,
    /// How often an offset that does not move is stored again, in seconds, 1 to 604 800: brokers forget what nobody stores
    /// for longer than their `offsets.retention.minutes`, a week by default.
    #[serde(default = "commit_again_seconds")]
    pub commit_again_seconds: u64,
    /// Further properties of librdkafka, by its own names.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

fn client_id() -> String {
    "dbb".into()
}

fn fetch_wait_ms() -> u32 {
    10
}

fn read_ahead_bytes() -> usize {
    16 * 1024 * 1024
}

fn discover_seconds() -> u64 {
    10
}

fn commit_again_seconds() -> u64 {
    86_400
}

/// Where to begin without a committed offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At the oldest record.
    #[default]
    Earliest,
    /// After the newest record; what is there already is not read.
    Latest,
}

/// What nothing may be lost or reported wrong without.
const OURS: [&str; 8] = [
    "bootstrap.servers",
    "group.id",
    "group.instance.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
    "statistics.interval.ms",
];

impl KafkaSettings {
    /// The settings with nothing but what has no default.
    pub fn of(brokers: impl Into<String>, group_id: impl Into<String>, topics: &[&str]) -> Self {
        Self {
            brokers: brokers
                .into()
                .split(',')
                .map(|broker| broker.trim().to_owned())
                .collect(),
            group_id: group_id.into(),
            topics: topics.iter().map(|topic| topic.to_string()).collect(),
            client_id: client_id(),
            start: Start::default(),
            security: Security::default(),
            fetch_wait_ms: fetch_wait_ms(),
            read_ahead_bytes: read_ahead_bytes(),
            discover_seconds: discover_seconds(),
            commit_again_seconds: commit_again_seconds(),
            options: BTreeMap::new(),
        }
    }

    /// The service by name and address, for messages.
    pub(super) fn service(&self) -> String {
        format!("Kafka at {}", self.brokers.join(","))
    }

    /// The settings in librdkafka's words, for a consumer of `partitions` partitions.
    pub(super) fn client(&self, partitions: usize) -> Result<ClientConfig, SourceError> {
        if self.brokers.is_empty() || self.group_id.is_empty() || self.topics.is_empty() {
            return Err(wrong("kafka needs brokers, a group_id and topics"));
        }
        if !(1..=604_800).contains(&self.commit_again_seconds) {
            return Err(wrong("kafka commit_again_seconds must be 1 to 604800"));
        }
        let mut config = ClientConfig::new();
        // The limit holds for each partition's queue; a record larger than it still comes through.
        let queue = (self.read_ahead_bytes / partitions.max(1)).clamp(64 * 1024, 64 * 1024 * 1024);
        config
            .set("client.id", &self.client_id)
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", self.fetch_wait_ms.to_string())
            .set(
                "fetch.max.bytes",
                self.read_ahead_bytes
                    .clamp(1024 * 1024, 512 * 1024 * 1024)
                    .to_string(),
            )
            .set("max.partition.fetch.bytes", queue.min(1024 * 1024).to_string())
            .set("queued.max.messages.kbytes", (queue / 1024).to_string())
            // The client rests that long, a second by default, whenever as much as may be is read ahead.
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.error.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000")
            // A broker that has frozen is given up, and asked again as if it had gone.
            .set("socket.timeout.ms", "30000")
            .set("socket.keepalive.enable", "true")
            .set("check.crcs", "true");
        self.security.apply(&mut config)?;
        for (name, value) in &self.options {
            if OURS.contains(&name.as_str()) {
                return Err(wrong(format!(
                    "kafka option `{name}` cannot be set: dbb depends on its value"
                )));
            }
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", self.brokers.join(","))
            .set("group.id", &self.group_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("statistics.interval.ms", "2000");
        Ok(config)
    }

    /// The same, for a client that reads nothing.
    pub(super) fn watching(&self) -> Result<ClientConfig, SourceError> {
        let mut config = self.client(1)?;
        config.set("client.id", format!("{}-watch", self.client_id));
        config.set("statistics.interval.ms", "0");
        Ok(config)
    }

    /// The topics to look for.
    pub(super) fn wanted(&self) -> Result<Vec<Wanted>, SourceError> {
        let wanted = self.topics.iter().map(|topic| Wanted::parse(topic));
        Ok(wanted.collect::<Result<_, _>>()?)
    }
}

fn wrong(text: impl Into<String>) -> SourceError {
    SourceError::Configuration(text.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn options_are_passed_on_except_those_that_would_lose_events() {
        let mut settings = KafkaSettings::of("a:1, b:2", "g", &["t"]);
        settings.options.insert("socket.timeout.ms".into(), "1000".into());
        let config = settings.client(1).unwrap();
        assert_eq!(config.get("socket.timeout.ms"), Some("1000"));
        assert_eq!(config.get("bootstrap.servers"), Some("a:1,b:2"));
        settings
            .options
            .insert("enable.auto.commit".into(), "true".into());
        assert!(
            settings
                .client(1)
                .unwrap_err()
                .to_string()
                .contains("enable.auto.commit")
        );
    }

    #[test]
    fn a_login_says_what_it_lacks() {
        let mut settings = KafkaSettings::of("a:1", "g", &["t"]);
        settings.security.protocol = dbb_kafka::Protocol::SaslSsl;
        assert!(
            settings
                .client(1)
                .unwrap_err()
                .to_string()
                .contains("password_file")
        );
    }
}
