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
    finding::Finding,
    memory::Memory,
    monitor::{Context, Monitor, Progress},
    settings::{KafkaSettings, Start},
    start::{self, Beginning, Standing},
};
use crate::{Begin, Gap, Partition, Waker};
use crossbeam_channel::{Receiver, Sender};
use dbb_events::{Incarnation, Position};
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
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::{info, warn};
use xxhash_rust::xxh3::xxh3_64;

/// Longest that an order lies about.
const STEP: Duration = Duration::from_millis(50);

/// Between two clients that are made because the one before stood still.
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// The client that reads, for the threads that do something else with it.
#[derive(Clone)]
pub(super) struct Client(Arc<Mutex<Arc<BaseConsumer<Context>>>>);

impl Client {
    pub(super) fn new(consumer: BaseConsumer<Context>) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(consumer))))
    }

    pub(super) fn get(&self) -> Arc<BaseConsumer<Context>> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, consumer: BaseConsumer<Context>) {
        let new = Arc::new(consumer);
        let old = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), new);
        // What it still waits for may take its time. Without a thread for it, it is done here.
        let _ = thread::Builder::new()
            .name("kafka-old".into())
            .spawn(move || drop(old));
    }
}

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
    /// Which topic, and which log, of the name.
    pub(super) incarnation: Incarnation,
    /// The group has stored where it begins.
    pub(super) stored: bool,
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
    /// Where it stands is to be found again.
    Yield(Partition),
    LetGo(Partition),
}

/// From a worker to the keeper.
pub(super) enum Order {
    /// The partition has no record at this offset; its queue has been dropped.
    Lost(Partition, u64),
    /// It was asked for; the next record would be this one, and its queue has been dropped.
    Yielded(Partition, u64),
    /// Its queue has been dropped.
    Dropped(Partition),
}

/// From the watch to the keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// The topic has another id than that which is read.
    Another(Arc<str>),
    /// The log, or what the group has stored, ends before what was read.
    Back(Partition, Incarnation),
    /// There are records, and none comes.
    Still(Partition),
}

/// A partition on its way to its worker.
pub(super) struct Begun {
    pub(super) standing: Standing,
    pub(super) beginning: Beginning,
    /// The group has stored where it begins.
    pub(super) stored: bool,
}

/// Why a partition's standing is to be found again.
#[derive(Debug, Clone, Copy)]
struct Restart {
    next: u64,
    /// The brokers have no record there.
    lost: bool,
}

/// The keeper's end of one worker.
pub(super) struct Desk {
    pub(super) given: Sender<Given>,
    pub(super) bell: Arc<Bell>,
}

pub(super) struct Keeper {
    pub(super) client: Client,
    pub(super) settings: KafkaSettings,
    pub(super) monitor: Arc<Monitor>,
    pub(super) wanted: Vec<Wanted>,
    /// The workers of this process, among `peers` in all.
    pub(super) workers: Range<usize>,
    pub(super) peers: usize,
    pub(super) desks: Vec<Desk>,
    pub(super) orders: Receiver<Order>,
    /// What the watch sees.
    pub(super) seen: Receiver<Seen>,
    /// With which record each partition begins.
    pub(super) begin: Begin,
    /// What is remembered elsewhere of partitions that have not been read yet.
    pub(super) memory: Memory,
    /// `None`: what is there at the start is all.
    pub(super) discover_every: Option<Duration>,
    state: State,
}

#[derive(Default)]
struct State {
    read: BTreeMap<Partition, Incarnation>,
    /// Partitions missing from the brokers' answers, by how often.
    missing: BTreeMap<Partition, u32>,
    /// Partitions whose beginning is to be found again.
    restarts: BTreeMap<Partition, Restart>,
    /// Those that have been asked for.
    asked: BTreeSet<Partition>,
    /// Those of which the watch has seen that they went back.
    back: BTreeSet<Partition>,
    /// All have been asked for, because the client is to be another.
    renewing: bool,
    renewed: Option<Instant>,
    /// Where the group had left each partition when it was first handed over.
    known: BTreeMap<Partition, u64>,
}

/// What a keeper is made of.
pub(super) struct Parts {
    pub(super) client: Client,
    pub(super) settings: KafkaSettings,
    pub(super) monitor: Arc<Monitor>,
    pub(super) wanted: Vec<Wanted>,
    pub(super) workers: Range<usize>,
    pub(super) peers: usize,
    pub(super) desks: Vec<Desk>,
    pub(super) orders: Receiver<Order>,
    pub(super) seen: Receiver<Seen>,
    pub(super) begin: Begin,
    pub(super) memory: Memory,
    pub(super) once: bool,
}

/// The worker that reads a partition: the same in every process and every run.
pub(super) fn worker_of(partition: &Partition, peers: usize) -> usize {
    let topic = xxh3_64(partition.stream.as_bytes()) % peers as u64;
    (topic as usize + partition.partition.max(0) as usize) % peers
}

impl Keeper {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            client,
            settings,
            monitor,
            wanted,
            workers,
            peers,
            desks,
            orders,
            seen,
            begin,
            memory,
            once,
        } = parts;
        Self {
            discover_every: (!once).then(|| Duration::from_secs(settings.discover_seconds.max(1))),
            client,
            settings,
            monitor,
            wanted,
            workers,
            peers,
            desks,
            orders,
            seen,
            begin,
            memory,
            state: State::default(),
        }
    }

    /// Keeps until told to stop.
    pub(super) fn run(mut self, stop: &AtomicBool) {
        let (mut discovered, mut restarted) = (Instant::now(), Instant::now());
        let mut troubled = false;
        while !stop.load(Relaxed) {
            self.serve();
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order);
            }
            while let Ok(seen) = self.seen.try_recv() {
                self.look_into(seen);
            }
            if !self.state.restarts.is_empty() && restarted.elapsed() > Duration::from_secs(1) {
                self.restart();
                restarted = Instant::now();
            }
            if self
                .discover_every
                .is_some_and(|every| discovered.elapsed() >= every)
            {
                let found = self.discover();
                if let Err(error) = &found
                    && !troubled
                {
                    warn!(%error, "could not look for new topics: it is tried again, and told once");
                }
                troubled = found.is_err();
                discovered = Instant::now();
            }
        }
    }

    fn serve(&self) {
        match self.client.get().poll(STEP) {
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
        let (partition, next, lost) = match order {
            Order::Lost(partition, next) => (partition, next, true),
            Order::Yielded(partition, next) => (partition, next, false),
            Order::Dropped(partition) => {
                self.unassign(&partition);
                let state = &mut self.state;
                state.restarts.remove(&partition);
                state.asked.remove(&partition);
                state.back.remove(&partition);
                state.read.remove(&partition);
                state.known.remove(&partition);
                // Should it come back, the brokers' id of it will tell whether it is another one.
                self.forget_name(&partition);
                self.monitor.forget(&partition);
                return;
            }
        };
        self.unassign(&partition);
        self.state.restarts.insert(partition, Restart { next, lost });
    }

    /// Has the partitions back of which something was seen.
    fn look_into(&mut self, seen: Seen) {
        match seen {
            Seen::Another(topic) => {
                let of_it = self.state.read.keys().filter(|read| read.stream == topic);
                for partition in of_it.cloned().collect::<Vec<_>>() {
                    self.ask_for(partition);
                }
            }
            Seen::Back(partition, of) => {
                let is_known =
                    self.state.restarts.contains_key(&partition) || self.state.asked.contains(&partition);
                if is_known || self.state.read.get(&partition) != Some(&of) {
                    // It was seen more than once.
                    return;
                }
                self.state.back.insert(partition);
                // The client may remember brokers that knew more, and trust no others.
                self.renew("a log went back");
            }
            Seen::Still(partition) => {
                let lately = self.state.renewed.is_some_and(|at| at.elapsed() < RENEW_EVERY);
                if !lately {
                    self.renew(&format!("{partition} has records, and none comes"));
                }
            }
        }
    }

    fn renew(&mut self, why: &str) {
        if std::mem::replace(&mut self.state.renewing, true) {
            return;
        }
        warn!(why, "asking the brokers anew, as a new client");
        for partition in self.state.read.keys().cloned().collect::<Vec<_>>() {
            self.ask_for(partition);
        }
    }

    fn ask_for(&mut self, partition: Partition) {
        let is_read =
            self.state.read.contains_key(&partition) && !self.state.restarts.contains_key(&partition);
        if is_read && self.state.asked.insert(partition.clone()) {
            self.send(&partition, Given::Yield(partition.clone()));
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
        if let Err(error) = self.client.get().incremental_unassign(&list) {
            warn!(%partition, %error, "could not let go of a partition");
        }
    }

    /// What is remembered now: the ledger has been written to since the start.
    fn memory_now(&self) -> Memory {
        let mut memory = self.memory.clone();
        memory.mark = memory.ask.as_ref().and_then(|ask| ask()).or(memory.mark);
        memory
    }

    /// Finds where partitions stand that were given back, and hands them out again.
    fn restart(&mut self) {
        if self.state.renewing {
            if self.state.restarts.len() < self.state.read.len() {
                return;
            }
            match start::connect(&self.settings, self.state.read.len(), &self.monitor) {
                Ok(consumer) => self.client.set(consumer),
                Err(error) => {
                    warn!(%error, "could not make a new client");
                    return;
                }
            }
            self.state.renewing = false;
            self.state.renewed = Some(Instant::now());
        }
        let partitions: Vec<Partition> = self.state.restarts.keys().cloned().collect();
        let consumer = self.client.get();
        let Ok(found) = start::topics(&consumer, &self.wanted) else {
            return;
        };
        let Ok((standings, _)) = start::standings(&consumer, &partitions, &found.topics) else {
            return;
        };
        for standing in standings {
            let partition = standing.partition.clone();
            let Some(restart) = self.state.restarts.remove(&partition) else {
                continue;
            };
            self.state.asked.remove(&partition);
            let went_back = self.state.back.remove(&partition);
            let was = self.state.read.get(&partition).copied().unwrap_or_default();
            let beginning = resume(&standing, restart, was, went_back);
            if beginning.incarnation != was {
                // Of this one nothing is known.
                self.state.known.insert(partition.clone(), beginning.known_to);
                self.forget_name(&partition);
            }
            let begun = Begun {
                standing,
                beginning,
                stored: false,
            };
            if let Err(error) = self.give(vec![begun]) {
                self.monitor.set_fatal(error.to_string());
            }
        }
    }

    /// Begins partitions that have come, and gives up those whose topic has gone.
    fn discover(&mut self) -> KafkaResult<()> {
        let consumer = self.client.get();
        let found = start::topics(&consumer, &self.wanted)?;
        if let Some(trouble) = found.trouble {
            warn!(trouble, "a topic is in trouble");
        }
        let new: Vec<Partition> = found
            .partitions
            .into_iter()
            .filter(|partition| !self.state.read.contains_key(partition) && self.owner(partition).is_some())
            .collect();
        self.state
            .missing
            .retain(|partition, _| !found.topics.contains_key(&partition.stream));
        let gone: Vec<Partition> = self
            .state
            .read
            .keys()
            .filter(|partition| !found.topics.contains_key(&partition.stream))
            .cloned()
            .collect();
        for partition in gone {
            let times = self.state.missing.entry(partition.clone()).or_default();
            *times += 1;
            // Once may be a broker that has just started and does not know better.
            if *times == 2 {
                warn!(%partition, "topic has gone");
                // What was read of it is remembered, should the topic be made again.
                if let Some(at) = self.monitor.commits().handled().get(&partition) {
                    self.memory.handled.insert(partition.clone(), *at);
                }
                self.send(&partition, Given::LetGo(partition.clone()));
            }
        }
        let (standings, _) = start::standings(&consumer, &new, &found.topics)?;
        if standings.is_empty() {
            return Ok(());
        }
        let memory = self.memory_now();
        let mut begun = Vec::new();
        for standing in standings {
            info!(partition = %standing.partition, "new partition");
            begun.push(Begun {
                // Whatever is in it came after the start.
                beginning: standing.begin(Start::Earliest, &self.begin, &memory),
                standing,
                stored: false,
            });
        }
        self.give(begun)
    }

    /// Hands partitions over to their workers, from where they begin.
    pub(super) fn give(&mut self, begun: Vec<Begun>) -> KafkaResult<()> {
        let consumer = self.client.get();
        let mut list = TopicPartitionList::new();
        let mut early = Vec::new();
        for Begun {
            standing, beginning, ..
        } in &begun
        {
            let partition = &standing.partition;
            if let Some(finding) = beginning.finding {
                self.monitor.found(partition, finding);
            }
            if let Some(gap) = &beginning.gap {
                warn!(%gap, "records were removed before they were read");
                self.monitor.add_lost(gap.records.unwrap_or(0));
            }
            super::commits::add(&mut list, partition, beginning.next, None);
            // Split before it is assigned, so that no record goes another way; and kept until it is
            // split again, because assigning may forget it.
            early.push(consumer.split_partition_queue(&partition.stream, partition.partition));
        }
        if begun.is_empty() {
            return Ok(());
        }
        consumer.incremental_assign(&list)?;
        for (
            Begun {
                standing,
                beginning,
                stored,
            },
            early,
        ) in begun.into_iter().zip(early)
        {
            let partition = standing.partition;
            let Beginning {
                incarnation,
                next,
                known_to,
                gap,
                ..
            } = beginning;
            let Some(mut queue) = consumer.split_partition_queue(&partition.stream, partition.partition)
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
            let known_to = *self.state.known.entry(partition.clone()).or_insert(known_to);
            let progress = self
                .monitor
                .begin(&partition, Position::new(incarnation, next), standing.end);
            self.state.read.insert(partition.clone(), incarnation);
            self.send(
                &partition,
                Given::Read(Held {
                    partition: partition.clone(),
                    queue,
                    ready,
                    progress,
                    incarnation,
                    stored,
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

/// Where a partition goes on that was read up to `restart.next` of the incarnation `was`.
fn resume(standing: &Standing, restart: Restart, was: Incarnation, went_back: bool) -> Beginning {
    let Restart { next: read, lost } = restart;
    let (first, end) = (standing.first, standing.end);
    let gap = |from, to, records| {
        Some(Gap {
            partition: standing.partition.clone(),
            from,
            to,
            records,
        })
    };
    let is = Incarnation::of(standing.topic);
    if was.is_of_another_topic(is) {
        return Beginning {
            incarnation: is,
            next: first,
            known_to: first,
            gap: gap(read, first, None),
            finding: Some(Finding::MadeAgain {
                was,
                is,
                handled: read,
            }),
        };
    }
    if read < first {
        return Beginning {
            incarnation: was,
            next: first,
            known_to: 0,
            gap: gap(read, first, Some(first - read)),
            finding: None,
        };
    }
    if went_back || lost || read > end {
        // What the group has stored went back with the log, or is above its end. If it is neither, all is read again.
        let of_it = standing
            .words
            .is_some_and(|words| !words.incarnation.is_of_another_topic(was));
        let stored = standing
            .committed
            .filter(|committed| of_it && *committed <= end && *committed < read);
        let from = stored.unwrap_or(first).max(first);
        return Beginning {
            incarnation: was.cut(),
            next: from,
            known_to: from,
            gap: gap(end.min(read), from, None),
            finding: Some(Finding::WentBack { read, end }),
        };
    }
    Beginning {
        incarnation: was,
        next: read,
        known_to: 0,
        gap: None,
        finding: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::words::Words;

    const WAS: Incarnation = Incarnation { topic: 7, cuts: 1 };

    fn resumed(read: u64, lost: bool, topic: u128, committed: Option<u64>, went_back: bool) -> Beginning {
        let standing = Standing {
            partition: Partition {
                stream: "t".into(),
                partition: 0,
            },
            topic,
            committed,
            words: committed.map(|_| Words {
                incarnation: WAS,
                mark: None,
            }),
            first: 10,
            end: 20,
        };
        resume(&standing, Restart { next: read, lost }, WAS, went_back)
    }

    #[test]
    fn what_was_only_given_back_goes_on_where_it_was_and_what_retention_took_is_a_gap() {
        let same = resumed(15, false, 7, Some(12), false);
        assert_eq!(
            (same.next, same.incarnation, same.gap, same.finding),
            (15, WAS, None, None)
        );
        let gap = resumed(5, true, 7, Some(5), false);
        assert_eq!((gap.next, gap.incarnation, gap.finding), (10, WAS, None));
        assert_eq!(gap.gap.map(|gap| gap.records), Some(Some(5)));
    }

    #[test]
    fn a_topic_made_again_and_a_log_that_went_back_are_other_incarnations() {
        let again = resumed(15, false, 8, Some(15), false);
        assert_eq!(
            (again.next, again.known_to, again.incarnation),
            (10, 10, Incarnation::of(8))
        );
        // Above its end, or its end has been passed by others since: to what the brokers remember of us.
        for (read, lost, went_back) in [
            (25, false, false),
            (25, true, true),
            (18, true, false),
            (18, false, true),
        ] {
            let back = resumed(read, lost, 7, Some(13), went_back);
            assert_eq!((back.next, back.known_to, back.incarnation), (13, 13, WAS.cut()));
            assert!(matches!(back.finding, Some(Finding::WentBack { .. })));
            // Nothing of ours that could be trusted: all again.
            for stored in [None, Some(25), Some(read)] {
                assert_eq!(resumed(read, lost, 7, stored, went_back).next, 10);
            }
        }
        // Brokers that know no ids.
        assert_eq!(resumed(25, true, 0, None, false).incarnation, WAS.cut());
    }
}
