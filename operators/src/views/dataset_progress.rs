//! Dataset progress: how far each Rucio dataset has come at each RSE.
//!
//! ```text
//!   attempts --newest step of each file--> requested, done, failed ------\
//!   newest listings of contents --> members --join--> members AVAILABLE -----> tally of (dataset, RSE) \
//!                  |               where files are AVAILABLE -/                                      rows
//!                  \--> how many members, as of when ------------------------------> join by dataset /
//! ```
//!
//! In:    attempts, in any order, repeats too; the newest listings of contents; where files are AVAILABLE.
//! Out:   `(DatasetProgress, epoch, +1 or -1)`, one live row for each dataset and RSE for which an event names
//!        a transfer, or where a member of the listed dataset is AVAILABLE.
//! State: 60 to 110 bytes for each file, dataset and RSE of which a transfer is told; 100 for each member of a listing;
//!        a row for each dataset and RSE, three times.
//!
//! Live, a file that landed long ago is forgotten, and counts on as requested and done; transferred after that for the
//! same dataset to the same RSE, it counts once more. One that has not landed is never forgotten.
//!
//! No event says what a dataset contains, so counts from events are never called complete: without a listing
//! that is unknown. Queued requests name no dataset: a file counts as requested from its submission on.

mod files;
mod kept;
mod steps;

pub(crate) use kept::{FILES, SETTLED};

use super::{View, ViewRow, available::Available, columns, listings::Listing, newest::Newest};
use crate::{
    Epoch,
    checkpoint::Keep,
    facts::{Attempt, DatasetName, RseName},
};
use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use dbb_events::Micros;
use differential_dataflow::{VecCollection, operators::CountTotal};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, LazyLock};

/// A row of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DatasetProgress {
    /// The Rucio dataset.
    pub dataset: DatasetName,
    /// The RSE.
    pub rse: RseName,
    /// Files of which an event names a transfer for this dataset to this RSE.
    pub requested: i64,
    /// Those of them whose newest step is done.
    pub done: i64,
    /// Those of them whose newest step failed.
    pub failed: i64,
    /// What the newest listing of the dataset says.
    pub listed: Option<Listed>,
}

/// A dataset and an RSE, as a listing of the dataset shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Listed {
    /// Files in the dataset.
    pub members: i64,
    /// Those of them that are not AVAILABLE at the RSE.
    pub missing: i64,
    /// The time of the listing.
    pub at: Micros,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("scope", DataType::Utf8, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("rse", DataType::Utf8, false),
        Field::new("requested", DataType::Int64, false),
        Field::new("done", DataType::Int64, false),
        Field::new("failed", DataType::Int64, false),
        Field::new("members", DataType::Int64, true),
        Field::new("missing", DataType::Int64, true),
        Field::new("complete", DataType::Utf8, false),
        Field::new("contents_at", columns::time_type(), true),
    ]))
});

impl ViewRow for DatasetProgress {
    const VIEW: View = View {
        name: "dataset_progress",
        meaning: "How many files of a Rucio dataset events say were requested, done and failed at an RSE, and, only where a \
                  listing told its members, how many of them are not AVAILABLE there.",
        cost: "60 to 110 bytes for each file, dataset and RSE of which a transfer is told, until `views.forget_after_seconds` \
               after it has landed, 100 for each listed member; shared with other views, 40 for each AVAILABLE replica.",
    };

    fn schema() -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn batch(rows: &mut dyn Iterator<Item = &Self>) -> RecordBatch {
        let rows: Vec<&Self> = rows.collect();
        let rows = || rows.iter();
        let listed = || rows().map(|row| row.listed);
        super::batch_of(
            Self::schema(),
            vec![
                columns::texts(rows().map(|row| row.dataset.scope.as_str())),
                columns::texts(rows().map(|row| row.dataset.name.as_str())),
                columns::texts(rows().map(|row| row.rse.as_str())),
                columns::numbers(rows().map(|row| row.requested)),
                columns::numbers(rows().map(|row| row.done)),
                columns::numbers(rows().map(|row| row.failed)),
                columns::told_numbers(listed().map(|listed| listed.map(|l| l.members))),
                columns::told_numbers(listed().map(|listed| listed.map(|l| l.missing))),
                columns::texts(rows().map(|row| row.complete())),
                columns::told_times(listed().map(|listed| listed.map(|l| l.at))),
            ],
        )
    }
}

impl DatasetProgress {
    /// `complete` or `incomplete` by the listing, `unknown` without one.
    pub fn complete(&self) -> &'static str {
        match self.listed {
            Some(listed) if listed.missing == 0 => "complete",
            Some(_) => "incomplete",
            None => "unknown",
        }
    }
}

/// Files requested, done, failed; and members AVAILABLE.
type Tally = (isize, isize, isize, isize);

/// How the steps of files are kept.
pub struct Keeping<'a> {
    /// How long after its time a file that landed is known by its name, by the times of steps in microseconds; for ever
    /// when `None`.
    pub forget_after_us: Option<i64>,
    /// Goes into checkpoints, and goes on where one was taken.
    pub keep: Option<&'a Keep>,
    /// Hears of each step that is older than what was forgotten, of a file that is not known: it may be of one that was
    /// forgotten, and does not count.
    pub on_late: Box<dyn Fn()>,
}

impl<'a> Keeping<'a> {
    /// For ever.
    pub fn all(keep: Option<&'a Keep>) -> Self {
        Self {
            forget_after_us: None,
            keep,
            on_late: Box::new(|| {}),
        }
    }
}

/// Progress of each dataset at each RSE.
pub fn dataset_progress<'s>(
    attempts: VecCollection<'s, Epoch, Attempt, isize>,
    listings: VecCollection<'s, Epoch, DatasetName, Listing>,
    available: Available<'s>,
    keeping: Keeping<'_>,
) -> VecCollection<'s, Epoch, DatasetProgress, isize> {
    let listings = listings.count_total();
    let members = listings
        .clone()
        .flat_map(|(dataset, Newest((_, members)))| members.into_iter().map(move |did| (did, dataset)));
    let there = members
        .arrange_by_key_named("members")
        .join_core(available, |_, dataset, rse| Some((*dataset, *rse)))
        .explode(|key| [(key, (0isize, 0isize, 0isize, 1isize))]);
    let tallies = steps::steps(attempts, keeping)
        .concat(there)
        .consolidate_stream()
        .count_total()
        .map(|((dataset, rse), tally)| (dataset, (rse, tally)));
    let listed = listings.map(|(dataset, Newest((at, members)))| (dataset, (members.len() as i64, at)));
    let known = tallies
        .clone()
        .join_map(listed, |dataset, (rse, tally), (members, at)| {
            (*dataset, *rse, *tally, *members, *at)
        });
    // Every tally has a row without a listing; one with a listing takes its place.
    let told = tallies.map(|(dataset, (rse, tally))| row(dataset, rse, tally, None));
    let replaced = known
        .clone()
        .map(|(dataset, rse, tally, ..)| row(dataset, rse, tally, None));
    let rows = known.map(|(dataset, rse, tally, members, at)| {
        let missing = members - tally.3 as i64;
        row(dataset, rse, tally, Some(Listed { members, missing, at }))
    });
    told.concat(rows).concat(replaced.negate())
}

fn row(dataset: DatasetName, rse: RseName, tally: Tally, listed: Option<Listed>) -> DatasetProgress {
    let (requested, done, failed, _) = tally;
    DatasetProgress {
        dataset,
        rse,
        requested: requested as i64,
        done: done as i64,
        failed: failed as i64,
        listed,
    }
}
