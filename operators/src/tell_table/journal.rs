//! Journal: its rows as changes, and whether all of them are there.

use super::Row;
use crate::{
    facts::{Basis, State, Told},
    tell::Teller,
};
use dbb_events::{Micros, journal::JournalRow};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

/// Makes facts of the rows of one journal file, and watches their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalTeller {
    report: JournalReport,
    /// First and last `seq` of each run of rows without a gap.
    runs: BTreeMap<u64, u64>,
    last: Option<(u64, Micros)>,
}

/// What is known of one or more journal files as wholes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalReport {
    /// Rows told.
    pub rows: u64,
    /// Rows that come after one of a later `seq`.
    pub disordered: u64,
    /// Rows that are earlier than the row before them, though later in the journal.
    pub backwards: u64,
    /// What is missing inside each file.
    inside: Vec<RangeInclusive<u64>>,
    /// First and last `seq` of each file.
    files: Vec<RangeInclusive<u64>>,
}

impl JournalTeller {
    /// Appends what `row` says to `told`.
    pub fn tell(&mut self, row: &JournalRow<'_>, teller: &mut Teller, told: &mut Told) {
        self.watch(row.seq, row.at);
        let row = Row {
            scope: &row.scope,
            name: &row.name,
            rse: Some(&row.rse),
            state: row.state.map_or(State::Gone, State::from),
            basis: Basis::Journal,
            at: row.at,
            tie: row.seq,
            bytes: row.bytes,
            adler32: row.adler32,
        };
        teller.tell_row(&row, told);
    }

    fn watch(&mut self, seq: u64, at: Micros) {
        self.report.rows += 1;
        if let Some((last_seq, last_at)) = self.last {
            self.report.disordered += u64::from(seq < last_seq);
            self.report.backwards += u64::from(seq > last_seq && at < last_at);
        }
        self.last = Some((seq, at));
        let before = self.runs.range(..=seq).next_back();
        let (first, last) = match before {
            Some((_, last)) if seq <= *last => return,
            Some((first, last)) if last + 1 == seq => (*first, seq),
            _ => (seq, seq),
        };
        let last = match seq.checked_add(1).and_then(|next| self.runs.remove(&next)) {
            Some(joined) => joined,
            None => last,
        };
        self.runs.insert(first, last);
    }

    /// The end of the file.
    pub fn finish(self) -> JournalReport {
        let mut report = self.report;
        report.inside = holes(self.runs.iter().map(|(first, last)| *first..=*last));
        let ends = self.runs.first_key_value().zip(self.runs.last_key_value());
        report
            .files
            .extend(ends.map(|((first, _), (_, last))| *first..=*last));
        report
    }
}

impl JournalReport {
    /// Adds what is known of other files, in any order.
    pub fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.disordered += other.disordered;
        self.backwards += other.backwards;
        self.inside.extend(other.inside);
        self.files.extend(other.files);
        self.inside.sort_by_key(ends);
        self.files.sort_by_key(ends);
    }

    /// The `seq` that are missing: inside each file, and between files that follow each other.
    pub fn gaps(&self) -> Vec<RangeInclusive<u64>> {
        let mut gaps = holes(self.files.iter().cloned());
        gaps.extend(self.inside.iter().cloned());
        gaps.sort_by_key(ends);
        gaps
    }

    /// True when nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.disordered == 0 && self.backwards == 0 && self.gaps().is_empty()
    }
}

fn ends(range: &RangeInclusive<u64>) -> (u64, u64) {
    (*range.start(), *range.end())
}

/// What lies between ranges that are sorted by where they begin.
fn holes(ranges: impl Iterator<Item = RangeInclusive<u64>>) -> Vec<RangeInclusive<u64>> {
    let (mut holes, mut covered): (Vec<_>, Option<u64>) = (Vec::new(), None);
    for (first, last) in ranges.map(|range| ends(&range)) {
        if let Some(covered) = covered
            && first > covered.saturating_add(1)
        {
            holes.push(covered + 1..=first - 1);
        }
        covered = covered.max(Some(last));
    }
    holes
}

/// How many rows there are, and what is wrong with them.
impl fmt::Display for JournalReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows of the journal", self.rows)?;
        let gaps = self.gaps();
        if let Some(first) = gaps.first() {
            let missing = gaps
                .iter()
                .fold(0, |sum: u64, gap| sum.saturating_add(gap.end() - gap.start() + 1));
            let (from, to) = ends(first);
            let gaps = gaps.len();
            write!(
                f,
                ", {missing} missing in {gaps} gaps, the first from seq {from} to {to}"
            )?;
        }
        if self.disordered > 0 {
            write!(f, ", {} after one of a later seq", self.disordered)?;
        }
        if self.backwards > 0 {
            write!(f, ", {} earlier than the row before them", self.backwards)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rows: &[(u64, i64)]) -> JournalReport {
        let mut journal = JournalTeller::default();
        for (seq, at) in rows {
            journal.watch(*seq, Micros(*at));
        }
        journal.finish()
    }

    #[test]
    fn a_journal_that_lacks_nothing_is_sound_in_any_number_of_files() {
        assert!(report(&[(1, 10), (2, 10), (3, 11)]).is_sound());
        assert!(report(&[]).is_sound());
        let (mut one, two) = (report(&[(4, 12), (5, 13)]), report(&[(1, 10), (2, 10), (3, 11)]));
        one.add(two);
        assert!(one.is_sound());
        assert_eq!(one.to_string(), "5 rows of the journal");
        // Journals of two databases, each from 1.
        one.add(report(&[(1, 10), (2, 10)]));
        assert!(one.is_sound());
    }

    #[test]
    fn what_is_missing_or_out_of_order_is_counted_and_named() {
        let mut one = report(&[(8, 20), (12, 19), (11, 30), (11, 30)]);
        assert_eq!(one.gaps(), [9..=10]);
        assert_eq!((one.rows, one.disordered, one.backwards), (4, 1, 1));
        one.add(report(&[(1, 1), (2, 2), (4, 4)]));
        assert_eq!(one.gaps(), [3..=3, 5..=7, 9..=10]);
        one.add(report(&[(5, 5), (6, 6), (7, 7)]));
        assert_eq!(one.gaps(), [3..=3, 9..=10]);
        assert_eq!(
            one.to_string(),
            "10 rows of the journal, 3 missing in 2 gaps, the first from seq 3 to 3, 1 after one of a later seq, \
             1 earlier than the row before them"
        );
    }
}
