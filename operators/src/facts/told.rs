//! Told: the facts of some records, gathered before they are sent on together.

use super::{Attempt, Change, Complete, DidName, Said};

/// Which facts somebody wants; what nobody wants is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Changes of replicas.
    pub changes: bool,
    /// Names of files.
    pub names: bool,
    /// Steps of requests.
    pub attempts: bool,
    /// Rules, losses, contents.
    pub said: bool,
}

impl Wanted {
    /// True when nobody wants anything.
    pub fn nothing(self) -> bool {
        self == Self::default()
    }

    /// What either wants.
    pub fn or(self, other: Self) -> Self {
        Self {
            changes: self.changes || other.changes,
            names: self.names || other.names,
            attempts: self.attempts || other.attempts,
            said: self.said || other.said,
        }
    }
}

/// Facts, each kind in a list of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Changes of replicas.
    pub changes: Vec<Change>,
    /// Names of files.
    pub names: Vec<DidName>,
    /// Listings that named everything there was.
    pub completes: Vec<Complete>,
    /// Steps of requests.
    pub attempts: Vec<Attempt>,
    /// The rest.
    pub said: Vec<Said>,
}
