//! Offers: what a reader has emitted by the end of each epoch at which a checkpoint is due.
//!
//! In:    how far each partition is emitted; the epoch from which on it will emit.
//! Out:   one part for each checkpoint: for each partition, the offset of the next record.
//! State: one offset for each partition.

use dbb_events::{Incarnation, Position};
use dbb_operators::{
    Epoch,
    checkpoint::{Checkpoints, Part, PartKey, ReadTo},
    publish::{Bound, OFFSETS},
};
use std::sync::Arc;

/// See the module. One for each reader.
pub struct Offers {
    checkpoints: Arc<Checkpoints>,
    key: PartKey,
    next: ReadTo,
    done: Option<Epoch>,
}

impl Offers {
    /// For the reader of `worker`; made while the dataflow is built, so that no checkpoint is taken without it.
    pub fn new(checkpoints: Arc<Checkpoints>, worker: usize) -> Self {
        let key = (OFFSETS, worker);
        checkpoints.expect(key);
        Self {
            checkpoints,
            key,
            next: ReadTo::new(),
            done: None,
        }
    }

    /// Records that everything of this incarnation of a partition below an offset is emitted, or never will be.
    pub fn bind(&mut self, (partition, next): Bound, incarnation: Incarnation) {
        self.next.insert(partition, Position::new(incarnation, next));
    }

    /// Says that all that is emitted from now on is of `epoch` or later; nothing is, if there is none.
    pub fn passed(&mut self, epoch: Option<Epoch>) {
        for due in self.checkpoints.due(self.done, epoch) {
            self.checkpoints
                .offer(self.key, due, Part::Offsets(self.next.clone()));
            self.done = Some(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbb_events::Micros;

    #[test]
    fn a_checkpoint_has_what_was_emitted_by_the_end_of_its_epoch() {
        let (checkpoints, collected) = Checkpoints::new(5, None);
        let checkpoints = Arc::new(checkpoints);
        let mut offers = Offers::new(Arc::clone(&checkpoints), 0);
        for tick in [4, 7, 11, 21] {
            checkpoints.minted(tick, Micros(tick as i64));
            offers.passed(Some(tick));
            offers.bind((("t".into(), 3), tick * 100), Incarnation::of(9));
        }
        offers.passed(None);
        let seen: Vec<_> = collected
            .try_iter()
            .map(|of| {
                let read_to = of.offsets.into_values().next();
                assert!(read_to.is_none_or(|at| at.incarnation == Incarnation::of(9)));
                (of.epoch, of.is_last, read_to.map(|at| at.next))
            })
            .collect();
        assert_eq!(
            seen,
            [
                (0, false, None),
                (5, false, Some(400)),
                (10, false, Some(700)),
                (15, false, Some(1100)),
                (20, false, Some(1100)),
                (22, true, Some(2100)),
            ]
        );
    }
}
