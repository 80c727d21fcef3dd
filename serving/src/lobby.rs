//! Lobby: those who have connected and have not yet said who they are.
//!
//! ```text
//!   connection --> seat --> greeting, within one limit of time --> a place of its own
//!                   |
//!                   +-- all seats are taken: the oldest of the most crowded address leaves
//! ```
//!
//! In:    connections, by address.
//! Out:   whether a greeting ended in time.
//! State: a seat for each, at most so many; a stranger's cost is a socket and some hundred bytes.
//!
//! So strangers, however many, only push out each other. Whoever belongs here is through within milliseconds, which is less
//! than a flood from one address needs to take all seats, and none from another address makes way for it.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// See the module.
#[derive(Debug)]
pub struct Lobby {
    most: usize,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    next: u64,
    /// In the order of coming.
    taken: BTreeMap<u64, (IpAddr, Arc<Notify>)>,
}

/// A seat, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    lobby: Arc<Lobby>,
    number: u64,
    leave: Arc<Notify>,
}

/// Why a greeting came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Left {
    /// It took too long.
    #[error("it did not say who it is in time")]
    TooSlow,
    /// The seat was needed.
    #[error("too many have connected and not said who they are")]
    Crowded,
}

impl Lobby {
    /// With `most` seats.
    pub fn new(most: usize) -> Arc<Self> {
        let seats = Mutex::default();
        Arc::new(Self { most, seats })
    }

    /// A seat for somebody `from` there. There is always one: if all are taken, somebody has to leave.
    pub fn seat(self: &Arc<Self>, from: IpAddr) -> Seat {
        let mut seats = self.lock();
        let number = seats.next;
        seats.next += 1;
        let leave = Arc::new(Notify::new());
        seats.taken.insert(number, (from, Arc::clone(&leave)));
        if seats.taken.len() > self.most
            && let Some(leaves) = seats.oldest_of_the_most_crowded()
            && let Some((_, leave)) = seats.taken.remove(&leaves)
        {
            leave.notify_one();
        }
        drop(seats);
        Seat {
            lobby: Arc::clone(self),
            number,
            leave,
        }
    }

    /// How many are here.
    pub fn len(&self) -> usize {
        self.lock().taken.len()
    }

    /// True if nobody is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    fn oldest_of_the_most_crowded(&self) -> Option<u64> {
        let mut crowds: BTreeMap<IpAddr, (usize, u64)> = BTreeMap::new();
        for (number, (from, _)) in &self.taken {
            crowds.entry(*from).or_insert((0, *number)).0 += 1;
        }
        // Of crowds of the same size, the one whose first came first.
        let most = crowds
            .into_values()
            .max_by_key(|(size, oldest)| (*size, std::cmp::Reverse(*oldest)));
        most.map(|(_, oldest)| oldest)
    }
}

impl Seat {
    /// What `greeting` came to, if it did within `limit` and the seat was not needed meanwhile.
    ///
    /// # Errors
    ///
    /// It did not.
    pub async fn within<T>(&self, limit: Duration, greeting: impl Future<Output = T>) -> Result<T, Left> {
        tokio::select! {
            // Whoever is done is in, also if the seat is needed at this moment.
            biased;
            done = greeting => Ok(done),
            () = self.leave.notified() => Err(Left::Crowded),
            () = tokio::time::sleep(limit) => Err(Left::TooSlow),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.lobby.lock().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn must_leave(seat: &Seat) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let waiting = seat.within(Duration::ZERO, std::future::pending::<()>());
        runtime.block_on(waiting) == Err(Left::Crowded)
    }

    #[test]
    fn a_flood_pushes_out_its_own_oldest_and_nobody_else() {
        let lobby = Lobby::new(4);
        let other = lobby.seat(address(1));
        let flood: Vec<_> = (0..100).map(|_| lobby.seat(address(2))).collect();
        assert_eq!(lobby.len(), 4);
        assert!(!must_leave(&other));
        let left = flood.iter().filter(|seat| must_leave(seat)).count();
        assert_eq!(left, 97);
        assert!(flood[97..].iter().all(|seat| !must_leave(seat)));
        drop(flood);
        drop(other);
        assert!(lobby.is_empty());
    }

    #[test]
    fn of_one_address_the_oldest_leaves() {
        let lobby = Lobby::new(2);
        let [first, second, third] = [1, 1, 1].map(|last| lobby.seat(address(last)));
        assert_eq!([&first, &second, &third].map(must_leave), [true, false, false]);
        drop(third);
        let fourth = lobby.seat(address(3));
        assert_eq!([&second, &fourth].map(must_leave), [false, false]);
    }

    #[test]
    fn a_greeting_that_has_ended_counts_even_if_the_seat_is_needed() {
        let lobby = Lobby::new(1);
        let first = lobby.seat(address(1));
        let _second = lobby.seat(address(1));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        assert_eq!(runtime.block_on(first.within(Duration::ZERO, async { 7 })), Ok(7));
    }
}
