//! Where the parts of a checkpoint meet. One for the process.

use super::Rows;
use crate::{
    Epoch,
    publish::{BoundOffsets, END},
};
use crossbeam_channel::{Receiver, Sender};
use dbb_events::Micros;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Whose part: a name, and the worker.
pub type PartKey = (&'static str, usize);

/// One piece of a checkpoint.
pub enum Part {
    /// What changed of some kinds of state.
    Rows(Vec<Box<dyn Rows>>),
    /// What one reader has emitted by the end of the epoch.
    Offsets(BoundOffsets),
}

/// All parts of one process, as of one epoch.
pub struct Collected {
    /// The epoch, a real one also at the end of the input.
    pub epoch: Epoch,
    /// When it began.
    pub at: Micros,
    /// True at the end of the input: nothing comes after it.
    pub is_last: bool,
    /// What changed since the checkpoint before.
    pub rows: Vec<Box<dyn Rows>>,
    /// What had been read by the readers of this process.
    pub offsets: BoundOffsets,
}

/// See the module.
pub struct Checkpoints {
    every: Epoch,
    /// The epoch that was restored.
    after: Option<Epoch>,
    state: Mutex<State>,
    collected: Sender<Collected>,
}

#[derive(Default)]
struct State {
    expected: BTreeSet<PartKey>,
    open: BTreeMap<Epoch, BTreeMap<PartKey, Part>>,
    times: BTreeMap<Epoch, Micros>,
    newest: (Epoch, Micros),
}

impl Checkpoints {
    /// One that is due at every multiple of `every` epochs, which is not 0, later than `after`, which was restored, and
    /// at the end; what is collected can be received from the other end of the channel.
    pub fn new(every: Epoch, after: Option<Epoch>) -> (Self, Receiver<Collected>) {
        let (collected, receiver) = crossbeam_channel::unbounded();
        let checkpoints = Self {
            every: every.max(1),
            after,
            state: Mutex::default(),
            collected,
        };
        (checkpoints, receiver)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says, while the dataflow is built, that this part will be offered for every checkpoint.
    pub fn expect(&self, part: PartKey) {
        self.lock().expected.insert(part);
    }

    /// Records that `epoch` was heard of at `at`; called before anything is emitted in it.
    pub fn minted(&self, epoch: Epoch, at: Micros) {
        let mut state = self.lock();
        state.newest = state.newest.max((epoch, at));
        if epoch.is_multiple_of(self.every) {
            state.times.insert(epoch, at);
        }
    }

    /// The epochs at which checkpoints are due, above `done` and below `frontier`; [`END`] when there is no frontier.
    ///
    /// An operator that holds all that was said until the epoch, and nothing of what comes later, offers its part.
    pub fn due(&self, done: Option<Epoch>, frontier: Option<Epoch>) -> Vec<Epoch> {
        let done_before = done.max(self.after);
        let first = done_before
            .map_or(0, |done| done.saturating_add(1))
            .div_ceil(self.every);
        let last = frontier.unwrap_or(0);
        let mut due: Vec<Epoch> = (first..)
            .map(|n| n.saturating_mul(self.every))
            .take_while(|epoch| *epoch < last)
            .collect();
        if frontier.is_none() && done != Some(END) {
            due.push(END);
        }
        due
    }

    /// Offers one part of `epoch`; the last one sends all of them on.
    pub fn offer(&self, part: PartKey, epoch: Epoch, value: Part) {
        let mut state = self.lock();
        let parts = state.open.entry(epoch).or_default();
        parts.insert(part, value);
        if parts.len() < state.expected.len() {
            return;
        }
        let Some(parts) = state.open.remove(&epoch) else {
            return;
        };
        let newest = state.newest;
        let (of, at) = match epoch {
            END => (newest.0 + 1, newest.1),
            epoch => (epoch, state.times.remove(&epoch).unwrap_or(newest.1)),
        };
        let mut collected = Collected {
            epoch: of,
            at,
            is_last: epoch == END,
            rows: Vec::new(),
            offsets: BoundOffsets::new(),
        };
        for part in parts.into_values() {
            match part {
                Part::Rows(rows) => collected
                    .rows
                    .extend(rows.into_iter().filter(|rows| !rows.is_empty())),
                Part::Offsets(read) => {
                    for (partition, next) in read {
                        let known = collected.offsets.entry(partition).or_default();
                        *known = next.max(*known);
                    }
                }
            }
        }
        // Sent in the order of their epochs, for every part is offered in that order. Without a receiver nobody
        // writes checkpoints, and the dataflow is about to end.
        let _ = self.collected.send(collected);
    }
}
