//! Watch: asks the brokers every other second whether what is read is still what it was.
//!
//! ```text
//!   the ids of the topics ---------------------> another topic of the name?      \
//!   the ends of the logs, leader by leader ----> behind what was read?            >--> keeper
//!   what the group has stored -----------------> behind what was stored?         /
//!   who did not answer ------------------------> monitor: /readyz
//! ```
//!
//! It has a client of its own, which reads nothing and is made anew when it does not get on: a client remembers the newest
//! state of the brokers, and trusts none that come back with an older one.

use super::{
    keeper::Seen,
    monitor::{Monitor, Progress},
    settings::KafkaSettings,
    words::Words,
};
use crate::{Partition, SourceError};
use crossbeam_channel::Sender;
use dbb_events::Position;
use dbb_kafka::{commit_metadata, topic_ids};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaResult,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::{debug, info};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(1500);

/// Longest that a question may take; whoever takes longer is silent.
const LIMIT: Duration = Duration::from_millis(2500);

/// How long records may be there, and none come.
const STILL: Duration = Duration::from_secs(10);

/// Whoever has found nothing for as long takes no more just now.
const HUNGRY: Duration = Duration::from_secs(3);

/// How long the watch's own client may fail before another takes its place.
const FAILING: Duration = Duration::from_secs(15);

/// The coordinator of the group, among brokers.
const COORDINATOR: i32 = -2;

type Reading = Vec<(Partition, Arc<Progress>)>;

/// Watches until told to stop.
pub(super) fn run(settings: &KafkaSettings, monitor: &Monitor, tell: &Sender<Seen>, stop: &AtomicBool) {
    let mut watch = Watch {
        monitor,
        tell,
        client: None,
        well: Instant::now(),
        risen: BTreeMap::new(),
    };
    while !stop.load(Relaxed) {
        if watch.well.elapsed() > FAILING {
            watch.client = None;
            watch.well = Instant::now();
        }
        let well = match watch.client(settings) {
            Ok(()) => watch.look(),
            Err(error) => {
                debug!(%error, "the watch has no client");
                false
            }
        };
        if well {
            watch.well = Instant::now();
            thread::sleep(EVERY);
        } else {
            thread::sleep(EVERY / 3);
        }
    }
}

struct Watch<'w> {
    monitor: &'w Monitor,
    tell: &'w Sender<Seen>,
    client: Option<BaseConsumer>,
    /// When all was last answered.
    well: Instant,
    /// Partitions whose end has risen above what is read.
    risen: BTreeMap<Partition, Risen>,
}

/// How far a partition was at a look.
#[derive(Debug, Clone, Copy)]
struct Risen {
    end: u64,
    next: u64,
    /// It was so at first in this look, and was not yet in the one before.
    seen: Instant,
    before: Instant,
    looked: Instant,
}

impl Watch<'_> {
    fn client(&mut self, settings: &KafkaSettings) -> Result<(), SourceError> {
        if self.client.is_none() {
            let made = settings.watching()?.create();
            self.client = Some(made.map_err(|error| SourceError::Configuration(format!("kafka: {error}")))?);
        }
        Ok(())
    }

    /// True if all was answered.
    fn look(&mut self) -> bool {
        let (by_leader, brokers) = self.monitor.reading();
        let Some(client) = self.client.take() else {
            return false;
        };
        // Its events are errors, which the client that reads tells as well.
        while client.poll(Duration::ZERO).is_some() {}
        let mut well = true;
        thread::scope(|scope| {
            // At the same time: who does not answer the one keeps nobody from asking the others.
            let (monitor, tell) = (self.monitor, self.tell);
            let beside = [
                scope.spawn(|| ids(tell, &client, &by_leader)),
                scope.spawn(|| group(monitor, tell, &client, &by_leader)),
            ];
            let asked: Vec<_> = by_leader
                .iter()
                .map(|(leader, reading)| {
                    // Before the question: what is read meanwhile may be beyond the answer.
                    let next: Vec<u64> = reading
                        .iter()
                        .map(|(_, progress)| progress.next.load(Relaxed))
                        .collect();
                    let (client, begun) = (&client, Instant::now());
                    (
                        leader,
                        reading,
                        next,
                        begun,
                        scope.spawn(move || ends(client, reading)),
                    )
                })
                .collect();
            for (leader, reading, next, begun, answer) in asked {
                let answer = answer.join().unwrap_or_else(|_| Err(gone()));
                let who = || match brokers.get(leader) {
                    Some(name) => format!("broker {leader} at {name}, which leads {}", of(reading)),
                    None => format!("the broker that leads {}", of(reading)),
                };
                let failed = answer.is_err();
                self.monitor.heard(*leader, who, failed.then_some(begun));
                match answer {
                    Ok(ends) => {
                        for (((partition, progress), next), end) in reading.iter().zip(next).zip(ends) {
                            match end {
                                Some(end) => self.compare(partition, progress, next, end),
                                None => well = false,
                            }
                        }
                    }
                    Err(error) => {
                        debug!(%error, leader, "could not ask where logs end");
                        well = false;
                    }
                }
            }
            for asked in beside {
                well &= asked.join().unwrap_or(false);
            }
        });
        self.monitor
            .asks_only(|broker| broker == COORDINATOR || by_leader.contains_key(&broker));
        let is_read: BTreeSet<&Partition> = by_leader
            .values()
            .flatten()
            .map(|(partition, _)| partition)
            .collect();
        self.risen.retain(|partition, _| is_read.contains(partition));
        self.client = Some(client);
        well
    }

    fn compare(&mut self, partition: &Partition, progress: &Progress, next: u64, end: u64) {
        let now = Instant::now();
        progress.end.store(end, Relaxed);
        if end < next {
            let _ = self
                .tell
                .send(Seen::Back(partition.clone(), progress.incarnation));
            return;
        }
        let before = self.risen.get(partition).copied();
        let (hungry, at_end) = progress.last();
        match before {
            Some(mut risen) if risen.end == end && risen.next == next => {
                risen.looked = now;
                self.risen.insert(partition.clone(), risen);
                // The last offsets of a partition may be marks of transactions: then the end is reached without a record.
                let is_still = end > next && at_end < risen.before && hungry.elapsed() < HUNGRY;
                if is_still && risen.seen.elapsed() > STILL {
                    let _ = self.tell.send(Seen::Still(partition.clone()));
                } else if end > next && at_end < risen.before {
                    progress.at_end.store(false, Relaxed);
                }
            }
            before => {
                let risen = Risen {
                    end,
                    next,
                    seen: now,
                    // Of the first look nothing is known before: what was reached then counts.
                    before: before.map_or(progress.began(), |before| before.looked),
                    looked: now,
                };
                self.risen.insert(partition.clone(), risen);
            }
        }
    }
}

/// Are the topics those that are read?
fn ids(tell: &Sender<Seen>, client: &BaseConsumer, by_leader: &BTreeMap<i32, Reading>) -> bool {
    let reading = || by_leader.values().flatten();
    let names: BTreeSet<&str> = reading().map(|(partition, _)| &*partition.stream).collect();
    let ids = match topic_ids(client.client(), &names, LIMIT) {
        Ok(ids) => ids,
        Err(error) => {
            debug!(%error, "could not ask for the ids of topics");
            return false;
        }
    };
    let mut others = BTreeSet::new();
    for (partition, progress) in reading() {
        let is = ids.get(&*partition.stream).copied().unwrap_or(0);
        let was = progress.incarnation;
        if is != 0 && was.topic != 0 && was.topic != is {
            others.insert(&partition.stream);
        }
    }
    for topic in others {
        // Fails when the keeper has gone: then everything is about to.
        let _ = tell.send(Seen::Another(Arc::clone(topic)));
    }
    true
}

/// Has the group what was stored?
fn group(
    monitor: &Monitor,
    tell: &Sender<Seen>,
    client: &BaseConsumer,
    by_leader: &BTreeMap<i32, Reading>,
) -> bool {
    let mut list = TopicPartitionList::new();
    let mut stored: Vec<(&Partition, Position)> = Vec::new();
    {
        // Before the question: what is stored meanwhile may be beyond the answer.
        let commits = monitor.commits();
        for (partition, _) in by_leader.values().flatten() {
            if let Some(at) = commits.confirmed(partition) {
                stored.push((partition, at));
                list.add_partition(&partition.stream, partition.partition);
            }
        }
    }
    if stored.is_empty() {
        return true;
    }
    let begun = Instant::now();
    let answer = client.committed_offsets(list, LIMIT);
    let who = || "the broker that coordinates the group".to_owned();
    monitor.heard(COORDINATOR, who, answer.is_err().then_some(begun));
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            debug!(%error, "could not ask what the group has stored");
            return false;
        }
    };
    let words = commit_metadata(&answer);
    for (element, words) in answer.elements().iter().zip(words) {
        let found = stored.iter().find(|(partition, _)| {
            *partition.stream == *element.topic() && partition.partition == element.partition()
        });
        let Some((partition, ours)) = found else { continue };
        if element.error().is_err() {
            continue;
        }
        let is = element
            .offset()
            .to_raw()
            .and_then(|offset| u64::try_from(offset).ok());
        let by_us = Words::parse(&words).filter(|words| words.incarnation == ours.incarnation);
        match (is, by_us) {
            (Some(is), Some(_)) if is < ours.next => {
                let _ = tell.send(Seen::Back((*partition).clone(), ours.incarnation));
            }
            // Ours, or stored since.
            (Some(is), Some(_)) if is >= ours.next => {}
            (is, _) => {
                info!(%partition, ?is, ours = ours.next, "another program has set the group's offset: ours is stored again");
                monitor.commits().overwritten(partition);
            }
        }
    }
    true
}

/// Where the logs end that one broker leads; `None` where that is not told.
fn ends(client: &BaseConsumer, reading: &Reading) -> KafkaResult<Vec<Option<u64>>> {
    let mut list = TopicPartitionList::new();
    for (partition, _) in reading {
        list.add_partition_offset(&partition.stream, partition.partition, Offset::End)?;
    }
    let answer = client.offsets_for_times(list, LIMIT)?;
    let found: BTreeMap<(String, i32), Option<u64>> = answer
        .elements()
        .iter()
        .map(|element| {
            let end = element.offset().to_raw().and_then(|end| u64::try_from(end).ok());
            let end = end.filter(|_| element.error().is_ok());
            ((element.topic().to_owned(), element.partition()), end)
        })
        .collect();
    let of = |partition: &Partition| {
        found
            .get(&(partition.stream.to_string(), partition.partition))
            .copied()
    };
    Ok(reading
        .iter()
        .map(|(partition, _)| of(partition).flatten())
        .collect())
}

fn gone() -> rdkafka::error::KafkaError {
    rdkafka::error::KafkaError::Canceled
}

/// A few of them by name.
fn of(reading: &Reading) -> String {
    let few: Vec<String> = reading
        .iter()
        .take(3)
        .map(|(partition, _)| partition.to_string())
        .collect();
    match reading.len().saturating_sub(few.len()) {
        0 => few.join(", "),
        more => format!("{} and {more} more", few.join(", ")),
    }
}
