//! Closed: hands the records of an epoch to a fold when all of them are there, epoch after epoch.
//!
//! ```text
//!   records --by key--> kept until their epoch has closed --> fold --> what it gives, at that epoch
//! ```
//!
//! In:    records; of a collection, each with its own epoch.
//! Out:   what the fold gives.
//! State: the records of the epochs that are still open.

use crate::Epoch;
use std::collections::BTreeMap;
use timely::{
    ExchangeData,
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::Exchange,
        operators::{Capability, generic::Operator},
    },
};

/// All records of one epoch that came to this worker.
pub(crate) struct Closed<D> {
    /// The epoch.
    pub(crate) epoch: Epoch,
    /// Its records, in no order.
    pub(crate) records: Vec<D>,
}

/// Which worker a record goes to, and which epoch it says it is of: that of its message, if `None`.
pub(crate) struct Placing<D> {
    pub(crate) exchange: fn(&D) -> u64,
    pub(crate) epoch: fn(&D) -> Option<Epoch>,
}

/// See the module.
pub(crate) fn fold_closed<'s, D, O>(
    records: Stream<'s, Epoch, Vec<D>>,
    name: &str,
    placing: Placing<D>,
    mut fold: impl FnMut(Closed<D>, &mut Vec<O>) + 'static,
) -> Stream<'s, Epoch, Vec<O>>
where
    D: ExchangeData,
    O: Clone + 'static,
{
    let Placing { exchange, epoch } = placing;
    records.unary_frontier::<CapacityContainerBuilder<Vec<O>>, _, _, _>(
        Exchange::new(exchange),
        name,
        move |_capability, _info| {
            let mut open: BTreeMap<Epoch, (Capability<Epoch>, Vec<D>)> = BTreeMap::new();
            let mut given = Vec::new();
            move |(input, frontier), output| {
                input.for_each_stamp(|stamp, data| {
                    let Some(capability) = stamp.retain_least(0) else {
                        return;
                    };
                    let least = *capability.time();
                    for record in data.flat_map(|records| records.drain(..)) {
                        let epoch = epoch(&record).map_or(least, |epoch| epoch.max(least));
                        open.entry(epoch)
                            .or_insert_with(|| (capability.delayed(&epoch), Vec::new()))
                            .1
                            .push(record);
                    }
                });
                while let Some(entry) = open.first_entry() {
                    let epoch = *entry.key();
                    if frontier.less_equal(&epoch) {
                        break;
                    }
                    let (capability, records) = entry.remove();
                    fold(Closed { epoch, records }, &mut given);
                    output.session(&capability).give_iterator(given.drain(..));
                }
            }
        },
    )
}
