//! Words: names of which there are few, stored once in a process and compared as pointers.
//!
//! Order is that of the text, and they travel between processes as text. What was stored once is never
//! freed: RSEs and scopes are hundreds, Rucio datasets some thousands a night, 100 bytes each.

use serde::{Deserialize, Serialize};
use std::fmt;
use ustr::Ustr;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Ustr);

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

/// The name of a Rucio dataset (not of a Butler one).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DatasetName {
    /// Its scope.
    pub scope: ScopeName,
    /// Its name in the scope.
    pub name: Ustr,
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
