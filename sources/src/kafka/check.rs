//! Check: what a start would find, without reading or storing anything.

use super::{
    memory::Memory,
    settings::KafkaSettings,
    start::{self, Beginning},
};
use crate::{Begin, Partition, SourceError};
use bytes::Bytes;
use rdkafka::{Message, Offset, TopicPartitionList, consumer::Consumer, error::KafkaError};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// What the brokers say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaReport {
    /// Brokers, `host:port`.
    pub brokers: Vec<String>,
    /// The topics that would be read.
    pub topics: Vec<TopicReport>,
    /// Names that are no topic, and patterns that match none.
    pub missing: Vec<String>,
    /// Who reads with the group now, by client id and host; a start would refuse.
    pub members: Vec<String>,
    /// What each broker tells of its version.
    pub versions: Vec<(String, String)>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicReport {
    /// Its name.
    pub name: String,
    /// Its partitions.
    pub partitions: Vec<PartitionReport>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionReport {
    /// Its number.
    pub partition: i32,
    /// The offset the group has stored.
    pub committed: Option<u64>,
    /// The oldest record there is.
    pub first: u64,
    /// The offset after the newest.
    pub end: u64,
    /// Records that a start would find to read.
    pub lag: u64,
    /// Records that were removed before they were read.
    pub lost: u64,
    /// What was counted and does not hold any more, in a sentence.
    pub finding: Option<String>,
}

/// Asks the brokers about everything that a start would need; takes at most about a minute.
///
/// # Errors
///
/// As for [`super::open`], but for a group with members, which is in the report.
pub fn check(settings: &KafkaSettings) -> Result<KafkaReport, SourceError> {
    check_with(settings, &Memory::default())
}

/// The same, where a ledger remembers beside the group what is handled.
///
/// # Errors
///
/// As for [`check`].
pub fn check_with(settings: &KafkaSettings, memory: &Memory) -> Result<KafkaReport, SourceError> {
    let unreachable = |error: KafkaError| SourceError::Unreachable {
        what: settings.service(),
        detail: error.to_string(),
    };
    let wanted = settings.wanted()?;
    let consumer = start::connect(settings, 1, &Arc::default())?;
    let metadata = start::patiently(|| consumer.fetch_metadata(None, start::LIMIT)).map_err(unreachable)?;
    let (standings, trouble) = start::survey(&consumer, &wanted, |_| true).map_err(unreachable)?;
    if let Some(detail) = trouble {
        return Err(SourceError::Unreachable {
            what: settings.service(),
            detail,
        });
    }
    let mut topics: BTreeMap<Arc<str>, Vec<PartitionReport>> = BTreeMap::new();
    for standing in standings {
        let Beginning {
            next, gap, finding, ..
        } = standing.begin(settings.start, &Begin::Unhandled, memory);
        let Partition { stream, partition } = standing.partition;
        topics.entry(stream).or_default().push(PartitionReport {
            partition,
            committed: standing.committed,
            first: standing.first,
            end: standing.end,
            lag: standing.end.saturating_sub(next),
            lost: gap.and_then(|gap| gap.records).unwrap_or(0),
            finding: finding.map(|finding| finding.to_string()),
        });
    }
    let missing = settings
        .topics
        .iter()
        .zip(&wanted)
        .filter(|(_, wanted)| !topics.keys().any(|topic| wanted.matches(topic)))
        .map(|(text, _)| text.clone())
        .collect();
    Ok(KafkaReport {
        brokers: metadata
            .brokers()
            .iter()
            .map(|broker| format!("{}:{}", broker.host(), broker.port()))
            .collect(),
        missing,
        topics: topics
            .into_iter()
            .map(|(name, partitions)| TopicReport {
                name: name.to_string(),
                partitions,
            })
            .collect(),
        members: start::patiently(|| start::members(&consumer, &settings.group_id)).map_err(unreachable)?,
        // Whoever may read need not have the right to ask.
        versions: dbb_kafka::broker_versions(&settings.client(1)?, start::LIMIT).unwrap_or_default(),
    })
}

/// The bodies of the last records of each partition, at most `last` of each; what does not come within some seconds is left
/// out. Nothing is stored.
///
/// # Errors
///
/// As for [`check`].
pub fn newest(settings: &KafkaSettings, last: u64) -> Result<Vec<Bytes>, SourceError> {
    let unreachable = |error: KafkaError| SourceError::Unreachable {
        what: settings.service(),
        detail: error.to_string(),
    };
    let consumer = start::connect(settings, 1, &Arc::default())?;
    let (standings, _) = start::survey(&consumer, &settings.wanted()?, |_| true).map_err(unreachable)?;
    let (mut wanted, mut left) = (TopicPartitionList::new(), 0);
    for standing in standings {
        let Partition { stream, partition } = &standing.partition;
        let from = standing.end.saturating_sub(last).max(standing.first);
        left += standing.end.saturating_sub(from);
        let offset = Offset::Offset(i64::try_from(from).unwrap_or(i64::MAX));
        wanted
            .add_partition_offset(stream, *partition, offset)
            .map_err(unreachable)?;
    }
    consumer.assign(&wanted).map_err(unreachable)?;
    let begun = Instant::now();
    let mut bodies = Vec::new();
    while left > 0 && begun.elapsed() < start::LIMIT {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            left -= 1;
            bodies.extend(message.payload().map(Bytes::copy_from_slice));
        }
    }
    Ok(bodies)
}
