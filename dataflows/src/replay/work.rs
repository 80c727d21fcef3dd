//! What each worker does: build its part of the graph, then read, tell and step until all is read.
//!
//! An epoch is a few blocks of each worker. Nobody reads more than a few epochs ahead of what all have applied,
//! so that what is on its way is a few megabytes, whatever the files.

use super::{
    archive::{self, archive, packed::Packed},
    input::Input,
    report::{Finding, Found, Note, Progress, Report},
};
use crate::{
    runtime::Control,
    views::{self, ViewSettings},
};
use dbb_events::Micros;
use dbb_operators::{
    Epoch,
    facts::{Attempt, Change, Complete, DidName, Said, Told},
    publish::Publisher,
    replicas::Notice,
    tell::Facts,
};
use dbb_sources::replay::{Queue, Reader};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        InputHandle, ProbeHandle, Scope, Stream,
        channels::pact::Exchange,
        operators::{Concat, Probe, generic::Operator, vec::Map as _},
    },
    worker::Worker,
};

/// Blocks in an epoch: an epoch costs every operator a microsecond or two.
const BLOCKS: usize = 4;

/// Epochs that may be read before all have applied them.
const AHEAD: Epoch = 4;

/// How long a worker sleeps at most when it waits for others.
const PARK: Duration = Duration::from_millis(20);

/// What the workers of a process share.
pub(super) struct Shared {
    pub(super) views: ViewSettings,
    pub(super) archive: Option<archive::Settings>,
    pub(super) queue: Arc<Queue>,
    pub(super) until: Option<Micros>,
    pub(super) publisher: Arc<Publisher>,
    /// Of the first worker of all; the others tell it.
    pub(super) report: Mutex<Report>,
    pub(super) progress: Progress,
    pub(super) control: Arc<Control>,
}

type Handle<T> = InputHandle<Epoch, CapacityContainerBuilder<Vec<T>>>;

/// Where facts enter the dataflow.
struct Inputs {
    changes: Handle<Change>,
    names: Handle<DidName>,
    completes: Handle<Complete>,
    attempts: Handle<Attempt>,
    said: Handle<Said>,
    packed: Handle<Packed>,
}

/// What operators found, until it is sent to the first worker.
type Notices = Rc<RefCell<BTreeMap<Finding, Found>>>;

/// One worker, from start to end.
pub(super) fn work(worker: &mut Worker, shared: &Arc<Shared>) {
    let peers = worker.peers();
    let probe = ProbeHandle::new();
    let notices = Notices::default();
    let (mut inputs, mut notes) =
        worker.dataflow_named("replay", |scope| build(scope, shared, &probe, &notices));
    let mut input = Input::new(
        Reader::new(Arc::clone(&shared.queue)),
        shared.views.facts(),
        shared.until,
        shared.archive.as_ref().map(|_| peers),
    );
    let mut told = Told::default();
    let mut packed = Vec::new();
    let mut epoch: Epoch = 0;
    let mut more = true;
    while more && !shared.control.is_finished() {
        for _ in 0..BLOCKS {
            more = input.tell(&mut told);
            if !more {
                break;
            }
            if let Some(packer) = input.packer() {
                packer.take(&mut packed);
            }
            inputs.send(&mut told, &mut packed);
        }
        shared
            .progress
            .events
            .fetch_add(input.events(), Ordering::Relaxed);
        input.take().into_iter().for_each(|note| notes.send(note));
        epoch += 1;
        inputs.advance_to(epoch);
        notes.advance_to(epoch);
        worker.step();
        while probe.less_than(&epoch.saturating_sub(AHEAD)) && !shared.control.is_finished() {
            worker.step_or_park(Some(PARK));
        }
    }
    drop(inputs);
    while !probe.done() && !shared.control.is_finished() {
        worker.step_or_park(Some(PARK));
    }
    for (finding, found) in notices.take() {
        notes.send(Note::Found(finding, found));
    }
    drop(notes);
    // What is left is done by whoever called this, unless it is not to be done.
    while worker.has_dataflows() && !shared.control.is_finished() {
        worker.step_or_park(Some(PARK));
    }
    if shared.control.is_finished() {
        for dataflow in worker.installed_dataflows() {
            worker.drop_dataflow(dataflow);
        }
    }
}

fn build(
    scope: Scope<'_, Epoch>,
    shared: &Arc<Shared>,
    probe: &ProbeHandle<Epoch>,
    notices: &Notices,
) -> (Inputs, Handle<Note>) {
    let mut inputs = Inputs {
        changes: Handle::new(),
        names: Handle::new(),
        completes: Handle::new(),
        attempts: Handle::new(),
        said: Handle::new(),
        packed: Handle::new(),
    };
    let mut notes = Handle::new();
    let facts = Facts {
        changes: inputs.changes.to_stream(scope),
        names: inputs.names.to_stream(scope),
        completes: inputs.completes.to_stream(scope),
        attempts: inputs.attempts.to_stream(scope),
        said: inputs.said.to_stream(scope),
    };
    let heard = Rc::clone(notices);
    // A replay forgets nothing, so nothing comes too late.
    let (views, publisher) = (&shared.views, &shared.publisher);
    let _late = views::build(facts, views, publisher, None, probe, move |notice| {
        hear(&mut heard.borrow_mut(), notice);
    });
    let packed = inputs.packed.to_stream(scope);
    let mut told = notes.to_stream(scope);
    if let Some(settings) = &shared.archive {
        let archived = archive(packed, settings, Arc::clone(&shared.control)).probe_with(probe);
        told = told.concat(archived.map(Note::Archived));
    }
    gather(told, shared);
    (inputs, notes)
}

impl Inputs {
    fn send(&mut self, told: &mut Told, packed: &mut Vec<Packed>) {
        fn send<T: Clone + 'static>(handle: &mut Handle<T>, facts: &mut Vec<T>) {
            if !facts.is_empty() {
                handle.send_batch(facts);
                facts.clear();
            }
        }
        send(&mut self.changes, &mut told.changes);
        send(&mut self.names, &mut told.names);
        send(&mut self.completes, &mut told.completes);
        send(&mut self.attempts, &mut told.attempts);
        send(&mut self.said, &mut told.said);
        send(&mut self.packed, packed);
    }

    fn advance_to(&mut self, epoch: Epoch) {
        self.changes.advance_to(epoch);
        self.names.advance_to(epoch);
        self.completes.advance_to(epoch);
        self.attempts.advance_to(epoch);
        self.said.advance_to(epoch);
        self.packed.advance_to(epoch);
    }
}

/// Brings notes to the first worker, whose process has the report.
fn gather(notes: Stream<'_, Epoch, Vec<Note>>, shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    notes.sink(Exchange::new(|_: &Note| 0), "report", move |(input, _)| {
        input.for_each_stamp(|_, data| {
            let mut report = shared.report.lock().unwrap_or_else(PoisonError::into_inner);
            data.flat_map(|notes| notes.drain(..))
                .for_each(|note| report.add(note));
        });
    });
}

/// Counts what the operator that keeps replicas has noticed.
fn hear(found: &mut BTreeMap<Finding, Found>, notice: Notice) {
    let (finding, found_here) = match notice {
        Notice::Conflict { did, rse, at } => {
            let first = format!("a file at {rse}, {at}");
            (Finding::Conflict, Found::new(format!("{rse} {did:?}"), 0, first))
        }
        Notice::Disagreement { did, rse } => {
            let first = format!("a file at {rse}");
            (
                Finding::Disagreement,
                Found::new(format!("{rse} {did:?}"), 0, first),
            )
        }
        Notice::TooLate => return,
    };
    Found::merge(found, finding, found_here);
}
