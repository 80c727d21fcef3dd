//! Commits: which offsets are handled, and which of them the group has stored.
//!
//! In:    places below which all events have durable outcomes; the brokers' answers.
//! Out:   commits, by a thread of their own: a broker that is away keeps nobody waiting.
//! State: two places a partition.
//!
//! Brokers forget offsets that nobody stores again (`offsets.retention.minutes`), so each is stored again in time, moved or
//! not. The mark beside an offset is asked for after it was acked: the ledger of that mark holds all outcomes below it.

use super::{keeper::Client, memory::Memory, monitor::Monitor, words::Words};
use crate::{Partition, Positions};
use dbb_events::{Incarnation, Position};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer},
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

/// A failure that goes on is told again after this long.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// An answer that takes longer is trouble.
const LATE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Commits {
    handled: Positions,
    /// And when the group stored it.
    confirmed: BTreeMap<Partition, (Position, Instant)>,
    under_way: Option<(Instant, Positions)>,
    failing: Option<Failing>,
    failure: Option<String>,
    /// Commits that failed.
    pub(super) failures: u64,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    last: Instant,
    told: Instant,
    times: u64,
    detail: String,
}

impl Commits {
    /// The partition is read from this place on; `stored` if the group has it. Where it only goes on, what is on its way
    /// has still to be handled.
    pub(super) fn begin(&mut self, partition: Partition, at: Position, stored: bool) {
        let goes_on = self
            .handled
            .get(&partition)
            .is_some_and(|handled| handled.incarnation == at.incarnation);
        if goes_on {
            return;
        }
        self.handled.insert(partition.clone(), at);
        if stored {
            self.confirmed.insert(partition, (at, Instant::now()));
        } else {
            self.confirmed.remove(&partition);
        }
    }

    /// The partition is not read any more, or of another incarnation: what was acked of it means nothing now.
    pub(super) fn forget(&mut self, partition: &Partition) {
        self.handled.remove(partition);
        self.confirmed.remove(partition);
    }

    /// Everything below this offset of the incarnation is handled.
    pub(super) fn record(&mut self, partition: &Partition, incarnation: Incarnation, offset: u64) {
        if let Some(known) = self.handled.get_mut(partition)
            && known.incarnation == incarnation
        {
            known.next = known.next.max(offset);
        }
    }

    /// Below these places all is handled.
    pub(super) fn handled(&self) -> Positions {
        self.handled.clone()
    }

    /// The place the group has stored.
    pub(super) fn confirmed(&self, partition: &Partition) -> Option<Position> {
        self.confirmed.get(partition).map(|(at, _)| *at)
    }

    /// Somebody else has stored another: ours is to be stored again.
    pub(super) fn overwritten(&mut self, partition: &Partition) {
        self.confirmed.remove(partition);
    }

    /// True when nothing is left to commit.
    pub(super) fn is_clean(&self) -> bool {
        let is_stored = |(partition, at): (&Partition, &Position)| self.confirmed(partition) == Some(*at);
        self.under_way.is_none() && self.handled.iter().all(is_stored)
    }

    /// The last failure: told once, and again from time to time.
    pub(super) fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// Why offsets have not been stored for a while, if so.
    pub(super) fn trouble(&self) -> Option<String> {
        if let Some(failing) = self
            .failing
            .as_ref()
            .filter(|failing| failing.since.elapsed() > LATE)
        {
            let seconds = failing.since.elapsed().as_secs();
            return Some(format!(
                "offsets have not been stored for {seconds} s: {}",
                failing.detail
            ));
        }
        let (since, _) = self.under_way.as_ref()?;
        let seconds = since.elapsed();
        (seconds > LATE).then(|| {
            format!(
                "offsets have not been stored for {} s: the broker that coordinates the group does not answer",
                seconds.as_secs()
            )
        })
    }

    /// What to commit now, if anything; what was stored longer than `again` ago is among it.
    pub(super) fn next(&mut self, again: Duration) -> Option<Positions> {
        let pauses = self
            .failing
            .as_ref()
            .is_some_and(|failing| failing.last.elapsed() < PAUSE);
        if self.under_way.is_some() || pauses {
            return None;
        }
        let is_due = |partition: &Partition, at: &Position| {
            self.confirmed
                .get(partition)
                .is_none_or(|(stored, when)| stored != at || when.elapsed() >= again)
        };
        let due: Positions = self
            .handled
            .iter()
            .filter(|(partition, at)| is_due(partition, at))
            .map(|(partition, at)| (partition.clone(), *at))
            .collect();
        if due.is_empty() {
            return None;
        }
        self.under_way = Some((Instant::now(), due.clone()));
        Some(due)
    }

    /// The answer to what [`Commits::next`] gave.
    pub(super) fn answered(&mut self, result: Result<(), String>) {
        let sent = self.under_way.take().map(|(_, sent)| sent).unwrap_or_default();
        let now = Instant::now();
        let Err(detail) = result else {
            self.failing = None;
            for (partition, at) in sent {
                // Unless it was forgotten, or is another now.
                if self
                    .handled
                    .get(&partition)
                    .is_some_and(|handled| handled.incarnation == at.incarnation)
                {
                    self.confirmed.insert(partition, (at, now));
                }
            }
            return;
        };
        self.failures += 1;
        let failing = self.failing.get_or_insert_with(|| Failing {
            since: now,
            last: now,
            told: now,
            times: 0,
            detail: String::new(),
        });
        failing.times += 1;
        failing.last = now;
        failing.detail.clone_from(&detail);
        if failing.times == 1 || failing.told.elapsed() > TELL_EVERY {
            failing.told = now;
            self.failure = Some(format!("{detail} ({} times so far)", failing.times));
        }
    }
}

/// Commits what is acked until told to stop.
///
/// Each commit waits for its answer: the client does not report those of others. It cannot wait for
/// ever, but much longer than a shutdown may take, so nobody waits for this thread to end.
pub(super) fn run(
    client: &Client,
    monitor: &Arc<Monitor>,
    memory: &Memory,
    again: Duration,
    stop: &AtomicBool,
) {
    while !stop.load(Relaxed) {
        let next = monitor.commits().next(again);
        if let Some(due) = next {
            let result = commit(client, memory, &due);
            monitor.commits().answered(result);
        }
        thread::sleep(GATHER);
    }
}

fn commit(client: &Client, memory: &Memory, due: &Positions) -> Result<(), String> {
    // After the acks: see the module.
    let mark = match &memory.ask {
        Some(ask) => Some(ask().ok_or("the ledger cannot be asked for its mark")?),
        None => memory.mark,
    };
    let mut list = TopicPartitionList::new();
    for (partition, at) in due {
        let incarnation = at.incarnation;
        add(&mut list, partition, at.next, Some(Words { incarnation, mark }));
    }
    let committed = client.get().commit(&list, CommitMode::Sync);
    committed.map_err(|error| error.to_string())
}

/// Adds a partition and its offset.
pub(super) fn add(list: &mut TopicPartitionList, partition: &Partition, offset: u64, words: Option<Words>) {
    // Fails only for an offset that is none, such as -5.
    let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
    let _ = list.add_partition_offset(&partition.stream, partition.partition, offset);
    if let Some(words) = words
        && let Some(mut element) = list.find_partition(&partition.stream, partition.partition)
    {
        element.set_metadata(words.to_string());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const AGAIN: Duration = Duration::from_secs(3600);
    const ONE: Incarnation = Incarnation { topic: 1, cuts: 0 };
    const TWO: Incarnation = Incarnation { topic: 2, cuts: 0 };

    fn partition() -> Partition {
        Partition {
            stream: "t".into(),
            partition: 1,
        }
    }

    fn next(commits: &mut Commits) -> Option<Position> {
        commits.next(AGAIN).map(|due| due[&partition()])
    }

    #[test]
    fn offsets_only_rise_and_are_sent_again_until_confirmed() {
        let mut commits = Commits::default();
        commits.record(&partition(), ONE, 9);
        assert!(commits.next(AGAIN).is_none(), "a partition that is not ours");
        commits.begin(partition(), Position::new(ONE, 3), true);
        commits.record(&partition(), ONE, 7);
        commits.record(&partition(), ONE, 5);
        assert_eq!(next(&mut commits), Some(Position::new(ONE, 7)));
        assert!(commits.next(AGAIN).is_none(), "one at a time");
        commits.answered(Err("no".into()));
        assert!(commits.take_failure().is_some() && !commits.is_clean());
        assert_eq!(commits.confirmed(&partition()), Some(Position::new(ONE, 3)));
        commits.failing = None;
        assert!(commits.next(AGAIN).is_some());
        commits.answered(Ok(()));
        assert!(commits.is_clean());
        assert_eq!(commits.confirmed(&partition()), Some(Position::new(ONE, 7)));
    }

    #[test]
    fn what_does_not_move_is_stored_again_before_brokers_forget_it() {
        let mut commits = Commits::default();
        commits.begin(partition(), Position::new(ONE, 3), true);
        assert!(commits.next(AGAIN).is_none());
        assert!(commits.next(Duration::ZERO).is_some());
    }

    #[test]
    fn acks_of_a_topic_that_was_made_again_are_none_of_the_new_one() {
        let mut commits = Commits::default();
        commits.begin(partition(), Position::new(ONE, 3), true);
        commits.record(&partition(), ONE, 900);
        assert!(commits.next(AGAIN).is_some());
        commits.forget(&partition());
        commits.record(&partition(), ONE, 901);
        commits.begin(partition(), Position::new(TWO, 0), false);
        // The answer for the old one comes late, and so does an ack.
        commits.answered(Ok(()));
        commits.record(&partition(), ONE, 902);
        assert_eq!(next(&mut commits), Some(Position::new(TWO, 0)));
        commits.answered(Ok(()));
        commits.record(&partition(), TWO, 4);
        assert_eq!(commits.handled()[&partition()], Position::new(TWO, 4));
    }

    #[test]
    fn what_is_on_its_way_when_a_partition_is_taken_up_again_is_not_handled_yet() {
        let mut commits = Commits::default();
        commits.begin(partition(), Position::new(ONE, 3), true);
        commits.begin(partition(), Position::new(ONE, 90), false);
        assert_eq!(commits.handled()[&partition()], Position::new(ONE, 3));
        commits.begin(partition(), Position::new(TWO, 1), false);
        assert_eq!(commits.handled()[&partition()], Position::new(TWO, 1));
    }

    #[test]
    fn a_failure_that_goes_on_is_told_once_and_counted() {
        let mut commits = Commits::default();
        commits.begin(partition(), Position::new(ONE, 0), false);
        for _ in 0..5 {
            if let Some(failing) = &mut commits.failing {
                failing.last -= PAUSE;
            }
            assert!(commits.next(AGAIN).is_some());
            commits.answered(Err("no".into()));
        }
        assert_eq!(commits.take_failure().as_deref(), Some("no (1 times so far)"));
        assert_eq!((commits.take_failure(), commits.failures), (None, 5));
        assert!(commits.trouble().is_none());
        commits.failing.as_mut().unwrap().since -= LATE * 2;
        assert!(
            commits
                .trouble()
                .unwrap()
                .contains("have not been stored for 10 s: no")
        );
    }
}
