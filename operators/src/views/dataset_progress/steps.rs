//! Steps: what attempts tell of each dataset and RSE, the newest step of each file counting.
//!
//! ```text
//!   attempts --by DID--> kept until their epoch has closed --> newest step of each file --> differences of sums
//!   rows of a checkpoint -/                                              \--> what changed, at each checkpoint
//! ```
//!
//! In:    attempts, in any order, repeats too; at the restored epoch, and before all else, what an earlier run kept.
//! Out:   differences of the sums of each dataset and RSE.
//! State: [`Files`]; the attempts of epochs that are still open; with checkpoints an entry of 80 bytes for each file that
//!        changed since the last.
//!
//! How far event time has come is not kept: after a start nothing is forgotten until some thousand attempts have come.

use super::{
    Keeping, Tally,
    files::{Files, Of, Told},
    kept,
};
use crate::{
    Epoch,
    checkpoint::{Damaged, Offering, restored},
    facts::{Attempt, DidKey, Step},
};
use differential_dataflow::{AsCollection, VecCollection};
use std::collections::BTreeMap;
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        channels::pact::{Exchange, Pipeline},
        operators::{
            generic::{OutputBuilder, builder_rc::OperatorBuilder},
            vec::Broadcast,
        },
    },
};

/// A step of a file, for a dataset and an RSE.
type Given = (Of, DidKey, Told);

/// What an attempt tells; nothing unless it is of a transfer for a dataset.
fn given(attempt: Attempt) -> Option<Given> {
    let dataset = attempt.dataset.filter(|_| is_transfer(attempt.step))?;
    let told = Told {
        at: attempt.at,
        event: attempt.event,
        step: attempt.step,
    };
    Some(((dataset, attempt.rse), attempt.did, told))
}

fn is_transfer(step: Step) -> bool {
    !matches!(step, Step::Deleted | Step::NotFound | Step::DeletionFailed)
}

/// See the module.
pub(super) fn steps<'s>(
    attempts: VecCollection<'s, Epoch, Attempt, isize>,
    keeping: Keeping<'_>,
) -> VecCollection<'s, Epoch, Of, Tally> {
    let Keeping {
        forget_after_us,
        keep,
        on_late,
    } = keeping;
    let told = attempts.flat_map(given).inner;
    let scope = told.scope();
    let (index, peers) = (scope.worker().index(), scope.worker().peers() as u64);
    let mut offering = keep.map(|keep| Offering::new(&keep.checkpoints, (kept::FILES.name, index)));
    let from = keep.and_then(|keep| keep.restored.clone());
    let rows = restored(scope, &kept::FILES, from.clone());
    let settled = restored(scope, &kept::SETTLED, from.clone());
    let mut builder = OperatorBuilder::new("steps".into(), scope);
    let by_did = Exchange::new(|((_, did, _), ..): &(Given, Epoch, isize)| did.place());
    let mut told = builder.new_input(told, by_did);
    let mut rows = builder.new_input(rows, Exchange::new(kept::place));
    let mut settled = builder.new_input(settled.broadcast(), Pipeline);
    let (sums, stream) = builder.new_output();
    let mut sums = OutputBuilder::<_, CapacityContainerBuilder<Vec<(Of, Epoch, Tally)>>>::from(sums);
    builder.build(move |mut capabilities| {
        let mut held = capabilities.pop();
        let mut files = Files::new(forget_after_us, offering.is_some());
        let mut open: BTreeMap<Epoch, Vec<Given>> = BTreeMap::new();
        move |frontiers| {
            let mut sums = sums.activate();
            let hear = |taken: Result<(), Damaged>| {
                if let (Err(damaged), Some(from)) = (taken, &from) {
                    from.refuse(damaged);
                }
            };
            rows.for_each_stamp(|_, data| {
                data.flat_map(|rows| rows.drain(..))
                    .for_each(|row| hear(files.restore(&row)));
            });
            settled.for_each_stamp(|_, data| {
                for row in data.flat_map(|rows| rows.drain(..)) {
                    hear(files.restore_settled(&row, kept::place(&row) % peers == index as u64));
                }
            });
            told.for_each_stamp(|_, data| {
                for (given, epoch, _) in data.flat_map(|told| told.drain(..)) {
                    open.entry(epoch).or_default().push(given);
                }
            });
            let Some(capability) = &mut held else { return };
            let mut tell = |files: &mut Files, epoch: Epoch| {
                let mut told = files.told().map(|(of, sum)| (of, epoch, sum)).peekable();
                if told.peek().is_some() {
                    let at = capability.delayed(&epoch);
                    sums.session_with_builder(&at).give_iterator(told);
                }
            };
            if let Some(from) = &from {
                tell(&mut files, from.epoch());
            }
            let frontier = frontiers
                .iter()
                .filter_map(|frontier| frontier.frontier().first().copied())
                .min();
            while let Some(entry) = open.first_entry() {
                let epoch = *entry.key();
                if frontier.is_some_and(|frontier| epoch >= frontier) {
                    break;
                }
                if let Some(offering) = &mut offering {
                    offering.offer(Some(epoch), || files.changes());
                }
                for (of, did, told) in entry.remove() {
                    if !files.take(of, did, told) {
                        on_late();
                    }
                }
                tell(&mut files, epoch);
            }
            if let Some(offering) = &mut offering {
                offering.offer(frontier, || files.changes());
            }
            match frontier {
                Some(frontier) if *capability.time() < frontier => {
                    files.forget();
                    capability.downgrade(&frontier);
                }
                Some(_) => {}
                None => held = None,
            }
        }
    });
    stream.as_collection()
}
