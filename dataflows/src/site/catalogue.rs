//! Catalogue: Rucio's own table of replicas, as facts.
//!
//! In:    lines of snapshots, and changes, as the source has them.
//! Out:   changes, names, complete listings.
//! State: the rows of a snapshot that are still to come, as a number.

use super::tables::Table;
use dbb_events::{Received, journal::decode_journal, listing::ListingRow, listing::decode_listing};
use dbb_operators::{
    facts::{Told, Wanted},
    tell::Teller,
    tell_table::{CATALOGUE_LAG_US, JournalTeller, ListingTeller},
};
use dbb_sources::{Polled, Source, SourceError, Waker, catalogue::SNAPSHOT};
use std::time::{Duration, Instant};

/// Records polled before the worker does something else.
const POLL: usize = 4096;
/// How often files are named anew, for those that were forgotten and came back.
pub(super) const NAMED_FOR: Duration = Duration::from_secs(3600);

/// See the module.
pub(super) struct Catalogue {
    source: Box<dyn Source>,
    batch: Vec<Received>,
    teller: Teller,
    named_since: Instant,
    listing: Option<ListingTeller>,
    /// Rows of the snapshot that are still to come.
    left: u64,
}

impl Catalogue {
    /// Tells what is wanted of `source`.
    pub(super) fn new(source: Box<dyn Source>, wanted: Wanted) -> Self {
        Self {
            source,
            batch: Vec::with_capacity(POLL),
            teller: Teller::new(wanted),
            named_since: Instant::now(),
            listing: None,
            left: 0,
        }
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

impl Table for Catalogue {
    fn poll(&mut self, told: &mut Told) -> Result<Polled, SourceError> {
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

    fn caught_up(&self) -> bool {
        self.source.caught_up()
    }

    fn set_waker(&mut self, waker: Waker) {
        self.source.set_waker(waker);
    }
}
