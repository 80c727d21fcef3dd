//! Where the parts of a checkpoint meet. One for the process.

use super::Rows;
use crate::{Epoch, publish::END};
use crossbeam_channel::{Receiver, Sender};
use dbb_events::{Micros, Position};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Whose part: a name, and the worker.
pub type PartKey = (&'static str, usize);

/// For each topic or file, and partition, the place of the next record.
pub type ReadTo = BTreeMap<(Arc<str>, i32), Position>;

/// One piece of a checkpoint.
pub enum Part {
    /// What changed of some kinds of state.
    Rows(Vec<Box<dyn Rows>>),
    /// What one reader has emitted by the end of the epoch.
    Offsets(ReadTo),
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
    pub offsets: ReadTo,
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
        let state = State {
            newest: (after.unwrap_or(0), Micros(0)),
            ..State::default()
        };
        let checkpoints = Self {
            every: every.max(1),
            after,
            state: Mutex::new(state),
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

    /// The epochs at which checkpoints are due, above `done` and below `frontier`; without a frontier those that were
    /// heard of, for everybody must offer the same, and then [`END`].
    ///
    /// An operator that holds all that was said until the epoch, and nothing of what comes later, offers its part.
    pub fn due(&self, done: Option<Epoch>, frontier: Option<Epoch>) -> Vec<Epoch> {
        if done == Some(END) {
            return Vec::new();
        }
        let first = done
            .max(self.after)
            .map_or(0, |done| done.saturating_add(1))
            .div_ceil(self.every);
        let end = frontier.unwrap_or_else(|| self.lock().newest.0.saturating_add(1));
        let mut due: Vec<Epoch> = (first..)
            .map(|n| n.saturating_mul(self.every))
            .take_while(|epoch| *epoch < end)
            .collect();
        due.extend(frontier.is_none().then_some(END));
        due
    }

    /// The first epoch that is due at `epoch` or later: what is said at `epoch` belongs to that checkpoint.
    pub fn due_at(&self, epoch: Epoch) -> Epoch {
        epoch.div_ceil(self.every).saturating_mul(self.every)
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
            offsets: ReadTo::new(),
        };
        for part in parts.into_values() {
            match part {
                Part::Rows(rows) => collected
                    .rows
                    .extend(rows.into_iter().filter(|rows| !rows.is_empty())),
                Part::Offsets(read) => {
                    // Each partition has one reader.
                    collected.offsets.extend(read);
                }
            }
        }
        // Sent in the order of their epochs, for every part is offered in that order. Without a receiver nobody
        // writes checkpoints, and the dataflow is about to end.
        let _ = self.collected.send(collected);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::checkpoint::{Give, Kind, Merge};

    static WORDS: Kind = Kind {
        name: "words",
        version: 1,
        merge: Merge::Newest,
    };

    struct Words(usize);

    impl Rows for Words {
        fn kind(&self) -> &'static Kind {
            &WORDS
        }

        fn len(&self) -> usize {
            self.0
        }

        fn for_each(self: Box<Self>, give: &mut Give<'_>) {
            (0..self.0).for_each(|n| give(&n.to_be_bytes(), None));
        }
    }

    fn words(n: usize) -> Part {
        Part::Rows(vec![Box::new(Words(n)), Box::new(Words(0))])
    }

    fn offsets(next: u64) -> Part {
        Part::Offsets(ReadTo::from([(
            ("topic".into(), 0),
            Position::new(Default::default(), next),
        )]))
    }

    #[test]
    fn a_checkpoint_is_sent_when_its_last_part_is_there_and_in_the_order_of_epochs() {
        let (checkpoints, collected) = Checkpoints::new(10, None);
        for part in [("words", 0), ("words", 1), ("(offsets)", 0)] {
            checkpoints.expect(part);
        }
        (0..=20).for_each(|epoch| checkpoints.minted(epoch, Micros(epoch as i64)));
        checkpoints.offer(("words", 0), 10, words(3));
        checkpoints.offer(("words", 0), 20, words(5));
        checkpoints.offer(("(offsets)", 0), 10, offsets(70));
        checkpoints.offer(("(offsets)", 0), 20, offsets(80));
        assert!(collected.try_recv().is_err(), "a worker has not offered yet");
        checkpoints.offer(("words", 1), 10, words(4));
        checkpoints.offer(("words", 1), 20, words(0));
        let seen: Vec<_> = collected
            .try_iter()
            .map(|of| {
                let rows: Vec<usize> = of.rows.iter().map(|rows| rows.len()).collect();
                (
                    of.epoch,
                    of.at.0,
                    of.is_last,
                    rows,
                    of.offsets.into_values().map(|at| at.next).collect::<Vec<_>>(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (10, 10, false, vec![3, 4], vec![70]),
                (20, 20, false, vec![5], vec![80])
            ],
            "rows that are none are not sent"
        );
    }

    #[test]
    fn the_end_comes_after_all_epochs_that_were_heard_of_whoever_saw_them_end() {
        let (checkpoints, collected) = Checkpoints::new(10, None);
        checkpoints.expect(("words", 0));
        checkpoints.expect(("words", 1));
        (0..=24).for_each(|epoch| checkpoints.minted(epoch, Micros(epoch as i64)));
        assert_eq!(checkpoints.due(None, Some(10)), [0]);
        assert_eq!(checkpoints.due(None, Some(11)), [0, 10]);
        // One saw each epoch end, the other only that there are no more.
        for (part, dones) in [(0, vec![Some(11), Some(24), None]), (1, vec![None])] {
            let mut done = None;
            for frontier in dones {
                for due in checkpoints.due(done, frontier) {
                    checkpoints.offer(("words", part), due, words(1));
                    done = Some(due);
                }
            }
            assert!(checkpoints.due(done, None).is_empty());
        }
        let epochs: Vec<_> = collected
            .try_iter()
            .map(|of| (of.epoch, of.is_last, of.rows.len()))
            .collect();
        assert_eq!(
            epochs,
            [(0, false, 2), (10, false, 2), (20, false, 2), (25, true, 2)]
        );
    }

    #[test]
    fn nothing_up_to_the_restored_epoch_is_due_again() {
        let (checkpoints, collected) = Checkpoints::new(10, Some(25));
        checkpoints.expect(("words", 0));
        assert_eq!(checkpoints.due(None, Some(31)), [30]);
        assert!(checkpoints.due(None, Some(25)).is_empty());
        assert_eq!(checkpoints.due(None, None), [END]);
        checkpoints.offer(("words", 0), END, words(0));
        // Nothing was read, and it is later than what was restored all the same.
        assert_eq!(collected.try_recv().unwrap().epoch, 26);
    }

    #[test]
    fn an_epoch_belongs_to_the_first_checkpoint_that_has_it() {
        let (checkpoints, _collected) = Checkpoints::new(10, None);
        let of: Vec<_> = [0, 1, 10, 11]
            .into_iter()
            .map(|epoch| checkpoints.due_at(epoch))
            .collect();
        assert_eq!(of, [0, 10, 10, 20]);
    }
}
