//! Attempts: what a repository was asked to do, what came of it, and how long it took.
//!
//! ```text
//!   answers ------> at the open epoch --> count in the bucket of each (repository, outcome) --> quantiles --> rows
//!   the ledger's counts, at the first /
//! ```
//!
//! In:    what became of each request; what the ledger had counted when this process began.
//! Out:   `(Attempts, epoch, +1 or -1)`, one live row for each (repository, outcome).
//! State: for each row the buckets that are not empty, some hundred of 16 bytes.
//!
//! An answer without a duration was no attempt: a repository that is known to be down is not asked.

use super::{
    View, ViewRow,
    answers::answers,
    closed::{Closed, Placing, fold_closed},
    columns::{numbers, texts, told_seconds},
    sketch,
};
use crate::Epoch;
use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use dbb_events::{Request, Settled};
use differential_dataflow::{AsCollection, VecCollection};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};
use timely::dataflow::{
    Stream,
    operators::{
        core::{Concat, ToStream},
        vec::Map,
    },
};
use xxhash_rust::xxh3::Xxh3;

/// The repository, and the word of the outcome.
pub type At = (Arc<str>, Arc<str>);

/// Attempts that came to one outcome and took about as long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// At which repository, and what they came to.
    pub at: At,
    /// How long they took, as a bucket of [`sketch`].
    pub bucket: u16,
    /// How many.
    pub count: i64,
}

impl Tried {
    fn of(settled: &Settled) -> Option<Self> {
        Some(Self {
            at: (
                Arc::clone(&settled.request.target),
                settled.outcome.as_str().into(),
            ),
            bucket: sketch::bucket_of(settled.took?),
            count: 1,
        })
    }

    fn place(&self) -> u64 {
        let mut hasher = Xxh3::new();
        for part in [&self.at.0, &self.at.1] {
            hasher.update(part.as_bytes());
            hasher.update(&[0]);
        }
        hasher.digest()
    }
}

/// A row of the view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempts {
    /// At which repository, and what they came to.
    pub at: At,
    /// How many.
    pub count: i64,
    /// How long half of them, 95 % and 99 % took at most, in milliseconds.
    pub took_ms: [Option<u32>; 3],
}

/// The quantiles, in the order of their columns.
const PERCENTS: [u32; 3] = [50, 95, 99];

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![
        Field::new("repository", DataType::Utf8, false),
        Field::new("outcome", DataType::Utf8, false),
        Field::new("count", DataType::Int64, false),
    ];
    let quantile = |percent: u32| Field::new(format!("p{percent}_s"), DataType::Float64, true);
    fields.extend(PERCENTS.map(quantile));
    Arc::new(Schema::new(fields))
});

impl ViewRow for Attempts {
    const VIEW: View = View {
        name: "attempts",
        meaning: "How many attempts at a Butler repository came to an outcome, and how long they took.",
        cost: "For each repository and outcome, one row and some hundred buckets of 16 bytes.",
    };

    fn schema() -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn batch(rows: &mut dyn Iterator<Item = &Self>) -> RecordBatch {
        let rows: Vec<&Self> = rows.collect();
        let rows = || rows.iter();
        let mut columns = vec![
            texts(rows().map(|row| &row.at.0)),
            texts(rows().map(|row| &row.at.1)),
            numbers(rows().map(|row| row.count)),
        ];
        columns.extend((0..PERCENTS.len()).map(|n| told_seconds(rows().map(|row| row.took_ms[n]))));
        super::batch_of(Self::schema(), columns)
    }
}

/// Counts and durations of the attempts that `settled` tells of, and of those `before`. The frontier is that of
/// `requests`: who is slow to answer holds up no view.
pub fn attempts<'s>(
    requests: Stream<'s, Epoch, Vec<Request>>,
    settled: Stream<'s, Epoch, Vec<Settled>>,
    before: Vec<Tried>,
) -> VecCollection<'s, Epoch, Attempts, isize> {
    let before = before.to_stream(requests.scope());
    let asked = requests.flat_map(|_| None::<Tried>).concat(before);
    let answered = settled.flat_map(|settled| Tried::of(&settled));
    let mut counted = Counted::default();
    let placing = Placing {
        exchange: Tried::place,
        epoch: |_| None,
    };
    fold_closed(
        answers(asked, answered),
        "attempts",
        placing,
        move |closed, rows| {
            counted.apply(closed, rows);
        },
    )
    .as_collection()
}

/// The buckets of the rows of one worker.
#[derive(Default)]
struct Counted(BTreeMap<At, BTreeMap<u16, i64>>);

impl Counted {
    fn apply(&mut self, closed: Closed<Tried>, rows: &mut Vec<(Attempts, Epoch, isize)>) {
        let touched: BTreeSet<At> = closed.records.iter().map(|tried| tried.at.clone()).collect();
        rows.extend(
            touched
                .iter()
                .filter_map(|at| Some((self.row(at)?, closed.epoch, -1))),
        );
        for tried in closed.records {
            let count = self
                .0
                .entry(tried.at)
                .or_default()
                .entry(tried.bucket)
                .or_default();
            *count = count.saturating_add(tried.count);
        }
        rows.extend(
            touched
                .iter()
                .filter_map(|at| Some((self.row(at)?, closed.epoch, 1))),
        );
    }

    fn row(&self, at: &At) -> Option<Attempts> {
        let buckets: Vec<(u16, isize)> = self
            .0
            .get(at)?
            .iter()
            .map(|(bucket, count)| (*bucket, *count as isize))
            .collect();
        Some(Attempts {
            at: at.clone(),
            count: buckets
                .iter()
                .fold(0, |sum, (_, count)| sum.saturating_add(*count as i64)),
            took_ms: PERCENTS.map(|percent| sketch::quantile(&buckets, percent)),
        })
    }
}
