//! Sequences: follows the numbers that a hub gives its records, and finds those that have not come.
//!
//! ```text
//!   numbers, words --by lane--> what came? --> entries: how far each lane is, and its gaps, at the end of each epoch
//!   ends of partitions --to all--/        \--> how many records are missing
//! ```
//!
//! In:    the number of each record that was read, whatever became of it; what hubs say of lanes; from time to time the
//!        partitions of which all was read.
//! Out:   entries for the ledger, so that they are durable before the offsets of their epoch; what is missing of each
//!        partition, when it changes.
//! State: [`Follow`] for each lane: some hundred bytes, and its gaps.
//!
//! A jump is a gap at once: within a partition of a topic mirrors keep the order. What only heartbeats tell of is one
//! when all that there is has been read and `patience_us` have gone by. So repeats, replays and restarts make none.

mod lane;
mod numbers;

pub use lane::{Follow, MOST_GAPS, MOST_PIECES, Noticed, Times};
pub use numbers::{Noted, Numbered, Said, numbers};

use crate::Epoch;
use dbb_events::{Entry, Lane, Micros, Numbers};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::{Exchange, Pipeline},
        operators::{
            Capability,
            generic::{OutputBuilder, builder_rc::OperatorBuilder},
        },
    },
};
use xxhash_rust::xxh3::xxh3_64;

/// Topic and partition, as the site reads them.
pub type Partition = (Arc<str>, i32);

/// All that there is of a partition was read, at some moment.
pub type End = (Partition, Micros);

/// How lanes are followed.
#[derive(Debug, Clone, Default)]
pub struct Following {
    /// How long a record may be late, in microseconds.
    pub patience_us: i64,
    /// The lanes as an earlier run has left them.
    pub restored: Vec<Numbers>,
}

/// What is missing of the lane that a partition carries.
pub type Missing = (Partition, u64);

/// The worker of a lane among `peers`.
fn of_lane(lane: &Lane) -> u64 {
    // Of the standard library's hashes none is promised to be the same in another process.
    xxh3_64(lane.topic.as_bytes()).wrapping_add(u64::from(lane.partition.unsigned_abs()))
}

struct One {
    follow: Follow,
    /// The partition that carries it; before the first record, what looks like it.
    carried_by: Option<Partition>,
    /// How many records were last told to be missing.
    told: u64,
}

impl One {
    fn new(follow: Follow) -> Self {
        Self {
            follow,
            carried_by: None,
            told: 0,
        }
    }

    /// How many are missing, if that is news.
    fn missing(&mut self) -> Option<Missing> {
        let partition = self.carried_by.as_ref()?;
        let missing = self.follow.missing();
        let is_news = std::mem::replace(&mut self.told, missing) != missing;
        is_news.then(|| (partition.clone(), missing))
    }

    fn is_carried_by(&self, lane: &Lane, (stream, partition): &Partition) -> bool {
        match &self.carried_by {
            Some((of, number)) => number == partition && of == stream,
            // A mirror may put a name and a dot before that of the topic.
            None => {
                lane.partition == *partition
                    && stream
                        .strip_suffix(&*lane.topic)
                        .is_some_and(|alias| alias.is_empty() || alias.ends_with('.'))
            }
        }
    }
}

/// See the module. `notice` is told of each lane's records as they are missed or come.
pub fn sequences<'s>(
    numbered: Stream<'s, Epoch, Vec<Numbered>>,
    ends: Stream<'s, Epoch, Vec<End>>,
    following: Following,
    notice: impl Fn(&Lane, Noticed) + 'static,
) -> (Stream<'s, Epoch, Vec<Entry>>, Stream<'s, Epoch, Vec<Missing>>) {
    let scope = numbered.scope();
    let (index, peers) = (scope.worker().index() as u64, scope.worker().peers() as u64);
    let patience_us = following.patience_us;
    let mut lanes: HashMap<Lane, One> = following
        .restored
        .into_iter()
        .filter(|numbers| of_lane(&numbers.lane) % peers == index)
        .map(|numbers| {
            let lane = numbers.lane.clone();
            (lane, One::new(Follow::restore(numbers)))
        })
        .collect();
    let mut builder = OperatorBuilder::new("sequences".into(), scope);
    let mut numbered = builder.new_input(
        numbered,
        Exchange::new(|numbered: &Numbered| of_lane(&numbered.lane)),
    );
    let mut ends = builder.new_input(ends, Pipeline);
    let (output, entries) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Entry>>>::from(output);
    let (missing_output, missing) = builder.new_output();
    let mut missing_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Missing>>>::from(missing_output);
    builder.build(move |_capabilities| {
        // What an epoch has changed is told when it ends.
        let mut open: BTreeMap<Epoch, Open> = BTreeMap::new();
        move |frontiers| {
            numbered.for_each_stamp(|stamp, data| {
                let (Some(one), Some(two)) = (stamp.retain_least(0), stamp.retain_least(1)) else {
                    return;
                };
                let open = open.entry(*one.time()).or_insert_with(|| Open::new(one, two));
                for numbered in data.flat_map(|numbered| numbered.drain(..)) {
                    let Numbered { lane, noted, at } = numbered;
                    let times = Times {
                        now: at,
                        ask: Micros(at.0.saturating_add(patience_us)),
                    };
                    let of = match lanes.get_mut(&lane) {
                        Some(of) => of,
                        None => lanes
                            .entry(lane.clone())
                            .or_insert_with(|| One::new(Follow::new(lane.clone()))),
                    };
                    let mut tell = |noticed| notice(&lane, noticed);
                    match noted {
                        Noted::Record {
                            sequence,
                            opens,
                            resent,
                            of: partition,
                        } => {
                            if of.carried_by.as_ref() != Some(&partition) {
                                of.carried_by = Some(partition);
                            }
                            of.follow.number(sequence, (opens, resent), times, &mut tell);
                        }
                        Noted::Said(Said::Heartbeat(sequence)) => of.follow.promise(sequence, at),
                        Noted::Said(Said::Gone(first, last)) => of.follow.gone(first, last, &mut tell),
                    }
                    open.note(lane, at);
                }
            });
            ends.for_each_stamp(|stamp, data| {
                let (Some(one), Some(two)) = (stamp.retain_least(0), stamp.retain_least(1)) else {
                    return;
                };
                let open = open.entry(*one.time()).or_insert_with(|| Open::new(one, two));
                for (partition, at) in data.flat_map(|ends| ends.drain(..)) {
                    let owed = lanes
                        .iter_mut()
                        .filter(|(lane, of)| of.follow.is_owed() && of.is_carried_by(lane, &partition));
                    for (lane, of) in owed {
                        let times = Times { now: at, ask: at };
                        of.follow
                            .at_end(patience_us, times, &mut |noticed| notice(lane, noticed));
                        open.note(lane.clone(), at);
                    }
                }
            });
            let (mut output, mut missing) = (output.activate(), missing_output.activate());
            while let Some(entry) = open.first_entry() {
                if frontiers.iter().any(|frontier| frontier.less_equal(entry.key())) {
                    break;
                }
                let Open {
                    capabilities: (one, two),
                    lanes: changed,
                    at,
                } = entry.remove();
                let mut output = output.session_with_builder(&one);
                let mut missing = missing.session_with_builder(&two);
                for lane in changed {
                    let Some(of) = lanes.get_mut(&lane) else { continue };
                    missing.give_iterator(of.missing().into_iter());
                    let numbers = of.follow.take(at).map(Box::new);
                    output.give_iterator(numbers.map(Entry::Numbers).into_iter());
                }
            }
        }
    });
    (entries, missing)
}

struct Open {
    capabilities: (Capability<Epoch>, Capability<Epoch>),
    lanes: BTreeSet<Lane>,
    at: Micros,
}

impl Open {
    fn new(one: Capability<Epoch>, two: Capability<Epoch>) -> Self {
        Self {
            capabilities: (one, two),
            lanes: BTreeSet::new(),
            at: Micros(i64::MIN),
        }
    }

    fn note(&mut self, lane: Lane, at: Micros) {
        self.lanes.insert(lane);
        self.at = self.at.max(at);
    }
}
