//! Enrich: events that are published, with the labels that sites need.
//!
//! ```text
//!   outgoing --> labels known here? --yes, or none needed--> conclude ----------> outgoing, in their topics
//!                       \--batches--> port --> threads, look-up --> conclude --/  \--> entries: waits, held, refused
//! ```
//!
//! In:    outgoing, each event once, of any class.
//! Out:   outgoing with labels and topic; entries for the ledger.
//! State: the events that are being looked up; the reader limits how many.
//!
//! What is known in memory never leaves the worker, and nothing waits behind a look-up: deletions, dead letters and
//! events that brought their labels go on at once. A look-up that has to wait ends at once too, in the ledger.

use super::{
    conclude::{Concluded, Rules},
    topics::Namer,
};
use crate::{
    Batching, Epoch,
    deliver::{Delivery, Lane, deliver},
    port::Port,
};
use dbb_events::{Class, Did, Entry, Found, Labels, Micros, Outgoing, Sent};
use std::{sync::Arc, time::Instant};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::Pipeline,
        operators::{
            core::Concat,
            generic::{OutputBuilder, builder_rc::OperatorBuilder},
        },
    },
    progress::operate::FrontierInterest,
};

/// The wire to the threads that look up.
pub type LookUpPort = Port<Outgoing, (Outgoing, Found)>;
/// Labels that are in memory.
pub type Known = Arc<dyn Fn(&Did) -> Option<Arc<Labels>> + Send + Sync>;

/// How labels are found.
pub struct LookingUp {
    /// The threads of this worker.
    pub port: LookUpPort,
    /// What they have found before.
    pub known: Known,
    /// When a batch is cut.
    pub batching: Batching,
    /// Called once when the threads have gone.
    pub on_lost: Box<dyn Fn()>,
}

/// What an event became.
#[derive(Debug)]
pub enum Noted<'e> {
    /// It is published, although this policy does not want the file there.
    Unexpected(&'e Outgoing, &'e str),
    /// It is not published now.
    Ended(&'e Sent),
}

/// What comes out.
pub struct Enriched<'s> {
    /// What is to be published.
    pub outgoing: Stream<'s, Epoch, Vec<Outgoing>>,
    /// What is not.
    pub entries: Stream<'s, Epoch, Vec<Entry>>,
}

/// See the module. Without `looking_up` an event without labels is about a file that is no Butler dataset.
pub fn enrich<'s>(
    outgoing: Stream<'s, Epoch, Vec<Outgoing>>,
    rules: Arc<Rules>,
    namer: impl Fn() -> Namer,
    looking_up: Option<LookingUp>,
    now: impl Fn() -> Micros + Clone + 'static,
    note: impl Fn(Noted<'_>) + Clone + 'static,
) -> Enriched<'s> {
    let (mut here, conclusions, clock) = (namer(), Arc::clone(&rules), now.clone());
    let Some(looking_up) = looking_up else {
        let way = move |outgoing| Way::On(conclusions.conclude(outgoing, None, &mut here, clock()));
        return decide(outgoing, "enrich", way, rules, note).enriched;
    };
    let known = Arc::clone(&looking_up.known);
    let way = move |outgoing: Outgoing| {
        let found = if outgoing.class == Class::Landed && !outgoing.labelled {
            match known(&outgoing.did) {
                Some(labels) => Some(Found::Labels(labels)),
                None => return Way::Ask(outgoing),
            }
        } else {
            None
        };
        Way::On(conclusions.conclude(outgoing, found, &mut here, clock()))
    };
    let Decided { enriched, asked } = decide(outgoing, "enrich", way, Arc::clone(&rules), note.clone());
    let answered = look_up(asked, looking_up);
    let (mut there, conclusions) = (namer(), Arc::clone(&rules));
    let way =
        move |(outgoing, found)| Way::On(conclusions.conclude(outgoing, Some(found), &mut there, now()));
    let later = decide(answered, "label", way, rules, note).enriched;
    Enriched {
        outgoing: enriched.outgoing.concat(later.outgoing),
        entries: enriched.entries.concat(later.entries),
    }
}

fn look_up<'s>(
    asked: Stream<'s, Epoch, Vec<Outgoing>>,
    looking_up: LookingUp,
) -> Stream<'s, Epoch, Vec<(Outgoing, Found)>> {
    let index = asked.scope().worker().index() as u64;
    deliver(
        asked,
        vec![looking_up.port],
        Delivery {
            name: "look_up",
            // Each worker has its own threads.
            exchange: Box::new(move |_| index),
            lane: Box::new(|_| Lane { port: 0, group: () }),
            bytes: Box::new(|outgoing: &Outgoing| outgoing.source.len()),
            batching: looking_up.batching,
            clock: Box::new(Instant::now),
            on_lost: Box::new(move |_| (looking_up.on_lost)()),
        },
    )
}

/// Where an event goes.
enum Way {
    On(Concluded),
    Ask(Outgoing),
}

struct Decided<'s> {
    enriched: Enriched<'s>,
    asked: Stream<'s, Epoch, Vec<Outgoing>>,
}

/// Sends each event on its way.
fn decide<'s, D: Clone + 'static>(
    events: Stream<'s, Epoch, Vec<D>>,
    name: &str,
    mut way: impl FnMut(D) -> Way + 'static,
    rules: Arc<Rules>,
    note: impl Fn(Noted<'_>) + 'static,
) -> Decided<'s> {
    let mut builder = OperatorBuilder::new(name.into(), events.scope());
    let mut input = builder.new_input(events, Pipeline);
    builder.set_notify_for(0, FrontierInterest::Never);
    let (outgoing_out, outgoing) = builder.new_output::<Vec<Outgoing>>();
    let (entries_out, entries) = builder.new_output::<Vec<Entry>>();
    let (asked_out, asked) = builder.new_output::<Vec<Outgoing>>();
    let mut outgoing_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Outgoing>>>::from(outgoing_out);
    let mut entries_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Entry>>>::from(entries_out);
    let mut asked_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Outgoing>>>::from(asked_out);
    builder.build(move |_capabilities| {
        move |_frontiers| {
            let mut outgoing_out = outgoing_out.activate();
            let mut entries_out = entries_out.activate();
            let mut asked_out = asked_out.activate();
            input.for_each_stamp(|stamp, data| {
                let mut outgoing = outgoing_out.session(&stamp);
                let mut entries = entries_out.session(&stamp);
                let mut asked = asked_out.session(&stamp);
                for event in data.flat_map(|events| events.drain(..)) {
                    match way(event) {
                        Way::Ask(event) => asked.give(event),
                        Way::On(Concluded::Publish(event)) => {
                            if let Some(policy) = rules.unexpected(&event) {
                                note(Noted::Unexpected(&event, &policy.name));
                            }
                            outgoing.give(event);
                        }
                        Way::On(Concluded::Ended(sent)) => {
                            note(Noted::Ended(&sent));
                            entries.give(Entry::Sent(sent));
                        }
                    }
                }
            });
        }
    });
    Decided {
        enriched: Enriched { outgoing, entries },
        asked,
    }
}
