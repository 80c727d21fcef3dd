//! A mark of a ledger: which one it is, and how far it had been written.
//!
//! Written beside each offset that is committed, and into each checkpoint. A ledger that is another, or stands at a lower
//! mark, does not hold all outcomes of what is below.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Which ledger, and which of its states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// The number that the ledger was given when it was made, by chance.
    pub ledger: u64,
    /// How often it had been written to: it only rises.
    pub at: u64,
}

impl Mark {
    /// True if a ledger that stands at this mark holds all that was in it at `earlier`.
    pub fn holds(self, earlier: Mark) -> bool {
        self.ledger == earlier.ledger && self.at >= earlier.at
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x} at {}", self.ledger, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_that_is_behind_or_another_does_not_hold_what_was_written() {
        let at = |ledger, at| Mark { ledger, at };
        assert!(at(1, 7).holds(at(1, 7)) && at(1, 8).holds(at(1, 7)));
        assert!(!at(1, 6).holds(at(1, 7)) && !at(2, 9).holds(at(1, 7)));
    }
}
