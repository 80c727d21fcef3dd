//! Policy: where copies of some files must be, and where they must not.

use super::pattern::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Where copies of some files must be, and where they must not: what `placement` compares replicas with.
/// It only reports; what moves files is Rucio's rules.
///
/// Patterns: `*` any text, `?` any one character, `{a,b}` one of some words, `{1..5,17}` a number in a list or range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name in the views.
    pub name: String,
    /// The scopes of its files, as a pattern; all when left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub scope: Option<Pattern>,
    /// The names of its files, as a pattern; all when left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub files: Option<Pattern>,
    /// Only files in a Rucio dataset whose `scope:name` fits one of these patterns, such as
    /// `raw:*/raw/Tract{1..5,17}/*`; no matter which when empty. Known from listings of contents alone.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub in_datasets: Vec<Pattern>,
    /// Not the files in a Rucio dataset whose `scope:name` fits one of these patterns.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub not_in_datasets: Vec<Pattern>,
    /// The RSEs that must have a copy of each.
    #[serde(default)]
    pub must: Vec<String>,
    /// The RSEs, as patterns, that must not have one: `*` is all that are not in `must`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub must_not: Vec<Pattern>,
}

impl Policy {
    /// True for a scope whose files it may select.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scope.as_ref().is_none_or(|pattern| pattern.matches(scope))
    }

    /// True for a file that it may select: the datasets it is in decide.
    pub fn is_about(&self, scope: &str, name: &str) -> bool {
        self.has_scope(scope) && self.files.as_ref().is_none_or(|pattern| pattern.matches(name))
    }
}

/// Finds what is wrong with the policies together.
pub fn check(policies: &[Policy]) -> Result<(), PolicyError> {
    if policies.len() > usize::from(u16::MAX) {
        return Err(PolicyError::TooMany(policies.len()));
    }
    let mut names = BTreeSet::new();
    for policy in policies {
        let name = policy.name.clone();
        if name.is_empty() {
            return Err(PolicyError::NoName);
        }
        if policy.must.is_empty() && policy.must_not.is_empty() {
            return Err(PolicyError::SaysNothing { name });
        }
        if !names.insert(policy.name.as_str()) {
            return Err(PolicyError::Twice { name });
        }
    }
    Ok(())
}

/// What is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A pattern cannot be read.
    #[error("cannot read the pattern `{pattern}`: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It has no name.
    #[error("a placement policy has no name")]
    NoName,
    /// Two have one name.
    #[error("two placement policies have the name `{name}`")]
    Twice {
        /// The name.
        name: String,
    },
    /// It asks for nothing.
    #[error("the placement policy `{name}` has neither `must` nor `must_not`")]
    SaysNothing {
        /// Its name.
        name: String,
    },
    /// More than can be told apart.
    #[error("{0} placement policies are too many")]
    TooMany(usize),
}
