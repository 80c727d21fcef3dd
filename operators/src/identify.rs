//! Identify: drops the second and later deliveries of an event.
//!
//! ```text
//!   arrivals --by event id--> seen before? --no--> arrivals
//!   identities of a checkpoint --/
//! ```
//!
//! In:    arrivals, in any order, repeated any number of times; what an earlier run had seen.
//! Out:   each event once, for as long as its identity is remembered.
//! State: [`BYTES_PER_EVENT`] bytes, about, for each event of the last `remember` to twice that; with checkpoints 16
//!        more for each since the last. What is restored counts as seen when the first arrival comes.
//!
//! A repeat is dropped at its own epoch, which ends only after the epoch of any earlier copy read by
//! the same worker; of two copies read by two workers one is kept, whichever comes first, and only
//! its epoch waits for the outcome: the other's place may be forgotten, for this one is not.

use crate::{
    Arrival, Epoch,
    checkpoint::{
        Keep, Kind, Merge,
        met::{self, Met},
        restored,
    },
};
use dbb_events::{EventId, Micros, Outgoing};
use std::collections::HashSet;
use timely::{
    ExchangeData,
    dataflow::{Stream, channels::pact::Exchange, operators::generic::Operator},
};

/// Memory of one remembered identity, allocation overhead included: 16 bytes and a control byte in a
/// table between half and seven eighths full.
pub const BYTES_PER_EVENT: usize = 28;

/// How long identities are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remember {
    /// By the times at which arrivals were read, in seconds.
    pub seconds: i64,
    /// In epochs, at least as long: for that time checkpoints keep them; for ever when `None`.
    pub epochs: Option<Epoch>,
}

pub(crate) static KIND: Kind = Kind {
    name: "identify",
    version: 1,
    merge: Merge::Recent,
};

/// What can be told from its repeats.
pub trait Identified {
    /// Its identity.
    fn event(&self) -> EventId;
    /// When it was read.
    fn read_at(&self) -> Micros;
    /// The ledger has sent it again: it is no repeat.
    fn is_again(&self) -> bool;
}

impl Identified for Arrival {
    fn event(&self) -> EventId {
        self.event
    }

    fn read_at(&self) -> Micros {
        self.read_at
    }

    fn is_again(&self) -> bool {
        self.again.is_some()
    }
}

impl Identified for Outgoing {
    fn event(&self) -> EventId {
        self.event
    }

    fn read_at(&self) -> Micros {
        self.read_at
    }

    fn is_again(&self) -> bool {
        self.again.is_some()
    }
}

/// See the module. `on_repeat` is told of each copy that is dropped; an event that the ledger sends
/// again passes, for it is no repeat.
pub fn identify<'s, D: Identified + ExchangeData>(
    arrivals: Stream<'s, Epoch, Vec<D>>,
    remember: Remember,
    keep: Option<&Keep>,
    on_repeat: impl Fn(&D) + 'static,
) -> Stream<'s, Epoch, Vec<D>> {
    let scope = arrivals.scope();
    let from = keep.and_then(|keep| keep.restored.clone());
    let known = restored(scope, &KIND, from.clone());
    let mut met = keep.map(|keep| Met::new(&KIND, remember.epochs, keep, scope.worker().index()));
    let by_event = Exchange::new(|arrival: &D| arrival.event().0 as u64);
    let by_place = Exchange::new(met::place);
    arrivals.binary_frontier(known, by_event, by_place, "identify", move |_, _| {
        let mut seen = Recent::new(remember.seconds);
        move |(arrivals, of_arrivals), (known, of_known), output| {
            known.for_each_stamp(|_, data| {
                for row in data.flat_map(|rows| rows.drain(..)) {
                    match (met::event(&KIND, &row), &from) {
                        (Ok(event), _) => seen.know(event),
                        (Err(damaged), Some(from)) => from.refuse(damaged),
                        (Err(_), None) => {}
                    }
                }
            });
            arrivals.for_each_stamp(|stamp, data| {
                let epoch = stamp.least().copied();
                let mut session = output.session(&stamp);
                for arrival in data.flat_map(|arrivals| arrivals.drain(..)) {
                    if arrival.is_again() {
                        session.give(arrival);
                    } else if seen.is_new(arrival.event(), arrival.read_at()) {
                        if let (Some(met), Some(epoch)) = (&mut met, epoch) {
                            met.meets(arrival.event(), epoch);
                        }
                        session.give(arrival);
                    } else {
                        on_repeat(&arrival);
                    }
                }
            });
            if let Some(met) = &mut met {
                met.offer([of_arrivals, of_known]);
            }
        }
    })
}

/// The identities of the last while: two sets, of which the older is dropped as a whole, so that
/// forgetting costs nothing for each event.
struct Recent {
    remember_us: i64,
    since: Micros,
    young: HashSet<EventId>,
    old: HashSet<EventId>,
}

impl Recent {
    fn new(remember_seconds: i64) -> Self {
        Self {
            remember_us: remember_seconds.saturating_mul(1_000_000),
            since: Micros(i64::MIN),
            young: HashSet::new(),
            old: HashSet::new(),
        }
    }

    fn is_new(&mut self, event: EventId, now: Micros) -> bool {
        if now.0.saturating_sub(self.since.0) >= self.remember_us {
            self.old = std::mem::take(&mut self.young);
            self.since = now;
        }
        !self.old.contains(&event) && self.young.insert(event)
    }

    /// An earlier run has seen it: it is the older one of the sets as soon as something is read.
    fn know(&mut self, event: EventId) {
        self.young.insert(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_known_for_at_least_the_configured_time_and_forgotten_after_twice_that() {
        let mut seen = Recent::new(10);
        let at = |seconds: i64| Micros(1_700_000_000_000_000).plus_seconds(seconds);
        assert!(seen.is_new(EventId(1), at(0)));
        assert!(!seen.is_new(EventId(1), at(9)));
        assert!(
            !seen.is_new(EventId(1), at(15)),
            "moved to the older set, still known"
        );
        assert!(seen.is_new(EventId(2), at(15)));
        assert!(seen.is_new(EventId(1), at(40)), "forgotten");
    }
}
