//! Start: what the brokers say before the first record is read.
//!
//! Topics and partitions, where the group has left each, how far they go, and whether somebody else
//! is reading with the same group.

use super::{
    commits,
    monitor::{Context, Monitor},
    settings::{KafkaSettings, Start},
};
use crate::{Begin, Gap, Partition, SourceError};
use dbb_kafka::{Wanted, passes};
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tracing::warn;

/// Longest that one question to the brokers may take.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// Longest that a start waits for brokers that do not answer, or are not ready.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A partition and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) partition: Partition,
    /// What the group has stored.
    pub(super) committed: Option<u64>,
    /// The oldest record there is.
    pub(super) first: u64,
    /// The offset after the newest.
    pub(super) end: u64,
}

/// Where reading of a partition begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beginning {
    /// The offset of the first record to emit.
    pub(super) next: u64,
    /// What is below is handled.
    pub(super) known_to: u64,
    /// Records that were removed before they were read.
    pub(super) gap: Option<Gap>,
}

impl Standing {
    /// Where to begin reading.
    pub(super) fn begin(&self, start: Start, begin: &Begin) -> Beginning {
        let named = begin.named(&self.partition);
        let gap = |from, records| Gap {
            partition: self.partition.clone(),
            from,
            to: self.first,
            records,
        };
        // What is below the offset that a checkpoint names was handled before it was written, also where the group
        // does not say so.
        let handled = self.committed.max(named);
        if let Some(handled) = handled.filter(|handled| *handled > self.end) {
            return Beginning {
                next: self.first,
                known_to: self.first,
                gap: Some(gap(named.unwrap_or(handled), None)),
            };
        }
        let known_to = match handled {
            Some(handled) => handled.max(self.first),
            None if start == Start::Latest => self.end,
            None => self.first,
        };
        let next = match begin {
            Begin::Unhandled => known_to,
            Begin::Oldest => self.first,
            Begin::At(_) => named.unwrap_or(self.first).max(self.first),
        };
        let gap = named
            .or(self.committed)
            .filter(|wanted| *wanted < self.first)
            .map(|wanted| gap(wanted, Some(self.first - wanted)));
        Beginning { next, known_to, gap }
    }
}

/// A client that is connected and let in.
pub(super) fn connect(
    settings: &KafkaSettings,
    partitions: usize,
    monitor: &Arc<Monitor>,
) -> Result<BaseConsumer<Context>, SourceError> {
    let consumer: BaseConsumer<Context> = settings
        .client(partitions)?
        .create_with_context(Context(monitor.clone()))
        .map_err(|error| SourceError::Configuration(format!("kafka: {error}")))?;
    let start = Instant::now();
    loop {
        let asked = consumer.fetch_metadata(None, Duration::from_secs(1));
        // Its events are errors: nothing is assigned.
        while consumer.poll(Duration::ZERO).is_some() {}
        let Err(error) = asked else { return Ok(consumer) };
        if let Some(refused) = monitor.refused() {
            return Err(SourceError::Configuration(format!(
                "{} refuses the login: {refused}",
                settings.service()
            )));
        }
        if start.elapsed() > PATIENCE {
            let detail = monitor.last_error().unwrap_or_else(|| error.to_string());
            return Err(SourceError::Unreachable {
                what: settings.service(),
                detail,
            });
        }
    }
}

/// The topics that are wanted and exist.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) partitions: Vec<Partition>,
    /// Their names, those in trouble too.
    pub(super) topics: BTreeSet<Arc<str>>,
    /// One that cannot be read just now, and why.
    pub(super) trouble: Option<String>,
}

/// Asks for the topics that are wanted.
pub(super) fn topics(consumer: &BaseConsumer<Context>, wanted: &[Wanted]) -> Result<Found, KafkaError> {
    let metadata = consumer.fetch_metadata(None, LIMIT)?;
    let mut found = Found::default();
    for topic in metadata.topics() {
        if !wanted.iter().any(|wanted| wanted.matches(topic.name())) {
            continue;
        }
        let stream: Arc<str> = topic.name().into();
        found.topics.insert(stream.clone());
        if let Some(error) = topic.error() {
            found.trouble = Some(format!("topic {stream}: {}", Code::from(error)));
        }
        found
            .partitions
            .extend(topic.partitions().iter().map(|p| Partition {
                stream: stream.clone(),
                partition: p.id(),
            }));
    }
    found.partitions.sort();
    Ok(found)
}

/// [`topics`] and [`standings`] of those that are `mine`, after as much patience as it takes for none
/// to be in trouble; then the trouble is returned too.
pub(super) fn survey(
    consumer: &BaseConsumer<Context>,
    wanted: &[Wanted],
    mine: impl Fn(&Partition) -> bool,
) -> Result<(Vec<Standing>, Option<String>), KafkaError> {
    let start = Instant::now();
    loop {
        let mut found = patiently(|| topics(consumer, wanted))?;
        found.partitions.retain(&mine);
        let (standings, without) = patiently(|| standings(consumer, &found.partitions))?;
        let leaderless = without
            .first()
            .map(|partition| format!("nobody leads {partition}"));
        let trouble = found.trouble.or(leaderless);
        if trouble.is_none() || start.elapsed() > PATIENCE {
            return Ok((standings, trouble));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Where each partition stands, and which cannot be asked because nobody leads them just now.
pub(super) fn standings(
    consumer: &BaseConsumer<Context>,
    partitions: &[Partition],
) -> Result<(Vec<Standing>, Vec<Partition>), KafkaError> {
    let (mut standings, mut without) = (Vec::new(), Vec::new());
    if partitions.is_empty() {
        return Ok((standings, without));
    }
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.stream, partition.partition);
    }
    let committed = consumer.committed_offsets(list, LIMIT)?.to_topic_map();
    for partition in partitions {
        match consumer.fetch_watermarks(&partition.stream, partition.partition, LIMIT) {
            Ok((first, end)) => {
                let committed = committed.get(&(partition.stream.to_string(), partition.partition));
                standings.push(Standing {
                    partition: partition.clone(),
                    committed: committed.and_then(|offset| u64::try_from(offset.to_raw()?).ok()),
                    first: first.max(0) as u64,
                    end: end.max(0) as u64,
                });
            }
            Err(error) => {
                warn!(%partition, %error, "partition cannot be asked");
                without.push(partition.clone());
            }
        }
    }
    Ok((standings, without))
}

/// Somebody else who reads with the group: client id and host.
pub(super) fn members(consumer: &BaseConsumer<Context>, group: &str) -> Result<Vec<String>, KafkaError> {
    let list = consumer.fetch_group_list(Some(group), LIMIT)?;
    let members = list.groups().iter().flat_map(|found| found.members());
    Ok(members
        .map(|member| format!("`{}` at {}", member.client_id(), member.client_host()))
        .collect())
}

/// Refuses a group that somebody else reads with, and stores where every partition begins.
///
/// The storing is the proof: brokers let nobody outside store offsets while a group has members.
pub(super) fn claim(
    consumer: &BaseConsumer<Context>,
    group: &str,
    begin: &BTreeMap<Partition, u64>,
) -> Result<(), SourceError> {
    match members(consumer, group) {
        Ok(members) if !members.is_empty() => return Err(taken(group, &members.join(", "))),
        Ok(_) => {}
        // One of several brokers is down, say.
        Err(error) => warn!(%error, group, "could not ask all brokers who reads with the group"),
    }
    if begin.is_empty() {
        return Ok(());
    }
    let mut list = TopicPartitionList::new();
    for (partition, offset) in begin {
        commits::add(&mut list, partition, *offset);
    }
    patiently(|| consumer.commit(&list, CommitMode::Sync)).map_err(|error| match error.rdkafka_error_code() {
        Some(
            Code::UnknownMemberId
            | Code::IllegalGeneration
            | Code::StaleMemberEpoch
            | Code::FencedMemberEpoch,
        ) => taken(
            group,
            "a program that this version of the group protocol does not name",
        ),
        Some(Code::GroupAuthorizationFailed | Code::TopicAuthorizationFailed) => SourceError::Configuration(
            format!("not allowed to store offsets for group `{group}`: {error}"),
        ),
        _ => SourceError::Commit(format!("group `{group}`: {error}")),
    })
}

fn taken(group: &str, who: &str) -> SourceError {
    SourceError::Configuration(format!(
        "group `{group}` is being read by {who}: stop it first, or wait until its session times out"
    ))
}

/// Asks again while brokers are starting, electing or loading.
pub(super) fn patiently<T>(mut ask: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let start = Instant::now();
    loop {
        match ask() {
            Err(error) if passes(&error) && start.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(200))
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Offsets;

    fn partition() -> Partition {
        Partition {
            stream: "t".into(),
            partition: 0,
        }
    }

    /// From, to, how many.
    type Lost = (u64, u64, Option<u64>);

    /// Where a partition begins of which 10 to 19 are left: its next, what is known, what is missing.
    fn begun(committed: Option<u64>, start: Start, begin: Begin) -> (u64, u64, Option<Lost>) {
        let standing = Standing {
            partition: partition(),
            committed,
            first: 10,
            end: 20,
        };
        let Beginning { next, known_to, gap } = standing.begin(start, &begin);
        (next, known_to, gap.map(|gap| (gap.from, gap.to, gap.records)))
    }

    #[test]
    fn a_partition_begins_where_the_group_left_it_or_at_what_is_left_of_it() {
        let begun = |committed, start| begun(committed, start, Begin::Unhandled);
        assert_eq!(begun(Some(15), Start::Earliest), (15, 15, None));
        assert_eq!(begun(Some(4), Start::Latest), (10, 10, Some((4, 10, Some(6)))));
        assert_eq!(begun(Some(21), Start::Earliest), (10, 10, Some((21, 10, None))));
        assert_eq!(begun(None, Start::Earliest), (10, 10, None));
        assert_eq!(begun(None, Start::Latest), (20, 20, None));
    }

    #[test]
    fn with_the_oldest_record_what_is_known_is_emitted_too() {
        assert_eq!(begun(Some(15), Start::Earliest, Begin::Oldest), (10, 15, None));
        assert_eq!(begun(None, Start::Latest, Begin::Oldest), (10, 20, None));
    }

    #[test]
    fn a_checkpoint_says_where_to_begin_and_what_is_missing_since() {
        let at = |committed, named| {
            let named = Offsets::from([(partition(), named)]);
            begun(committed, Start::Latest, Begin::At(named.into()))
        };
        assert_eq!(at(Some(15), 12), (12, 15, None));
        assert_eq!(
            at(Some(12), 15),
            (15, 15, None),
            "outcomes are durable before a checkpoint is"
        );
        assert_eq!(at(None, 15), (15, 15, None), "the group was forgotten");
        assert_eq!(at(Some(15), 7), (10, 15, Some((7, 10, Some(3)))));
        assert_eq!(at(Some(15), 20), (20, 20, None));
        // Another topic of the same name, also where the group's offset fits into it.
        assert_eq!(at(Some(15), 21), (10, 10, Some((21, 10, None))));
        assert_eq!(at(Some(30), 12), (10, 10, Some((12, 10, None))));
        let others = Begin::At(Offsets::new().into());
        assert_eq!(
            begun(None, Start::Latest, others),
            (10, 20, None),
            "a new partition"
        );
    }
}
