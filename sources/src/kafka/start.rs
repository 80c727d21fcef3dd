//! Start: what the brokers say before the first record is read.
//!
//! Topics and partitions, where the group has left each, how far they go, and whether somebody else
//! is reading with the same group.

use super::{
    commits,
    finding::Finding,
    memory::Memory,
    monitor::{Context, Monitor},
    settings::{KafkaSettings, Start},
    words::Words,
};
use crate::{Begin, Gap, Partition, Positions, SourceError};
use dbb_events::{Incarnation, Position};
use dbb_kafka::{Wanted, commit_metadata, passes, topic_ids};
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use std::{
    collections::BTreeMap,
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
    /// The id of its topic; 0 from brokers that know none.
    pub(super) topic: u128,
    /// What the group has stored.
    pub(super) committed: Option<u64>,
    /// What this program has written beside it; `None` of an offset that another program stored.
    pub(super) words: Option<Words>,
    /// The oldest record there is.
    pub(super) first: u64,
    /// The offset after the newest.
    pub(super) end: u64,
}

/// Where reading of a partition begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beginning {
    /// Which topic, and which log, of the name is read.
    pub(super) incarnation: Incarnation,
    /// The offset of the first record to emit.
    pub(super) next: u64,
    /// What is below is handled.
    pub(super) known_to: u64,
    /// Records that were removed before they were read.
    pub(super) gap: Option<Gap>,
    /// What was counted and does not hold any more.
    pub(super) finding: Option<Finding>,
}

impl Standing {
    /// Where to begin reading.
    pub(super) fn begin(&self, start: Start, begin: &Begin, memory: &Memory) -> Beginning {
        let committed = self.committed;
        let named = begin.named(&self.partition);
        let remembered = memory.handled.get(&self.partition).copied();
        let said = self
            .words
            .zip(committed)
            .map(|(words, committed)| Position::new(words.incarnation, committed));
        let claims = || [said, remembered, named].into_iter().flatten();
        let cuts = claims()
            .filter(|claim| !claim.incarnation.is_of_another_topic(Incarnation::of(self.topic)))
            .map(|claim| claim.incarnation.cuts)
            .max();
        let incarnation = Incarnation {
            topic: self.topic,
            cuts: cuts.unwrap_or(0),
        };
        // An offset that another program stored counts as it is: a first start, a take-over, an operator's reset.
        let foreign = committed.filter(|_| self.words.is_none());
        let within = |claim: Option<Position>| claim.and_then(|claim| claim.within(incarnation));
        let words_of_it = self
            .words
            .filter(|words| !words.incarnation.is_another(incarnation));
        let lost_commit = words_of_it.and_then(|words| memory.lost_since(words.mark));
        let lost_checkpoint = named.and_then(|_| memory.lost_since(memory.checkpoint));
        // What is below the offset that a checkpoint names was handled before it was written, also where the group
        // does not say so.
        let of_checkpoint = within(named).filter(|_| lost_checkpoint.is_none());
        let handled = match foreign {
            Some(foreign) => Some(foreign).max(of_checkpoint),
            None => within(said)
                .filter(|_| lost_commit.is_none())
                .max(within(remembered))
                .max(of_checkpoint),
        };
        let gap = |from, records| Gap {
            partition: self.partition.clone(),
            from,
            to: self.first,
            records,
        };
        if let Some(read) = handled.filter(|handled| *handled > self.end) {
            return Beginning {
                incarnation: incarnation.cut(),
                next: self.first,
                known_to: self.first,
                gap: Some(gap(within(named).unwrap_or(read), None)),
                finding: Some(Finding::WentBack { read, end: self.end }),
            };
        }
        let lost = lost_commit.or(lost_checkpoint.filter(|_| handled.is_none()));
        let another = claims().find(|claim| claim.incarnation.is_of_another_topic(incarnation));
        let known_to = match handled {
            Some(handled) => handled.max(self.first),
            // Whatever knows of it has begun with it before.
            None if start == Start::Latest && claims().next().is_none() => self.end,
            None => self.first,
        };
        let next = match begin {
            Begin::Unhandled => known_to,
            Begin::Oldest => self.first,
            Begin::At(_) => within(named).unwrap_or(self.first).max(self.first).min(known_to),
        };
        let finding = match (lost, another) {
            (Some((said, is)), _) => Some(Finding::LedgerLost {
                said,
                is,
                committed: committed.unwrap_or(0),
                from: known_to,
                first: self.first,
            }),
            // Where the ledger or the group knows the new one already, it was told then.
            (None, Some(another)) if handled.is_none() => Some(Finding::MadeAgain {
                was: another.incarnation,
                is: incarnation,
                handled: another.next,
            }),
            _ => None,
        };
        let gap = match named {
            Some(named) => match named.within(incarnation) {
                Some(wanted) => (wanted < self.first).then(|| gap(wanted, Some(self.first - wanted))),
                None => Some(gap(named.next, None)),
            },
            None => match (handled, &finding) {
                (None, Some(Finding::MadeAgain { handled, .. })) => Some(gap(*handled, None)),
                (handled, _) => handled
                    .filter(|wanted| *wanted < self.first)
                    .map(|wanted| gap(wanted, Some(self.first - wanted))),
            },
        };
        Beginning {
            incarnation,
            next,
            known_to,
            gap,
            finding,
        }
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
    /// Their names, those in trouble too, and their ids.
    pub(super) topics: BTreeMap<Arc<str>, u128>,
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
        found.topics.insert(stream.clone(), 0);
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
    let names = found.topics.keys().map(|name| &**name).collect();
    for (name, id) in topic_ids(consumer.client(), &names, LIMIT)? {
        if let Some(known) = found.topics.get_mut(&*name) {
            *known = id;
        }
    }
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
        let (standings, without) = patiently(|| standings(consumer, &found.partitions, &found.topics))?;
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
    topics: &BTreeMap<Arc<str>, u128>,
) -> Result<(Vec<Standing>, Vec<Partition>), KafkaError> {
    let (mut standings, mut without) = (Vec::new(), Vec::new());
    if partitions.is_empty() {
        return Ok((standings, without));
    }
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.stream, partition.partition);
    }
    let committed = consumer.committed_offsets(list, LIMIT)?;
    let words = commit_metadata(&committed);
    let committed: BTreeMap<(String, i32), (Option<u64>, Option<Words>)> = committed
        .elements()
        .iter()
        .zip(words)
        .map(|(element, words)| {
            let offset = element.offset().to_raw();
            let offset = offset.and_then(|offset| u64::try_from(offset).ok());
            (
                (element.topic().to_owned(), element.partition()),
                (offset, Words::parse(&words)),
            )
        })
        .collect();
    for partition in partitions {
        match consumer.fetch_watermarks(&partition.stream, partition.partition, LIMIT) {
            Ok((first, end)) => {
                let found = committed.get(&(partition.stream.to_string(), partition.partition));
                let (committed, words) = found.copied().unwrap_or_default();
                standings.push(Standing {
                    partition: partition.clone(),
                    topic: topics.get(&partition.stream).copied().unwrap_or(0),
                    committed,
                    words,
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
    begin: &Positions,
    memory: &Memory,
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
    for (partition, at) in begin {
        let words = Words {
            incarnation: at.incarnation,
            mark: memory.mark,
        };
        commits::add(&mut list, partition, at.next, Some(words));
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
    use dbb_events::Mark;

    fn partition() -> Partition {
        Partition {
            stream: "t".into(),
            partition: 0,
        }
    }

    /// From, to, how many.
    type Lost = (u64, u64, Option<u64>);

    const NOW: Incarnation = Incarnation { topic: 7, cuts: 0 };
    const BEFORE: Incarnation = Incarnation { topic: 6, cuts: 0 };

    /// A partition of which 10 to 19 are left.
    fn standing(committed: Option<u64>, words: Option<Words>) -> Standing {
        Standing {
            partition: partition(),
            topic: NOW.topic,
            committed,
            words,
            first: 10,
            end: 20,
        }
    }

    fn at(incarnation: Incarnation, next: u64) -> Positions {
        Positions::from([(partition(), Position::new(incarnation, next))])
    }

    /// Its next, what is known, what is missing.
    fn begun(committed: Option<u64>, start: Start, begin: Begin) -> (u64, u64, Option<Lost>) {
        let Beginning {
            next, known_to, gap, ..
        } = standing(committed, None).begin(start, &begin, &Memory::default());
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
        let at = |committed, named| begun(committed, Start::Latest, Begin::At(at(NOW, named).into()));
        assert_eq!(at(Some(15), 12), (12, 15, None));
        assert_eq!(
            at(Some(12), 15),
            (15, 15, None),
            "outcomes are durable before a checkpoint is"
        );
        assert_eq!(at(None, 15), (15, 15, None), "the group was forgotten");
        assert_eq!(at(Some(15), 7), (10, 15, Some((7, 10, Some(3)))));
        assert_eq!(at(Some(15), 20), (20, 20, None));
        // Another log of the same name, also where the group's offset fits into it.
        assert_eq!(at(Some(15), 21), (10, 10, Some((21, 10, None))));
        assert_eq!(at(Some(30), 12), (10, 10, Some((12, 10, None))));
        let others = Begin::At(Positions::new().into());
        assert_eq!(
            begun(None, Start::Latest, others),
            (10, 20, None),
            "a new partition"
        );
    }

    /// What this program has stored: the offset 15 of an incarnation, with a mark of its ledger.
    fn stored(incarnation: Incarnation, mark: Option<Mark>) -> Standing {
        standing(Some(15), Some(Words { incarnation, mark }))
    }

    fn mark(ledger: u64, at: u64) -> Option<Mark> {
        Some(Mark { ledger, at })
    }

    /// A ledger that knows that all below 12 is handled.
    fn memory(now: Option<Mark>, of: Incarnation) -> Memory {
        Memory {
            mark: now,
            handled: at(of, 12),
            ..Memory::default()
        }
    }

    #[test]
    fn a_topic_made_again_is_read_from_its_beginning_whatever_was_counted_in_the_old_one() {
        for begin in [Begin::Unhandled, Begin::Oldest, Begin::At(at(BEFORE, 14).into())] {
            for start in [Start::Earliest, Start::Latest] {
                let begun = stored(BEFORE, mark(1, 1)).begin(start, &begin, &memory(mark(1, 1), BEFORE));
                assert_eq!((begun.next, begun.known_to, begun.incarnation), (10, 10, NOW));
                assert!(matches!(
                    begun.finding,
                    Some(Finding::MadeAgain {
                        was: BEFORE,
                        is: NOW,
                        ..
                    })
                ));
                assert_eq!(begun.gap.map(|gap| gap.records), Some(None));
            }
        }
        // The ledger has read of the new one already.
        let begun = stored(BEFORE, None).begin(Start::Latest, &Begin::Unhandled, &memory(None, NOW));
        assert_eq!((begun.next, begun.finding, begun.gap), (12, None, None));
        // The checkpoint has not: the views are read anew, and know what they lack.
        let begun = stored(NOW, None).begin(
            Start::Latest,
            &Begin::At(at(BEFORE, 14).into()),
            &memory(None, NOW),
        );
        assert_eq!((begun.next, begun.known_to), (10, 15));
        assert_eq!(begun.gap.map(|gap| (gap.from, gap.records)), Some((14, None)));
        // Brokers that know no ids leave all as it is.
        let mut without = stored(BEFORE, None);
        without.topic = 0;
        let begun = without.begin(Start::Latest, &Begin::Unhandled, &Memory::default());
        assert_eq!((begun.next, begun.finding), (15, None));
    }

    #[test]
    fn a_log_that_went_back_is_another_and_stays_so() {
        let mut back = stored(NOW, None);
        back.end = 14;
        let begun = back.begin(Start::Latest, &Begin::Unhandled, &Memory::default());
        assert_eq!((begun.next, begun.incarnation), (10, NOW.cut()));
        assert_eq!(begun.finding, Some(Finding::WentBack { read: 15, end: 14 }));
        // It was told, and is stored; what a checkpoint and the ledger said before is of the log before.
        let begin = Begin::At(at(NOW, 13).into());
        let begun = stored(NOW.cut(), None).begin(Start::Latest, &begin, &memory(None, NOW));
        assert_eq!(
            (begun.next, begun.known_to, begun.incarnation),
            (10, 15, NOW.cut())
        );
        assert_eq!(begun.finding, None);
    }

    #[test]
    fn an_offset_that_has_expired_is_taken_from_the_ledger_or_the_checkpoint_and_never_from_the_end() {
        let expired = standing(None, None);
        let begun = expired.begin(Start::Latest, &Begin::Unhandled, &memory(None, NOW));
        assert_eq!((begun.next, begun.known_to, begun.finding), (12, 12, None));
        let begin = Begin::At(at(NOW, 11).into());
        let begun = expired.begin(Start::Latest, &begin, &Memory::default());
        assert_eq!((begun.next, begun.known_to), (11, 11));
    }

    #[test]
    fn a_ledger_that_is_lost_or_older_takes_reading_back_to_where_it_knows() {
        let committed = stored(NOW, mark(1, 50));
        let begun = |now, of| committed.begin(Start::Latest, &Begin::Unhandled, &memory(now, of));
        assert_eq!(begun(mark(1, 50), NOW).next, 15);
        let older = begun(mark(1, 49), NOW);
        assert_eq!((older.next, older.known_to), (12, 12));
        assert!(matches!(
            older.finding,
            Some(Finding::LedgerLost {
                from: 12,
                first: 10,
                ..
            })
        ));
        let another = committed.begin(
            Start::Latest,
            &Begin::Unhandled,
            &Memory {
                mark: mark(2, 99),
                ..Memory::default()
            },
        );
        assert_eq!((another.next, another.known_to), (10, 10));
        let told = another.finding.map(|finding| finding.to_string());
        assert!(told.is_some_and(|told| told.contains("`dbb reconcile` alone")));
        // Views go on from their checkpoint, and all that the ledger has lost comes again.
        let begin = Begin::At(at(NOW, 14).into());
        let memory = Memory {
            checkpoint: mark(1, 50),
            ..memory(mark(1, 49), NOW)
        };
        let begun = committed.begin(Start::Latest, &begin, &memory);
        assert_eq!((begun.next, begun.known_to), (12, 12));
    }

    #[test]
    fn an_offset_without_our_words_is_another_programs_and_no_loss() {
        let begun =
            standing(Some(15), None).begin(Start::Latest, &Begin::Unhandled, &memory(mark(2, 1), NOW));
        assert_eq!((begun.next, begun.known_to, begun.finding), (15, 15, None));
    }
}
