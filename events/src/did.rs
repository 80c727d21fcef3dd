//! Rucio's names: data identifiers and storage elements.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// A Rucio data identifier: a scope and a name in it, written `scope:name`.
///
/// A scope has at most 25 characters, a name at most 500 (Rucio's schema); neither is checked here,
/// because an event is reported as it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Did {
    /// The name space: `raw`, `dp2`.
    pub scope: Arc<str>,
    /// The name, which at Rubin is the path below the scope's directory, without a leading slash.
    pub name: Arc<str>,
}

impl Did {
    /// The DID of `name` in `scope`.
    pub fn new(scope: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            scope: scope.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scope, self.name)
    }
}

/// The name of a Rucio Storage Element, such as `IN2P3_RAW_DISK`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rse(pub Arc<str>);

impl Rse {
    /// The RSE called `name`.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Rse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
