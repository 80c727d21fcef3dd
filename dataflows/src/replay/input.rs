//! Input: what the files hold, as facts.
//!
//! ```text
//!   block --> lines --> events ---------> facts, packed events
//!                  \--> journal, listing --> facts           what is wrong: counted, with its first place
//! ```

use super::{
    archive::packed::{Entry, Packer},
    report::{Finding, Found, Note, Read},
};
use dbb_events::{
    DecodeError, EventType, Glimpse, Micros, decode_record, glimpse,
    journal::decode_journal,
    listing::{ListingRow, decode_listing},
    scan,
};
use dbb_operators::{
    facts::{Told, Wanted},
    tell::{Teller, Untold},
    tell_table::{CATALOGUE_LAG_US, JournalTeller, ListingProblem, ListingTeller},
    views::wide::MAX_FILE_BYTES,
};
use dbb_sources::{
    SourceError,
    replay::{Block, End, Kind, Line, Reader},
};
use std::{collections::BTreeMap, sync::Arc};

/// What one worker reads.
pub(super) struct Input {
    reader: Reader,
    buffer: Vec<u8>,
    digest: Digest,
}

/// What becomes of lines.
struct Digest {
    teller: Teller,
    until: Option<Micros>,
    packer: Option<Packer>,
    read: Read,
    found: BTreeMap<Finding, Found>,
    /// Journals that ended, and the times of listings.
    notes: Vec<Note>,
    /// The journal, or the listing, that is being read: one at a time, from its beginning to its end.
    journal: JournalTeller,
    listing: Option<Listing>,
}

/// A listing that is being read.
struct Listing {
    teller: ListingTeller,
    /// The rows since the last header are later than what is asked for.
    later: bool,
}

/// Where a line is.
struct At<'b> {
    file: &'b Arc<str>,
    line: Line<'b>,
}

impl At<'_> {
    /// The line by its number, or else the byte.
    fn told(&self) -> String {
        match self.line.number {
            Some(number) => format!("{}:{number}", self.file),
            None => format!("{} at byte {}", self.file, self.line.offset),
        }
    }
}

impl Input {
    pub(super) fn new(
        reader: Reader,
        wanted: Wanted,
        until: Option<Micros>,
        archives_to: Option<usize>,
    ) -> Self {
        Self {
            reader,
            buffer: Vec::new(),
            digest: Digest {
                teller: Teller::new(wanted),
                until,
                packer: archives_to.map(Packer::new),
                read: Read::default(),
                found: BTreeMap::new(),
                notes: Vec::new(),
                journal: JournalTeller::default(),
                listing: None,
            },
        }
    }

    /// Tells one block; false when there is no more.
    pub(super) fn tell(&mut self, told: &mut Told) -> bool {
        match self.reader.next_block(&mut self.buffer) {
            Ok(None) => return false,
            Ok(Some(block)) => self.digest.block(&block, &self.buffer, told),
            Err(error) => self.digest.damaged(&error),
        }
        true
    }

    /// The events to archive since the last time.
    pub(super) fn packer(&mut self) -> Option<&mut Packer> {
        self.digest.packer.as_mut()
    }

    /// What was read, and what was wrong, since the last time.
    pub(super) fn take(&mut self) -> Vec<Note> {
        let mut notes = std::mem::take(&mut self.digest.notes);
        notes.push(Note::Read(std::mem::take(&mut self.digest.read)));
        let found = std::mem::take(&mut self.digest.found).into_iter();
        notes.extend(found.map(|(finding, found)| Note::Found(finding, found)));
        notes
    }

    /// Events since the last [`Input::take`].
    pub(super) fn events(&self) -> u64 {
        self.digest.read.events
    }
}

impl Digest {
    fn block(&mut self, block: &Block, text: &[u8], told: &mut Told) {
        match block.kind {
            Kind::Event => {
                for line in block.lines(text) {
                    self.event(
                        &At {
                            file: &block.file,
                            line,
                        },
                        told,
                    );
                }
            }
            Kind::Journal => {
                for line in block.lines(text) {
                    self.journal_row(
                        &At {
                            file: &block.file,
                            line,
                        },
                        told,
                    );
                }
                if block.end.is_some() {
                    let report = std::mem::take(&mut self.journal).finish();
                    self.notes.push(Note::Journal(block.file.to_string(), report));
                }
            }
            Kind::Listing { at } => {
                let later = |until| at.is_some_and(|at| at > until);
                let mut listing = self.listing.take().unwrap_or_else(|| {
                    self.notes
                        .extend(at.map(|at| Note::Listed(block.file.to_string(), at)));
                    Listing {
                        teller: ListingTeller::new(at, CATALOGUE_LAG_US),
                        later: self.until.is_some_and(later),
                    }
                });
                for line in block.lines(text) {
                    self.listing_row(
                        &mut listing,
                        &At {
                            file: &block.file,
                            line,
                        },
                        told,
                    );
                }
                match block.end {
                    None => self.listing = Some(listing),
                    Some(end) => {
                        let ended = listing.teller.finish(end == End::Whole, &mut self.teller, told);
                        if let Err(problem) = ended {
                            self.partial(&problem, &block.file, u64::MAX);
                        }
                    }
                }
            }
        }
    }

    fn journal_row(&mut self, at: &At<'_>, told: &mut Told) {
        match decode_journal(at.line.bytes) {
            Ok(row) if self.until.is_some_and(|until| row.at > until) => self.read.later += 1,
            Ok(row) => {
                self.read.journal_rows += 1;
                self.journal.tell(&row, &mut self.teller, told);
            }
            Err(error) => self.refused(&error, at),
        }
    }

    fn listing_row(&mut self, listing: &mut Listing, at: &At<'_>, told: &mut Told) {
        let row = match decode_listing(at.line.bytes) {
            Ok(row) => row,
            Err(error) => {
                listing.teller.spoil();
                return self.refused(&error, at);
            }
        };
        let time = match &row {
            ListingRow::Snapshot(header) => Some(header.at),
            ListingRow::ListedAt(at) => Some(*at),
            ListingRow::ContentsOf { at, .. } => Some(*at),
            ListingRow::File(_) => None,
        };
        if let Some(time) = time {
            listing.later = self.until.is_some_and(|until| time > until);
            if !listing.later {
                self.notes.push(Note::Listed(at.file.to_string(), time));
            }
        } else if !listing.later {
            self.read.listed += 1;
        }
        if listing.later {
            self.read.later += u64::from(time.is_none());
            return;
        }
        match listing.teller.tell(&row, &mut self.teller, told) {
            Ok(()) => {}
            Err(problem @ (ListingProblem::NoTime | ListingProblem::NoDataset)) => {
                let first = format!("{}: {problem}", at.told());
                self.find(Finding::Unreadable, at, first);
            }
            Err(problem) => self.partial(&problem, at.file, at.line.offset),
        }
    }

    fn partial(&mut self, problem: &ListingProblem, file: &Arc<str>, offset: u64) {
        let found = Found::new(file.to_string(), offset, format!("{file}: {problem}"));
        Found::merge(&mut self.found, Finding::PartialListing, found);
    }

    fn event(&mut self, at: &At<'_>, told: &mut Told) {
        self.read.events += 1;
        let line = at.line.bytes;
        if let Some(glimpse) = scan(line) {
            self.glimpsed(&glimpse, line, at, told);
            return;
        }
        // A record around a body, or a body of another form.
        let body = decode_record(line).body;
        let decoded = glimpse(&body, |glimpse| self.glimpsed(glimpse, &body, at, told));
        if let Err(error) = decoded {
            self.refused(&error, at);
        }
    }

    fn glimpsed(&mut self, glimpse: &Glimpse<'_>, body: &[u8], at: &At<'_>, told: &mut Told) {
        if self.until.is_some_and(|until| glimpse.created_at > until) {
            self.read.later += 1;
            return;
        }
        self.read.saw(glimpse.created_at);
        if let EventType::Other(word) = &glimpse.event_type {
            let first = format!("{}: `{word}`", at.told());
            self.find(Finding::UnknownType, at, first);
        }
        if let Err(untold) = self.teller.tell(glimpse, body, told) {
            let first = format!("{}: {untold}", at.told());
            let no_rse = matches!(untold, Untold::Missing { field } if field.contains("rse"));
            let finding = if no_rse {
                Finding::UnknownRse
            } else {
                Finding::Unreadable
            };
            self.find(finding, at, first);
        }
        if let Some(bytes) = glimpse.bytes.filter(|bytes| *bytes > MAX_FILE_BYTES) {
            let first = format!("{}: {bytes} bytes", at.told());
            self.find(Finding::TooLarge, at, first);
        }
        if let Some(packer) = &mut self.packer {
            packer.push(&Entry {
                event: glimpse.identity(body),
                id: glimpse.id,
                event_type: glimpse.event_type.as_str(),
                scope: glimpse.scope,
                name: glimpse.name,
                rse: glimpse.replica_rse(),
                bytes: glimpse.bytes,
                adler32: glimpse.adler32.unwrap_or(0),
                created_at: glimpse.created_at,
            });
        }
    }

    fn refused(&mut self, error: &DecodeError, at: &At<'_>) {
        let finding = match error {
            DecodeError::UnknownWord { field, .. } if field.contains("state") => Finding::UnknownState,
            DecodeError::Missing { field: "rse" } => Finding::UnknownRse,
            _ => Finding::Unreadable,
        };
        self.find(finding, at, format!("{}: {error}", at.told()));
    }

    fn damaged(&mut self, error: &SourceError) {
        let first = super::error::told(error);
        let finding = match error {
            SourceError::LeftOut { .. } => Finding::LeftOut,
            SourceError::Odd { .. } => Finding::Odd,
            _ => Finding::Damaged,
        };
        // Each by name: the report has the first of each kind.
        tracing::warn!("{first}");
        let found = Found::new(String::new(), 0, first);
        Found::merge(&mut self.found, finding, found);
    }

    fn find(&mut self, finding: Finding, at: &At<'_>, first: String) {
        let found = Found::new(at.file.to_string(), at.line.offset, first);
        Found::merge(&mut self.found, finding, found);
    }
}
