//! Bindings: which offsets each epoch holds, until the frontier has passed it.

use dbb_events::{Incarnation, Position};
use dbb_operators::Epoch;
use dbb_sources::{Partition, Positions};
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
    offsets: Positions,
    records: usize,
}

impl Default for Open {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            offsets: Positions::new(),
            records: 0,
        }
    }
}

impl Bindings {
    /// Records that the record at `offset` of this incarnation of `partition` was emitted at `epoch`.
    pub fn bind(&mut self, epoch: Epoch, partition: Partition, incarnation: Incarnation, offset: u64) {
        let open = self.epochs.entry(epoch).or_default();
        let at = open.offsets.entry(partition).or_default();
        if at.incarnation != incarnation {
            // Of the one before nothing is to be told any more.
            *at = Position::new(incarnation, 0);
        }
        at.next = at.next.max(offset + 1);
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

    /// Closes every epoch below `frontier` (all of them if there is none) and gives the places up to
    /// which all may be forgotten now.
    pub fn close(&mut self, frontier: Option<Epoch>) -> Positions {
        let mut closed = Positions::new();
        while let Some(entry) = self.epochs.first_entry() {
            if frontier.is_some_and(|frontier| *entry.key() >= frontier) {
                break;
            }
            let Open { offsets, records, .. } = entry.remove();
            self.in_flight -= records;
            // Epochs close in order and offsets rise with them, so the later one is the larger, or of another topic.
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

    fn at(next: u64) -> Position {
        Position::new(Incarnation::of(1), next)
    }

    #[test]
    fn offsets_are_forgotten_only_below_the_frontier() {
        let mut bindings = Bindings::default();
        let one = Incarnation::of(1);
        bindings.bind(1, partition(0), one, 7);
        bindings.bind(1, partition(1), one, 3);
        bindings.bind(2, partition(0), one, 8);
        assert_eq!(bindings.close(Some(1)), Positions::new());
        assert_eq!(
            bindings.close(Some(2)),
            Positions::from([(partition(0), at(8)), (partition(1), at(4))])
        );
        assert_eq!(bindings.in_flight(), 1);
        assert_eq!(bindings.close(None), Positions::from([(partition(0), at(9))]));
        assert_eq!(bindings.in_flight(), 0);
    }

    #[test]
    fn a_smaller_offset_of_a_topic_that_was_made_again_takes_the_place_of_a_larger_one() {
        let mut bindings = Bindings::default();
        bindings.bind(1, partition(0), Incarnation::of(1), 900);
        bindings.bind(1, partition(0), Incarnation::of(2), 3);
        bindings.bind(2, partition(1), Incarnation::of(1), 800);
        bindings.bind(3, partition(1), Incarnation::of(2), 5);
        let two = |next| Position::new(Incarnation::of(2), next);
        assert_eq!(
            bindings.close(None),
            Positions::from([(partition(0), two(4)), (partition(1), two(6))])
        );
    }
}
