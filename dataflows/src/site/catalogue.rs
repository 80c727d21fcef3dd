//! Catalogue: the facts of Rucio's own table of replicas, beside those of events.
//!
//! ```text
//!   ticks --------------> the newest tick's capability
//!   catalogue's records --> lines of a snapshot, changes --> facts at that epoch
//! ```
//!
//! In:    ticks.
//! Out:   changes, names, complete listings.
//! State: the rows of a snapshot that are still to come, as a number.

use crate::runtime::Control;
use dbb_events::{Received, journal::decode_journal, listing::ListingRow, listing::decode_listing};
use dbb_operators::{
    Epoch,
    facts::{Change, Complete, DidName, Told, Wanted},
    tell::Teller,
    tell_table::{CATALOGUE_LAG_US, JournalTeller, ListingTeller},
};
use dbb_sources::{Polled, Source, catalogue::SNAPSHOT};
use std::{
    sync::Arc,
    time::{Duration, Instant},
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

/// Records polled before the worker does something else.
const POLL: usize = 4096;
/// How often files are named anew, for those that were forgotten and came back.
const NAMED_FOR: Duration = Duration::from_secs(3600);

/// What the table tells.
pub(super) struct Catalogued<'s> {
    pub(super) changes: Stream<'s, Epoch, Vec<Change>>,
    pub(super) names: Stream<'s, Epoch, Vec<DidName>>,
    pub(super) completes: Stream<'s, Epoch, Vec<Complete>>,
}

/// Facts of `source`, where this worker has one. See the module.
pub(super) fn catalogue<'s>(
    ticks: Stream<'s, Epoch, Vec<()>>,
    source: Option<Box<dyn Source>>,
    wanted: Wanted,
    control: Arc<Control>,
) -> Catalogued<'s> {
    let scope = ticks.scope();
    let mut builder = OperatorBuilder::new("catalogue".into(), scope);
    let info = builder.operator_info();
    let activator = scope.activator_for(info.address.clone());
    let wake = Arc::new(scope.worker().sync_activator_for(info.address.to_vec()));
    let mut input = builder.new_input(ticks, Pipeline);
    let (changes_out, changes) = builder.new_output::<Vec<Change>>();
    let (names_out, names) = builder.new_output::<Vec<DidName>>();
    let (completes_out, completes) = builder.new_output::<Vec<Complete>>();
    let mut changes_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Change>>>::from(changes_out);
    let mut names_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<DidName>>>::from(names_out);
    let mut completes_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Complete>>>::from(completes_out);
    builder.build(move |_capabilities| {
        let mut reading = source.map(|mut source| {
            source.set_waker(Arc::new(move || {
                // It fails only when the worker has gone, and then nobody waits.
                let _ = wake.activate();
            }));
            Reading::new(source, wanted)
        });
        let mut newest: [Option<Capability<Epoch>>; 3] = Default::default();
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
                reading = None;
            }
            let Some(read) = &mut reading else {
                newest = Default::default();
                return;
            };
            let [Some(changed), Some(named), Some(completed)] = &newest else {
                return;
            };
            let mut told = Told::default();
            match read.poll(&mut told) {
                Ok(Polled::More) => activator.activate(),
                // One that has finished says so again at the next tick.
                Ok(Polled::Idle | Polled::Finished) => {}
                Err(error) => control.fail(error.to_string()),
            }
            changes_out
                .activate()
                .session(changed)
                .give_iterator(told.changes.into_iter());
            names_out
                .activate()
                .session(named)
                .give_iterator(told.names.into_iter());
            completes_out
                .activate()
                .session(completed)
                .give_iterator(told.completes.into_iter());
        }
    });
    Catalogued {
        changes,
        names,
        completes,
    }
}

struct Reading {
    source: Box<dyn Source>,
    batch: Vec<Received>,
    teller: Teller,
    named_since: Instant,
    listing: Option<ListingTeller>,
    /// Rows of the snapshot that are still to come.
    left: u64,
}

impl Reading {
    fn new(source: Box<dyn Source>, wanted: Wanted) -> Self {
        Self {
            source,
            batch: Vec::with_capacity(POLL),
            teller: Teller::new(wanted),
            named_since: Instant::now(),
            listing: None,
            left: 0,
        }
    }

    fn poll(&mut self, told: &mut Told) -> Result<Polled, dbb_sources::SourceError> {
        if self.named_since.elapsed() > NAMED_FOR {
            self.teller.forget_names();
            self.named_since = Instant::now();
        }
        let polled = self.source.poll(&mut self.batch, POLL)?;
        for record in std::mem::take(&mut self.batch) {
            let problem = if record.place.partition == SNAPSHOT {
                self.snapshot(&record.body, told)
            } else {
                self.change(&record.body, told)
            };
            if let Some(problem) = problem {
                tracing::error!(place = %record.place, problem, "a row of the catalogue is left out");
            }
        }
        Ok(polled)
    }

    /// A line of a snapshot; what is wrong with it, if anything.
    fn snapshot(&mut self, body: &[u8], told: &mut Told) -> Option<String> {
        let listing = self
            .listing
            .get_or_insert_with(|| ListingTeller::new(None, CATALOGUE_LAG_US));
        let row = match decode_listing(body) {
            Ok(row) => row,
            Err(error) => {
                listing.spoil();
                self.left = self.left.saturating_sub(1);
                return Some(error.to_string());
            }
        };
        self.left = match &row {
            ListingRow::Snapshot(header) => header.replicas,
            _ => self.left.saturating_sub(1),
        };
        let mut problem = listing.tell(&row, &mut self.teller, told).err();
        if self.left == 0
            && let Some(listing) = self.listing.take()
        {
            problem = listing.finish(true, &mut self.teller, told).err().or(problem);
        }
        problem.map(|problem| problem.to_string())
    }

    /// A change; what is wrong with it, if anything.
    fn change(&mut self, body: &[u8], told: &mut Told) -> Option<String> {
        match decode_journal(body) {
            Ok(row) => {
                // Positions in a log have gaps: a journal of one row has none to report.
                JournalTeller::default().tell(&row, &mut self.teller, told);
                None
            }
            Err(error) => Some(error.to_string()),
        }
    }
}
