//! Settings of what a hub publishes.

use crate::topics::{ProducerSettings, TopicsError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a hub publishes, keeps, and sends again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicsSettings {
    /// The brokers.
    pub kafka: ProducerSettings,
    /// What is kept of published records. Without it records are sent again only while their topic has them, and a
    /// number may be given twice when `dbb` dies while brokers are slow.
    #[serde(default)]
    pub sent_log: Option<SentLogSettings>,
    /// How sites are told the last number of each partition.
    #[serde(default)]
    pub heartbeats: HeartbeatSettings,
    /// How sites ask for what did not arrive; without it nobody is listened to.
    #[serde(default = "requests")]
    pub requests: Option<RequestSettings>,
}

fn requests() -> Option<RequestSettings> {
    Some(RequestSettings::default())
}

/// Where published records are kept, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SentLogSettings {
    /// A folder on a local disk, for this process alone; it is made if it is not there.
    pub folder: PathBuf,
    /// How long records are kept, in hours: longer than any line to a site is ever cut.
    #[serde(default = "retention_hours")]
    pub retention_hours: u32,
    /// Most bytes in the folder: the oldest records go first. Compressed, a record takes about 300 bytes.
    #[serde(default = "max_bytes")]
    pub max_bytes: u64,
    /// A file is followed by a new one when it has so many bytes.
    #[serde(default = "segment_bytes")]
    pub segment_bytes: u64,
    /// A file is followed by a new one after so many minutes.
    #[serde(default = "segment_minutes")]
    pub segment_minutes: u32,
}

fn retention_hours() -> u32 {
    14 * 24
}

fn max_bytes() -> u64 {
    50 * 1024 * 1024 * 1024
}

fn segment_bytes() -> u64 {
    64 * 1024 * 1024
}

fn segment_minutes() -> u32 {
    60
}

impl SentLogSettings {
    /// The settings with nothing but what has no default.
    pub fn of(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            retention_hours: retention_hours(),
            max_bytes: max_bytes(),
            segment_bytes: segment_bytes(),
            segment_minutes: segment_minutes(),
        }
    }
}

/// How sites are told the last number of each partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeartbeatSettings {
    /// The topic; `{rse}` stands for the RSE.
    pub topic: String,
    /// Seconds between two.
    pub every_seconds: u32,
}

impl Default for HeartbeatSettings {
    fn default() -> Self {
        Self {
            topic: "{rse}-heartbeats".into(),
            every_seconds: 10,
        }
    }
}

impl HeartbeatSettings {
    /// The topic of an RSE.
    pub(super) fn topic_of(&self, rse: &str) -> String {
        self.topic.replace("{rse}", rse)
    }
}

/// How sites ask for what did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequestSettings {
    /// Topics by name, or all whose whole name matches a regular expression between slashes; a mirror may put its
    /// alias in front. The part named `rse` tells whom to answer when nothing was published to an RSE since the start.
    pub topics: Vec<String>,
    /// The consumer group that stores which requests are answered.
    pub group_id: String,
    /// Most records that are sent again in a second.
    pub records_per_second: u32,
}

impl Default for RequestSettings {
    fn default() -> Self {
        Self {
            topics: vec![r"/(\w+\.)?(?<rse>.+)-requests/".into()],
            group_id: "dbb-hub-requests".into(),
            records_per_second: 2000,
        }
    }
}

impl TopicsSettings {
    /// The settings with nothing but what has no default.
    pub fn of(brokers: impl Into<String>) -> Self {
        Self {
            kafka: ProducerSettings::of(brokers),
            sent_log: None,
            heartbeats: HeartbeatSettings::default(),
            requests: requests(),
        }
    }

    /// What cannot work, one sentence.
    ///
    /// # Errors
    ///
    /// [`TopicsError::Configuration`].
    pub fn validate(&self) -> Result<(), TopicsError> {
        let wrong = |text: &str| Err(TopicsError::Configuration(text.into()));
        if !self.heartbeats.topic.contains("{rse}") {
            return wrong("heartbeats.topic needs `{rse}`: each site reads that of its own RSE");
        }
        if self.heartbeats.every_seconds == 0 {
            return wrong("heartbeats.every_seconds is 0: it must be at least 1");
        }
        if let Some(requests) = &self.requests {
            if requests.topics.is_empty() || requests.group_id.is_empty() || requests.records_per_second == 0
            {
                return wrong("requests needs topics, a group_id and records_per_second of at least 1");
            }
            for topic in &requests.topics {
                dbb_kafka::Wanted::parse(topic)?;
            }
        }
        if let Some(log) = &self.sent_log
            && log.max_bytes < 2 * log.segment_bytes
        {
            return wrong("sent_log.max_bytes is less than two files of sent_log.segment_bytes");
        }
        Ok(())
    }
}
