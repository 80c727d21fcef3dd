//! Offering: what an operator hands out for one checkpoint after the other.

use super::{Checkpoints, Part, PartKey, Rows};
use crate::Epoch;
use std::sync::Arc;

/// What is due of checkpoints, from one operator on one worker.
pub(crate) struct Offering {
    checkpoints: Arc<Checkpoints>,
    part: PartKey,
    done: Option<Epoch>,
}

impl Offering {
    /// Says, while the dataflow is built, that this part will be offered for every checkpoint.
    pub(crate) fn new(checkpoints: &Arc<Checkpoints>, part: PartKey) -> Self {
        checkpoints.expect(part);
        Self {
            checkpoints: Arc::clone(checkpoints),
            part,
            done: None,
        }
    }

    /// Hands out what `take` gives, which is what changed since it was last asked, for each checkpoint below
    /// `frontier`; nothing of that or later has been taken in.
    pub(crate) fn offer(&mut self, frontier: Option<Epoch>, mut take: impl FnMut() -> Vec<Box<dyn Rows>>) {
        for due in self.checkpoints.due(self.done, frontier) {
            self.checkpoints.offer(self.part, due, Part::Rows(take()));
            self.done = Some(due);
        }
    }
}
