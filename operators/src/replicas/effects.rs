//! Effects: what changes of the state mean for those who look at it, summed until somebody takes them.

use super::{Notice, Replica, row::Did, words::Words};
use crate::{
    facts::{Change, DidKey, State},
    views::{
        rse_usage::{Amount, Usage},
        wide::Wide,
    },
};
use differential_dataflow::difference::{Multiply, Semigroup};
use hashbrown::HashTable;

/// States that are shown.
const SHOWN: usize = State::ALL.len() - 1;

/// What others see of a replica: its state and its size; `None` when it is gone.
pub(super) type Seen = Option<(State, u64)>;

/// What happened since it was last taken.
pub(super) struct Effects {
    sums: HashTable<Sum>,
    replicas: Option<Vec<Shift>>,
    late: Vec<Change>,
    skew_us: i64,
    on_notice: Box<dyn Fn(Notice)>,
}

struct Sum {
    scope: u32,
    rse: u32,
    of: [Amount; SHOWN],
}

struct Shift {
    did: DidKey,
    scope: u32,
    rse: u32,
    state: State,
    bytes: u64,
    times: isize,
}

impl Effects {
    /// Nothing happened yet. `emits` keeps the replicas that change, not only their sums.
    pub(super) fn new(emits: bool, skew_us: i64, on_notice: Box<dyn Fn(Notice)>) -> Self {
        Self {
            sums: HashTable::new(),
            replicas: emits.then(Vec::new),
            late: Vec::new(),
            skew_us,
            on_notice,
        }
    }

    /// A replica of `did` was seen as `before` and is now seen as `after`.
    pub(super) fn shift(&mut self, did: &Did, rse: u32, before: Seen, after: Seen) {
        if before == after {
            return;
        }
        let hash = hash(did.scope, rse);
        let sum = self
            .sums
            .entry(
                hash,
                |sum| sum.rse == rse && sum.scope == did.scope,
                |sum| self::hash(sum.scope, sum.rse),
            )
            .or_insert_with(|| Sum {
                scope: did.scope,
                rse,
                of: [Amount::default(); SHOWN],
            })
            .into_mut();
        for (seen, times) in [(before, -1isize), (after, 1)] {
            let Some((state, bytes)) = seen else { continue };
            if let Some((files, total)) = sum.of.get_mut(state as usize) {
                *files += times;
                total.plus_equals(&Wide::from(bytes).multiply(&times));
            }
            if let Some(replicas) = &mut self.replicas {
                replicas.push(Shift {
                    did: did.key,
                    scope: did.scope,
                    rse,
                    state,
                    bytes,
                    times,
                });
            }
        }
    }

    /// The change cannot be judged.
    pub(super) fn too_late(&mut self, change: &Change) {
        (self.on_notice)(Notice::TooLate);
        self.late.push(*change);
    }

    /// The change meets what is known of its replica: `state`, at `at`.
    pub(super) fn meets(&self, change: &Change, state: State, at: i64) {
        let is_close = change.at.0.abs_diff(at) < self.skew_us.unsigned_abs();
        if change.state != state
            && is_close
            && let Some(rse) = change.rse
        {
            (self.on_notice)(Notice::Conflict {
                did: change.did,
                rse,
                at: change.at.max(dbb_events::Micros(at)),
            });
        }
    }

    /// The change tells another size or checksum than is known.
    pub(super) fn disagrees(&self, change: &Change) {
        if let Some(rse) = change.rse {
            (self.on_notice)(Notice::Disagreement { did: change.did, rse });
        }
    }

    /// True when there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.sums.is_empty() && self.late.is_empty()
    }

    /// Takes the sums that are not zero.
    pub(super) fn take_sums(&mut self, words: &Words) -> Vec<(Usage, Amount)> {
        let mut sums = Vec::new();
        for sum in self.sums.drain() {
            for (state, amount) in State::ALL.into_iter().zip(sum.of) {
                if amount != Amount::default() {
                    let of = Usage {
                        rse: words.rse(sum.rse),
                        scope: words.scope(sum.scope),
                        state,
                    };
                    sums.push((of, amount));
                }
            }
        }
        sums
    }

    /// Takes the replicas that changed.
    pub(super) fn take_replicas<'a>(
        &'a mut self,
        words: &'a Words,
    ) -> impl Iterator<Item = (Replica, isize)> + 'a {
        self.replicas.iter_mut().flat_map(|replicas| {
            replicas.drain(..).map(|shift| {
                let replica = Replica {
                    did: shift.did,
                    rse: words.rse(shift.rse),
                    scope: words.scope(shift.scope),
                    state: shift.state,
                    bytes: shift.bytes,
                };
                (replica, shift.times)
            })
        })
    }

    /// Takes what came too late.
    pub(super) fn take_late(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.late)
    }
}

fn hash(scope: u32, rse: u32) -> u64 {
    ((u64::from(scope) << 32) | u64::from(rse))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
}
