//! Site outcomes: what each site's repositories did with the files that landed there.
//!
//! ```text
//!   outcomes --newest of each file at each repository--> outcome ----\
//!                     |                                               rows
//!   where files are AVAILABLE --join--> those that are there -------/
//! ```
//!
//! In:    what sites say, in any order, repeats too; where files are AVAILABLE.
//! Out:   `(SiteOutcomeRow, epoch, +1 or -1)`, one live row for each file, RSE and repository that a site spoke of.
//! State: the name and newest outcome of each of these, some hundred bytes three times over. None is forgotten.

use super::{View, ViewRow, available::Available, columns, newest::Newest};
use crate::{
    Epoch,
    checkpoint::{Keep, Kind, Merge, kept, sum},
    facts::{AtSite, DidKey, OutcomeName, SiteOutcome},
};
use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use dbb_events::Micros;
use differential_dataflow::{VecCollection, operators::CountTotal};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, LazyLock};

/// The version of the file's story, when it was said, and what: the greatest is the newest.
pub type Said = (Micros, Micros, OutcomeName, Option<Box<str>>);

/// The newest outcome of each file at each repository.
pub type SiteOutcomes<'s> = VecCollection<'s, Epoch, (AtSite, Newest<Said>), isize>;

/// A row of the view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SiteOutcomeRow {
    /// Which file, where.
    pub of: AtSite,
    /// What is said of it.
    pub said: Said,
    /// The replica is AVAILABLE at the RSE.
    pub is_available: bool,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("scope", DataType::Utf8, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("rse", DataType::Utf8, false),
        Field::new("repository", DataType::Utf8, false),
        Field::new("outcome", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, true),
        Field::new("state", DataType::Utf8, true),
        Field::new("event_at", columns::time_type(), false),
        Field::new("settled_at", columns::time_type(), false),
    ]))
});

impl ViewRow for SiteOutcomeRow {
    const VIEW: View = View {
        name: "site_outcomes",
        meaning: "What a repository of a site did with the newest event of a file at an RSE, as the site says, and \
                  whether the replica is AVAILABLE there.",
        cost: "Some hundred bytes for each file, RSE and repository that a site ever spoke of; shared with other views, \
               40 bytes for each AVAILABLE replica.",
    };

    fn schema() -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn batch(rows: &mut dyn Iterator<Item = &Self>) -> RecordBatch {
        let rows: Vec<&Self> = rows.collect();
        let rows = || rows.iter();
        super::batch_of(
            Self::schema(),
            vec![
                columns::texts(rows().map(|row| row.of.scope.as_str())),
                columns::texts(rows().map(|row| &row.of.name)),
                columns::texts(rows().map(|row| row.of.rse.as_str())),
                columns::texts(rows().map(|row| row.of.repository.as_str())),
                columns::texts(rows().map(|row| row.said.2.as_str())),
                columns::told_texts(rows().map(|row| row.said.3.as_deref())),
                columns::told_texts(rows().map(|row| row.is_available.then_some("AVAILABLE"))),
                columns::times(rows().map(|row| row.said.0)),
                columns::times(rows().map(|row| row.said.1)),
            ],
        )
    }
}

/// The newest outcomes, in a checkpoint.
pub(crate) static KIND: Kind = Kind {
    name: "site_outcomes",
    version: 1,
    merge: Merge::Sum(sum::<Newest<Said>>),
};

/// The newest of what sites say.
pub fn newest_outcomes<'s>(
    outcomes: VecCollection<'s, Epoch, SiteOutcome, isize>,
    keep: Option<&Keep>,
) -> SiteOutcomes<'s> {
    let said = outcomes.explode(|said| {
        let newest = Newest((said.version, said.at, said.outcome, said.reason));
        [(said.of, newest)]
    });
    kept(said, &KIND, keep).count_total()
}

/// The rows.
pub fn site_outcomes<'s>(
    outcomes: SiteOutcomes<'s>,
    available: Available<'s>,
) -> VecCollection<'s, Epoch, SiteOutcomeRow, isize> {
    let told = outcomes.clone().map(|(of, Newest(said))| row(of, said, false));
    // What is there takes the place of the row that does not say so.
    let by_file = outcomes.map(|(of, Newest(said))| (of.did(), (of, said)));
    let there = by_file
        .arrange_by_key_named("site_outcomes")
        .join_core(available, |_: &DidKey, (of, said), rse| {
            (of.rse == *rse).then(|| (of.clone(), said.clone()))
        });
    let replaced = there.clone().map(|(of, said)| row(of, said, false));
    let there = there.map(|(of, said)| row(of, said, true));
    told.concat(there).concat(replaced.negate())
}

fn row(of: AtSite, said: Said, is_available: bool) -> SiteOutcomeRow {
    SiteOutcomeRow {
        of,
        said,
        is_available,
    }
}
