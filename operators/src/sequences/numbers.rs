//! Numbers: takes what hubs say of lanes out of the records that were read, and lets the records pass.
//!
//! ```text
//!   records --> records, as they were
//!          \--> numbers of records, from their headers; heartbeats and the like, from their bodies
//! ```
//!
//! In:    records as read, those whose outcome is known too.
//! Out:   the same records; what they say of lanes, at their epoch.
//! State: none.

use crate::{Epoch, Incoming, sequences::Partition};
use dbb_events::{Lane, Micros, Word, message};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::Pipeline,
        operators::generic::{OutputBuilder, builder_rc::OperatorBuilder},
    },
};

/// What was learnt of a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// Which.
    pub lane: Lane,
    /// What.
    pub noted: Noted,
    /// When it was read.
    pub at: Micros,
}

/// What a record tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Noted {
    /// It is of the lane.
    Record {
        /// Its number.
        sequence: u64,
        /// It is the first record of a partition.
        opens: bool,
        /// It was asked for.
        resent: bool,
        /// Where it was read.
        of: Partition,
    },
    /// The hub says something of it.
    Said(Said),
}

/// What a hub says of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// The number of the last record.
    Heartbeat(u64),
    /// Records from the first to the second are not there any more.
    Gone(u64, u64),
}

/// See the module.
pub fn numbers<'s>(
    records: Stream<'s, Epoch, Vec<Incoming>>,
) -> (Stream<'s, Epoch, Vec<Incoming>>, Stream<'s, Epoch, Vec<Numbered>>) {
    let mut builder = OperatorBuilder::new("numbers".into(), records.scope());
    let mut input = builder.new_input(records, Pipeline);
    let (output, records) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Incoming>>>::from(output);
    let (numbers_output, numbers) = builder.new_output();
    let mut numbers_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Numbered>>>::from(numbers_output);
    builder.build(move |_capabilities| {
        move |_frontiers| {
            let (mut output, mut numbers) = (output.activate(), numbers_output.activate());
            input.for_each_stamp(|stamp, data| {
                let mut output = output.session(&stamp);
                let mut numbers = numbers.session(&stamp);
                for incoming in data.flat_map(|records| records.drain(..)) {
                    numbers.give_iterator(numbered(&incoming).into_iter());
                    output.give(incoming);
                }
            });
        }
    });
    (records, numbers)
}

fn numbered(incoming: &Incoming) -> Option<Numbered> {
    let received = &incoming.received;
    let at = incoming.read_at;
    if let Some(marks) = &received.marks {
        let place = &received.place;
        return Some(Numbered {
            lane: marks.lane.clone(),
            noted: Noted::Record {
                sequence: marks.sequence,
                opens: place.offset == 0,
                resent: marks.resent,
                of: (Arc::clone(&place.stream), place.partition),
            },
            at,
        });
    }
    // What is none is a dead letter like any other bad record.
    let (lane, said) = match message::heard(&received.body)?.ok()?.word {
        Word::Heartbeat { lane, sequence } => (lane, Said::Heartbeat(sequence)),
        Word::Unavailable { lane, from, to, .. } => (lane, Said::Gone(from, to)),
        Word::Resend { .. } | Word::Outcome(_) => return None,
    };
    let noted = Noted::Said(said);
    Some(Numbered { lane, noted, at })
}
