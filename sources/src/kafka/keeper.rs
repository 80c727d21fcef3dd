//! Keeper: the thread of a Kafka source that asks brokers and waits for them, so that no worker has to.
//!
//! ```text
//!   keeper --> worker: here is a partition's queue; let go of that one
//!   worker --> keeper: this partition has no record at my offset; I let go
//!   keeper --> brokers: what new topics and partitions are there, where does a partition begin
//! ```
//!
//! It also serves the client's main queue: errors, statistics.

use super::{
    monitor::{Context, Monitor, Progress},
    settings::Start,
    start::{self, Beginning, Standing},
};
use crate::{Begin, Gap, Partition, Waker};
use crossbeam_channel::{Receiver, Sender};
use dbb_kafka::Wanted;
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer, base_consumer::PartitionQueue},
    error::{KafkaError, KafkaResult},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tracing::{info, warn};
use xxhash_rust::xxh3::xxh3_64;

/// Longest that an order lies about.
const STEP: Duration = Duration::from_millis(50);

/// Calls a worker when a queue of its has something.
#[derive(Default)]
pub(super) struct Bell(RwLock<Option<Waker>>);

impl Bell {
    pub(super) fn set(&self, waker: Waker) {
        *self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(waker);
    }

    pub(super) fn ring(&self) {
        if let Some(waker) = &*self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            waker();
        }
    }
}

/// A partition for a worker to read.
pub(super) struct Held {
    pub(super) partition: Partition,
    pub(super) queue: PartitionQueue<Context>,
    /// Set from librdkafka's threads when the queue has something.
    pub(super) ready: Arc<AtomicBool>,
    pub(super) progress: Arc<Progress>,
    /// The end at the time it was handed over.
    pub(super) end: u64,
    /// What is below was handled by an earlier run.
    pub(super) known_to: u64,
    /// What is missing before it.
    pub(super) gap: Option<Gap>,
}

/// From the keeper to a worker.
pub(super) enum Given {
    Read(Held),
    LetGo(Partition),
}

/// From a worker to the keeper.
pub(super) enum Order {
    /// The partition has no record at this offset; its queue has been dropped.
    Restart(Partition, u64),
    /// Its queue has been dropped.
    Dropped(Partition),
}

/// The keeper's end of one worker.
pub(super) struct Desk {
    pub(super) given: Sender<Given>,
    pub(super) bell: Arc<Bell>,
}

pub(super) struct Keeper {
    pub(super) consumer: Arc<BaseConsumer<Context>>,
    pub(super) monitor: Arc<Monitor>,
    pub(super) wanted: Vec<Wanted>,
    pub(super) start: Start,
    /// The workers of this process, among `peers` in all.
    pub(super) workers: Range<usize>,
    pub(super) peers: usize,
    pub(super) desks: Vec<Desk>,
    pub(super) orders: Receiver<Order>,
    /// With which record each partition begins.
    pub(super) begin: Begin,
    /// `None`: what is there at the start is all.
    pub(super) discover_every: Option<Duration>,
    pub(super) read: BTreeSet<Partition>,
    /// Partitions missing from the brokers' answers, by how often.
    pub(super) missing: BTreeMap<Partition, u32>,
    /// Partitions whose beginning is to be found again.
    pub(super) restarts: BTreeMap<Partition, u64>,
    /// Where the group had left each partition when it was first handed over.
    pub(super) known: BTreeMap<Partition, u64>,
}

/// The worker that reads a partition: the same in every process and every run.
pub(super) fn worker_of(partition: &Partition, peers: usize) -> usize {
    let topic = xxh3_64(partition.stream.as_bytes()) % peers as u64;
    (topic as usize + partition.partition.max(0) as usize) % peers
}

impl Keeper {
    /// Keeps until told to stop.
    pub(super) fn run(mut self, stop: &AtomicBool) {
        let (mut discovered, mut restarted) = (Instant::now(), Instant::now());
        while !stop.load(Relaxed) {
            self.serve();
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order);
            }
            if !self.restarts.is_empty() && restarted.elapsed() > Duration::from_secs(1) {
                restarted = Instant::now();
                self.restart();
            }
            if self
                .discover_every
                .is_some_and(|every| discovered.elapsed() >= every)
            {
                if let Err(error) = self.discover() {
                    warn!(%error, "could not look for new topics");
                }
                discovered = Instant::now();
            }
        }
    }

    fn serve(&self) {
        match self.consumer.poll(STEP) {
            // A record here has missed its queue, and others may have overtaken it.
            Some(Ok(_)) => self
                .monitor
                .set_fatal("a record arrived outside the queue of its partition".into()),
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => self.monitor.set_fatal(code.to_string()),
            // Others are logged where they are reported, and mended by the client.
            Some(Err(_)) | None => {}
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Restart(partition, next) => {
                self.unassign(&partition);
                self.restarts.insert(partition, next);
            }
            Order::Dropped(partition) => {
                self.unassign(&partition);
                self.restarts.remove(&partition);
                self.read.remove(&partition);
                self.known.remove(&partition);
                // Should it come back, it will be another one.
                self.forget_name(&partition);
                self.monitor.forget(&partition);
            }
        }
    }

    fn forget_name(&mut self, partition: &Partition) {
        if let Begin::At(offsets) = &mut self.begin {
            Arc::make_mut(offsets).remove(partition);
        }
    }

    fn unassign(&self, partition: &Partition) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.stream, partition.partition);
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            warn!(%partition, %error, "could not let go of a partition");
        }
    }

    /// Finds where partitions begin whose records were removed before they were read.
    fn restart(&mut self) {
        let partitions: Vec<Partition> = self.restarts.keys().cloned().collect();
        let Ok((standings, _)) = start::standings(&self.consumer, &partitions) else {
            return;
        };
        for mut standing in standings {
            let next = self.restarts.remove(&standing.partition);
            if next.is_some_and(|next| next > standing.end) {
                // Another topic of the same name: of this one nothing is known.
                self.known.remove(&standing.partition);
                self.forget_name(&standing.partition);
            }
            standing.committed = next;
            if let Err(error) = self.give(vec![standing]) {
                self.monitor.set_fatal(error.to_string());
            }
        }
    }

    /// Begins partitions that have come, and gives up those whose topic has gone.
    fn discover(&mut self) -> KafkaResult<()> {
        let found = start::topics(&self.consumer, &self.wanted)?;
        if let Some(trouble) = found.trouble {
            warn!(trouble, "a topic is in trouble");
        }
        let new: Vec<Partition> = found
            .partitions
            .into_iter()
            .filter(|partition| !self.read.contains(partition) && self.owner(partition).is_some())
            .collect();
        self.missing
            .retain(|partition, _| !found.topics.contains(&partition.stream));
        let gone = self
            .read
            .iter()
            .filter(|partition| !found.topics.contains(&partition.stream));
        for partition in gone {
            let times = self.missing.entry(partition.clone()).or_default();
            *times += 1;
            // Once may be a broker that has just started and does not know better.
            if *times == 2 {
                warn!(%partition, "topic has gone");
                self.send(partition, Given::LetGo(partition.clone()));
            }
        }
        let (standings, _) = start::standings(&self.consumer, &new)?;
        for standing in &standings {
            info!(partition = %standing.partition, "new partition");
        }
        // Whatever is in them came after the start.
        self.start = Start::Earliest;
        self.give(standings)
    }

    /// Hands partitions over to their workers, from where they stand.
    pub(super) fn give(&mut self, standings: Vec<Standing>) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        let mut begins = Vec::new();
        for standing in standings {
            let again = self.known.contains_key(&standing.partition);
            let begin = if again { &Begin::Unhandled } else { &self.begin };
            let Beginning { next, known_to, gap } = standing.begin(self.start, begin);
            let known_to = *self.known.entry(standing.partition.clone()).or_insert(known_to);
            if let Some(gap) = &gap {
                warn!(%gap, "records were removed before they were read");
                self.monitor.add_lost(gap.records.unwrap_or(0));
            }
            super::commits::add(&mut list, &standing.partition, next);
            // Split before it is assigned, so that no record goes another way; and kept until it is
            // split again, because assigning may forget it.
            let early = self
                .consumer
                .split_partition_queue(&standing.partition.stream, standing.partition.partition);
            begins.push((standing, next, known_to, gap, early));
        }
        if begins.is_empty() {
            return Ok(());
        }
        self.consumer.incremental_assign(&list)?;
        for (standing, next, known_to, gap, early) in begins {
            let partition = standing.partition;
            let Some(mut queue) = self
                .consumer
                .split_partition_queue(&partition.stream, partition.partition)
            else {
                self.monitor.set_fatal(format!("{partition} has no queue"));
                continue;
            };
            drop(early);
            let Some(desk) = self.owner(&partition) else {
                continue;
            };
            let (ready, bell) = (Arc::new(AtomicBool::new(true)), desk.bell.clone());
            let flag = ready.clone();
            queue.set_nonempty_callback(move || {
                if !flag.swap(true, Relaxed) {
                    bell.ring();
                }
            });
            self.monitor
                .commits()
                .begin(partition.clone(), next.max(known_to));
            let progress = self.monitor.begin(&partition, next, standing.end);
            self.read.insert(partition.clone());
            self.send(
                &partition,
                Given::Read(Held {
                    partition: partition.clone(),
                    queue,
                    ready,
                    progress,
                    end: standing.end,
                    known_to,
                    gap,
                }),
            );
        }
        Ok(())
    }

    fn send(&self, partition: &Partition, given: Given) {
        if let Some(desk) = self.owner(partition) {
            // Fails when the worker has gone: then everything is about to.
            let _ = desk.given.send(given);
            desk.bell.ring();
        }
    }

    fn owner(&self, partition: &Partition) -> Option<&Desk> {
        let worker = worker_of(partition, self.peers);
        self.desks.get(worker.checked_sub(self.workers.start)?)
    }
}
