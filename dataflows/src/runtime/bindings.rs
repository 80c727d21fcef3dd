//! Bindings: which offsets each epoch holds, until the frontier has passed it.

use dbb_operators::Epoch;
use dbb_sources::{Offsets, Partition};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// What one reader has emitted and not yet been told to forget.
///
/// State: one entry for each open epoch and partition; an epoch is open for as long as the slowest
/// of its events is on its way.
#[derive(Debug, Default)]
pub struct Bindings {
    epochs: BTreeMap<Epoch, Open>,
    in_flight: usize,
}

/// An epoch that is open.
#[derive(Debug)]
struct Open {
    since: Instant,
    offsets: Offsets,
    records: usize,
}

impl Default for Open {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            offsets: Offsets::new(),
            records: 0,
        }
    }
}

impl Bindings {
    /// Records that the record at `offset` of `partition` was emitted at `epoch`.
    pub fn bind(&mut self, epoch: Epoch, partition: Partition, offset: u64) {
        let open = self.epochs.entry(epoch).or_default();
        let next = open.offsets.entry(partition).or_default();
        *next = (*next).max(offset + 1);
        open.records += 1;
        self.in_flight += 1;
    }

    /// Records that a record that no source need be told about was emitted at `epoch`.
    pub fn bind_one(&mut self, epoch: Epoch) {
        self.epochs.entry(epoch).or_default().records += 1;
        self.in_flight += 1;
    }

    /// Records emitted whose epoch is still open.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How long the oldest epoch has been open; zero if there is none.
    pub fn oldest_age(&self) -> Duration {
        self.epochs
            .first_key_value()
            .map_or(Duration::ZERO, |(_, open)| open.since.elapsed())
    }

    /// Closes every epoch below `frontier` (all of them if there is none) and gives the offsets that
    /// may be forgotten now.
    pub fn close(&mut self, frontier: Option<Epoch>) -> Offsets {
        let mut closed = Offsets::new();
        while let Some(entry) = self.epochs.first_entry() {
            if frontier.is_some_and(|frontier| *entry.key() >= frontier) {
                break;
            }
            let Open { offsets, records, .. } = entry.remove();
            self.in_flight -= records;
            // Epochs close in order and offsets rise with them, so the later one is the larger.
            closed.extend(offsets);
        }
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(partition: i32) -> Partition {
        Partition {
            stream: "t".into(),
            partition,
        }
    }

    #[test]
    fn offsets_are_forgotten_only_below_the_frontier() {
        let mut bindings = Bindings::default();
        bindings.bind(1, partition(0), 7);
        bindings.bind(1, partition(1), 3);
        bindings.bind(2, partition(0), 8);
        assert_eq!(bindings.close(Some(1)), Offsets::new());
        assert_eq!(
            bindings.close(Some(2)),
            Offsets::from([(partition(0), 8), (partition(1), 4)])
        );
        assert_eq!(bindings.in_flight(), 1);
        assert_eq!(bindings.close(None), Offsets::from([(partition(0), 9)]));
        assert_eq!(bindings.in_flight(), 0);
    }
}
