//! Words: names of which there are few, stored once in a process and compared as pointers.
//!
//! Order and hash are those of the text: the hash decides which worker a row goes to, and that of a pointer, or
//! of a seed that each process draws for itself, would be another in each process. Words travel as text. What was
//! stored once is never freed: RSEs and scopes are hundreds, Rucio datasets some thousands a night, 100 bytes each.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    hash::{Hash, Hasher},
};
use ustr::Ustr;
use xxhash_rust::xxh3::xxh3_64;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Ustr);

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                hash(self.0, state);
            }
        }

        impl $name {
            /// The word for `text`.
            pub fn new(text: &str) -> Self {
                Self(Ustr::from(text))
            }

            /// The text.
            pub fn as_str(self) -> &'static str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    };
}

word!(
    /// The name of a Rucio Storage Element.
    RseName
);
word!(
    /// A scope: the name space of a DID.
    ScopeName
);

word!(
    /// A site's name for one of its Butler repositories.
    RepositoryName
);
word!(
    /// The word of a ledger for how an event ended.
    OutcomeName
);

/// The name of a Rucio dataset (not of a Butler one).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DatasetName {
    /// Its scope.
    pub scope: ScopeName,
    /// Its name in the scope.
    pub name: Ustr,
}

impl Hash for DatasetName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.scope.hash(state);
        hash(self.name, state);
    }
}

/// The same in every process.
fn hash<H: Hasher>(word: Ustr, state: &mut H) {
    state.write_u64(xxh3_64(word.as_bytes()));
}

impl DatasetName {
    /// The Rucio dataset `scope:name`.
    pub fn new(scope: &str, name: &str) -> Self {
        Self {
            scope: ScopeName::new(scope),
            name: Ustr::from(name),
        }
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scope, self.name)
    }
}
