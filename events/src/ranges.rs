//! Ranges: a set of numbers, kept as what lies between its ends.

use rangemap::RangeInclusiveSet;
use serde::{Deserialize, Serialize};
use std::{fmt, ops::RangeInclusive, str::FromStr};

/// A set of numbers; written `3-9,12`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges(RangeInclusiveSet<u64>);

impl Ranges {
    /// All from `first` to `last`.
    pub fn of(first: u64, last: u64) -> Self {
        let mut ranges = Self::default();
        ranges.insert(first, last);
        ranges
    }

    /// Adds all from `first` to `last`; none where `last` is less.
    pub fn insert(&mut self, first: u64, last: u64) {
        if first <= last {
            self.0.insert(first..=last);
        }
    }

    /// Takes out all from `first` to `last`.
    pub fn remove(&mut self, first: u64, last: u64) {
        if first <= last {
            self.0.remove(first..=last);
        }
    }

    /// Takes out those of `first` to `last` that are in it, and gives them.
    pub fn take(&mut self, first: u64, last: u64) -> Self {
        let mut taken = Self::default();
        if first <= last {
            for range in self.0.overlapping(first..=last) {
                taken.insert(first.max(*range.start()), last.min(*range.end()));
            }
            self.0.remove(first..=last);
        }
        taken
    }

    /// Adds all of another.
    pub fn extend(&mut self, other: &Self) {
        for range in other.iter() {
            self.0.insert(range.clone());
        }
    }

    /// True if it has `number`.
    pub fn contains(&self, number: u64) -> bool {
        self.0.contains(&number)
    }

    /// True if it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers it has.
    pub fn count(&self) -> u64 {
        self.iter()
            .map(|range| (range.end() - range.start()).saturating_add(1))
            .fold(0, u64::saturating_add)
    }

    /// How many pieces it is made of.
    pub fn pieces(&self) -> usize {
        self.0.len()
    }

    /// The pieces, rising.
    pub fn iter(&self) -> impl Iterator<Item = &RangeInclusive<u64>> {
        self.0.iter()
    }

    /// The least and the largest number.
    pub fn ends(&self) -> Option<(u64, u64)> {
        Some((*self.0.first()?.start(), *self.0.last()?.end()))
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Ranges {
    type Err = BadRanges;

    fn from_str(text: &str) -> Result<Self, BadRanges> {
        let mut ranges = Self::default();
        for piece in text.split(',').filter(|piece| !piece.is_empty()) {
            let number = |text: &str| text.trim().parse::<u64>().map_err(|_| BadRanges(piece.into()));
            let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(BadRanges(piece.into()));
            }
            ranges.insert(first, last);
        }
        Ok(ranges)
    }
}

/// A text that is no [`Ranges`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a number nor `FIRST-LAST`")]
pub struct BadRanges(String);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pieces_that_touch_are_one_and_what_is_written_is_read() {
        let mut ranges = Ranges::of(3, 9);
        ranges.insert(12, 12);
        assert_eq!(ranges.to_string(), "3-9,12");
        assert_eq!("3-9,12".parse(), Ok(ranges.clone()));
        assert_eq!(ranges.take(9, 12).to_string(), "9,12");
        assert_eq!((ranges.to_string().as_str(), ranges.count()), ("3-8", 6));
        ranges.insert(9, 20);
        assert_eq!((ranges.pieces(), ranges.ends()), (1, Some((3, 20))));
        ranges.remove(0, u64::MAX);
        assert!(ranges.is_empty() && ranges.to_string().is_empty());
        assert_eq!("".parse(), Ok(Ranges::default()));
    }

    #[test]
    fn a_range_that_is_none_is_named() {
        for bad in ["9-3", "a", "1-2,x-4"] {
            assert!(bad.parse::<Ranges>().is_err(), "{bad}");
        }
    }
}
