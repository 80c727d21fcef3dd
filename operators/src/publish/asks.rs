//! Asks: what processes tell each other about answers, along with the ticks.
//!
//! ```text
//!   ticks --> each process: and what I want to say --> to the first worker of each --> written down, before
//!                                                                                      anything of that tick
//! ```
//!
//! In:    ticks, on every worker, with the time each was announced.
//! Out:   the ticks; whoever hears one can be sure that all that was said before it is known to the publisher.
//! State: none.
//!
//! An ask for replicas is of the epoch of its tick: each process takes its snapshots at the first published epoch from
//! there on, which is the same for all, for none of them can have ended it yet.

use super::Publisher;
use crate::Epoch;
use dbb_events::Micros;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::{Exchange, Pipeline},
        operators::generic::Operator,
    },
};

/// What a process says to all, itself among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    /// An epoch was announced at this time.
    Tick(Micros),
    /// Where its share of what is published can be read.
    Here { process: usize, address: String },
    /// Somebody there wants the replicas; the number of the newest such wish.
    Ask { process: usize, number: u64 },
}

/// See the module.
pub fn heard<'s>(
    ticks: Stream<'s, Epoch, Vec<Micros>>,
    publisher: &Arc<Publisher>,
) -> Stream<'s, Epoch, Vec<()>> {
    let worker = ticks.scope().worker();
    let (index, keepers) = (worker.index(), publisher.keepers(worker.peers()));
    let process = keepers.iter().position(|keeper| *keeper == index);
    let (saying, hearing) = (Arc::clone(publisher), Arc::clone(publisher));
    let said =
        ticks.unary::<CapacityContainerBuilder<Vec<(u64, Word)>>, _, _, _>(Pipeline, "say", move |_, _| {
            move |input, output| {
                input.for_each_stamp(|stamp, data| {
                    let Some(capability) = stamp.retain_least(0) else {
                        return;
                    };
                    let mut session = output.session(&capability);
                    let words = process.map(|process| saying.says(process)).unwrap_or_default();
                    for word in words {
                        for keeper in &keepers {
                            session.give((*keeper as u64, word.clone()));
                        }
                    }
                    for at in data.flat_map(|ticks| ticks.drain(..)) {
                        session.give((index as u64, Word::Tick(at)));
                    }
                });
            }
        });
    said.unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(
        Exchange::new(|(to, _): &(u64, Word)| *to),
        "hear",
        move |_, _| {
            move |input, output| {
                input.for_each_stamp(|stamp, data| {
                    let Some(capability) = stamp.retain_least(0) else {
                        return;
                    };
                    let epoch = *capability.time();
                    let mut session = output.session(&capability);
                    for (_, word) in data.flat_map(|words| words.drain(..)) {
                        if let Word::Tick(at) = word {
                            hearing.minted(epoch, at);
                            session.give(());
                        } else {
                            hearing.hears(epoch, word, process);
                        }
                    }
                });
            }
        },
    )
}
