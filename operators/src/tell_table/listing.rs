//! Listing: its rows as changes, and what its end says of what it does not name.
//!
//! A listing is complete only if it says how much it holds, and holds it: of one that is cut short what it
//! names counts, and its silence does not.

use super::Row;
use crate::{
    facts::{Basis, Complete, Contents, DatasetName, DidKey, Said, State, Told},
    tell::Teller,
};
use dbb_events::{
    Micros, ReplicaState,
    listing::{Listed, ListedFile, ListingRow, SnapshotHeader},
};
use std::mem;

/// How far the catalogue trails the events, in microseconds: a replica has arrived up to a minute before the
/// catalogue says so, and is gone from the storage a moment before its row is.
pub const CATALOGUE_LAG_US: i64 = 60_000_000;

/// What is wrong with a listing, or a row of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListingProblem {
    /// Nobody says when it was made.
    #[error(
        "nothing tells when it was listed: begin the file with a line {{\"listed_at\": \"2026-11-21 19:14:49\"}}, \
         or give `--listing FILE@TIME`"
    )]
    NoTime,
    /// A row that is only a file, and no header that names its Rucio dataset.
    #[error(
        "the row names no replica, and no header `contents_of` before it tells of which Rucio dataset it is"
    )]
    NoDataset,
    /// A snapshot that has not what it says it has.
    #[error(
        "the snapshot of {at} names {found} replicas and says it has {expected}: what it names counts, what it \
         does not name is not taken for deleted"
    )]
    Incomplete {
        /// Its time.
        at: Micros,
        /// As its header says.
        expected: u64,
        /// As it has.
        found: u64,
    },
    /// The contents of a Rucio dataset that are not all there.
    #[error("the contents of {dataset} at {at} are not all there, and are left out")]
    IncompleteContents {
        /// The Rucio dataset.
        dataset: DatasetName,
        /// The time of the listing.
        at: Micros,
    },
}

/// Makes facts of the rows of one listing file.
#[derive(Debug)]
pub struct ListingTeller {
    lag_us: i64,
    section: Section,
    /// A row of this section could not be read.
    spoiled: bool,
}

/// What the rows since the last header are.
#[derive(Debug)]
enum Section {
    Unknown,
    Snapshot {
        complete: Complete,
        expected: u64,
        found: u64,
    },
    Listed(Micros),
    Contents(Contents),
}

impl Section {
    fn at(&self) -> Option<Micros> {
        match self {
            Self::Unknown => None,
            Self::Snapshot { complete, .. } => Some(complete.at),
            Self::Listed(at) => Some(*at),
            Self::Contents(contents) => Some(contents.at),
        }
    }
}

impl ListingTeller {
    /// For a file whose rows before any header were listed `at` that time, of a catalogue that trails the
    /// events by at most `lag_us` microseconds.
    pub fn new(at: Option<Micros>, lag_us: i64) -> Self {
        Self {
            lag_us,
            section: at.map_or(Section::Unknown, Section::Listed),
            spoiled: false,
        }
    }

    /// Appends what `row` says to `told`.
    ///
    /// # Errors
    ///
    /// What is wrong with this row, which then says nothing; or, where the row is a header, with what ended there.
    pub fn tell(
        &mut self,
        row: &ListingRow<'_>,
        teller: &mut Teller,
        told: &mut Told,
    ) -> Result<(), ListingProblem> {
        let next = match row {
            ListingRow::File(file) => return self.tell_file(file, teller, told),
            ListingRow::Snapshot(header) => snapshot(header, teller),
            ListingRow::ListedAt(at) => Section::Listed(*at),
            ListingRow::ContentsOf { scope, name, at } => Section::Contents(Contents {
                dataset: teller.words.dataset(scope, name),
                at: *at,
                members: Vec::new(),
            }),
        };
        let ended = mem::replace(&mut self.section, next);
        self.end(ended, teller, told)
    }

    /// Says that a row could not be read: what this part of the file does not name may have been in it.
    pub fn spoil(&mut self) {
        self.spoiled = true;
    }

    /// The end of the file, `whole` unless something of it is missing.
    ///
    /// # Errors
    ///
    /// What the last part of the file lacks.
    pub fn finish(mut self, whole: bool, teller: &mut Teller, told: &mut Told) -> Result<(), ListingProblem> {
        self.spoiled |= !whole;
        let ended = mem::replace(&mut self.section, Section::Unknown);
        self.end(ended, teller, told)
    }

    fn tell_file(
        &mut self,
        file: &ListedFile<'_>,
        teller: &mut Teller,
        told: &mut Told,
    ) -> Result<(), ListingProblem> {
        let Some(at) = self.section.at() else {
            return Err(ListingProblem::NoTime);
        };
        if matches!(file.listed, Listed::Member) && !matches!(self.section, Section::Contents(_)) {
            self.spoiled = true;
            return Err(ListingProblem::NoDataset);
        }
        let mut replica = |rse: &str, state: ReplicaState| {
            let state = State::from(state);
            let at_then = match state {
                State::Copying | State::BeingDeleted => Micros(at.0.saturating_sub(self.lag_us)),
                _ => at,
            };
            let row = row(file, Some(rse), state, at_then, at);
            teller.tell_row(&row, told);
        };
        let replicas = match &file.listed {
            Listed::Replica(rse, state) => {
                replica(rse, *state);
                1
            }
            Listed::All(replicas) => {
                for (rse, state) in replicas {
                    replica(rse, *state);
                }
                teller.tell_row(&row(file, None, State::Gone, at, at), told);
                replicas.len() as u64
            }
            Listed::Member => 0,
        };
        match &mut self.section {
            Section::Snapshot { found, .. } => *found += replicas,
            Section::Contents(contents) => {
                let did = DidKey::new(&file.scope, &file.name);
                contents.members.push((did, file.bytes));
            }
            Section::Unknown | Section::Listed(_) => {}
        }
        Ok(())
    }

    fn end(&mut self, ended: Section, teller: &Teller, told: &mut Told) -> Result<(), ListingProblem> {
        let spoiled = mem::take(&mut self.spoiled);
        let wanted = teller.wanted;
        match ended {
            Section::Snapshot {
                complete,
                expected,
                found,
            } => {
                if spoiled || found != expected {
                    let at = complete.at;
                    return Err(ListingProblem::Incomplete { at, expected, found });
                }
                if wanted.changes {
                    told.completes.push(complete);
                }
            }
            Section::Contents(mut contents) => {
                if spoiled {
                    let Contents { dataset, at, .. } = contents;
                    return Err(ListingProblem::IncompleteContents { dataset, at });
                }
                // One of several replicas a row names its file again.
                contents.members.sort_unstable();
                contents.members.dedup_by_key(|(did, _)| *did);
                if wanted.said {
                    told.said.push(Said::Contents(contents));
                }
            }
            Section::Unknown | Section::Listed(_) => {}
        }
        Ok(())
    }
}

fn snapshot(header: &SnapshotHeader<'_>, teller: &mut Teller) -> Section {
    let rses = header.rses.as_ref();
    let scopes = header.scopes.as_ref();
    Section::Snapshot {
        complete: Complete {
            at: header.at,
            rses: rses.map(|rses| rses.iter().map(|rse| teller.words.rse(rse)).collect()),
            scopes: scopes.map(|scopes| scopes.iter().map(|scope| teller.words.scope(scope)).collect()),
        },
        expected: header.replicas,
        found: 0,
    }
}

/// What a listing of the moment `listed` says of a replica, true since `at` as far as it can be known.
fn row<'a>(
    file: &'a ListedFile<'_>,
    rse: Option<&'a str>,
    state: State,
    at: Micros,
    listed: Micros,
) -> Row<'a> {
    Row {
        scope: &file.scope,
        name: &file.name,
        rse,
        state,
        basis: Basis::Listing,
        at,
        tie: u64::try_from(listed.0).unwrap_or(0),
        bytes: rse.and(file.bytes),
        adler32: rse.and(file.adler32),
    }
}
