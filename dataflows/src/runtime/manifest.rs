//! Manifest: when all that a checkpoint needs is durable, on all processes, and not before.
//!
//! ```text
//!   thread that writes --> first worker of each process --what it wrote, at its epoch--\
//!   ledger --outcomes, until the epoch has ended---------------------------------------> worker 0 --> committer
//!   readers --what is missing----------------------------------------------------------/
//! ```
//!
//! In:    what each process has written; the outcomes of the ledger; losses.
//! Out:   for each checkpoint, once: what all processes have written, and the losses found since the last one.
//! State: what belongs to epochs that have not ended.
//!
//! Frontier: an epoch has ended here when every process has written it, and when every record read in it has a durable
//! outcome. So whoever resumes there need not look for outcomes of what is below its offsets.

use dbb_operators::{Epoch, publish::Lost};
use std::collections::BTreeMap;
use timely::{
    ExchangeData,
    container::CapacityContainerBuilder,
    dataflow::{
        Scope, Stream,
        channels::pact::{Exchange, Pipeline},
        operators::generic::{OutputBuilder, builder_rc::OperatorBuilder, source},
    },
};

/// What a process has written of a checkpoint.
pub trait Piece {
    /// Of which epoch.
    fn epoch(&self) -> Epoch;

    /// True if nothing comes after it.
    fn is_last(&self) -> bool;
}

/// All of one checkpoint.
pub struct Whole<W> {
    /// What each process has written.
    pub pieces: Vec<W>,
    /// What was found missing since the checkpoint before.
    pub lost: Vec<Lost>,
}

/// What comes from `pieces`, at its epochs, which begin after the one that was `restored`. On workers without a
/// receiver nothing comes.
pub fn pieces<'s, W: Piece + ExchangeData>(
    scope: Scope<'s, Epoch>,
    pieces: Option<crossbeam_channel::Receiver<W>>,
    restored: Option<Epoch>,
    tick: std::time::Duration,
) -> Stream<'s, Epoch, Vec<W>> {
    source::<_, CapacityContainerBuilder<Vec<W>>, _, _>(scope, "written", move |capability, info| {
        let activator = scope.activator_for(info.address.clone());
        let first = restored.map_or(0, |restored| restored.saturating_add(1));
        let mut waiting = pieces.map(|pieces| (pieces, capability.delayed(&first)));
        move |output| {
            let Some((pieces, capability)) = &mut waiting else {
                return;
            };
            let mut ended = false;
            loop {
                match pieces.try_recv() {
                    Ok(piece) => {
                        let epoch = piece.epoch();
                        ended |= piece.is_last();
                        // Pieces come in the order of their epochs.
                        capability.downgrade(&epoch.max(*capability.time()));
                        output.session(capability).give(piece);
                        let next = *capability.time() + 1;
                        capability.downgrade(&next);
                    }
                    Err(crossbeam_channel::TryRecvError::Empty) => break,
                    // Whoever wrote has told why it could not go on.
                    Err(crossbeam_channel::TryRecvError::Disconnected) => {
                        ended = true;
                        break;
                    }
                }
            }
            if ended {
                waiting = None;
            } else {
                activator.activate_after(tick);
            }
        }
    })
}

/// See the module. Nothing comes out; its end is that of the last checkpoint.
pub fn manifest<'s, W: Piece + ExchangeData>(
    pieces: Stream<'s, Epoch, Vec<W>>,
    outcomes: Stream<'s, Epoch, Vec<()>>,
    lost: Stream<'s, Epoch, Vec<Lost>>,
    mut commit: impl FnMut(Whole<W>) + 'static,
) -> Stream<'s, Epoch, Vec<()>> {
    let mut builder = OperatorBuilder::new("manifest".into(), pieces.scope());
    let mut pieces = builder.new_input(pieces, Exchange::new(|_: &W| 0));
    let mut outcomes = builder.new_input(outcomes, Pipeline);
    let mut lost = builder.new_input(lost, Exchange::new(|_: &Lost| 0));
    let (output, ended) = builder.new_output::<Vec<()>>();
    let mut open: BTreeMap<Epoch, Vec<W>> = BTreeMap::new();
    let mut found: BTreeMap<Epoch, Vec<Lost>> = BTreeMap::new();
    builder.build(move |_| {
        let _output = OutputBuilder::<_, CapacityContainerBuilder<Vec<()>>>::from(output);
        move |frontiers| {
            pieces.for_each_stamp(|_, data| {
                for piece in data.flat_map(|pieces| pieces.drain(..)) {
                    open.entry(piece.epoch()).or_default().push(piece);
                }
            });
            outcomes.for_each_stamp(|_, data| data.for_each(Vec::clear));
            lost.for_each_stamp(|stamp, data| {
                let found = found
                    .entry(stamp.least().copied().unwrap_or_default())
                    .or_default();
                found.extend(data.flat_map(|lost| lost.drain(..)));
            });
            let frontier = frontiers
                .iter()
                .filter_map(|frontier| frontier.frontier().first().copied())
                .min();
            while let Some(entry) = open.first_entry() {
                let epoch = *entry.key();
                if frontier.is_some_and(|frontier| frontier <= epoch) {
                    break;
                }
                let pieces = entry.remove();
                let later = found.split_off(&(epoch + 1));
                let lost = std::mem::replace(&mut found, later)
                    .into_values()
                    .flatten()
                    .collect();
                commit(Whole { pieces, lost });
            }
        }
    });
    ended
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dbb_events::Micros;
    use std::{cell::RefCell, rc::Rc, time::Duration};
    use timely::dataflow::{
        InputHandle, ProbeHandle,
        operators::{Input, Probe},
    };

    impl Piece for (Epoch, bool) {
        fn epoch(&self) -> Epoch {
            self.0
        }

        fn is_last(&self) -> bool {
            self.1
        }
    }

    fn lost(from: u64) -> Lost {
        Lost {
            stream: "t".into(),
            partition: 0,
            from,
            to: from + 1,
            records: Some(1),
            since: Micros(0),
        }
    }

    /// As it comes from another process.
    fn sent<T: ExchangeData>(value: T) -> T {
        use timely::{bytes::arc::BytesMut, dataflow::channels::ContainerBytes};
        let mut bytes = Vec::new();
        vec![value].into_bytes(&mut bytes);
        Vec::from_bytes(BytesMut::from(bytes).freeze()).pop().unwrap()
    }

    #[test]
    fn what_another_process_has_written_and_lost_arrives_as_it_was_sent() {
        use crate::checkpoint::{Role, ShardEntry, Written};
        for remember in [None, Some(7)] {
            let shard = ShardEntry {
                kind: "replicas".into(),
                version: 1,
                role: Role::Delta,
                from: 1,
                to: 2,
                path: "shards/a.parquet".into(),
                rows: 3,
                bytes: 4,
                checksum: "5".into(),
                remember,
            };
            let written = Written {
                epoch: 2,
                at: Micros(6),
                is_last: false,
                process: 1,
                shards: vec![shard.clone(), shard],
                offsets: Vec::new(),
            };
            assert_eq!(sent(written.clone()), written);
        }
        let uncounted = Lost {
            records: None,
            ..lost(1)
        };
        for lost in [lost(1), uncounted] {
            assert_eq!(sent(lost.clone()), lost);
        }
    }

    #[test]
    fn a_checkpoint_is_committed_when_its_outcomes_are_durable_with_what_was_lost_by_then() {
        timely::execute_directly(|worker| {
            let (sender, receiver) = crossbeam_channel::unbounded();
            let mut outcomes = InputHandle::<Epoch, CapacityContainerBuilder<Vec<()>>>::new();
            let mut losses = InputHandle::<Epoch, CapacityContainerBuilder<Vec<Lost>>>::new();
            let committed = Rc::new(RefCell::new(Vec::new()));
            let (seen, probe) = (Rc::clone(&committed), ProbeHandle::new());
            worker.dataflow(|scope| {
                let pieces = pieces(scope, Some(receiver), Some(5), Duration::ZERO);
                manifest(
                    pieces,
                    scope.input_from(&mut outcomes),
                    scope.input_from(&mut losses),
                    move |whole: Whole<(Epoch, bool)>| {
                        let lost: Vec<u64> = whole.lost.iter().map(|lost| lost.from).collect();
                        seen.borrow_mut().push((whole.pieces[0].0, lost));
                    },
                )
                .probe_with(&probe);
            });
            let mut step = || {
                (0..20).for_each(|_| {
                    worker.step();
                })
            };
            losses.advance_to(6);
            losses.send(lost(1));
            losses.advance_to(11);
            losses.send(lost(2));
            sender.send((10, false)).unwrap();
            losses.advance_to(12);
            outcomes.advance_to(10);
            step();
            assert_eq!(*committed.borrow(), [], "an outcome of its epoch is not durable");
            outcomes.advance_to(11);
            step();
            assert_eq!(*committed.borrow(), [(10, vec![1])]);
            sender.send((14, true)).unwrap();
            step();
            assert_eq!(committed.borrow().len(), 1);
            drop((outcomes, losses));
            step();
            assert_eq!(*committed.borrow(), [(10, vec![1]), (14, vec![2])]);
            assert!(probe.done());
        });
    }
}
