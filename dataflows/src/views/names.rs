//! The names of views, as configuration and command line have them.

use crate::config::problem::nearest;
use dbb_operators::facts::Wanted;
use std::{collections::BTreeSet, fmt};

/// A view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// The state of every replica.
    Replicas,
    /// Files and bytes by RSE, scope and state.
    RseUsage,
    /// What a Butler still has no outcome for.
    IngestBacklog,
    /// Attempts at repositories, by outcome, and how long they took.
    Attempts,
    /// Rucio datasets by RSE.
    DatasetProgress,
    /// Expected copies and where they are missing.
    Placement,
    /// Transfers by source, destination and hour.
    Transfers,
    /// Failures by reason.
    Failures,
    /// Rules as events tell of them.
    Rules,
    /// Files whose last copy is bad.
    LostFiles,
    /// The sources and how well they are read.
    StreamHealth,
    /// What sites did with the files that landed there.
    SiteOutcomes,
}

impl Name {
    /// All of them.
    pub const ALL: [Name; 12] = [
        Name::Replicas,
        Name::RseUsage,
        Name::IngestBacklog,
        Name::Attempts,
        Name::DatasetProgress,
        Name::Placement,
        Name::Transfers,
        Name::Failures,
        Name::Rules,
        Name::LostFiles,
        Name::StreamHealth,
        Name::SiteOutcomes,
    ];

    /// The tables that it is published as.
    pub fn tables(self) -> &'static [&'static str] {
        match self {
            Name::Replicas => &["replicas"],
            Name::RseUsage => &["rse_usage"],
            Name::IngestBacklog => &["ingest_backlog"],
            Name::Attempts => &["attempts"],
            Name::DatasetProgress => &["dataset_progress"],
            // The sums, and the files that they are the sums of.
            Name::Placement => &["placement", "placement_gaps"],
            Name::Transfers => &["transfers"],
            Name::Failures => &["failures"],
            Name::Rules => &["rules"],
            Name::LostFiles => &["lost_files"],
            Name::StreamHealth => &["stream_health"],
            // The files, and the Rucio datasets that they are in.
            Name::SiteOutcomes => &["site_outcomes", "site_completeness"],
        }
    }

    /// The name, which its first table has too.
    pub fn as_str(self) -> &'static str {
        self.tables().first().copied().unwrap_or_default()
    }

    /// True for what a replay can make: all but what only a running site knows.
    pub fn in_replay(self) -> bool {
        !matches!(self, Name::IngestBacklog | Name::Attempts | Name::StreamHealth)
    }

    /// True for what compares with policies.
    pub fn needs_policies(self) -> bool {
        self == Name::Placement
    }

    /// True for what is joined with replicas one by one.
    pub(super) fn joins(self) -> bool {
        matches!(
            self,
            Name::LostFiles | Name::DatasetProgress | Name::Placement | Name::SiteOutcomes
        )
    }

    /// The facts it is made from.
    pub(super) fn facts(self) -> Wanted {
        use Name::*;
        Wanted {
            changes: self.joins() || matches!(self, Replicas | RseUsage),
            names: matches!(self, Replicas | Placement),
            attempts: matches!(self, Transfers | Failures | Rules | DatasetProgress),
            said: self.joins() || matches!(self, Rules),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that no view has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no view `{word}`")]
pub struct UnknownView {
    /// The word.
    pub word: String,
    /// What to do about it.
    pub hint: String,
}

/// The views called so.
///
/// # Errors
///
/// The first word that is none, with the nearest that is one.
pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<BTreeSet<Name>, UnknownView> {
    let known = || Name::ALL.into_iter().map(Name::as_str);
    words
        .into_iter()
        .map(|word| {
            let found = Name::ALL.into_iter().find(|name| name.as_str() == word);
            found.ok_or_else(|| {
                let near = nearest(word, known())
                    .map(|near| format!("did you mean `{near}`? "))
                    .unwrap_or_default();
                UnknownView {
                    word: word.into(),
                    hint: format!("{near}the views are {}", known().collect::<Vec<_>>().join(", ")),
                }
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_answered_with_the_name() {
        assert_eq!(
            parse(["rse_usage", "replicas"]),
            Ok(BTreeSet::from([Name::Replicas, Name::RseUsage]))
        );
        let error = parse(["rse_useage"]).err();
        assert_eq!(
            error
                .map(|e| e.hint)
                .as_deref()
                .and_then(|hint| hint.split('?').next()),
            Some("did you mean `rse_usage`")
        );
    }
}
