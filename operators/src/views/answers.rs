//! Answers: gives an answer the epoch that is open when it comes, not that of the request.
//!
//! ```text
//!   requests --------> at their epoch ----\
//!   answers ---------> at the open epoch --> both
//! ```
//!
//! In:    requests, and what became of them: an answer's own epoch ends only when everything before it is answered.
//! Out:   both.
//! State: a capability for the least epoch of requests that is open.
//!
//! Frontier: that of the requests. So a view of what is not answered does not wait for the answers, nor do the views
//! that are published with it. Only after the last request it waits, for the last answer.

use crate::Epoch;
use timely::{
    PartialOrder,
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::Pipeline,
        operators::generic::{OutputBuilder, builder_rc::OperatorBuilder},
    },
    progress::{Antichain, operate::FrontierInterest},
};

/// See the module.
pub(super) fn answers<'s, D: Clone + 'static>(
    asked: Stream<'s, Epoch, Vec<D>>,
    answered: Stream<'s, Epoch, Vec<D>>,
) -> Stream<'s, Epoch, Vec<D>> {
    let mut builder = OperatorBuilder::new("answers".into(), asked.scope());
    let mut asked = builder.new_input(asked, Pipeline);
    let mut answered = builder.new_input(answered, Pipeline);
    for input in [0, 1] {
        builder.set_notify_for(input, FrontierInterest::Always);
    }
    // Only the requests say what epochs can still come out.
    let (output, both) =
        builder.new_output_connection::<Vec<D>, _>([(0, Antichain::from_elem(Default::default()))]);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<D>>>::from(output);
    builder.build(move |mut capabilities| {
        let mut held = capabilities.pop();
        move |frontiers| {
            let mut output = output.activate();
            asked.for_each_stamp(|stamp, data| {
                let mut session = output.session(&stamp);
                for records in data {
                    session.give_container(records);
                }
            });
            answered.for_each_stamp(|_, data| {
                if let Some(open) = &held {
                    let mut session = output.session(open);
                    for records in data {
                        session.give_container(records);
                    }
                }
            });
            let [asked, answered] = frontiers else {
                return;
            };
            match (&mut held, asked.frontier().first()) {
                (Some(open), Some(epoch)) if open.time().less_than(epoch) => open.downgrade(epoch),
                (Some(_), None) if answered.is_empty() => held = None,
                _ => {}
            }
        }
    });
    both
}
