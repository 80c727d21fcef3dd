//! Tables: the facts of what is no event: Rucio's own table of replicas, and listings.
//!
//! ```text
//!   ticks --------------> the newest tick's capability
//!   rows of each table --> facts at that epoch
//! ```
//!
//! In:    ticks.
//! Out:   changes, names, complete listings, contents of Rucio datasets.
//! State: none of its own.

use crate::runtime::{Control, Gate};
use dbb_operators::{
    Epoch,
    facts::{Change, Complete, DidName, Said, Told},
};
use dbb_sources::{Polled, SourceError, Waker};
use std::sync::Arc;
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

/// A table that tells facts.
pub(super) trait Table {
    /// Appends some facts that are ready, and returns at once.
    fn poll(&mut self, told: &mut Told) -> Result<Polled, SourceError>;

    /// True once all that was there at the start has been told.
    fn caught_up(&self) -> bool;

    /// Sets what to call when there is something to tell.
    fn set_waker(&mut self, waker: Waker);
}

/// What tables tell.
pub(super) struct Tabled<'s> {
    pub(super) changes: Stream<'s, Epoch, Vec<Change>>,
    pub(super) names: Stream<'s, Epoch, Vec<DidName>>,
    pub(super) completes: Stream<'s, Epoch, Vec<Complete>>,
    pub(super) said: Stream<'s, Epoch, Vec<Said>>,
}

/// The facts of `tables`, which this worker has. See the module.
pub(super) fn tables<'s>(
    ticks: Stream<'s, Epoch, Vec<()>>,
    mut tables: Vec<Box<dyn Table>>,
    gate: Gate,
    control: Arc<Control>,
) -> Tabled<'s> {
    let scope = ticks.scope();
    let mut builder = OperatorBuilder::new("tables".into(), scope);
    let info = builder.operator_info();
    let activator = scope.activator_for(info.address.clone());
    let wake = Arc::new(scope.worker().sync_activator_for(info.address.to_vec()));
    let mut input = builder.new_input(ticks, Pipeline);
    let (changes_out, changes) = builder.new_output::<Vec<Change>>();
    let (names_out, names) = builder.new_output::<Vec<DidName>>();
    let (completes_out, completes) = builder.new_output::<Vec<Complete>>();
    let (said_out, said) = builder.new_output::<Vec<Said>>();
    let mut changes_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Change>>>::from(changes_out);
    let mut names_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<DidName>>>::from(names_out);
    let mut completes_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Complete>>>::from(completes_out);
    let mut said_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Said>>>::from(said_out);
    builder.build(move |_capabilities| {
        for table in &mut tables {
            let wake = Arc::clone(&wake);
            table.set_waker(Arc::new(move || {
                // It fails only when the worker has gone, and then nobody waits.
                let _ = wake.activate();
            }));
        }
        let mut newest: [Option<Capability<Epoch>>; 4] = Default::default();
        let mut told = Told::default();
        move |frontiers| {
            input.for_each_stamp(|tick, _| {
                for (port, newest) in newest.iter_mut().enumerate() {
                    if let Some(tick) = tick.retain_least(port)
                        && newest.as_ref().is_none_or(|newest| tick.time() > newest.time())
                    {
                        *newest = Some(tick);
                    }
                }
            });
            let ended = frontiers.first().is_none_or(|frontier| frontier.is_empty());
            if ended || control.is_stopping() || control.is_finished() {
                tables.clear();
            }
            if tables.is_empty() {
                newest = Default::default();
                return;
            }
            let [Some(changed), Some(named), Some(completed), Some(heard)] = &newest else {
                return;
            };
            if !gate.is_open() {
                return;
            }
            for table in &mut tables {
                match table.poll(&mut told) {
                    Ok(Polled::More) => activator.activate(),
                    // One that has finished says so again at the next tick.
                    Ok(Polled::Idle | Polled::Finished) => {}
                    Err(error) => control.fail(error.to_string()),
                }
            }
            changes_out
                .activate()
                .session(changed)
                .give_iterator(told.changes.drain(..));
            names_out
                .activate()
                .session(named)
                .give_iterator(told.names.drain(..));
            completes_out
                .activate()
                .session(completed)
                .give_iterator(told.completes.drain(..));
            said_out
                .activate()
                .session(heard)
                .give_iterator(told.said.drain(..));
            if tables.iter().all(|table| table.caught_up()) {
                control.set_tables_caught_up(*changed.time());
            }
        }
    });
    Tabled {
        changes,
        names,
        completes,
        said,
    }
}
