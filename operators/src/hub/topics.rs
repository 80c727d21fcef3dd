//! Topics: which topic an event goes to, by RSE, scope and class.
//!
//! ```text
//!   (RSE, scope) --listed? an exception? the template--> names of its topics     or why there are none
//! ```
//!
//! State: the names of each (RSE, scope) met on this worker, at most [`REMEMBERED`].

use crate::views::placement::Pattern;
use dbb_events::{Class, Rse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, fmt, sync::Arc};

/// Pairs of RSE and scope whose names are remembered; Rubin has some twenty.
const REMEMBERED: usize = 10_000;
/// The longest name that Kafka takes.
const LONGEST: usize = 249;
/// What a hub and its sites tell each other, in topics of their own beside those of the scopes.
const OWN: [&str; 3] = ["heartbeats", "requests", "outcomes"];

/// Which topic each event goes to. `{rse}` and `{scope}` stand for those of the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TopicSettings {
    /// The topic of files for a Butler that have landed: the one that a site registers files from.
    pub landed: String,
    /// What follows that name in the topic of deletions.
    pub deletions: String,
    /// What follows that name in the topic of files that are no Butler datasets.
    pub files: String,
    /// The topic of what cannot be read, or has no topic of its own.
    pub dead_letters: String,
    /// The RSEs that are published, as patterns: `*` any text, `{A,B}_DISK` one of some words. All when empty; what
    /// is of another goes to `dead_letters`.
    #[schemars(with = "Vec<String>")]
    pub rses: Vec<Pattern>,
    /// The scopes that are published, likewise.
    #[schemars(with = "Vec<String>")]
    pub scopes: Vec<Pattern>,
    /// Names that are not made from `landed`.
    pub exceptions: Vec<Exception>,
}

/// A topic that has another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// The RSE.
    pub rse: String,
    /// The scope; all of the RSE when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The topic, in place of `landed`.
    pub topic: String,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            landed: "{rse}-{scope}".into(),
            deletions: "-deletions".into(),
            files: "-files".into(),
            dead_letters: "dbb-dead-letters".into(),
            rses: Vec::new(),
            scopes: Vec::new(),
            exceptions: Vec::new(),
        }
    }
}

/// Why an event has no topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTopic {
    /// The RSE is not among those that are published.
    #[error("RSE `{0}` is none of those under hub.topics.rses")]
    Rse(String),
    /// The scope is not among those that are published.
    #[error("scope `{0}` is none of those under hub.topics.scopes")]
    Scope(String),
    /// Kafka would not take the name.
    #[error("`{0}` is no name of a topic: letters, digits, `.`, `_` and `-`, at most 249 of them")]
    Name(String),
    /// The topic of this scope would be one that is for something else.
    #[error(
        "the topic of scope `{0}` would be one that is for something else; give it a name under hub.topics.exceptions"
    )]
    Taken(String),
}

impl TopicSettings {
    /// The names for an RSE and a scope.
    ///
    /// # Errors
    ///
    /// Why there are none.
    pub fn names(&self, rse: &str, scope: &str) -> Result<Names, NoTopic> {
        let is_listed = |patterns: &[Pattern], word: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(word))
        };
        if !is_listed(&self.rses, rse) {
            return Err(NoTopic::Rse(rse.into()));
        }
        if !is_listed(&self.scopes, scope) {
            return Err(NoTopic::Scope(scope.into()));
        }
        let fits = |exception: &&Exception| {
            exception.rse == rse && exception.scope.as_deref().is_none_or(|own| own == scope)
        };
        // One with the scope says more.
        let exceptions = self.exceptions.iter().filter(fits);
        let exception = exceptions.max_by_key(|exception| exception.scope.is_some());
        let template = exception.map_or(&self.landed, |exception| &exception.topic);
        let landed = template.replace("{rse}", rse).replace("{scope}", scope);
        if exception.is_none() && self.is_taken(scope) {
            return Err(NoTopic::Taken(scope.into()));
        }
        let (deletions, files) = (
            format!("{landed}{}", self.deletions),
            format!("{landed}{}", self.files),
        );
        for name in [&landed, &deletions, &files] {
            if !is_name(name) {
                return Err(NoTopic::Name(name.clone()));
            }
        }
        Ok(Names {
            rse: Rse::new(rse),
            scope: scope.into(),
            landed: landed.into(),
            deletions: deletions.into(),
            files: files.into(),
        })
    }

    /// True when the topic of this scope could be read as that of deletions or files of a shorter one.
    fn is_taken(&self, scope: &str) -> bool {
        let ends = |suffix: &str| !suffix.is_empty() && scope.ends_with(suffix);
        OWN.contains(&scope) || ends(&self.deletions) || ends(&self.files)
    }
}

/// True for what Kafka takes as the name of a topic.
pub fn is_name(name: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(fits) && name != "." && name != ".."
}

/// The topics of an RSE and a scope, with their own names, each stored once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The RSE.
    pub rse: Rse,
    /// The scope.
    pub scope: Arc<str>,
    landed: Arc<str>,
    deletions: Arc<str>,
    files: Arc<str>,
}

/// By scope.
type OfRse = HashMap<Box<str>, Result<Names, NoTopic>>;

/// What one worker knows of names.
pub struct Namer {
    settings: Arc<TopicSettings>,
    dead_letters: Arc<str>,
    known: HashMap<Box<str>, OfRse>,
    count: usize,
}

impl fmt::Debug for Namer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namer({} known)", self.count)
    }
}

impl Namer {
    /// One that knows none yet.
    pub fn new(settings: Arc<TopicSettings>) -> Self {
        Self {
            dead_letters: settings.dead_letters.as_str().into(),
            settings,
            known: HashMap::new(),
            count: 0,
        }
    }

    /// The names for an RSE and a scope, or why there are none.
    pub fn names(&mut self, rse: &str, scope: &str) -> &Result<Names, NoTopic> {
        if self.count >= REMEMBERED {
            self.known.clear();
            self.count = 0;
        }
        if !self.known.get(rse).is_some_and(|of| of.contains_key(scope)) {
            self.count += 1;
            let names = self.settings.names(rse, scope);
            let of = self.known.entry(rse.into()).or_default();
            of.insert(scope.into(), names);
        }
        &self.known[rse][scope]
    }

    /// The topic of dead letters.
    pub fn dead_letters(&self) -> Arc<str> {
        Arc::clone(&self.dead_letters)
    }
}

impl Names {
    /// The topic of one class; none for dead letters, which have one topic for all.
    pub fn of(&self, class: Class) -> Option<&Arc<str>> {
        match class {
            Class::Landed => Some(&self.landed),
            Class::Deletion => Some(&self.deletions),
            Class::File => Some(&self.files),
            Class::DeadLetter => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn topics(settings: &TopicSettings, rse: &str, scope: &str) -> Vec<String> {
        let names = settings.names(rse, scope).unwrap();
        let classes = [Class::Landed, Class::Deletion, Class::File];
        classes
            .iter()
            .map(|class| names.of(*class).unwrap().to_string())
            .collect()
    }

    #[test]
    fn a_topic_is_named_after_rse_and_scope_unless_it_is_an_exception() {
        let mut settings = TopicSettings::default();
        let as_always = ["A_DISK-raw", "A_DISK-raw-deletions", "A_DISK-raw-files"];
        assert_eq!(topics(&settings, "A_DISK", "raw"), as_always);
        for (scope, topic) in [(None, "a-all"), (Some("raw"), "a-{scope}-new")] {
            settings.exceptions.push(Exception {
                rse: "A_DISK".into(),
                scope: scope.map(Into::into),
                topic: topic.into(),
            });
        }
        assert_eq!(topics(&settings, "A_DISK", "raw")[1], "a-raw-new-deletions");
        assert_eq!(topics(&settings, "A_DISK", "dp2")[0], "a-all");
        assert_eq!(topics(&settings, "B_DISK", "raw")[0], "B_DISK-raw");
    }

    #[test]
    fn what_is_not_listed_or_has_no_possible_name_says_why() {
        let mut settings = TopicSettings::default();
        settings.rses.push(Pattern::parse("{IN2P3,RAL}_*_DISK").unwrap());
        let why = |rse: &str, scope: &str| settings.names(rse, scope).unwrap_err();
        assert!(settings.names("RAL_RAW_DISK", "raw").is_ok());
        assert_eq!(why("SLAC_RAW_DISK", "raw"), NoTopic::Rse("SLAC_RAW_DISK".into()));
        assert_eq!(
            why("RAL_RAW_DISK", "a b"),
            NoTopic::Name("RAL_RAW_DISK-a b".into())
        );
        assert_eq!(why("RAL_RAW_DISK", "outcomes"), NoTopic::Taken("outcomes".into()));
        assert_eq!(
            why("RAL_RAW_DISK", "raw-files"),
            NoTopic::Taken("raw-files".into())
        );
    }

    #[test]
    fn names_are_made_once() {
        let mut namer = Namer::new(Arc::default());
        let first = namer.names("A", "raw").clone().unwrap();
        let second = namer.names("A", "raw").clone().unwrap();
        assert!(Arc::ptr_eq(
            first.of(Class::Landed).unwrap(),
            second.of(Class::Landed).unwrap()
        ));
    }
}
