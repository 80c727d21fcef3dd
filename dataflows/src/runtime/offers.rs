//! Offers: what a reader has read by the end of each published epoch.
//!
//! In:    the records it emits; the epoch from which on it will emit.
//! Out:   one part for each published epoch: for each partition, the offset of the next record.
//! State: one offset for each partition.

use dbb_operators::{
    Epoch,
    publish::{BoundOffsets, OFFSETS, Part, PartKey, Publisher},
};
use dbb_sources::Partition;
use std::sync::Arc;

/// See the module. One for each reader.
pub struct Offers {
    publisher: Arc<Publisher>,
    key: PartKey,
    next: BoundOffsets,
    done: Option<Epoch>,
}

impl Offers {
    /// For the reader of `worker`; made while the dataflow is built, so that nothing is published without it.
    pub fn new(publisher: Arc<Publisher>, worker: usize) -> Self {
        let key = (OFFSETS, worker);
        publisher.expect(key);
        Self {
            publisher,
            key,
            next: BoundOffsets::new(),
            done: None,
        }
    }

    /// Records that everything of `partition` below `next` is emitted.
    pub fn emitted(&mut self, partition: &Partition, next: u64) {
        let key = (Arc::clone(&partition.stream), partition.partition);
        let known = self.next.entry(key).or_default();
        *known = next.max(*known);
    }

    /// Says that all that is emitted from now on is of `epoch` or later; nothing is, if there is none.
    pub fn passed(&mut self, epoch: Option<Epoch>) {
        for due in self.publisher.due(self.done, epoch) {
            self.publisher
                .offer(self.key, due, Part::Offsets(self.next.clone()));
            self.done = Some(due);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dbb_events::Micros;

    #[test]
    fn each_published_epoch_is_bound_to_what_was_emitted_by_its_end() {
        let publisher = Arc::new(Publisher::new(5));
        let mut offers = Offers::new(Arc::clone(&publisher), 0);
        let partition = Partition {
            stream: "t".into(),
            partition: 3,
        };
        let mut published = Vec::new();
        for tick in [4, 7, 11, 21] {
            publisher.minted(tick, Micros(tick as i64));
            offers.passed(Some(tick));
            offers.emitted(&partition, tick * 100);
            let newest = publisher.newest();
            published.extend(newest.map(|p| (p.epoch, p.offsets.values().next().copied())));
        }
        // Emitted at 4, at 7, at 11: below 5, below 10, below 20.
        assert_eq!(
            published,
            [(0, None), (5, Some(400)), (10, Some(700)), (20, Some(1100))]
        );
        offers.passed(None);
        assert_eq!(
            publisher.newest().unwrap().offsets.values().next().copied(),
            Some(2100)
        );
    }
}
