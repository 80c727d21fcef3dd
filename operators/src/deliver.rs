//! Deliver: gathers requests into batches, hands them to threads, and emits what they answer.
//!
//! ```text
//!   requests --> a buffer for each lane --> batch (count | bytes | age) --> port --> thread
//!                                                                                     |
//!   answers  <------------------- at the epoch of the batch's oldest request <--------+
//! ```
//!
//! In:    requests, exchanged so that all of one lane are on one worker.
//! Out:   answers.
//! State: the requests not yet answered; how many, the reader limits.
//!
//! Frontier: once the output has passed epoch `e`, every request of epoch `e` and before has been
//! answered. A batch is cut only when its port has room for it, so while a repository is busy the
//! next batch grows to its full size instead of becoming many small ones.

use crate::{
    Batching, Epoch,
    port::{Batch, Port},
};
use crossbeam_channel::TrySendError;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};
use timely::{
    ExchangeData,
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::Exchange,
        operators::{Capability, generic::Operator},
    },
};

/// Where a request goes and with which others it may share a batch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane<L> {
    /// Index of the port in the list given to [`deliver`].
    pub port: usize,
    /// Requests of one port are batched only with those of the same group.
    pub group: L,
}

/// A question about one request.
pub type Ask<Q, A> = Box<dyn Fn(&Q) -> A>;

/// What [`deliver`] asks its caller: pure functions of one request, and the time.
pub struct Delivery<Q, L> {
    /// The operator's name in the graph.
    pub name: &'static str,
    /// Requests with equal values meet on one worker.
    pub exchange: Ask<Q, u64>,
    /// The lane of a request.
    pub lane: Ask<Q, Lane<L>>,
    /// Its size in bytes.
    pub bytes: Ask<Q, usize>,
    /// When a batch is cut.
    pub batching: Batching,
    /// The time now.
    pub clock: Box<dyn Fn() -> Instant>,
    /// Called once when the thread behind a port has gone: nothing more will be answered.
    pub on_lost: Box<dyn Fn(usize)>,
}

/// See the module.
pub fn deliver<'s, Q, A, L>(
    requests: Stream<'s, Epoch, Vec<Q>>,
    ports: Vec<Port<Q, A>>,
    delivery: Delivery<Q, L>,
) -> Stream<'s, Epoch, Vec<A>>
where
    Q: ExchangeData,
    A: Clone + 'static,
    L: Ord + Clone + Debug + 'static,
{
    let scope = requests.scope();
    let Delivery {
        name,
        exchange,
        lane,
        bytes,
        batching,
        clock,
        on_lost,
    } = delivery;
    requests.unary_frontier::<CapacityContainerBuilder<Vec<A>>, _, _, _>(
        Exchange::new(move |request| exchange(request)),
        name,
        move |_capability, info| {
            let activator = scope.activator_for(info.address.clone());
            let waker = Arc::new(scope.worker().sync_activator_for(info.address.to_vec()));
            let mut lanes: BTreeMap<Lane<L>, Buffer<Q>> = BTreeMap::new();
            let mut flights: Vec<HashMap<u64, Capability<Epoch>>> =
                ports.iter().map(|_| HashMap::new()).collect();
            let mut lost = vec![false; ports.len()];
            let mut next = 0u64;
            move |(input, frontier), output| {
                input.for_each_stamp(|capability, data| {
                    let Some(capability) = capability.retain_least(0) else {
                        return;
                    };
                    for request in data.flat_map(|requests| requests.drain(..)) {
                        let weight = bytes(&request);
                        lanes
                            .entry(lane(&request))
                            .or_default()
                            .push(&capability, request, weight, clock());
                    }
                });
                for (port, flight) in ports.iter().zip(&mut flights) {
                    // Every worker has all ports, and each is used by one: an answer that another
                    // worker waits for must not be taken here.
                    if flight.is_empty() {
                        continue;
                    }
                    for answer in port.answered() {
                        if let Some(capability) = flight.remove(&answer.id) {
                            output
                                .session(&capability)
                                .give_iterator(answer.answers.into_iter());
                        }
                    }
                }
                let draining = frontier.is_empty();
                let now = clock();
                let mut wait: Option<Duration> = None;
                // Oldest first, so that no group of a busy port waits for ever behind another.
                let mut order: Vec<_> = lanes
                    .iter()
                    .map(|(lane, buffer)| (buffer.since(), lane.clone()))
                    .collect();
                order.sort();
                for (_, lane) in order {
                    let Some(buffer) = lanes.get_mut(&lane) else {
                        continue;
                    };
                    let port = &ports[lane.port];
                    while !buffer.is_empty() && !lost[lane.port] {
                        let full = buffer.is_full(&batching);
                        let busy = !flights[lane.port].is_empty();
                        if !port.has_room() || (busy && !full) {
                            // The answer that makes room also wakes this operator.
                            break;
                        }
                        let left = buffer.time_left(now, &batching);
                        if !(draining || full || left.is_zero()) {
                            wait = Some(wait.map_or(left, |w| w.min(left)));
                            break;
                        }
                        let (requests, capability) = buffer.cut(&batching);
                        port.wake_with(&waker);
                        match port.try_send(Batch { id: next, requests }) {
                            Ok(()) => {
                                flights[lane.port].extend(capability.map(|capability| (next, capability)));
                                next += 1;
                            }
                            // Only this operator sends, and it has just seen room: so the thread has gone.
                            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                                lost[lane.port] = true;
                                flights[lane.port]
                                    .extend(capability.map(|capability| (batch.id, capability)));
                                on_lost(lane.port);
                            }
                        }
                    }
                }
                lanes.retain(|_, buffer| !buffer.is_empty());
                if let Some(wait) = wait {
                    activator.activate_after(wait);
                }
            }
        },
    )
}

/// The requests of one lane that are not yet on their way.
struct Buffer<Q> {
    /// Request, its epoch, its size and when it came.
    waiting: VecDeque<(Q, Epoch, usize, Instant)>,
    bytes: usize,
    /// A capability for each epoch with the number of its requests here. One set kept until the
    /// buffer is empty would hold the oldest epoch for ever under steady load.
    epochs: BTreeMap<Epoch, (Capability<Epoch>, usize)>,
}

impl<Q> Default for Buffer<Q> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            epochs: BTreeMap::new(),
        }
    }
}

impl<Q> Buffer<Q> {
    fn push(&mut self, capability: &Capability<Epoch>, request: Q, bytes: usize, now: Instant) {
        let epoch = *capability.time();
        self.epochs
            .entry(epoch)
            .or_insert_with(|| (capability.clone(), 0))
            .1 += 1;
        self.bytes += bytes;
        self.waiting.push_back((request, epoch, bytes, now));
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn since(&self) -> Option<Instant> {
        self.waiting.front().map(|(_, _, _, since)| *since)
    }

    fn is_full(&self, batching: &Batching) -> bool {
        self.waiting.len() >= batching.max_datasets || self.bytes >= batching.max_bytes
    }

    /// How long until the oldest has waited enough.
    fn time_left(&self, now: Instant, batching: &Batching) -> Duration {
        let due = self
            .since()
            .map(|since| since + Duration::from_millis(batching.max_wait_ms));
        due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
    }

    /// The oldest requests up to the limits, and the capability of their least epoch.
    fn cut(&mut self, batching: &Batching) -> (Vec<Q>, Option<Capability<Epoch>>) {
        let mut batch = Vec::with_capacity(self.waiting.len().min(batching.max_datasets));
        let mut size = 0;
        let mut least: Option<Capability<Epoch>> = None;
        while let Some((_, _, bytes, _)) = self.waiting.front() {
            if !batch.is_empty()
                && (batch.len() >= batching.max_datasets || size + bytes > batching.max_bytes)
            {
                break;
            }
            let Some((request, epoch, bytes, _)) = self.waiting.pop_front() else {
                break;
            };
            size += bytes;
            self.bytes -= bytes;
            batch.push(request);
            if let Some((capability, count)) = self.epochs.get_mut(&epoch) {
                if least.as_ref().is_none_or(|least| epoch < *least.time()) {
                    least = Some(capability.clone());
                }
                *count -= 1;
                if *count == 0 {
                    self.epochs.remove(&epoch);
                }
            }
        }
        (batch, least)
    }
}
