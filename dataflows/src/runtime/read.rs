//! Read: a source's records enter the dataflow at the epoch of the newest tick.
//!
//! ```text
//!   ticks --------> the newest tick's capability
//!   source.poll --> records at that epoch          bindings: epoch -> offsets
//! ```
//!
//! In:    ticks.
//! Out:   records, each with the time it was read; for each partition, how far it has been emitted; what is missing.
//! State: the bindings of the open epochs.
//!
//! Views are made from the beginning of a source, or go on from a checkpoint: what an earlier run has handled is
//! emitted too, as known, and never acked again.
//!
//! Frontier: an epoch ends when the next tick is heard; what was emitted by the end of one at which a checkpoint is due
//! is offered to it. Where it begins, and what is missing there, is told in the first epoch of all. Nothing is polled
//! until the gate is open. No more than `max_in_flight` records are on
//! their way at once: then nothing is polled until outcomes are durable.

use super::{Bindings, Control, Gate, Offers, fault};
use dbb_events::{Due, Incarnation, Micros, Received};
use dbb_operators::{
    Again, Epoch, Incoming,
    publish::{Bound, Lost},
};
use dbb_sources::{Gap, Partition, Polled, Source};
use std::{cell::RefCell, rc::Rc, sync::Arc};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::Pipeline,
        operators::{
            Capability,
            generic::{Operator, OutputBuilder, builder_rc::OperatorBuilder},
        },
    },
};

/// Records polled before the worker does something else.
const POLL: usize = 1024;

/// A source and what it has emitted, shared by the operator that polls and the loop that acks.
pub struct Reading {
    /// The source of this worker.
    pub source: Box<dyn Source>,
    /// What it emitted that is not yet durable.
    pub bindings: Bindings,
    /// It has emitted its last record, or was told to stop.
    pub finished: bool,
}

/// What a source gives.
pub struct Records<'s> {
    /// Its records.
    pub records: Stream<'s, Epoch, Vec<Incoming>>,
    /// Of each partition, how far it has been emitted by the end of an epoch.
    pub bounds: Stream<'s, Epoch, Vec<Bound>>,
    /// Records that it was to emit and does not have any more.
    pub lost: Stream<'s, Epoch, Vec<Lost>>,
}

/// How a source is read.
pub struct Terms {
    /// The most records on their way at once.
    pub max_in_flight: usize,
    /// When to begin.
    pub gate: Gate,
    /// What is told to checkpoints, where there are any.
    pub offers: Option<Offers>,
    /// What earlier runs have found missing, where this reader is the one to tell.
    pub lost: Vec<Lost>,
    /// Hears of each loss found now, on this worker.
    pub on_lost: Box<dyn Fn(&Lost)>,
}

/// Records of `reading.source`. See the module.
pub fn read<'s>(
    ticks: Stream<'s, Epoch, Vec<()>>,
    reading: Rc<RefCell<Reading>>,
    terms: Terms,
    control: Arc<Control>,
    now: impl Fn() -> Micros + 'static,
) -> Records<'s> {
    let Terms {
        max_in_flight,
        gate,
        mut offers,
        lost: mut found,
        on_lost,
    } = terms;
    let scope = ticks.scope();
    let index = scope.worker().index();
    let mut builder = OperatorBuilder::new("read".into(), scope);
    let info = builder.operator_info();
    let mut input = builder.new_input(ticks, Pipeline);
    let (output, records) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Incoming>>>::from(output);
    let (bounds_output, bounds) = builder.new_output();
    let mut bounds_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Bound>>>::from(bounds_output);
    let (lost_output, lost) = builder.new_output();
    let mut lost_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Lost>>>::from(lost_output);
    let activator = scope.activator_for(info.address.clone());
    let wake = scope.worker().sync_activator_for(info.address.to_vec());
    let known = found.len();
    let mut begins: Vec<Bound> = {
        let source = &mut reading.borrow_mut().source;
        source.set_waker(Arc::new(move || {
            // It fails only when the worker has gone, and then nobody waits.
            let _ = wake.activate();
        }));
        let begins = source.begins().into_iter().map(bound).collect();
        found.extend(source.take_gaps().into_iter().map(|gap| lose(gap, now())));
        begins
    };
    found.iter().skip(known).for_each(&on_lost);
    // A partition of which nothing comes goes on where it is.
    if let Some(offers) = &mut offers {
        let source = &reading.borrow().source;
        for begin in &begins {
            offers.bind(begin.clone(), source.incarnation(&of_bound(begin)));
        }
    }
    // What was restored is in the views from the first epoch on, also while the gate is closed: with it, of which
    // records they are the fold.
    let mut has_begun = false;
    // All are of the newest tick heard.
    let mut newest: Option<[Capability<Epoch>; 3]> = None;
    let mut batch: Vec<Received> = Vec::with_capacity(POLL);
    builder.build(move |_| {
        move |frontiers| {
            input.for_each_stamp(|tick, _| {
                let outputs = (tick.retain_least(0), tick.retain_least(1), tick.retain_least(2));
                let (Some(records), Some(bounds), Some(lost)) = outputs else {
                    return;
                };
                if !std::mem::replace(&mut has_begun, true) {
                    let mut output = bounds_output.activate();
                    let mut session = output.session_with_builder(&bounds);
                    session.give_iterator(std::mem::take(&mut begins).into_iter());
                    let mut output = lost_output.activate();
                    let mut session = output.session_with_builder(&lost);
                    session.give_iterator(found.drain(..));
                }
                if newest
                    .as_ref()
                    .is_none_or(|[newest, ..]| records.time() > newest.time())
                {
                    newest = Some([records, bounds, lost]);
                }
            });
            if let Some(offers) = &mut offers {
                if frontiers[0].is_empty() {
                    offers.passed(None);
                } else if let Some([newest, ..]) = &newest {
                    offers.passed(Some(*newest.time()));
                }
            }
            let mut reading = reading.borrow_mut();
            let reading = &mut *reading;
            if control.is_stopping() || control.is_finished() || frontiers[0].is_empty() {
                reading.finished = true;
            }
            if reading.finished {
                newest = None;
            }
            let Some([capability, of_bounds, of_lost]) = newest.as_ref().filter(|_| gate.is_open()) else {
                return;
            };
            let room = max_in_flight.saturating_sub(reading.bindings.in_flight());
            if room == 0 {
                return;
            }
            match reading.source.poll(&mut batch, room.min(POLL)) {
                Ok(Polled::More) => activator.activate(),
                Ok(Polled::Idle) => {}
                Ok(Polled::Finished) => reading.finished = true,
                Err(error) if error.is_partial() => {
                    let reason = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, reason, "a part of the source is given up, the rest goes on");
                    control.add_fault();
                    activator.activate();
                }
                Err(error) => control.fail(error.to_string()),
            }
            if !batch.is_empty() {
                fault::point("polled");
            }
            // What was polled of their partitions comes after them.
            for gap in reading.source.take_gaps() {
                let lost = lose(gap, now());
                on_lost(&lost);
                if let Some(offers) = &mut offers {
                    let bound = ((Arc::clone(&lost.stream), lost.partition), lost.to);
                    let incarnation = reading.source.incarnation(&of_bound(&bound));
                    offers.bind(bound, incarnation);
                }
                found.push(lost);
            }
            if !found.is_empty() {
                let mut lost = lost_output.activate();
                lost.session_with_builder(of_lost).give_iterator(found.drain(..));
            }
            if !batch.is_empty() {
                let read_at = now();
                let epoch = *capability.time();
                let (mut output, mut bounds) = (output.activate(), bounds_output.activate());
                let mut session = output.session_with_builder(capability);
                let mut bounds = bounds.session_with_builder(of_bounds);
                let mut run: Option<Run> = None;
                for received in batch.drain(..) {
                    let offset = received.place.offset;
                    let run = match &mut run {
                        Some(run) if run.is_of(&received) => run,
                        run => {
                            if let Some(run) = run {
                                tell(&mut offers, run, |bound| bounds.give(bound));
                            }
                            run.insert(Run::new(&received, &*reading.source))
                        }
                    };
                    run.next = offset + 1;
                    let known = offset < run.known_to;
                    if known {
                        reading.bindings.bind_one(epoch);
                    } else {
                        reading
                            .bindings
                            .bind(epoch, run.partition.clone(), run.incarnation, offset);
                    }
                    session.give(Incoming {
                        received,
                        read_at,
                        again: None,
                        incarnation: run.incarnation,
                        known,
                    });
                }
                if let Some(run) = &run {
                    tell(&mut offers, run, |bound| bounds.give(bound));
                }
            }
            if reading.source.caught_up() {
                control.set_caught_up(index, *capability.time());
            }
        }
    });
    Records {
        records,
        bounds,
        lost,
    }
}

fn lose(gap: Gap, since: Micros) -> Lost {
    Lost {
        stream: gap.partition.stream,
        partition: gap.partition.partition,
        from: gap.from,
        to: gap.to,
        records: gap.records,
        since,
    }
}

fn bound((partition, next): (Partition, u64)) -> Bound {
    ((partition.stream, partition.partition), next)
}

fn of_bound(((stream, partition), _): &Bound) -> Partition {
    Partition {
        stream: Arc::clone(stream),
        partition: *partition,
    }
}

fn tell(offers: &mut Option<Offers>, run: &Run, give: impl FnOnce(Bound)) {
    if let Some(offers) = offers {
        offers.bind(run.bound(), run.incarnation);
    }
    give(run.bound());
}

/// Records of one partition that follow each other.
struct Run {
    partition: Partition,
    incarnation: Incarnation,
    next: u64,
    known_to: u64,
}

impl Run {
    fn new(first: &Received, source: &dyn Source) -> Self {
        let partition = Partition {
            stream: Arc::clone(&first.place.stream),
            partition: first.place.partition,
        };
        let known_to = source.known_to(&partition);
        Self {
            incarnation: source.incarnation(&partition),
            partition,
            next: 0,
            known_to,
        }
    }

    fn bound(&self) -> Bound {
        (
            (Arc::clone(&self.partition.stream), self.partition.partition),
            self.next,
        )
    }

    fn is_of(&self, received: &Received) -> bool {
        let place = &received.place;
        self.partition.partition == place.partition && Arc::ptr_eq(&self.partition.stream, &place.stream)
    }
}

/// Rows of the ledger that are due again. They are bound like records, so that draining waits for
/// them, but no source is told: the ledger learns of their next outcome by itself.
pub fn read_due<'s>(
    ticks: Stream<'s, Epoch, Vec<()>>,
    due: Option<crossbeam_channel::Receiver<Due>>,
    bindings: Rc<RefCell<Bindings>>,
    max_in_flight: usize,
    gate: Gate,
    control: Arc<Control>,
    now: impl Fn() -> Micros + 'static,
) -> Stream<'s, Epoch, Vec<Incoming>> {
    ticks.unary_frontier::<CapacityContainerBuilder<Vec<Incoming>>, _, _, _>(
        Pipeline,
        "read_due",
        move |_capability, _info| {
            let mut newest: Option<Capability<Epoch>> = None;
            move |(input, frontier), output| {
                hear(input, &mut newest);
                if control.is_stopping() || control.is_finished() || frontier.is_empty() {
                    newest = None;
                }
                let (Some(capability), Some(due), true) = (newest.as_ref(), due.as_ref(), gate.is_open())
                else {
                    return;
                };
                let mut bindings = bindings.borrow_mut();
                let room = max_in_flight.saturating_sub(bindings.in_flight()).min(POLL);
                let mut session = output.session(capability);
                for row in due.try_iter().take(room) {
                    bindings.bind_one(*capability.time());
                    session.give(Incoming {
                        received: row.received,
                        read_at: now(),
                        again: Some(Again {
                            event: row.event,
                            target: row.target,
                            attempts: row.attempts,
                            waiting_since: row.waiting_since,
                            released: row.released,
                        }),
                        incarnation: Incarnation::default(),
                        known: false,
                    });
                }
            }
        },
    )
}

/// Keeps the capability of the newest tick heard and lets go of all others.
fn hear<P>(
    input: &mut timely::dataflow::operators::generic::InputHandleCore<Epoch, Vec<()>, P>,
    newest: &mut Option<Capability<Epoch>>,
) where
    P: timely::communication::Pull<timely::dataflow::channels::Message<Epoch, Vec<()>>>,
{
    input.for_each_stamp(|tick, _| {
        if let Some(tick) = tick.retain_least(0)
            && newest.as_ref().is_none_or(|newest| tick.time() > newest.time())
        {
            *newest = Some(tick);
        }
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dbb_sources::{Offsets, SourceError, Waker};
    use timely::dataflow::{
        InputHandle, ProbeHandle,
        operators::{Input, Inspect, Probe},
    };

    /// Of one partition that begins with record 7, where 2 are missing; it has nothing more.
    struct Begun(Vec<Gap>);

    impl Source for Begun {
        fn poll(&mut self, _: &mut Vec<Received>, _: usize) -> Result<Polled, SourceError> {
            Ok(Polled::Idle)
        }

        fn begins(&mut self) -> Offsets {
            Offsets::from([(partition(), 7)])
        }

        fn take_gaps(&mut self) -> Vec<Gap> {
            std::mem::take(&mut self.0)
        }

        fn ack(&mut self, _: &Offsets) -> Result<(), SourceError> {
            Ok(())
        }

        fn set_waker(&mut self, _: Waker) {}
    }

    fn partition() -> Partition {
        Partition {
            stream: "t".into(),
            partition: 0,
        }
    }

    /// Views have what was restored long before the gate opens on every worker.
    #[test]
    fn where_reading_begins_is_told_in_the_first_epoch_of_all_however_late_the_gate_opens() {
        timely::execute_directly(|worker| {
            let gap = Gap {
                partition: partition(),
                from: 5,
                to: 7,
                records: Some(2),
            };
            let reading = Rc::new(RefCell::new(Reading {
                source: Box::new(Begun(vec![gap])),
                bindings: Bindings::default(),
                finished: false,
            }));
            let mut ticks = InputHandle::<Epoch, CapacityContainerBuilder<Vec<()>>>::new();
            // Closed as long as nothing has been restored.
            let mut restoring = InputHandle::<Epoch, CapacityContainerBuilder<Vec<()>>>::new();
            let (restored, probe) = (ProbeHandle::new(), ProbeHandle::new());
            let told = Rc::new(RefCell::new(Vec::new()));
            let (of_bounds, of_lost) = (Rc::clone(&told), Rc::clone(&told));
            worker.dataflow(|scope| {
                scope.input_from(&mut restoring).probe_with(&restored);
                let terms = Terms {
                    max_in_flight: 10,
                    gate: Gate::new(restored.clone(), Some(5)),
                    offers: None,
                    lost: Vec::new(),
                    on_lost: Box::new(|_| {}),
                };
                let control = Arc::new(Control::new(1));
                let input = scope.input_from(&mut ticks);
                let read = read(input, reading, terms, control, || Micros(1));
                read.bounds
                    .inspect_core(move |event| {
                        if let Ok((stamp, bounds)) = event {
                            let told = bounds
                                .iter()
                                .map(|(_, next)| (stamp.least().copied(), "begins", *next));
                            of_bounds.borrow_mut().extend(told);
                        }
                    })
                    .probe_with(&probe);
                read.lost
                    .inspect_core(move |event| {
                        if let Ok((stamp, lost)) = event {
                            let told = lost
                                .iter()
                                .map(|lost| (stamp.least().copied(), "lost", lost.from));
                            of_lost.borrow_mut().extend(told);
                        }
                    })
                    .probe_with(&probe);
            });
            for epoch in 6..10 {
                ticks.advance_to(epoch);
                ticks.send(());
            }
            ticks.flush();
            worker.step_while(|| probe.less_than(&9));
            assert!(restored.less_equal(&5), "the gate is closed");
            let mut told = told.borrow().clone();
            told.sort_unstable();
            assert_eq!(told, [(Some(6), "begins", 7), (Some(6), "lost", 5)]);
            restoring.advance_to(6);
        });
    }
}
