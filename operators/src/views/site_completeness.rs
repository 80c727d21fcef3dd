//! Site completeness: how much of each listed Rucio dataset is registered at each RSE's site.
//!
//! ```text
//!   newest outcomes --worst of a file's repositories--> done, waiting or refused --\
//!   newest listings of contents --> members ------------------------------------ join --> tally --\
//!          |                           \--join-- where files are AVAILABLE ------/                rows
//!          \--> how many members, as of when ----------------------------------- join by dataset /
//! ```
//!
//! In:    the newest outcomes, the newest listings of contents, and where files are AVAILABLE.
//! Out:   `(SiteCompleteness, epoch, +1 or -1)`: one live row for each listed dataset and RSE where any of its members
//!        is AVAILABLE or has an outcome, and one with an empty RSE for the listing itself.
//! State: 150 bytes for each file and RSE that a site spoke of; a hundred for each member of a listing.
//!
//! A file counts as ingested when every repository that has spoken of it at this RSE has it. What a dataset contains
//! is in no event: without a listing there is no row, and nothing is called complete.

use super::{
    View, ViewRow, available::Available, columns, listings::Listing, newest::Newest,
    site_outcomes::SiteOutcomes,
};
use crate::{
    Epoch,
    facts::{DatasetName, RseName},
};
use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use dbb_events::Micros;
use differential_dataflow::{VecCollection, operators::CountTotal};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, LazyLock};

/// The outcomes by which a repository has the file.
const HAS_IT: [&str; 3] = ["ingested", "already_there", "already_there_elsewhere"];
const WAITING: &str = "waiting";
const REFUSED: &str = "refused";

/// A row of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SiteCompleteness {
    /// The Rucio dataset.
    pub dataset: DatasetName,
    /// The RSE; empty for the listing itself.
    pub rse: RseName,
    /// Files in the dataset, by the listing.
    pub members: i64,
    /// What is known of them there.
    pub there: There,
    /// The time of the listing.
    pub at: Micros,
}

/// Members of a dataset at one RSE.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct There {
    /// Those that are AVAILABLE.
    pub available: i64,
    /// Those that every repository has that spoke of them.
    pub ingested: i64,
    /// Those that some repository waits with, and none refused.
    pub waiting: i64,
    /// Those that some repository refused.
    pub refused: i64,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("scope", DataType::Utf8, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("rse", DataType::Utf8, false),
        Field::new("members", DataType::Int64, false),
        Field::new("available", DataType::Int64, false),
        Field::new("ingested", DataType::Int64, false),
        Field::new("waiting", DataType::Int64, false),
        Field::new("refused", DataType::Int64, false),
        Field::new("complete", DataType::Utf8, false),
        Field::new("contents_at", columns::time_type(), false),
    ]))
});

impl ViewRow for SiteCompleteness {
    const VIEW: View = View {
        name: "site_completeness",
        meaning: "How many members of a listed Rucio dataset are AVAILABLE at an RSE, and registered, waiting or refused \
                  in the Butler repositories of its site; the row with an empty RSE tells of the listing itself.",
        cost: "150 bytes for each file and RSE that a site ever spoke of, 100 for each listed member; shared with other \
               views, 40 for each AVAILABLE replica.",
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
                columns::texts(rows().map(|row| row.dataset.scope.as_str())),
                columns::texts(rows().map(|row| row.dataset.name.as_str())),
                columns::texts(rows().map(|row| row.rse.as_str())),
                columns::numbers(rows().map(|row| row.members)),
                columns::numbers(rows().map(|row| row.there.available)),
                columns::numbers(rows().map(|row| row.there.ingested)),
                columns::numbers(rows().map(|row| row.there.waiting)),
                columns::numbers(rows().map(|row| row.there.refused)),
                columns::texts(rows().map(|row| row.complete())),
                columns::times(rows().map(|row| row.at)),
            ],
        )
    }
}

impl SiteCompleteness {
    /// `complete` when every member is AVAILABLE and registered, else `incomplete`.
    pub fn complete(&self) -> &'static str {
        let all = self.there.available == self.members && self.there.ingested == self.members;
        if all && !self.rse.as_str().is_empty() {
            "complete"
        } else {
            "incomplete"
        }
    }
}

/// Repositories that have a file, wait with it, or refused it; as a difference.
type Words = (isize, isize, isize);

/// Members that are available, ingested, waiting, refused.
type Tally = (isize, isize, isize, isize);

/// The rows.
pub fn site_completeness<'s>(
    outcomes: SiteOutcomes<'s>,
    listings: VecCollection<'s, Epoch, DatasetName, Listing>,
    available: Available<'s>,
) -> VecCollection<'s, Epoch, SiteCompleteness, isize> {
    let words = outcomes.explode(|(of, Newest((_, _, outcome, _)))| {
        words_of(outcome.as_str()).map(|words| ((of.did(), of.rse), words))
    });
    let worst = words
        .count_total()
        .map(|((did, rse), words)| (did, (rse, worst_of(words))));
    let listings = listings.count_total();
    let members = listings
        .clone()
        .flat_map(|(dataset, Newest((_, members)))| members.into_iter().map(move |did| (did, dataset)))
        .arrange_by_key_named("members");
    let there = members
        .clone()
        .join_core(available, |_, dataset, rse| Some((*dataset, *rse)))
        .explode(|key| [(key, (1isize, 0isize, 0isize, 0isize))]);
    let said = members
        .join_core(
            worst.arrange_by_key_named("worst outcomes"),
            |_, dataset, (rse, worst)| Some(((*dataset, *rse), *worst)),
        )
        .explode(|(key, worst)| [(key, worst)]);
    let tallies = there
        .concat(said)
        .consolidate_stream()
        .count_total()
        .map(|((dataset, rse), tally)| (dataset, (rse, tally)));
    let listed = listings.map(|(dataset, Newest((at, members)))| (dataset, (members.len() as i64, at)));
    let alone = listed
        .clone()
        .map(|(dataset, (members, at))| row(dataset, RseName::new(""), Tally::default(), members, at));
    tallies
        .join_map(listed, |dataset, (rse, tally), (members, at)| {
            row(*dataset, *rse, *tally, *members, *at)
        })
        .concat(alone)
}

/// `None` for what says nothing of whether the file is there: it was removed, or never asked for.
fn words_of(outcome: &str) -> Option<Words> {
    match outcome {
        WAITING => Some((0, 1, 0)),
        REFUSED => Some((0, 0, 1)),
        other => HAS_IT.contains(&other).then_some((1, 0, 0)),
    }
}

fn worst_of(words: Words) -> Tally {
    match words {
        (_, _, 1..) => (0, 0, 0, 1),
        (_, 1.., _) => (0, 0, 1, 0),
        (has, ..) => (0, isize::from(has > 0), 0, 0),
    }
}

fn row(dataset: DatasetName, rse: RseName, tally: Tally, members: i64, at: Micros) -> SiteCompleteness {
    let (available, ingested, waiting, refused) = tally;
    SiteCompleteness {
        dataset,
        rse,
        members,
        there: There {
            available: available as i64,
            ingested: ingested as i64,
            waiting: waiting as i64,
            refused: refused as i64,
        },
        at,
    }
}
