//! What a site and a hub say to each other: gaps that are asked for, and outcomes that are told.

use super::Config;
use dbb_sinks::topics::ProducerSettings;
use dbb_sources::KafkaSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What stands for the RSE in names of topics.
pub const RSE: &str = "{rse}";

/// Following the numbers that a hub gives its records: what did not arrive is named, asked for, and registered as if it
/// had never been lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gaps {
    /// The RSEs whose topics are followed; those of `rses` if none are given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rses: Vec<String>,
    /// Who asks, for the log of the hub; the consumer group if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// The topics on which the hub tells how many records it has published. They are read beside those of
    /// `source.kafka.topics`, with the alias of a mirror (`usdf.`) before them or without.
    pub heartbeats: String,
    /// The topics on which missing records are asked for, to be mirrored to the hub.
    pub requests: String,
    /// How long a record may be missing before it is asked for, in seconds.
    pub patience_seconds: u64,
    /// After which time it is asked for again, in seconds; each time twice as long, up to 6 hours.
    pub again_seconds: u64,
    /// Where requests are published; on the brokers of `source.kafka` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<ProducerSettings>,
}

impl Default for Gaps {
    fn default() -> Self {
        Self {
            rses: Vec::new(),
            site: None,
            heartbeats: "{rse}-heartbeats".into(),
            requests: "{rse}-requests".into(),
            patience_seconds: 60,
            again_seconds: 300,
            kafka: None,
        }
    }
}

/// Telling the centre what became of each event. A message is confirmed before the ledger writes the outcome: while its
/// brokers are away outcomes wait, and reading stops at `limits.max_in_flight_events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Outcomes {
    /// The topics, to be mirrored to the hub.
    pub topic: String,
    /// Where they are published; on the brokers of `source.kafka` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<ProducerSettings>,
}

impl Default for Outcomes {
    fn default() -> Self {
        Self {
            topic: "{rse}-outcomes".into(),
            kafka: None,
        }
    }
}

/// The topic of `rse`.
pub fn topic_of(template: &str, rse: &str) -> Arc<str> {
    template.replace(RSE, rse).into()
}

impl Config {
    /// The RSEs whose topics are followed.
    pub fn followed(&self) -> Vec<&str> {
        let given = self.gaps.iter().flat_map(|gaps| &gaps.rses);
        let mut rses: Vec<&str> = given.map(String::as_str).collect();
        if rses.is_empty() {
            rses = self.rses.keys().map(String::as_str).collect();
        }
        rses
    }

    /// The source with the topics that hubs tell on.
    pub fn kafka_source(&self) -> Option<KafkaSettings> {
        let mut settings = self.source.kafka.clone()?;
        if let Some(gaps) = &self.gaps {
            for rse in self.followed() {
                let topic = regex::escape(&topic_of(&gaps.heartbeats, rse));
                settings.topics.push(format!(r"/(?:[A-Za-z0-9._-]+\.)?{topic}/"));
            }
        }
        Some(settings)
    }

    /// Where messages are published: as said, or on the brokers that are read from, as the same user.
    pub fn publishes(&self, said: Option<&ProducerSettings>) -> Option<ProducerSettings> {
        if let Some(said) = said {
            return Some(said.clone());
        }
        let source = self.source.kafka.as_ref()?;
        Some(ProducerSettings {
            brokers: source.brokers.clone(),
            security: source.security.clone(),
            ..ProducerSettings::of("")
        })
    }

    /// The followed RSE that a topic of the hub is of: of several whose names begin it the longest, of none the first.
    pub fn rse_of_topic(&self, topic: &str) -> Option<&str> {
        let rses = self.followed();
        let is_of = |rse: &&&str| {
            topic
                .strip_prefix(**rse)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let longest = rses.iter().filter(is_of).max_by_key(|rse| rse.len());
        longest.or(rses.first()).copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn heartbeats_are_read_beside_the_topics_that_were_named() {
        let config = Config {
            gaps: Some(Gaps {
                rses: vec!["R_A.1".into()],
                ..Gaps::default()
            }),
            source: crate::config::settings::SourceSettings {
                kafka: Some(KafkaSettings::of("k:1", "g", &["/R_.*-raw/"])),
                ..Default::default()
            },
            ..Config::default()
        };
        let topics = config.kafka_source().unwrap().topics;
        let wanted = |topic: &str| {
            topics.iter().any(|pattern| {
                let pattern = pattern.trim_matches('/');
                regex::Regex::new(&format!("^(?:{pattern})$"))
                    .unwrap()
                    .is_match(topic)
            })
        };
        assert!(wanted("R_A.1-heartbeats") && wanted("us.df.R_A.1-heartbeats") && wanted("R_B-raw"));
        assert!(!wanted("R_Ax1-heartbeats") && !wanted("XR_A.1-heartbeats"));
    }

    #[test]
    fn a_topic_is_of_the_rse_with_the_longest_name_that_begins_it() {
        let config = Config {
            gaps: Some(Gaps {
                rses: vec!["A".into(), "A-B".into(), "C".into()],
                ..Gaps::default()
            }),
            ..Config::default()
        };
        let of = |topic: &str| config.rse_of_topic(topic).unwrap();
        assert_eq!(
            [of("A-raw"), of("A-B-raw-deletions"), of("A-B"), of("AB-raw")],
            ["A", "A-B", "A-B", "A"]
        );
        assert_eq!(of("C-raw"), "C");
    }
}
