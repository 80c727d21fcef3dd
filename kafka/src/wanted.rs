//! Wanted: topics by name, or by a pattern that their names match.

use crate::BadSettings;
use regex::Regex;

/// A topic by name, or all that match.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Its name.
    Name(String),
    /// What its whole name matches.
    Pattern(Regex),
}

impl Wanted {
    /// Reads a name, or a regular expression between slashes.
    ///
    /// # Errors
    ///
    /// What is between the slashes is no regular expression.
    pub fn parse(text: &str) -> Result<Self, BadSettings> {
        let Some(pattern) = text.strip_prefix('/').and_then(|text| text.strip_suffix('/')) else {
            return Ok(Self::Name(text.to_owned()));
        };
        Regex::new(&format!("^(?:{pattern})$"))
            .map(Self::Pattern)
            .map_err(|error| {
                BadSettings::new(format!(
                    "topic pattern `{text}` is not a regular expression: {error}"
                ))
            })
    }

    /// True for a topic to read. Kafka's and MirrorMaker's own are read only by name.
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Name(name) => name == topic,
            Self::Pattern(pattern) => {
                !topic.starts_with("__") && !topic.ends_with(".internal") && pattern.is_match(topic)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names_with_or_without_an_alias_but_not_internal_topics() {
        let wanted = Wanted::parse(r"/(\w+\.)?SLAC_.*/").unwrap();
        assert!(wanted.matches("SLAC_RAW-raw") && wanted.matches("usdf.SLAC_RAW-raw"));
        assert!(!wanted.matches("X-SLAC_RAW") && !wanted.matches("SLAC_.checkpoints.internal"));
        assert!(Wanted::parse("SLAC_RAW").unwrap().matches("SLAC_RAW"));
        assert!(Wanted::parse("/(/").unwrap_err().to_string().contains("`/(/`"));
    }
}
