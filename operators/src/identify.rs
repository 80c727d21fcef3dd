//! Identify: drops the second and later deliveries of an event.
//!
//! ```text
//!   arrivals --by event id--> seen before? --no--> arrivals
//! ```
//!
//! In:    arrivals, in any order, repeated any number of times.
//! Out:   each event once, for as long as its identity is remembered.
//! State: [`BYTES_PER_EVENT`] bytes, about, for each event of the last `remember` to twice that.
//!
//! A repeat is dropped at its own epoch, which ends only after the epoch of any earlier copy read by
//! the same worker; of two copies read by two workers one is kept, whichever comes first, and only
//! its epoch waits for the outcome: the other's place may be forgotten, for this one is not.

use crate::{Arrival, Epoch};
use dbb_events::{EventId, Micros};
use std::collections::HashSet;
use timely::dataflow::{Stream, channels::pact::Exchange, operators::generic::Operator};

/// Memory of one remembered identity, allocation overhead included: 16 bytes and a control byte in a
/// table between half and seven eighths full.
pub const BYTES_PER_EVENT: usize = 28;

/// See the module. `on_repeat` is told of each copy that is dropped; an event that the ledger sends
/// again passes, for it is no repeat.
pub fn identify<'s>(
    arrivals: Stream<'s, Epoch, Vec<Arrival>>,
    remember_seconds: i64,
    on_repeat: impl Fn(&Arrival) + 'static,
) -> Stream<'s, Epoch, Vec<Arrival>> {
    arrivals.unary(
        Exchange::new(|a: &Arrival| a.event.0 as u64),
        "identify",
        move |_, _| {
            let mut seen = Recent::new(remember_seconds);
            move |input, output| {
                input.for_each_stamp(|capability, data| {
                    let mut session = output.session(&capability);
                    for arrival in data.flat_map(|arrivals| arrivals.drain(..)) {
                        if arrival.again.is_some() || seen.is_new(arrival.event, arrival.read_at) {
                            session.give(arrival);
                        } else {
                            on_repeat(&arrival);
                        }
                    }
                });
            }
        },
    )
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
