//! Status: how each broker is doing, for whoever opens the source, for metrics and for readiness.

use super::session::Ended;
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How one broker is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerStatus {
    /// `stomp:HOST:PORT/DESTINATION`.
    pub stream: Arc<str>,
    /// Subscribed, now.
    pub connected: bool,
    /// Times it was connected.
    pub connections: u64,
    /// What went wrong last; `None` while it is connected.
    pub trouble: Option<String>,
    /// Someone must change something: a login or a subscription is refused.
    pub refused: bool,
}

/// The brokers of a source, as they are doing.
#[derive(Debug, Clone)]
pub struct StompStatistics(pub(super) Board);

impl StompStatistics {
    /// How each broker is doing.
    pub fn snapshot(&self) -> Vec<BrokerStatus> {
        self.0.lock().brokers.clone()
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Board(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) brokers: Vec<BrokerStatus>,
    /// Links that have ended.
    left: Vec<usize>,
}

impl Board {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A broker that is to be connected; its number.
    pub(super) fn add(&self, stream: Arc<str>) -> usize {
        let mut state = self.lock();
        state.brokers.push(BrokerStatus {
            stream,
            connected: false,
            connections: 0,
            trouble: None,
            refused: false,
        });
        state.brokers.len() - 1
    }

    pub(super) fn connected(&self, number: usize) {
        self.change(number, |status| {
            status.connected = true;
            status.connections += 1;
            status.trouble = None;
            status.refused = false;
        });
    }

    /// True if it was well before.
    pub(super) fn failed(&self, number: usize, why: &Ended) -> bool {
        self.change(number, |status| {
            let first = status.trouble.is_none();
            status.connected = false;
            status.trouble = Some(why.to_string());
            status.refused = matches!(why, Ended::Refused(_));
            first
        })
        .unwrap_or(true)
    }

    pub(super) fn left(&self, number: usize) {
        self.change(number, |status| status.connected = false);
        self.lock().left.push(number);
        self.0.1.notify_all();
    }

    fn change<T>(&self, number: usize, change: impl FnOnce(&mut BrokerStatus) -> T) -> Option<T> {
        let changed = self.lock().brokers.get_mut(number).map(change);
        self.0.1.notify_all();
        changed
    }

    /// Waits until `enough`, for `patience` at most; whether it was so.
    pub(super) fn wait(&self, patience: Duration, enough: impl Fn(&State) -> bool) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        while !enough(&state) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.0.1.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl State {
    pub(super) fn has_left(&self, number: usize) -> bool {
        self.left.contains(&number)
    }
}
