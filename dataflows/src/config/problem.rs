//! What is wrong with a configuration, and where: every message names file, line and key.

use std::{fmt, sync::Arc};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File {
        /// Its path, as given.
        file: Arc<str>,
        /// Line, from 1; 0 for the file as a whole.
        line: u64,
        /// Column, from 1.
        column: u64,
    },
    /// In an environment variable, by its name.
    Environment(Arc<str>),
    /// In an option `--set`, by the key it sets.
    Set(Arc<str>),
    /// Nowhere: a default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { file, line: 0, .. } => f.write_str(file),
            Origin::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Set(text) => write!(f, "--set {text}"),
            Origin::Default => f.write_str("built-in default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, from the root: `routes[0].repositories[1]`; empty for the document.
    pub path: String,
    /// Where it was written.
    pub origin: Origin,
    /// What is wrong, in lower case, without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(path: impl Into<String>, origin: Origin, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            origin,
            message: message.into(),
            hint: None,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// A configuration that cannot be used; the program ends with status 78.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Everything that was found, at least one.
    pub problems: Vec<Problem>,
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
        }
    }
}

/// One line a problem.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The one of `known` that `word` was most likely meant to be.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase()), k))
        // A third of the letters may be wrong; more than that is another word.
        .filter(|(distance, k)| *distance * 3 <= k.len().max(word.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_a_slip_away_not_another_word() {
        let known = ["max_datasets", "max_bytes", "max_wait_ms"];
        assert_eq!(nearest("max_datset", known), Some("max_datasets"));
        assert_eq!(nearest("MAX_WAIT_MS", known), Some("max_wait_ms"));
        assert_eq!(nearest("colour", known), None);
    }
}
