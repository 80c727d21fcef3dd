//! Kept: what a view has been told, summed, goes into checkpoints and comes back, so that all behind it can be rebuilt.
//!
//! ```text
//!   updates --------------------------> updates --> the view
//!      \--> sums since the last checkpoint   /
//!   restored rows --------------------------/
//! ```
//!
//! In:    updates, from before the first operator of a view that keeps something; rows of the same kind.
//! Out:   the updates, and at the restored epoch each row once, on any worker.
//! State: one entry for each key since the last checkpoint: what is handed out, and to be written elsewhere.
//!
//! Restored rows are in the checkpoint already, and are not handed out again.

use super::{
    Damaged, Give, Keep, Kind, Part, Row, Rows,
    coded::{decoded, encoded},
    restored, spread,
};
use crate::{Epoch, publish::END};
use differential_dataflow::{AsCollection, ExchangeData, VecCollection, difference::Semigroup};
use hashbrown::HashMap;
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, hash::Hash, sync::Arc};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{channels::pact::Pipeline, operators::generic::Operator},
};

/// Bytes of a key before what stands for the data: their hash.
const SPREAD: usize = 8;

/// See the module. Without `keep` nothing happens. `kind` is of [`super::Merge::Sum`] by [`sum`], and there is one
/// tap for each.
pub fn kept<'s, D, R>(
    updates: VecCollection<'s, Epoch, D, R>,
    kind: &'static Kind,
    keep: Option<&Keep>,
) -> VecCollection<'s, Epoch, D, R>
where
    D: ExchangeData + Hash,
    R: Semigroup + timely::ExchangeData,
{
    let Some(keep) = keep else {
        return updates;
    };
    let scope = updates.inner.scope();
    let from = keep.restored.clone();
    let again = restored(scope, kind, from.clone());
    let checkpoints = Arc::clone(&keep.checkpoints);
    let part = (kind.name, scope.worker().index());
    checkpoints.expect(part);
    let name = format!("kept {}", kind.name);
    type Built<D, R> = CapacityContainerBuilder<Vec<(D, Epoch, R)>>;
    updates
        .inner
        .binary_frontier::<_, Built<D, R>, _, _, _, _>(again, Pipeline, Pipeline, &name, move |_, _| {
            // By the checkpoint that an update belongs to: of the next, and of later ones what came early.
            let mut since: BTreeMap<Epoch, HashMap<D, R>> = BTreeMap::new();
            let mut done = None;
            move |(updates, of_updates), (again, of_again), output| {
                again.for_each_stamp(|stamp, data| {
                    let Some(epoch) = stamp.least().copied() else {
                        return;
                    };
                    let mut session = output.session(&stamp);
                    for row in data.flat_map(|rows| rows.drain(..)) {
                        match (read(kind, &row), &from) {
                            (Ok((data, sum)), _) => session.give((data, epoch, sum)),
                            (Err(damaged), Some(from)) => from.refuse(damaged),
                            (Err(_), None) => {}
                        }
                    }
                });
                updates.for_each_stamp(|stamp, data| {
                    let mut session = output.session(&stamp);
                    for updates in data {
                        for (data, epoch, times) in updates.iter() {
                            let sums = since.entry(checkpoints.due_at(*epoch)).or_default();
                            add(sums, data, times);
                        }
                        session.give_container(updates);
                    }
                });
                let frontiers = [of_updates, of_again].map(|frontier| frontier.frontier().first().copied());
                for due in checkpoints.due(done, frontiers.into_iter().flatten().min()) {
                    let later = match due {
                        END => BTreeMap::new(),
                        due => since.split_off(&(due + 1)),
                    };
                    let mut parts = std::mem::replace(&mut since, later).into_values();
                    let mut sums = parts.next().unwrap_or_default();
                    for (data, times) in parts.flatten() {
                        add(&mut sums, &data, &times);
                    }
                    let rows = Sums { kind, sums };
                    checkpoints.offer(part, due, Part::Rows(vec![Box::new(rows)]));
                    done = Some(due);
                }
            }
        })
        .as_collection()
}

fn add<D: Eq + Hash + Clone, R: Semigroup>(sums: &mut HashMap<D, R>, data: &D, times: &R) {
    match sums.get_mut(data) {
        Some(sum) => sum.plus_equals(times),
        None => drop(sums.insert(data.clone(), times.clone())),
    }
}

struct Sums<D, R> {
    kind: &'static Kind,
    sums: HashMap<D, R>,
}

impl<D: ExchangeData, R: Semigroup + timely::ExchangeData> Rows for Sums<D, R> {
    fn kind(&self) -> &'static Kind {
        self.kind
    }

    fn len(&self) -> usize {
        self.sums.len()
    }

    fn for_each(self: Box<Self>, give: &mut Give<'_>) {
        for (data, sum) in self.sums {
            if !sum.is_zero() {
                give(&spread(&encoded(&data)), Some(&encoded(&sum)));
            }
        }
    }
}

fn read<D: DeserializeOwned, R: DeserializeOwned>(kind: &'static Kind, row: &Row) -> Result<(D, R), Damaged> {
    let data = row.0.get(SPREAD..).unwrap_or_default();
    Ok((decoded(kind.name, data)?, decoded(kind.name, &row.1)?))
}

/// The sum of two values of rows that [`kept`] handed out; nothing where they cancel out.
pub fn sum<R>(older: &[u8], newer: &[u8]) -> Result<Option<Vec<u8>>, Damaged>
where
    R: Semigroup + Serialize + DeserializeOwned,
{
    let of = std::any::type_name::<R>();
    let mut sum: R = decoded(of, older)?;
    sum.plus_equals(&decoded(of, newer)?);
    Ok((!sum.is_zero()).then(|| encoded(&sum)))
}
