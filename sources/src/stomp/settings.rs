//! Settings of the STOMP source.

use crate::SourceError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Events from message brokers over STOMP 1.2, as Rucio's Hermes sends them to ActiveMQ.
///
/// A topic is read by a durable subscription of its own: whoever else reads it keeps a copy of everything, and the broker
/// keeps what comes while `dbb` is away. Messages of a queue go to whoever asks first. A message is acknowledged when
/// its event has a durable outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StompSettings {
    /// The brokers, `host:port`. All are read, because Hermes sends each message to one of them; a name with several
    /// addresses means the broker at each.
    pub brokers: Vec<String>,
    /// `/topic/NAME` or `/queue/NAME`, as in Hermes's configuration.
    pub destination: String,
    /// The name by which brokers know this program and its durable subscription. No other program may use it: a
    /// second one is turned away.
    #[serde(default = "client_id")]
    pub client_id: String,
    /// Which messages to ask for, as the broker's selector says it: `event_type = 'transfer-done'`; all without it.
    #[serde(default)]
    pub selector: Option<String>,
    /// The host by which the broker is addressed within STOMP, for brokers with several virtual ones; its own name
    /// without it.
    #[serde(default)]
    pub virtual_host: Option<String>,
    /// How messages are acknowledged.
    #[serde(default)]
    pub ack: Ack,
    /// Most messages that a broker sends ahead of their acknowledgement, 1 to 100 000 (`activemq.prefetchSize`).
    #[serde(default = "prefetch")]
    pub prefetch: u32,
    /// Longest body of a message, in bytes, 1024 to 268 435 456. A longer one is not read: that broker is away until this is
    /// raised, or the message is taken out there.
    #[serde(default = "max_message_bytes")]
    pub max_message_bytes: u32,
    /// Most memory for the messages of a broker that have no outcome yet, in bytes, and one message more. Then no more is
    /// read of it until there is room.
    #[serde(default = "max_in_flight_bytes")]
    pub max_in_flight_bytes: u64,
    /// How often each side says that it is there, in milliseconds, 100 or more, or 0 for never; who is silent for twice as
    /// long is given up.
    #[serde(default = "heart_beat_ms")]
    pub heart_beat_ms: u32,
    /// A broker that does not say that it is there is asked after so many seconds of silence, and given up after twice as
    /// many.
    #[serde(default = "silence_seconds")]
    pub silence_seconds: u32,
    /// Encryption and login.
    #[serde(default)]
    pub security: StompSecurity,
}

/// How messages are acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// One frame for all up to a message (`ack: client`).
    #[default]
    Cumulative,
    /// One frame each (`ack: client-individual`), for brokers that cannot do the other.
    Individual,
}

/// Encryption and login.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StompSecurity {
    /// TLS.
    pub tls: bool,
    /// Certificates of the authorities to trust, PEM; the system's without it.
    pub ca_file: Option<PathBuf>,
    /// This client's certificate, PEM.
    pub certificate_file: Option<PathBuf>,
    /// The key of that certificate, PEM, not encrypted.
    pub key_file: Option<PathBuf>,
    /// The user.
    pub username: Option<String>,
    /// A file that holds the password and nothing else.
    pub password_file: Option<PathBuf>,
}

fn client_id() -> String {
    "dbb".into()
}

fn prefetch() -> u32 {
    1000
}

fn heart_beat_ms() -> u32 {
    10_000
}

fn max_message_bytes() -> u32 {
    16 << 20
}

fn max_in_flight_bytes() -> u64 {
    64 << 20
}

fn silence_seconds() -> u32 {
    60
}

/// User and password.
pub(super) type Login = Option<(String, String)>;

impl StompSettings {
    /// The settings with nothing but what has no default.
    pub fn of(brokers: &[&str], destination: impl Into<String>) -> Self {
        Self {
            brokers: brokers.iter().map(|broker| broker.to_string()).collect(),
            destination: destination.into(),
            client_id: client_id(),
            selector: None,
            virtual_host: None,
            ack: Ack::default(),
            prefetch: prefetch(),
            max_message_bytes: max_message_bytes(),
            max_in_flight_bytes: max_in_flight_bytes(),
            heart_beat_ms: heart_beat_ms(),
            silence_seconds: silence_seconds(),
            security: StompSecurity::default(),
        }
    }

    /// What cannot work, each with its key within the section.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut wrong = |key: &str, problem: &str| found.push((key.to_owned(), problem.to_owned()));
        if self.brokers.is_empty() {
            wrong("brokers", "must name at least one broker");
        }
        for (i, broker) in self.brokers.iter().enumerate() {
            let parts = broker.rsplit_once(':');
            if !parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
            {
                wrong(&format!("brokers[{i}]"), &format!("`{broker}` is no `host:port`"));
            }
            if self.brokers[..i].contains(broker) {
                wrong(&format!("brokers[{i}]"), "is given twice");
            }
        }
        let destination = ["/topic/", "/queue/"]
            .iter()
            .find_map(|kind| self.destination.strip_prefix(kind));
        if destination.is_none_or(str::is_empty) {
            wrong("destination", "is neither `/topic/NAME` nor `/queue/NAME`");
        }
        if self.client_id.is_empty() {
            wrong("client_id", "is empty");
        }
        if !(1..=100_000).contains(&self.prefetch) {
            wrong("prefetch", &format!("must be 1 to 100000, not {}", self.prefetch));
        }
        if (1..100).contains(&self.heart_beat_ms) {
            wrong(
                "heart_beat_ms",
                &format!("must be 0, or 100 or more, not {}", self.heart_beat_ms),
            );
        }
        if !(1024..=256 << 20).contains(&self.max_message_bytes) {
            wrong(
                "max_message_bytes",
                &format!("must be 1024 to {}, not {}", 256 << 20, self.max_message_bytes),
            );
        }
        if self.max_in_flight_bytes == 0 {
            wrong("max_in_flight_bytes", "must be 1 or more, not 0");
        }
        if self.silence_seconds == 0 {
            wrong("silence_seconds", "must be 1 or more, not 0");
        }
        let security = &self.security;
        if security.username.is_some() != security.password_file.is_some() {
            wrong(
                "security",
                "has one of `username` and `password_file`, and needs both",
            );
        }
        if security.certificate_file.is_some() != security.key_file.is_some() {
            wrong(
                "security",
                "has one of `certificate_file` and `key_file`, and needs both",
            );
        }
        if !security.tls && (security.ca_file.is_some() || security.certificate_file.is_some()) {
            wrong("security.tls", "is off, and certificates are for TLS alone");
        }
        found
    }

    /// True for a topic, of which each subscription has a copy of its own.
    pub(super) fn is_topic(&self) -> bool {
        self.destination.starts_with("/topic/")
    }

    pub(super) fn login(&self) -> Result<Login, SourceError> {
        let (Some(user), Some(file)) = (&self.security.username, &self.security.password_file) else {
            return Ok(None);
        };
        let password = std::fs::read_to_string(file).map_err(|error| {
            wrong(format!(
                "cannot read the password in `{}`: {error}",
                file.display()
            ))
        })?;
        let password = password.trim_end_matches(['\r', '\n']);
        Ok(Some((user.clone(), password.to_owned())))
    }
}

/// Settings that cannot work.
pub(super) fn wrong(why: impl std::fmt::Display) -> SourceError {
    SourceError::Configuration(format!("source.stomp: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named_by_its_key() {
        let mut settings = StompSettings::of(&["mq.example.org:61613"], "/topic/rucio.events");
        assert_eq!(settings.problems(), []);
        settings.brokers.push("mq.example.org".into());
        settings.destination = "rucio.events".into();
        settings.security.username = Some("dbb".into());
        settings.prefetch = 0;
        settings.max_message_bytes = 0;
        settings.silence_seconds = 0;
        let keys: Vec<_> = settings.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            [
                "brokers[1]",
                "destination",
                "prefetch",
                "max_message_bytes",
                "silence_seconds",
                "security"
            ]
        );
    }
}
