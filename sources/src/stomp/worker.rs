//! The source of one worker: the messages of its brokers, with offsets, and acknowledgements back.

use super::{
    lane::Lane,
    link::{Given, Handle},
    session::Order,
    settings::wrong,
    status::Board,
};
use crate::{Offsets, Partition, Polled, Source, SourceError, Waker};
use crossbeam_channel::Receiver;
use dbb_events::{Place, Received};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A queue has no end that could be seen: it is taken for empty when nothing has come for so long.
const QUIET: Duration = Duration::from_secs(2);

/// Longest that a good-bye may take.
const GOODBYE: Duration = Duration::from_secs(10);

pub(super) struct StompSource {
    given: Receiver<Given>,
    waker: Arc<Mutex<Option<Waker>>>,
    board: Board,
    /// By the number of the link.
    lanes: BTreeMap<usize, (Arc<Handle>, Lane)>,
    /// The first offset of a broker's stream.
    first: Box<dyn Fn(&str) -> u64 + Send>,
    prefetch: u32,
    once: bool,
    quiet_since: Instant,
}

impl StompSource {
    pub(super) fn new(
        given: Receiver<Given>,
        waker: Arc<Mutex<Option<Waker>>>,
        board: Board,
        first: Box<dyn Fn(&str) -> u64 + Send>,
        prefetch: u32,
        once: bool,
    ) -> Self {
        Self {
            given,
            waker,
            board,
            lanes: BTreeMap::new(),
            first,
            prefetch,
            once,
            quiet_since: Instant::now(),
        }
    }

    fn release(&mut self) {
        for (handle, lane) in self.lanes.values_mut() {
            let acks = lane.release();
            if !acks.is_empty() {
                let connection = lane.connection();
                // Without a receiver the link has ended, and what was not acknowledged comes again.
                let _ = handle.orders.send(Order::Ack { connection, acks });
            }
        }
    }

    /// True if nothing came for a while, and nothing keeps more from coming.
    fn is_quiet(&self) -> bool {
        let clear = self.lanes.values().all(|(_, lane)| lane.is_clear());
        let state = self.board.lock();
        let connected = |number: &usize| state.brokers.get(*number).is_some_and(|broker| broker.connected);
        clear && self.lanes.keys().all(connected) && self.quiet_since.elapsed() >= QUIET
    }
}

impl Source for StompSource {
    fn poll(&mut self, batch: &mut Vec<Received>, max: usize) -> Result<Polled, SourceError> {
        let mut room = max;
        let mut repeats = false;
        while room > 0 {
            let Ok(given) = self.given.try_recv() else { break };
            self.quiet_since = Instant::now();
            let delivery = match given {
                Given::Link(handle) => {
                    let lane = Lane::new((self.first)(&handle.stream), self.prefetch.into());
                    self.lanes.insert(handle.number, (handle, lane));
                    continue;
                }
                Given::Message(delivery) => delivery,
            };
            let Some((handle, lane)) = self.lanes.get_mut(&delivery.link) else {
                return Err(wrong("a message came from a broker that was not told of"));
            };
            let Some(offset) = lane.deliver(delivery.connection, &delivery.id, &delivery.ack) else {
                repeats = true;
                handle.flight.landed(delivery.weight());
                continue;
            };
            lane.weigh(offset, delivery.weight());
            room -= 1;
            batch.push(Received {
                place: Place {
                    stream: Arc::clone(&handle.stream),
                    partition: 0,
                    offset,
                    line: None,
                },
                topic: None,
                appended_at: delivery.at,
                marks: None,
                body: delivery.body,
            });
        }
        if repeats {
            self.release();
        }
        if !self.given.is_empty() {
            return Ok(Polled::More);
        }
        Ok(if self.once && self.is_quiet() {
            Polled::Finished
        } else {
            Polled::Idle
        })
    }

    fn ack(&mut self, handled: &Offsets) -> Result<(), SourceError> {
        self.quiet_since = Instant::now();
        for (handle, lane) in self.lanes.values_mut() {
            let partition = Partition {
                stream: Arc::clone(&handle.stream),
                partition: 0,
            };
            if let Some(offset) = handled.get(&partition) {
                handle.flight.landed(lane.handle(*offset));
            }
        }
        self.release();
        Ok(())
    }

    /// Says good-bye to the brokers: then they have taken all acknowledgements.
    fn flush(&mut self) -> Result<(), SourceError> {
        for (handle, _) in self.lanes.values() {
            let _ = handle.orders.send(Order::Leave);
        }
        let all: Vec<usize> = self.lanes.keys().copied().collect();
        let left = self
            .board
            .wait(GOODBYE, |state| all.iter().all(|number| state.has_left(*number)));
        if !left {
            let detail = "a broker did not answer the good-bye; what it has not heard of comes again";
            return Err(SourceError::Commit(detail.into()));
        }
        Ok(())
    }

    fn set_waker(&mut self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }
}
