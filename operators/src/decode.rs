//! Decode: records become arrivals, dead letters, or a count of what is nobody's here.
//!
//! ```text
//!   records --> what does it say? --> arrivals
//!                    |    \--------> entries: dead letters, at once
//!                    \-------------> entries: counts for each partition, at the end of each epoch
//! ```
//!
//! In:    records, each with its place and the time it was read.
//! Out:   arrivals; entries for the ledger.
//! State: the counts of the open epochs.
//!
//! Each record is counted exactly once, whatever is read again after a restart: counts travel with
//! the offset up to which they are true, and records below `counted_to` are not counted.

use crate::{
    Arrival, Epoch, Incoming,
    classify::{Classified, classify},
};
use dbb_events::{Counted, Entry};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::Pipeline,
        operators::{
            Capability,
            generic::{OutputBuilder, builder_rc::OperatorBuilder},
        },
    },
};

/// Topic or file, and partition.
pub type PartitionKey = (Arc<str>, i32);

/// See the module. `on_record` is told of each record and what it was found to be.
pub fn decode<'s>(
    records: Stream<'s, Epoch, Vec<Incoming>>,
    counted_to: HashMap<PartitionKey, u64>,
    on_record: impl Fn(&Incoming, &Classified) + 'static,
) -> (Stream<'s, Epoch, Vec<Arrival>>, Stream<'s, Epoch, Vec<Entry>>) {
    let mut builder = OperatorBuilder::new("decode".into(), records.scope());
    let mut input = builder.new_input(records, Pipeline);
    let (arrivals_out, arrivals) = builder.new_output::<Vec<Arrival>>();
    let (entries_out, entries) = builder.new_output::<Vec<Entry>>();
    let mut arrivals_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Arrival>>>::from(arrivals_out);
    let mut entries_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Entry>>>::from(entries_out);
    builder.build(move |_capabilities| {
        let mut tally = Tally {
            counted_to,
            open: BTreeMap::new(),
        };
        move |frontiers| {
            let mut arrivals_out = arrivals_out.activate();
            let mut entries_out = entries_out.activate();
            input.for_each_stamp(|stamp, data| {
                let Some(capability) = stamp.retain_least(1) else {
                    return;
                };
                let mut arrivals = arrivals_out.session(&stamp);
                let mut entries = entries_out.session(&stamp);
                for incoming in data.flat_map(|records| records.drain(..)) {
                    let classified = classify(&incoming);
                    on_record(&incoming, &classified);
                    if incoming.again.is_none() {
                        tally.count(&capability, &incoming, classified.word());
                    }
                    match classified {
                        Classified::Arrival(arrival) => arrivals.give(*arrival),
                        Classified::DeadLetter(letter) => entries.give(Entry::DeadLetter(letter)),
                        Classified::Nobodys(_) => {}
                    }
                }
            });
            while let Some(open) = tally.open.first_entry() {
                if frontiers
                    .first()
                    .is_some_and(|frontier| frontier.less_equal(open.key()))
                {
                    break;
                }
                let (capability, counted) = open.remove();
                entries_out
                    .session(&capability)
                    .give_iterator(counted.into_values().map(Entry::Counted));
            }
        }
    });
    (arrivals, entries)
}

struct Tally {
    counted_to: HashMap<PartitionKey, u64>,
    open: BTreeMap<Epoch, (Capability<Epoch>, BTreeMap<PartitionKey, Counted>)>,
}

impl Tally {
    fn count(&mut self, capability: &Capability<Epoch>, incoming: &Incoming, word: &'static str) {
        let place = &incoming.received.place;
        let key = (Arc::clone(&place.stream), place.partition);
        if self
            .counted_to
            .get(&key)
            .is_some_and(|counted_to| place.offset < *counted_to)
        {
            return;
        }
        let (_, partitions) = self
            .open
            .entry(*capability.time())
            .or_insert_with(|| (capability.clone(), BTreeMap::new()));
        let counted = partitions.entry(key).or_insert_with(|| Counted {
            stream: Arc::clone(&place.stream),
            partition: place.partition,
            counted_to: 0,
            counts: BTreeMap::new(),
        });
        counted.counted_to = counted.counted_to.max(place.offset + 1);
        match counted.counts.get_mut(word) {
            Some(count) => *count += 1,
            None => {
                counted.counts.insert(word.into(), 1);
            }
        }
    }
}
