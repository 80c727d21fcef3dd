//! Check: what a start would need of the brokers that are published to, asked without changing anything.

use crate::topics::{Difference, ProducerSettings, TopicsError, admin};
use futures::executor::block_on;
use rdkafka::{
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
};

/// What brokers say of themselves and of the topics that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokersReport {
    /// Their addresses, as they tell them.
    pub brokers: Vec<String>,
    /// What each broker tells of its version.
    pub versions: Vec<(String, String)>,
    /// Of the topics asked for, those that are not there, or that this user may not see.
    pub missing: Vec<String>,
    /// Topics that are not as the settings say, and in what.
    pub differing: Vec<(String, Difference)>,
    /// How many are.
    pub alike: usize,
}

/// Asks the brokers who they are, which of `topics` are there, and whether these and others that are `also` ours are as
/// the settings say; takes at most about ten seconds for each question.
///
/// # Errors
///
/// The settings are of no use, or no broker answers.
pub fn check(
    settings: &ProducerSettings,
    topics: &[String],
    also: &dyn Fn(&str) -> bool,
) -> Result<BrokersReport, TopicsError> {
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
    let (mut differing, mut alike) = (Vec::new(), 0);
    let options = AdminOptions::new().request_timeout(Some(admin::LIMIT));
    for topic in metadata.topics() {
        let name = topic.name();
        if !(also(name) || topics.iter().any(|wanted| wanted == name)) {
            continue;
        }
        let asked = block_on(client.describe_configs([&ResourceSpecifier::Topic(name)], &options));
        // Whoever may write need not have the right to look.
        let Some(Ok(found)) = asked.ok().and_then(|mut answers| answers.pop()) else {
            continue;
        };
        let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        let wanted = &settings.new_topics;
        let differs = admin::differences(wanted, settings.max_record_bytes, partitions, &found);
        alike += usize::from(differs.is_empty());
        differing.extend(
            differs
                .into_iter()
                .map(|difference| (name.to_owned(), difference)),
        );
    }
    Ok(BrokersReport {
        versions: dbb_kafka::broker_versions(&settings.client()?, admin::LIMIT).unwrap_or_default(),
        differing,
        alike,
        brokers: metadata
            .brokers()
            .iter()
            .map(|broker| format!("{}:{}", broker.host(), broker.port()))
            .collect(),
        missing: topics.iter().filter(|topic| !is_there(topic)).cloned().collect(),
    })
}
