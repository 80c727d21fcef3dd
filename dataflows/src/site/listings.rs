//! Listings: the files of a folder, as facts.
//!
//! In:    blocks of lines, those of a file together.
//! Out:   changes, names, complete listings, contents of Rucio datasets.
//! State: what the last header said of the rows that follow; the contents of one Rucio dataset.

use super::{catalogue::NAMED_FOR, tables::Table};
use dbb_events::listing::decode_listing;
use dbb_operators::{
    facts::{Told, Wanted},
    tell::Teller,
    tell_table::{CATALOGUE_LAG_US, ListingTeller},
};
use dbb_sources::{
    Polled, SourceError, Waker,
    listings::{Listings, Piece},
    replay::End,
};
use std::time::Instant;

/// See the module.
pub(super) struct Listed {
    listings: Listings,
    teller: Teller,
    named_since: Instant,
    file: Option<ListingTeller>,
}

impl Listed {
    /// Tells what is wanted of `listings`.
    pub(super) fn new(listings: Listings, wanted: Wanted) -> Self {
        Self {
            listings,
            teller: Teller::new(wanted),
            named_since: Instant::now(),
            file: None,
        }
    }

    fn block(&mut self, (block, text): &Piece, told: &mut Told) {
        let mut file = self
            .file
            .take()
            .unwrap_or_else(|| ListingTeller::new(None, CATALOGUE_LAG_US));
        let report = |offset: u64, problem: String| {
            tracing::error!(file = %block.file, offset, problem, "a row of a listing is left out");
        };
        for line in block.lines(text) {
            match decode_listing(line.bytes) {
                Ok(row) => {
                    if let Err(problem) = file.tell(&row, &mut self.teller, told) {
                        report(line.offset, problem.to_string());
                    }
                }
                Err(error) => {
                    file.spoil();
                    report(line.offset, error.to_string());
                }
            }
        }
        match block.end {
            None => self.file = Some(file),
            Some(end) => {
                if let Err(problem) = file.finish(end == End::Whole, &mut self.teller, told) {
                    tracing::error!(file = %block.file, %problem, "a listing is not whole");
                }
            }
        }
    }
}

impl Table for Listed {
    fn poll(&mut self, told: &mut Told) -> Result<Polled, SourceError> {
        if self.named_since.elapsed() > NAMED_FOR {
            self.teller.forget_names();
            self.named_since = Instant::now();
        }
        let Some(piece) = self.listings.poll() else {
            return Ok(Polled::Idle);
        };
        self.block(&piece, told);
        Ok(Polled::More)
    }

    fn caught_up(&self) -> bool {
        self.listings.caught_up()
    }

    fn set_waker(&mut self, waker: Waker) {
        self.listings.set_waker(waker);
    }
}
