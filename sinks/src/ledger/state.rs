//! The outcome of a row as the ledger stores it: one small number each, never renumbered.

use dbb_events::Outcome;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a row stands: [`Outcome`] without what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Registered by `dbb`.
    Ingested,
    /// Registered before, at the same URI.
    AlreadyThere,
    /// Registered before, at another URI.
    AlreadyThereElsewhere,
    /// Was registered from a replica that is gone, and is so no more.
    Removed,
    /// Nothing was registered from a replica that is gone.
    NotThere,
    /// Stays registered from another replica than the one that is gone.
    KeptElsewhere,
    /// A newer event of the same file was applied first.
    Superseded,
    /// In its topic; what a hub publishes at once has no row.
    Published,
    /// Comes back when it is due.
    Waiting,
    /// A dead letter.
    Refused,
}

/// The number of [`State::Waiting`] where SQL needs a literal for a partial index.
pub(crate) const WAITING: i64 = 5;
/// The number of [`State::Refused`] where SQL needs a literal for a partial index.
pub(crate) const REFUSED: i64 = 6;

impl State {
    /// All states, in the order of tables.
    pub const ALL: [State; 10] = [
        State::Ingested,
        State::AlreadyThere,
        State::AlreadyThereElsewhere,
        State::Removed,
        State::NotThere,
        State::KeptElsewhere,
        State::Superseded,
        State::Published,
        State::Waiting,
        State::Refused,
    ];

    /// The number in the tables.
    pub(crate) fn code(self) -> i64 {
        match self {
            State::Ingested => 1,
            State::AlreadyThere => 2,
            State::AlreadyThereElsewhere => 3,
            State::Superseded => 4,
            State::Waiting => WAITING,
            State::Refused => REFUSED,
            State::Published => 7,
            State::Removed => 8,
            State::NotThere => 9,
            State::KeptElsewhere => 10,
        }
    }

    /// The state with this number.
    pub(crate) fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// The word in metrics and tables, the same as [`Outcome::as_str`].
    pub fn as_str(self) -> &'static str {
        match self {
            State::Ingested => "ingested",
            State::AlreadyThere => "already_there",
            State::AlreadyThereElsewhere => "already_there_elsewhere",
            State::Removed => "removed",
            State::NotThere => "not_there",
            State::KeptElsewhere => "kept_elsewhere",
            State::Superseded => "superseded",
            State::Published => "published",
            State::Waiting => "waiting",
            State::Refused => "refused",
        }
    }

    /// True for what no later answer for the same event changes.
    pub fn is_settled(self) -> bool {
        !matches!(self, State::Waiting | State::Refused)
    }

    /// True when the story of the file goes on from here: it is registered, or gone.
    pub fn is_applied(self) -> bool {
        self.is_registered() || self.is_gone()
    }

    /// True when nothing is registered from a replica that is gone.
    pub fn is_gone(self) -> bool {
        matches!(self, State::Removed | State::NotThere)
    }

    /// True when the file is in the Butler.
    pub fn is_registered(self) -> bool {
        matches!(
            self,
            State::Ingested | State::AlreadyThere | State::AlreadyThereElsewhere
        )
    }
}

impl From<&Outcome> for State {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Ingested => State::Ingested,
            Outcome::AlreadyThere => State::AlreadyThere,
            Outcome::AlreadyThereElsewhere { .. } => State::AlreadyThereElsewhere,
            Outcome::Removed => State::Removed,
            Outcome::NotThere => State::NotThere,
            Outcome::KeptElsewhere { .. } => State::KeptElsewhere,
            Outcome::Superseded { .. } => State::Superseded,
            Outcome::Published => State::Published,
            Outcome::Waiting { .. } => State::Waiting,
            Outcome::Refused(_) => State::Refused,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_numbers_and_words_stay_what_they_are() {
        let codes: Vec<i64> = State::ALL.iter().map(|s| s.code()).collect();
        assert_eq!(codes, [1, 2, 3, 8, 9, 10, 4, 7, 5, 6]);
        assert_eq!(State::ALL.map(State::as_str), Outcome::WORDS);
        for state in State::ALL {
            assert_eq!(State::from_code(state.code()), Some(state));
        }
    }
}
