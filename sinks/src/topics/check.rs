//! Check: what a start would need of the brokers that are published to, asked without changing anything.

use crate::topics::{ProducerSettings, TopicsError, admin};
use rdkafka::{admin::AdminClient, client::DefaultClientContext};

/// What brokers say of themselves and of the topics that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokersReport {
    /// Their addresses, as they tell them.
    pub brokers: Vec<String>,
    /// Of the topics asked for, those that are not there, or that this user may not see.
    pub missing: Vec<String>,
}

/// Asks the brokers who they are, and which of `topics` are there; takes at most about ten seconds.
///
/// # Errors
///
/// The settings are of no use, or no broker answers.
pub fn check(settings: &ProducerSettings, topics: &[String]) -> Result<BrokersReport, TopicsError> {
    // For what it refuses: the properties that nobody may set.
    settings.producer(settings.max_record_bytes, false)?;
    let client: AdminClient<DefaultClientContext> = settings
        .client()?
        .create()
        .map_err(|error| TopicsError::Configuration(format!("kafka: {error}")))?;
    let metadata = client
        .inner()
        .fetch_metadata(None, admin::LIMIT)
        .map_err(|error| TopicsError::Unreachable {
            what: format!("Kafka at {}, to publish to,", settings.brokers.join(", ")),
            detail: error.to_string(),
        })?;
    let is_there = |topic: &&String| {
        metadata
            .topics()
            .iter()
            .any(|there| there.name() == topic.as_str())
    };
    Ok(BrokersReport {
        brokers: metadata
            .brokers()
            .iter()
            .map(|broker| format!("{}:{}", broker.host(), broker.port()))
            .collect(),
        missing: topics.iter().filter(|topic| !is_there(topic)).cloned().collect(),
    })
}
