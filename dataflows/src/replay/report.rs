//! What a replay read, and what was wrong with it: named, counted, each with the first place.

use super::archive::Archived;
use dbb_events::Micros;
use dbb_operators::tell_table::JournalReport;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// What can be wrong with what is read. None of it stops a replay, and nothing is guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Finding {
    /// A file that ends in the middle, or is damaged.
    Damaged,
    /// A file or folder that is not read at all.
    LeftOut,
    /// A file of which all was read, and about which something is odd.
    Odd,
    /// A line or row that could not be read.
    Unreadable,
    /// A size that no file has; it is taken for one that is not told.
    TooLarge,
    /// An event of a type that nobody knows.
    UnknownType,
    /// An RSE without a name.
    UnknownRse,
    /// A state that Rucio does not have.
    UnknownState,
    /// Numbers that are missing in the journal.
    JournalGap,
    /// A time of the journal before the one of the row before it.
    ClockBackwards,
    /// A row of a journal that comes after later ones.
    Disordered,
    /// A listing from before the first event.
    OldListing,
    /// A listing that has fewer or more rows than it says.
    PartialListing,
    /// Two changes of one replica, closer than clocks can tell, that say different states.
    Conflict,
    /// Two sources that tell different sizes or checksums of one file.
    Disagreement,
}

impl Finding {
    /// In words, for so many.
    pub fn told(self, count: u64) -> String {
        let (one, many) = match self {
            Finding::Damaged => ("damaged or truncated file", "damaged or truncated files"),
            Finding::LeftOut => ("path that is not read", "paths that are not read"),
            Finding::Odd => ("odd file", "odd files"),
            Finding::Unreadable => ("unreadable line", "unreadable lines"),
            Finding::TooLarge => ("size that no file has", "sizes that no files have"),
            Finding::UnknownType => ("event of an unknown type", "events of unknown types"),
            Finding::UnknownRse => ("row of an unknown RSE", "rows of unknown RSEs"),
            Finding::UnknownState => ("row in an unknown state", "rows in unknown states"),
            Finding::JournalGap => ("gap in a journal", "gaps in journals"),
            Finding::ClockBackwards => ("clock that ran backwards", "times that a clock ran backwards"),
            Finding::Disordered => ("row of a journal out of order", "rows of journals out of order"),
            Finding::OldListing => ("listing older than all events", "listings older than all events"),
            Finding::PartialListing => ("listing that is not whole", "listings that are not whole"),
            Finding::Conflict => (
                "conflict closer than clocks can tell",
                "conflicts closer than clocks can tell",
            ),
            Finding::Disagreement => (
                "file whose size or checksum is disputed",
                "files whose sizes or checksums are disputed",
            ),
        };
        format!("{count} {}", if count == 1 { one } else { many })
    }
}

/// How often something was found, and where first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// How often.
    pub count: u64,
    /// The file, and where in it: the first of these is the same whatever the workers.
    order: (String, u64),
    /// The first place, and what it was, in words.
    pub first: String,
}

impl Found {
    /// One, in this file and there.
    pub(crate) fn new(file: String, offset: u64, first: String) -> Self {
        Self {
            count: 1,
            order: (file, offset),
            first,
        }
    }

    /// Adds it to those known.
    pub(crate) fn merge(known: &mut BTreeMap<Finding, Found>, finding: Finding, found: Found) {
        match known.entry(finding) {
            Entry::Vacant(entry) => {
                entry.insert(found);
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.count += found.count;
                if (&found.order, &found.first) < (&known.order, &known.first) {
                    known.order = found.order;
                    known.first = found.first;
                }
            }
        }
    }
}

/// What workers tell the first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Note {
    Read(Read),
    Found(Finding, Found),
    Archived(Archived),
    /// Repeats that were dropped before counting.
    Repeats(u64),
    /// A journal file that ended.
    Journal(String, JournalReport),
    /// A listing, by its file, and its time.
    Listed(String, Micros),
}

/// How much was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Read {
    /// Events, repeats among them.
    pub events: u64,
    /// Rows of journals.
    pub journal_rows: u64,
    /// Rows of listings.
    pub listed: u64,
    /// What was left out because it is later than `--until`.
    pub later: u64,
    /// The times of the first and the last event.
    pub times: Option<(Micros, Micros)>,
}

impl Read {
    /// Records the time of an event.
    pub(crate) fn saw(&mut self, at: Micros) {
        self.times = Some(match self.times {
            Some((first, last)) => (first.min(at), last.max(at)),
            None => (at, at),
        });
    }
}

/// What a replay came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How much was read.
    pub read: Read,
    /// Repeats; `None` where nothing was kept that tells them.
    pub repeats: Option<u64>,
    /// Distinct events written to the archive, and its files.
    pub archived: Option<(u64, u64)>,
    /// What was wrong.
    pub findings: BTreeMap<Finding, Found>,
    /// From start to end.
    pub elapsed: Duration,
    journals: JournalReport,
    /// The times of listings, with their files.
    listings: Vec<(Micros, String)>,
}

impl Report {
    pub(crate) fn add(&mut self, note: Note) {
        match note {
            Note::Read(read) => {
                self.read.events += read.events;
                self.read.journal_rows += read.journal_rows;
                self.read.listed += read.listed;
                self.read.later += read.later;
                if let Some((first, last)) = read.times {
                    self.read.saw(first);
                    self.read.saw(last);
                }
            }
            Note::Found(finding, found) => Found::merge(&mut self.findings, finding, found),
            Note::Archived(archived) => {
                let (events, files) = self.archived.get_or_insert_default();
                *events += archived.events;
                *files += archived.files;
                // The archive sees every event.
                *self.repeats.get_or_insert_default() += archived.repeats;
            }
            Note::Journal(file, report) => {
                for (finding, count, what) in [
                    (
                        Finding::ClockBackwards,
                        report.backwards,
                        "a row is earlier than the one before it",
                    ),
                    (
                        Finding::Disordered,
                        report.disordered,
                        "a row comes after later ones",
                    ),
                ] {
                    if count > 0 {
                        let mut found = Found::new(file.clone(), 0, format!("{file}: {what}"));
                        found.count = count;
                        Found::merge(&mut self.findings, finding, found);
                    }
                }
                self.journals.add(report);
            }
            Note::Listed(file, at) => self.listings.push((at, file)),
            Note::Repeats(repeats) => *self.repeats.get_or_insert_default() += repeats,
        }
    }

    /// What can only be said once everything is read.
    pub(crate) fn finish(&mut self) {
        let gaps = self.journals.gaps();
        if let Some(gap) = gaps.first() {
            let (from, to) = (gap.start(), gap.end());
            let first = match from == to {
                true => format!("row {from} is missing"),
                false => format!("rows {from} to {to} are missing"),
            };
            let mut found = Found::new(String::new(), *from, first);
            found.count = gaps.len() as u64;
            Found::merge(&mut self.findings, Finding::JournalGap, found);
        }
        self.listings.sort();
        let Some((first, _)) = self.read.times else { return };
        for (at, file) in self.listings.iter().filter(|(at, _)| *at < first) {
            let told = format!("{file}, of {at}, and the first event is of {first}");
            let found = Found::new(file.clone(), 0, told);
            Found::merge(&mut self.findings, Finding::OldListing, found);
        }
    }

    /// For people: what was read, and a line for each kind of finding.
    pub fn told(&self) -> String {
        let mut text = format!("{} events read", self.read.events);
        let mut part = |count: u64, what: &str| {
            if count > 0 {
                // A string cannot fail to take more.
                let _ = write!(text, ", {count} {what}");
            }
        };
        part(self.read.journal_rows, "rows of journals");
        part(self.read.listed, "rows of listings");
        part(self.repeats.unwrap_or(0), "repeats");
        part(self.read.later, "later than asked for");
        let seconds = self.elapsed.as_secs_f64();
        let _ = writeln!(
            text,
            ", in {seconds:.1} s ({:.0} events/s)",
            self.read.events as f64 / seconds.max(1e-6)
        );
        if let Some((events, files)) = self.archived {
            let _ = writeln!(text, "{events} distinct events archived in {files} files");
        }
        if let Some((_, last)) = self.read.times {
            let behind = self.listings.iter().filter(|(at, _)| *at < last).count();
            if behind > 0 {
                let of = self.listings.len();
                let _ = writeln!(
                    text,
                    "{behind} of {of} listings are older than the newest event, of {last}"
                );
            }
        }
        for (finding, found) in &self.findings {
            let _ = writeln!(text, "{}, first: {}", finding.told(found.count), found.first);
        }
        text
    }
}

/// How far the workers of a process have come, for the progress bar.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Events read.
    pub(crate) events: AtomicU64,
}

impl Progress {
    /// Brings the bar up to date.
    pub(crate) fn show(&self, bar: &ProgressBar, bytes: u64, started: Instant) {
        let events = self.events.load(Ordering::Relaxed);
        let rate = events as f64 / started.elapsed().as_secs_f64().max(1e-3);
        bar.set_position(bytes);
        bar.set_message(format!("{events} events, {rate:.0}/s"));
    }
}

/// A bar over so many bytes.
pub(crate) fn bar(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {msg} {eta}");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_is_the_first_of_all_workers() {
        let found = |count, file: &str, offset, first: &str| {
            let mut found = Found::new(file.into(), offset, first.into());
            found.count = count;
            Note::Found(Finding::Unreadable, found)
        };
        let mut report = Report::default();
        for note in [
            found(2, "b", 7, "b:3"),
            found(1, "a", 9, "a:4"),
            found(4, "c", 0, "c:1"),
            Note::Read(Read {
                events: 10,
                ..Read::default()
            }),
        ] {
            report.add(note);
        }
        assert_eq!(
            report.told(),
            "10 events read, in 0.0 s (10000000 events/s)\n7 unreadable lines, first: a:4\n"
        );
    }
}
