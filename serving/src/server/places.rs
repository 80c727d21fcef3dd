//! Places: who is connected over HTTP, and who has to go when there are too many.
//!
//! ```text
//!   connected --> place --request--> busy --answered--> idle --next request--> busy ...
//!                   \-- all taken: the idlest of the address that has most goes; all busy: the new one goes
//! ```
//!
//! So connections that ask nothing, however many, keep nobody out who asks; and the files that the process may have open are
//! not all theirs. From this host there are a few places more, so that probes get through where all others are busy.
//!
//! State: one seat for each connection.

use crate::Metrics;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::sync::Notify;

/// Places that only connections of this host may take.
pub(super) const RESERVED: usize = 8;

pub(super) struct Places {
    most: usize,
    seats: Mutex<Seats>,
    metrics: Metrics,
}

#[derive(Default)]
struct Seats {
    next: u64,
    taken: BTreeMap<u64, Seat>,
}

struct Seat {
    address: IpAddr,
    /// Since when nothing is asked of it; `None` while it is answered.
    idle_since: Option<Instant>,
    leave: Arc<Notify>,
}

impl Places {
    /// At most `most` places, and [`RESERVED`].
    pub(super) fn of(most: usize, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            most,
            seats: Mutex::default(),
            metrics,
        })
    }

    /// A place for a connection from `address`, for which another may have to go; `None` if all are busy.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let reserved = if address.is_loopback() { RESERVED } else { 0 };
        let mut seats = self.seats();
        if seats.taken.len() >= self.most + reserved {
            let Some(idlest) = seats.idlest() else {
                self.metrics.turned_away("http", "full");
                return None;
            };
            if let Some(seat) = seats.taken.remove(&idlest) {
                seat.leave.notify_one();
                self.metrics.turned_away("http", "idle");
            }
        }
        let number = seats.next;
        seats.next += 1;
        let leave = Arc::new(Notify::new());
        let seat = Seat {
            address,
            idle_since: Some(Instant::now()),
            leave: Arc::clone(&leave),
        };
        seats.taken.insert(number, seat);
        Some(Place {
            places: Arc::clone(self),
            number,
            leave,
        })
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, number: u64, idle_since: Option<Instant>) {
        if let Some(seat) = self.seats().taken.get_mut(&number) {
            seat.idle_since = idle_since;
        }
    }
}

impl Seats {
    /// Of the idle seats of the address that has most of them, the one that is so for longest.
    fn idlest(&self) -> Option<u64> {
        let mut of_address: HashMap<IpAddr, usize> = HashMap::new();
        for seat in self.taken.values() {
            *of_address.entry(seat.address).or_default() += 1;
        }
        let idle = self
            .taken
            .iter()
            .filter_map(|(number, seat)| seat.idle_since.map(|since| (number, seat, since)));
        let first = idle.min_by_key(|(_, seat, since)| {
            let others = of_address.get(&seat.address).copied().unwrap_or(0);
            (std::cmp::Reverse(others), *since)
        });
        first.map(|(number, ..)| *number)
    }
}

/// The place of one connection, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    leave: Arc<Notify>,
}

impl Place {
    /// Keeps the place from being given to others, until what is returned is dropped.
    pub(super) fn busy(&self) -> Busy {
        self.places.mark(self.number, None);
        Busy {
            places: Arc::clone(&self.places),
            number: self.number,
        }
    }

    /// Returns when the place has been given to another.
    pub(super) async fn given_away(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.seats().taken.remove(&self.number);
    }
}

/// A request that is being answered.
pub(super) struct Busy {
    places: Arc<Places>,
    number: u64,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.places.mark(self.number, Some(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn far(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn who_asks_nothing_makes_room_and_who_is_answered_stays() {
        let places = Places::of(2, Metrics::default());
        let first = places.take(far(1)).unwrap();
        let busy = first.busy();
        let second = places.take(far(2)).unwrap();
        let _third = places.take(far(3)).unwrap();
        let seats: Vec<u64> = places.seats().taken.keys().copied().collect();
        assert_eq!(seats, [first.number, 2]);
        // What has gone already frees nobody else's place.
        drop(second);
        assert_eq!(places.seats().taken.len(), 2);
        drop(busy);
        let _fourth = places.take(far(4)).unwrap();
        assert_eq!(places.seats().taken.len(), 2);
    }

    #[test]
    fn the_address_that_has_most_gives_first() {
        let places = Places::of(4, Metrics::default());
        let kept = places.take(far(1)).unwrap();
        let many: Vec<Place> = (0..20).map(|_| places.take(far(2)).unwrap()).collect();
        assert!(places.seats().taken.contains_key(&kept.number));
        assert_eq!(places.seats().taken.len(), 4);
        assert!(places.seats().taken.contains_key(&many[19].number));
    }

    #[test]
    fn where_all_are_busy_this_host_has_some_places_more() {
        let places = Places::of(1, Metrics::default());
        let first = places.take(far(1)).unwrap();
        let _busy = first.busy();
        assert!(places.take(far(2)).is_none());
        let here = IpAddr::from([127, 0, 0, 1]);
        let held: Vec<Place> = (0..RESERVED).map(|_| places.take(here).unwrap()).collect();
        let busy: Vec<Busy> = held.iter().map(Place::busy).collect();
        assert!(places.take(here).is_none());
        drop((busy, held));
        assert!(places.take(here).is_some());
    }
}
