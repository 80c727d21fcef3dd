//! One lane: which of its numbers have come, and which were passed over.
//!
//! In:    numbers and words of one lane, numbers in any order, each any number of times.
//! Out:   [`Numbers`]: what has changed since the last time.
//! State: the ends of what was seen, and each gap in it: at most [`MOST_GAPS`], each of at most [`MOST_PIECES`].
//!        Beyond that the newest gap takes in what is found, and a piece stays whole until its end arrives: more is
//!        asked for than is missing, never less.

use dbb_events::{Gap, Lane, Micros, Numbers};
use std::collections::{BTreeMap, BTreeSet};

/// Most gaps of a lane.
pub const MOST_GAPS: usize = 1000;
/// Most pieces of what a gap lacks.
pub const MOST_PIECES: usize = 1000;

/// What happened to a number, or to a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noticed {
    /// These records were passed over, or never came.
    Missing {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// One that was missing has come.
    Filled,
    /// The hub does not have so many of those that are missing any more.
    Gone(u64),
    /// A gap that began with this number lacks nothing any more.
    Closed {
        /// Its first number.
        first: u64,
        /// Its last.
        last: u64,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Follow {
    lane: Lane,
    begins: Option<u64>,
    last: u64,
    /// The largest number a heartbeat has told of, and when it first did.
    promised: (u64, Micros),
    progressed_at: Micros,
    gaps: BTreeMap<u64, Gap>,
    changed: BTreeSet<u64>,
    is_changed: bool,
}

impl Follow {
    /// A lane of which nothing is known.
    pub fn new(lane: Lane) -> Self {
        Self {
            lane,
            begins: None,
            last: 0,
            promised: (0, Micros(i64::MIN)),
            progressed_at: Micros(i64::MIN),
            gaps: BTreeMap::new(),
            changed: BTreeSet::new(),
            is_changed: false,
        }
    }

    /// A lane as an earlier run has left it.
    pub fn restore(numbers: Numbers) -> Self {
        let gaps = numbers.gaps.into_iter().map(|gap| (gap.first, gap)).collect();
        Self {
            begins: numbers.begins,
            last: numbers.last,
            gaps,
            ..Self::new(numbers.lane)
        }
    }

    /// A record was read. `opens` its topic: then those before it never came. One that is sent again begins no lane:
    /// it may be meant for another site.
    pub fn number(
        &mut self,
        number: u64,
        (opens, resent): (bool, bool),
        at: Times,
        tell: &mut impl FnMut(Noticed),
    ) {
        let Some(begins) = self.begins else {
            if !resent {
                self.begin(number, opens, at, tell);
            }
            return;
        };
        self.progressed_at = self.progressed_at.max(at.now);
        if number > self.last {
            self.miss(self.last.saturating_add(1), number - 1, at, tell);
            self.last = number;
            self.is_changed = true;
        } else if number >= begins {
            self.fill(number, tell);
        }
    }

    /// The first record that is read: what heartbeats told before is still to come.
    fn begin(&mut self, number: u64, opens: bool, at: Times, tell: &mut impl FnMut(Noticed)) {
        let heard_of = self.last;
        if heard_of > number {
            self.promise(heard_of, at.now);
        }
        let begins = match heard_of {
            _ if opens => 1,
            // What came after the site had heard of the lane should have come to it.
            1.. if heard_of < number => heard_of + 1,
            _ => number,
        };
        self.begins = Some(begins);
        self.progressed_at = at.now;
        self.last = number;
        self.is_changed = true;
        self.miss(begins, number.saturating_sub(1), at, tell);
    }

    /// A heartbeat: records up to `number` were published.
    pub fn promise(&mut self, number: u64, now: Micros) {
        if number == 0 && self.begins.is_none() && self.last == 0 {
            // Whoever hears of a lane before its first record misses nothing of it.
            self.begins = Some(1);
            self.is_changed = true;
        }
        if number > self.promised.0 {
            self.promised = (number, now);
        }
    }

    /// True if heartbeats told of records that have not come.
    pub fn is_owed(&self) -> bool {
        self.promised.0 > self.last
    }

    /// All that there is was read: what was promised long enough ago will not come by itself.
    pub fn at_end(&mut self, patience_us: i64, at: Times, tell: &mut impl FnMut(Noticed)) {
        let (number, since) = self.promised;
        let long_ago = |moment: Micros| at.now.0.saturating_sub(moment.0) >= patience_us;
        if number <= self.last || !long_ago(since) || !long_ago(self.progressed_at) {
            return;
        }
        match self.begins {
            // It was there before this site was.
            None if self.last == 0 => {}
            None => {
                self.begins = Some(self.last.saturating_add(1));
                self.miss(self.last.saturating_add(1), number, at.at_once(), tell);
            }
            Some(_) => self.miss(self.last.saturating_add(1), number, at.at_once(), tell),
        }
        self.last = number;
        self.is_changed = true;
    }

    /// The hub does not have these any more.
    pub fn gone(&mut self, first: u64, last: u64, tell: &mut impl FnMut(Noticed)) {
        for gap in self
            .gaps
            .values_mut()
            .filter(|gap| gap.first <= last && gap.last >= first)
        {
            let gone = gap.left.take(first, last);
            if !gone.is_empty() {
                gap.gone.extend(&gone);
                self.changed.insert(gap.first);
                self.is_changed = true;
                tell(Noticed::Gone(gone.count()));
            }
        }
    }

    fn miss(&mut self, first: u64, last: u64, at: Times, tell: &mut impl FnMut(Noticed)) {
        if first > last {
            return;
        }
        let full = self.gaps.len() >= MOST_GAPS;
        let first_of = match self.gaps.values_mut().next_back().filter(|_| full) {
            Some(gap) => {
                gap.last = last;
                gap.left.insert(first, last);
                gap.first
            }
            None => {
                self.gaps.insert(first, Gap::new(first, last, at.now, at.ask));
                first
            }
        };
        self.changed.insert(first_of);
        tell(Noticed::Missing { first, last });
    }

    fn fill(&mut self, number: u64, tell: &mut impl FnMut(Noticed)) {
        let Some((_, gap)) = self.gaps.range_mut(..=number).next_back() else {
            return;
        };
        let missing = [&mut gap.left, &mut gap.gone];
        let Some(of) = missing.into_iter().find(|of| of.contains(number)) else {
            return;
        };
        let pieces = of.pieces();
        of.remove(number, number);
        if pieces >= MOST_PIECES && of.pieces() > pieces {
            of.insert(number, number);
            return;
        }
        tell(Noticed::Filled);
        if gap.is_filled() {
            let (first, last) = (gap.first, gap.last);
            tell(Noticed::Closed { first, last });
        }
        self.changed.insert(gap.first);
        self.is_changed = true;
    }

    /// How many records are missing, those that are gone too.
    pub fn missing(&self) -> u64 {
        let of = |gap: &Gap| gap.left.count().saturating_add(gap.gone.count());
        self.gaps.values().map(of).fold(0, u64::saturating_add)
    }

    /// What has changed since the last call; a gap that is filled is forgotten with it.
    pub fn take(&mut self, now: Micros) -> Option<Numbers> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        let changed = std::mem::take(&mut self.changed);
        let mut gaps = Vec::with_capacity(changed.len());
        for first in changed {
            let filled = self.gaps.get(&first).is_some_and(Gap::is_filled);
            gaps.extend(if filled {
                self.gaps.remove(&first)
            } else {
                self.gaps.get(&first).cloned()
            });
        }
        Some(Numbers {
            lane: self.lane.clone(),
            begins: self.begins,
            last: self.last,
            gaps,
            at: now,
        })
    }
}

/// The time, and when a gap that is found now is to be asked for.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Now.
    pub now: Micros,
    /// When to ask.
    pub ask: Micros,
}

impl Times {
    fn at_once(self) -> Self {
        Self {
            ask: self.now,
            ..self
        }
    }
}
