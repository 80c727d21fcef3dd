//! Decode: records become arrivals, dead letters, or a count of what is nobody's here; and facts for views.
//!
//! ```text
//!   records --> what does it say? --> arrivals, or at a hub outgoing
//!                | |  |    \-------> facts, at the same epoch, where some view wants them
//!                | |  \------------> entries: dead letters, at once
//!                | \---------------> entries: counts for each partition, at the end of each epoch
//!                \-----------------> summaries for each partition, likewise, where wanted
//! ```
//!
//! In:    records, each with its place and the time it was read.
//! Out:   arrivals, outgoing; entries for the ledger; facts.
//! State: the counts of the open epochs.
//!
//! Each record is parsed once, and counted exactly once, whatever is read again after a restart: counts
//! travel with the offset up to which they are true, and records below `counted_to` are not counted. A record
//! whose outcome is known says its facts and nothing else; one that the ledger sends again has said them.

use crate::{
    Arrival, Epoch, Incoming,
    classify::{Classified, incomplete, judge},
    facts::{Attempt, Change, Complete, DidName, Said, Told, Wanted},
    hub::{self, Namer, TopicSettings},
    mapping::Mapping,
    tell::{Facts, Teller},
};
use dbb_events::{Counted, Entry, Incarnation, Micros, Outgoing, Position};
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

/// How often files are named anew, in microseconds of reading: replicas that were forgotten may come back, and
/// their names went with them. Far more often than anything is forgotten.
const NAMED_FOR_US: i64 = 3_600_000_000;

/// Topic or file, and partition.
pub type PartitionKey = (Arc<str>, i32);

/// Whose dataflow it is.
#[derive(Debug, Clone)]
pub enum Role {
    /// A site, which registers files as this says.
    Site(Arc<Mapping>),
    /// A hub, which publishes events in these topics.
    Hub(Arc<TopicSettings>),
}

/// The same, with what one worker remembers.
enum Judging {
    Site(Arc<Mapping>),
    Hub(Namer),
}

/// What comes out.
pub struct Decoded<'s> {
    /// Files for a Butler that have landed, or are gone.
    pub arrivals: Stream<'s, Epoch, Vec<Arrival>>,
    /// At a hub: what is told to somebody at an RSE, and what cannot be read.
    pub outgoing: Stream<'s, Epoch, Vec<Outgoing>>,
    /// Dead letters and counts.
    pub entries: Stream<'s, Epoch, Vec<Entry>>,
    /// What views are made from; nothing where nothing is wanted.
    pub facts: Facts<'s>,
}

/// See the module. `on_read` is told of each record of the source and when its event was made, if it is one;
/// `on_record` of each that is not known yet, and what it was found to be.
pub fn decode<'s>(
    records: Stream<'s, Epoch, Vec<Incoming>>,
    role: Role,
    counted_to: HashMap<PartitionKey, Position>,
    wanted: Wanted,
    on_read: impl Fn(&Incoming, Option<Micros>) + 'static,
    on_record: impl Fn(&Incoming, &Classified) + 'static,
) -> Decoded<'s> {
    let mut builder = OperatorBuilder::new("decode".into(), records.scope());
    let mut input = builder.new_input(records, Pipeline);
    let (mut arrivals_out, arrivals) = output::<Arrival>(&mut builder);
    let (mut entries_out, entries) = output::<Entry>(&mut builder);
    let (mut outgoing_out, outgoing) = output::<Outgoing>(&mut builder);
    let (mut changes_out, changes) = output::<Change>(&mut builder);
    let (mut names_out, names) = output::<DidName>(&mut builder);
    let (mut completes_out, completes) = output::<Complete>(&mut builder);
    let (mut attempts_out, attempts) = output::<Attempt>(&mut builder);
    let (mut said_out, said) = output::<Said>(&mut builder);
    builder.build(move |_capabilities| {
        let mut tally = Tally {
            counted_to,
            open: BTreeMap::new(),
        };
        let mut teller = (!wanted.nothing()).then(|| Teller::new(wanted));
        let mut told = Told::default();
        let mut named_since = Micros(i64::MIN);
        let mut judging = match role {
            Role::Site(mapping) => Judging::Site(mapping),
            Role::Hub(topics) => Judging::Hub(Namer::new(topics)),
        };
        move |frontiers| {
            let mut arrivals_out = arrivals_out.activate();
            let mut entries_out = entries_out.activate();
            let mut outgoing_out = outgoing_out.activate();
            let mut changes_out = changes_out.activate();
            let mut names_out = names_out.activate();
            let mut completes_out = completes_out.activate();
            let mut attempts_out = attempts_out.activate();
            let mut said_out = said_out.activate();
            input.for_each_stamp(|stamp, data| {
                let Some(capability) = stamp.retain_least(1) else {
                    return;
                };
                let mut arrivals = arrivals_out.session(&stamp);
                let mut entries = entries_out.session(&stamp);
                let mut outgoing = outgoing_out.session(&stamp);
                for incoming in data.flat_map(|records| records.drain(..)) {
                    let body = &incoming.received.body;
                    let decoded = dbb_events::decode(body);
                    let mut untold = None;
                    if incoming.again.is_none() {
                        on_read(&incoming, decoded.as_ref().ok().map(|event| event.created_at));
                        if let (Some(teller), Ok(event)) = (&mut teller, &decoded) {
                            if incoming.read_at.0.saturating_sub(named_since.0) > NAMED_FOR_US {
                                teller.forget_names();
                                named_since = incoming.read_at;
                            }
                            untold = teller.tell(&event.glimpse(), body, &mut told).err();
                        }
                    }
                    if incoming.known {
                        continue;
                    }
                    let judged = match &mut judging {
                        Judging::Hub(namer) => hub::judge::judge(&incoming, &decoded, namer),
                        Judging::Site(mapping) => judge(&incoming, &decoded, mapping),
                    };
                    let classified = match (judged, untold, &decoded) {
                        // Nothing to do here, but views needed to know what it does not say.
                        (Classified::Nobodys(_), Some(untold), Ok(event)) => {
                            incomplete(&incoming, event, untold.to_string())
                        }
                        (classified, _, _) => classified,
                    };
                    on_record(&incoming, &classified);
                    if incoming.again.is_none() {
                        tally.count(&capability, &incoming, classified.word());
                    }
                    match classified {
                        Classified::Arrival(arrival) => arrivals.give(*arrival),
                        Classified::Outgoing(event) => outgoing.give(*event),
                        Classified::DeadLetter(letter) => {
                            if let Judging::Hub(namer) = &judging
                                && incoming.again.is_none()
                            {
                                outgoing.give(hub::judge::unreadable(&letter, &incoming, namer));
                            }
                            entries.give(Entry::DeadLetter(letter));
                        }
                        Classified::Nobodys(_) => {}
                    }
                }
                if teller.is_some() {
                    changes_out.session(&stamp).give_iterator(told.changes.drain(..));
                    names_out.session(&stamp).give_iterator(told.names.drain(..));
                    completes_out
                        .session(&stamp)
                        .give_iterator(told.completes.drain(..));
                    attempts_out
                        .session(&stamp)
                        .give_iterator(told.attempts.drain(..));
                    said_out.session(&stamp).give_iterator(told.said.drain(..));
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
    Decoded {
        arrivals,
        outgoing,
        entries,
        facts: Facts {
            changes,
            names,
            completes,
            attempts,
            said,
        },
    }
}

type Output<D> = OutputBuilder<Epoch, CapacityContainerBuilder<Vec<D>>>;

fn output<'s, D: Clone + 'static>(
    builder: &mut OperatorBuilder<'s, Epoch>,
) -> (Output<D>, Stream<'s, Epoch, Vec<D>>) {
    let (output, stream) = builder.new_output::<Vec<D>>();
    (OutputBuilder::from(output), stream)
}

/// What was counted of each incarnation of a partition.
type Counts = BTreeMap<(PartitionKey, Incarnation), Counted>;

struct Tally {
    counted_to: HashMap<PartitionKey, Position>,
    open: BTreeMap<Epoch, (Capability<Epoch>, Counts)>,
}

impl Tally {
    fn count(&mut self, capability: &Capability<Epoch>, incoming: &Incoming, word: &'static str) {
        let place = &incoming.received.place;
        let key = (Arc::clone(&place.stream), place.partition);
        if self
            .counted_to
            .get(&key)
            .and_then(|counted_to| counted_to.within(incoming.incarnation))
            .is_some_and(|counted_to| place.offset < counted_to)
        {
            return;
        }
        let (_, partitions) = self
            .open
            .entry(*capability.time())
            .or_insert_with(|| (capability.clone(), BTreeMap::new()));
        let key = (key, incoming.incarnation);
        let counted = partitions.entry(key).or_insert_with(|| Counted {
            stream: Arc::clone(&place.stream),
            partition: place.partition,
            incarnation: incoming.incarnation,
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
