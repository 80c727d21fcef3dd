//! Commits: which offsets are handled, and which of them the group has stored.
//!
//! In:    offsets whose events have durable outcomes; the brokers' answers.
//! Out:   commits, by a thread of their own: a broker that is away keeps nobody waiting.
//! State: two offsets a partition.

use super::monitor::{Context, Monitor};
use crate::{Offsets, Partition};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaError,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// How often acks are looked for: many of them make one commit.
const GATHER: Duration = Duration::from_millis(20);

/// After a failure, the next attempt waits this long.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Commits {
    handled: Offsets,
    confirmed: BTreeMap<Partition, u64>,
    under_way: bool,
    failed_at: Option<Instant>,
    failure: Option<String>,
    /// Commits that failed.
    pub(super) failures: u64,
}

impl Commits {
    /// The group has stored `offset` for the partition, or is made to begin there.
    pub(super) fn begin(&mut self, partition: Partition, offset: u64) {
        self.handled.insert(partition.clone(), offset);
        self.confirmed.insert(partition, offset);
    }

    /// The partition is not read any more.
    pub(super) fn forget(&mut self, partition: &Partition) {
        self.handled.remove(partition);
        self.confirmed.remove(partition);
    }

    /// Everything below these offsets is handled.
    pub(super) fn record(&mut self, handled: &Offsets) {
        for (partition, offset) in handled {
            if let Some(known) = self.handled.get_mut(partition) {
                *known = (*known).max(*offset);
            }
        }
    }

    /// The offset the group has stored.
    pub(super) fn confirmed(&self, partition: &Partition) -> Option<u64> {
        self.confirmed.get(partition).copied()
    }

    /// True when nothing is left to commit.
    pub(super) fn is_clean(&self) -> bool {
        !self.under_way && self.handled == self.confirmed
    }

    /// The last failure, told once.
    pub(super) fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// What to commit now, if anything.
    pub(super) fn next(&mut self) -> Option<TopicPartitionList> {
        if self.under_way || self.failed_at.is_some_and(|at| at.elapsed() < PAUSE) {
            return None;
        }
        let mut list = TopicPartitionList::new();
        for (partition, offset) in &self.handled {
            if self.confirmed.get(partition) != Some(offset) {
                add(&mut list, partition, *offset);
            }
        }
        self.under_way = list.count() > 0;
        self.under_way.then_some(list)
    }

    /// The answer to what [`Commits::next`] gave.
    pub(super) fn answered(&mut self, result: Result<(), KafkaError>, list: &TopicPartitionList) {
        self.under_way = false;
        self.failed_at = None;
        if let Err(error) = result {
            self.failures += 1;
            self.failed_at = Some(Instant::now());
            self.failure = Some(error.to_string());
            return;
        }
        for element in list.elements() {
            let partition = Partition {
                stream: element.topic().into(),
                partition: element.partition(),
            };
            if let (Offset::Offset(offset), Some(known)) =
                (element.offset(), self.confirmed.get_mut(&partition))
            {
                *known = offset as u64;
            }
        }
    }
}

/// Commits what is acked until told to stop.
///
/// Each commit waits for its answer: the client does not report those of others. It cannot wait for
/// ever, but much longer than a shutdown may take, so nobody waits for this thread to end.
pub(super) fn run(consumer: &BaseConsumer<Context>, monitor: &Arc<Monitor>, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        let next = monitor.commits().next();
        if let Some(list) = next {
            let result = consumer.commit(&list, CommitMode::Sync);
            monitor.commits().answered(result, &list);
        }
        thread::sleep(GATHER);
    }
}

/// Adds a partition and its offset.
pub(super) fn add(list: &mut TopicPartitionList, partition: &Partition, offset: u64) {
    // Fails only for an offset that is none, such as -5.
    let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
    let _ = list.add_partition_offset(&partition.stream, partition.partition, offset);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(offset: u64) -> Offsets {
        Offsets::from([(
            Partition {
                stream: "t".into(),
                partition: 1,
            },
            offset,
        )])
    }

    #[test]
    fn offsets_only_rise_and_are_sent_again_until_confirmed() {
        let mut commits = Commits::default();
        let partition = at(0).into_keys().next().unwrap();
        commits.record(&at(9));
        assert!(commits.next().is_none(), "a partition that is not ours");
        commits.begin(partition.clone(), 3);
        commits.record(&at(7));
        commits.record(&at(5));
        let list = commits.next().unwrap();
        assert_eq!(list.elements()[0].offset(), Offset::Offset(7));
        assert!(commits.next().is_none(), "one at a time");
        commits.answered(Err(KafkaError::Canceled), &list);
        assert!(commits.take_failure().is_some() && !commits.is_clean());
        assert_eq!(commits.confirmed(&partition), Some(3));
        commits.failed_at = None;
        let list = commits.next().unwrap();
        commits.answered(Ok(()), &list);
        assert!(commits.is_clean());
        assert_eq!(commits.confirmed(&partition), Some(7));
    }
}
