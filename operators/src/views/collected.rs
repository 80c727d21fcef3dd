//! Collected: streams of facts as the collections that views count and join.
//!
//! ```text
//!   facts of an epoch --> (fact, epoch, +1)
//!   said --> rules, lost, contents, outcomes, each a collection of its own
//! ```
//!
//! In:    facts; each message is of one epoch, as sources send them.
//! Out:   the same facts, each added once at its epoch. Nothing is ever taken away.
//! State: none.

use crate::{
    Epoch,
    facts::{Contents, Lost, RuleSaid, Said, SiteOutcome},
};
use differential_dataflow::{AsCollection, Data, VecCollection};
use timely::dataflow::{
    Stream,
    channels::pact::Pipeline,
    operators::{
        generic::builder_rc::OperatorBuilder,
        generic::{OutputBuilder, operator::Operator},
    },
};

/// The facts as a collection.
pub fn collected<'s, D: Data>(facts: Stream<'s, Epoch, Vec<D>>) -> VecCollection<'s, Epoch, D, isize> {
    facts
        .unary(Pipeline, "collected", |_, _| {
            |input, output| {
                input.for_each_stamp(|stamp, data| {
                    let Some(epoch) = stamp.least().copied() else {
                        return;
                    };
                    output.session(&stamp).give_iterator(
                        data.flat_map(|facts| facts.drain(..))
                            .map(|fact| (fact, epoch, 1)),
                    );
                });
            }
        })
        .as_collection()
}

/// What is said, by what it is said of.
pub struct Spoken<'s> {
    /// Of rules.
    pub rules: VecCollection<'s, Epoch, RuleSaid, isize>,
    /// Of lost files.
    pub lost: VecCollection<'s, Epoch, Lost, isize>,
    /// Of the contents of Rucio datasets.
    pub contents: VecCollection<'s, Epoch, Contents, isize>,
    /// Of events at sites.
    pub outcomes: VecCollection<'s, Epoch, SiteOutcome, isize>,
}

/// Tells apart what is said, without a copy of it.
pub fn spoken<'s>(said: Stream<'s, Epoch, Vec<Said>>) -> Spoken<'s> {
    let mut builder = OperatorBuilder::new("spoken".into(), said.scope());
    let mut input = builder.new_input(said, Pipeline);
    let (rules_out, rules) = builder.new_output::<Vec<(RuleSaid, Epoch, isize)>>();
    let (lost_out, lost) = builder.new_output::<Vec<(Lost, Epoch, isize)>>();
    let (contents_out, contents) = builder.new_output::<Vec<(Contents, Epoch, isize)>>();
    let (outcomes_out, outcomes) = builder.new_output::<Vec<(SiteOutcome, Epoch, isize)>>();
    let mut rules_out = OutputBuilder::from(rules_out);
    let mut lost_out = OutputBuilder::from(lost_out);
    let mut contents_out = OutputBuilder::from(contents_out);
    let mut outcomes_out = OutputBuilder::from(outcomes_out);
    builder.build(move |_capabilities| {
        move |_frontiers| {
            let mut rules_out = rules_out.activate();
            let mut lost_out = lost_out.activate();
            let mut contents_out = contents_out.activate();
            let mut outcomes_out = outcomes_out.activate();
            input.for_each_stamp(|stamp, data| {
                let Some(epoch) = stamp.least().copied() else {
                    return;
                };
                let mut rules = rules_out.session(&stamp);
                let mut lost = lost_out.session(&stamp);
                let mut contents = contents_out.session(&stamp);
                let mut outcomes = outcomes_out.session(&stamp);
                for said in data.flat_map(|said| said.drain(..)) {
                    match said {
                        Said::Rule(said) => rules.give((said, epoch, 1)),
                        Said::Lost(said) => lost.give((said, epoch, 1)),
                        Said::Contents(said) => contents.give((said, epoch, 1)),
                        Said::Outcome(said) => outcomes.give((said, epoch, 1)),
                    }
                }
            });
        }
    });
    Spoken {
        rules: rules.as_collection(),
        lost: lost.as_collection(),
        contents: contents.as_collection(),
        outcomes: outcomes.as_collection(),
    }
}
