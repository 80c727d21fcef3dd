//! Keepers: what every process is to have goes to the first worker of each.
//!
//! ```text
//!   records of all workers --> first worker of each process --> in whole epochs --> a part, at each published one
//! ```
//!
//! In:    records.
//! Out:   one part for each process and published epoch, made from what came by its end.
//! State: the records of epochs that are open, once for each process.

use super::{Part, Publisher};
use crate::Epoch;
use std::{collections::BTreeMap, sync::Arc};
use timely::{
    ExchangeData,
    dataflow::{Stream, channels::pact::Exchange, operators::generic::builder_rc::OperatorBuilder},
};

/// See the module. `epoch_of` gives the epoch of a record that came at another; `part` takes all records up to a
/// published epoch that it has not had yet, and makes the part of that epoch.
pub(crate) fn kept<D: ExchangeData + Clone>(
    records: Stream<'_, Epoch, Vec<D>>,
    publisher: &Arc<Publisher>,
    name: &'static str,
    epoch_of: impl Fn(&D, Epoch) -> Epoch + 'static,
    mut part: impl FnMut(&mut dyn Iterator<Item = D>, Epoch) -> Part + 'static,
) {
    let publisher = Arc::clone(publisher);
    let worker = records.scope().worker();
    let (index, keepers) = (worker.index(), publisher.keepers(worker.peers()));
    let keeps = keepers.contains(&index);
    if keeps {
        publisher.expect((name, 0));
    }
    let mut builder = OperatorBuilder::new(format!("publish {name}"), records.scope());
    // One channel to each keeper: with one process, nothing is copied.
    let mut inputs: Vec<_> = keepers
        .into_iter()
        .map(|keeper| builder.new_input(records.clone(), Exchange::new(move |_: &D| keeper as u64)))
        .collect();
    drop(records);
    let mut open: BTreeMap<Epoch, Vec<D>> = BTreeMap::new();
    let mut done = None;
    builder.build(move |_| {
        move |frontiers| {
            for input in &mut inputs {
                input.for_each_stamp(|stamp, data| {
                    // Records of no epoch would be of none that is published.
                    let Some(came_at) = stamp.least().copied() else {
                        return;
                    };
                    for record in data.flat_map(|records| records.drain(..)) {
                        open.entry(epoch_of(&record, came_at)).or_default().push(record);
                    }
                });
            }
            if !keeps {
                return;
            }
            let frontier = frontiers
                .iter()
                .filter_map(|frontier| frontier.frontier().first().copied())
                .min();
            for due in publisher.due(done, frontier) {
                let later = match due.checked_add(1) {
                    Some(next) => open.split_off(&next),
                    None => BTreeMap::new(),
                };
                let records = std::mem::replace(&mut open, later);
                let part = part(&mut records.into_values().flatten(), due);
                publisher.offer((name, 0), due, part);
                done = Some(due);
            }
        }
    });
}
