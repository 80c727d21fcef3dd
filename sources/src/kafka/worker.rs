//! Worker: one worker's share of the partitions, read from their queues without waiting.

use super::{
    headers::Headers,
    keeper::{Bell, Given, Held, Order},
    monitor::{Context, Monitor},
};
use crate::{Gap, Offsets, Partition, Polled, Source, SourceError, Waker};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use dbb_events::{Incarnation, Marks, Micros, Place, Position, Received};
use rdkafka::{
    Message,
    consumer::base_consumer::PartitionQueue,
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use std::collections::BTreeMap;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::warn;

/// Queues that have not rung are looked into so often all the same.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Most records of one partition before the next one has its turn.
const TURN: usize = 512;

/// Longest that a shutdown waits for the last commit.
const FLUSH_LIMIT: Duration = Duration::from_secs(10);

/// What the workers of a process share; its threads end soon after the last of them.
pub(super) struct Session {
    pub(super) service: String,
    pub(super) monitor: Arc<Monitor>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Not waited for: they may be waiting for a broker that is away.
        self.stop.store(true, Relaxed);
    }
}

pub(super) struct KafkaSource {
    held: Vec<Reading>,
    given: Receiver<Given>,
    orders: Sender<Order>,
    bell: Arc<Bell>,
    /// What an earlier run has handled of each partition.
    known: Offsets,
    /// Of which incarnation each partition is.
    incarnations: BTreeMap<Partition, Incarnation>,
    /// Found and not yet taken.
    gaps: Vec<Gap>,
    once: bool,
    caught_up: bool,
    /// Partitions given back and not yet received again.
    restarting: usize,
    /// Whose turn is next.
    turn: usize,
    swept: Instant,
    session: Arc<Session>,
}

struct Reading {
    held: Held,
    headers: Headers,
    /// What was there at the start has been emitted.
    finished: bool,
}

/// What is left of a queue after a turn.
enum Turn {
    Empty,
    More,
    /// The broker has no record at the offset asked for.
    Lost,
}

impl KafkaSource {
    pub(super) fn new(
        session: Arc<Session>,
        given: Receiver<Given>,
        orders: Sender<Order>,
        bell: Arc<Bell>,
        once: bool,
    ) -> Self {
        let swept = Instant::now();
        Self {
            held: Vec::new(),
            given,
            orders,
            bell,
            known: Offsets::new(),
            incarnations: BTreeMap::new(),
            gaps: Vec::new(),
            once,
            caught_up: false,
            restarting: 0,
            turn: 0,
            swept,
            session,
        }
    }

    fn take_given(&mut self) {
        while let Ok(given) = self.given.try_recv() {
            match given {
                Given::Read(mut held) => {
                    self.restarting = self.restarting.saturating_sub(1);
                    let finished = held.progress.next.load(Relaxed) >= held.end;
                    self.known.insert(held.partition.clone(), held.known_to);
                    self.incarnations.insert(held.partition.clone(), held.incarnation);
                    // Here, where acks come from: none of what was before can be taken for one of this.
                    let from = held.progress.next.load(Relaxed).max(held.known_to);
                    let at = Position::new(held.incarnation, from);
                    self.session
                        .monitor
                        .commits()
                        .begin(held.partition.clone(), at, held.stored);
                    self.gaps.extend(held.gap.take());
                    let headers = Headers::new(Arc::clone(&self.session.monitor));
                    self.held.push(Reading {
                        held,
                        headers,
                        finished,
                    });
                }
                Given::Yield(partition) => {
                    let held = self
                        .held
                        .iter()
                        .position(|reading| reading.held.partition == partition);
                    if let Some(index) = held {
                        self.give_back(index, Order::Yielded);
                    }
                }
                Given::LetGo(partition) => {
                    self.held.retain(|reading| reading.held.partition != partition);
                    self.order(Order::Dropped(partition));
                }
            }
        }
    }

    fn give_back(&mut self, index: usize, order: impl FnOnce(Partition, u64) -> Order) {
        let held = self.held.swap_remove(index).held;
        let (partition, next) = (held.partition.clone(), held.progress.next.load(Relaxed));
        // The queue goes before the keeper splits it again.
        drop(held);
        self.restarting += 1;
        self.order(order(partition, next));
    }

    fn order(&self, order: Order) {
        // Fails when the keeper has gone, which `check_fatal` tells.
        let _ = self.orders.send(order);
    }
}

impl Reading {
    fn read(&mut self, batch: &mut Vec<Received>, full: usize) -> Turn {
        let (held, finished) = (&self.held, &mut self.finished);
        // Before the queue is looked into: what comes later sets it again.
        held.ready.store(false, Relaxed);
        while batch.len() < full {
            match held.queue.poll(Duration::ZERO) {
                None => {
                    held.progress.is_hungry();
                    return Turn::Empty;
                }
                Some(Ok(message)) => {
                    let next = message.offset().max(0) as u64 + 1;
                    let marks = self.headers.marks(&message);
                    batch.push(received(&message, held, marks));
                    held.progress.next.store(next, Relaxed);
                    held.progress.at_end.store(false, Relaxed);
                    *finished |= next >= held.end;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    held.progress.reached_end();
                    *finished = true;
                }
                Some(Err(error)) if error.rdkafka_error_code() == Some(Code::AutoOffsetReset) => {
                    return Turn::Lost;
                }
                Some(Err(error)) => warn!(partition = %held.partition, %error, "could not fetch"),
            }
        }
        held.ready.store(true, Relaxed);
        Turn::More
    }
}

fn received(message: &impl Message, held: &Held, marks: Option<Arc<Marks>>) -> Received {
    let stream = held.partition.stream.clone();
    Received {
        place: Place {
            stream: stream.clone(),
            partition: held.partition.partition,
            offset: message.offset().max(0) as u64,
            line: None,
        },
        topic: Some(stream),
        appended_at: message
            .timestamp()
            .to_millis()
            .map(|ms| Micros(ms.saturating_mul(1000))),
        marks,
        // Copied: what librdkafka lends would hold the whole answer of the broker.
        body: message.payload().map(Bytes::copy_from_slice).unwrap_or_default(),
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, batch: &mut Vec<Received>, max: usize) -> Result<Polled, SourceError> {
        self.session.monitor.check_fatal(&self.session.service)?;
        self.take_given();
        let sweep = self.swept.elapsed() > SWEEP_EVERY;
        if sweep {
            self.swept = Instant::now();
        }
        let full = batch.len() + max;
        let mut more = false;
        let mut lost = Vec::new();
        for step in 0..self.held.len() {
            let index = (self.turn + step) % self.held.len();
            let reading = &mut self.held[index];
            if !(sweep || reading.held.ready.load(Relaxed)) {
                continue;
            }
            if batch.len() >= full {
                // The next poll begins with the one that had no turn.
                more = true;
                self.turn = index;
                break;
            }
            match reading.read(batch, full.min(batch.len() + TURN)) {
                Turn::Empty => {}
                Turn::More => more = true,
                Turn::Lost => lost.push(index),
            }
        }
        lost.sort_unstable();
        for index in lost.into_iter().rev() {
            self.give_back(index, Order::Lost);
        }
        // Once it was so it stays so: what comes later was not there when the source was opened.
        self.caught_up |= self.restarting == 0 && self.held.iter().all(|reading| reading.finished);
        if self.once && self.caught_up {
            return Ok(Polled::Finished);
        }
        Ok(if more { Polled::More } else { Polled::Idle })
    }

    fn known_to(&self, partition: &Partition) -> u64 {
        self.known.get(partition).copied().unwrap_or(0)
    }

    fn incarnation(&self, partition: &Partition) -> Incarnation {
        self.incarnations.get(partition).copied().unwrap_or_default()
    }

    fn begins(&mut self) -> Offsets {
        self.take_given();
        let next = |reading: &Reading| {
            let held = &reading.held;
            (held.partition.clone(), held.progress.next.load(Relaxed))
        };
        self.held.iter().map(next).collect()
    }

    fn take_gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps)
    }

    fn caught_up(&self) -> bool {
        self.caught_up
    }

    fn ack(&mut self, handled: &Offsets) -> Result<(), SourceError> {
        let mut commits = self.session.monitor.commits();
        // Kept, whatever became of the last commit: the keeper tries again.
        for (partition, offset) in handled {
            commits.record(partition, self.incarnation(partition), *offset);
        }
        commits
            .take_failure()
            .map_or(Ok(()), |failure| Err(SourceError::Commit(failure)))
    }

    fn flush(&mut self) -> Result<(), SourceError> {
        let start = Instant::now();
        while !self.session.monitor.commits().is_clean() {
            if start.elapsed() > FLUSH_LIMIT {
                let failure = self.session.monitor.commits().take_failure();
                return Err(SourceError::Commit(
                    failure.unwrap_or_else(|| "no answer from the brokers".into()),
                ));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn set_waker(&mut self, waker: Waker) {
        self.bell.set(waker);
        // What came before it was set has rung for nobody.
        self.bell.ring();
    }
}

const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<PartitionQueue<Context>>();
};
