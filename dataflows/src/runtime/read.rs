//! Read: a source's records enter the dataflow at the epoch of the newest tick.
//!
//! ```text
//!   ticks --------> the newest tick's capability
//!   source.poll --> records at that epoch          bindings: epoch -> offsets
//! ```
//!
//! In:    ticks.
//! Out:   records, each with the time it was read.
//! State: the bindings of the open epochs.
//!
//! Frontier: an epoch ends when the next tick is heard. No more than `max_in_flight` records are on
//! their way at once: then nothing is polled until outcomes are durable.

use super::{Bindings, Control};
use dbb_events::{Due, Micros, Received};
use dbb_operators::{Again, Epoch, Incoming};
use dbb_sources::{Partition, Polled, Source};
use std::{cell::RefCell, rc::Rc, sync::Arc};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::Pipeline,
        operators::{Capability, generic::Operator},
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

/// Records of `reading.source`. See the module.
pub fn read<'s>(
    ticks: Stream<'s, Epoch, Vec<()>>,
    reading: Rc<RefCell<Reading>>,
    max_in_flight: usize,
    control: Arc<Control>,
    now: impl Fn() -> Micros + 'static,
) -> Stream<'s, Epoch, Vec<Incoming>> {
    let scope = ticks.scope();
    ticks.unary_frontier::<CapacityContainerBuilder<Vec<Incoming>>, _, _, _>(
        Pipeline,
        "read",
        move |_capability, info| {
            let activator = scope.activator_for(info.address.clone());
            let wake = scope.worker().sync_activator_for(info.address.to_vec());
            reading.borrow_mut().source.set_waker(Arc::new(move || {
                // It fails only when the worker has gone, and then nobody waits.
                let _ = wake.activate();
            }));
            let mut newest: Option<Capability<Epoch>> = None;
            let mut batch: Vec<Received> = Vec::with_capacity(POLL);
            move |(input, frontier), output| {
                hear(input, &mut newest);
                let mut reading = reading.borrow_mut();
                let reading = &mut *reading;
                if control.is_stopping() || control.is_finished() || frontier.is_empty() {
                    reading.finished = true;
                }
                if reading.finished {
                    newest = None;
                }
                let Some(capability) = newest.as_ref() else { return };
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
                    let read_at = now();
                    let epoch = *capability.time();
                    let mut session = output.session(capability);
                    for received in batch.drain(..) {
                        let partition = Partition {
                            stream: Arc::clone(&received.place.stream),
                            partition: received.place.partition,
                        };
                        reading.bindings.bind(epoch, partition, received.place.offset);
                        session.give(Incoming {
                            received,
                            read_at,
                            again: None,
                            known: false,
                        });
                    }
                }
            }
        },
    )
}

/// Rows of the ledger that are due again. They are bound like records, so that draining waits for
/// them, but no source is told: the ledger learns of their next outcome by itself.
pub fn read_due<'s>(
    ticks: Stream<'s, Epoch, Vec<()>>,
    due: Option<crossbeam_channel::Receiver<Due>>,
    bindings: Rc<RefCell<Bindings>>,
    max_in_flight: usize,
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
                let (Some(capability), Some(due)) = (newest.as_ref(), due.as_ref()) else {
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
                        }),
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
