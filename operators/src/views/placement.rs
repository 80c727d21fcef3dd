//! Placement: of the files that a policy selects, which are where it wants them, on the way, missing, unexpected.
//!
//! ```text
//!   replicas ---------\
//!   names -------------> by file: what each policy says of it --> sums by (policy, scope, RSE) --> placement
//!   newest listings ---/                                      \--> one row for each fault ------> placement_gaps
//! ```
//!
//! In:    replicas that came or went; names, at the same epoch or before, repeated; the newest listings of the
//!        contents of Rucio datasets.
//! Out:   two collections of rows. They report: nothing is hidden, and nothing is moved.
//! State: for each file that a policy may select, by its scope and name: 150 bytes, its name, and 40 bytes for each
//!        replica, kept though the file be deleted, for its name may not be told again; for each file of a dataset
//!        that a policy speaks of, 100 bytes.
//!
//! A file is expected when it has a replica anywhere that is not gone. `have` is AVAILABLE, `on_the_way` is COPYING, and
//! all else is missing, with its state there, if any, in `placement_gaps`. What is in a dataset is known from the
//! newest listing of its contents: before the first, it is empty.

mod book;
mod gaps;
mod listed;
pub mod pattern;
pub mod policy;

pub use gaps::{PlacementGap, What};
pub use pattern::Pattern;
pub use policy::{Policy, PolicyError, check};

use super::{
    View, ViewRow,
    closed::{Placing, fold_closed},
    columns::{numbers, texts},
    listings::Listing,
};
use crate::{
    Epoch,
    facts::{DatasetName, DidName, RseName, ScopeName},
    replicas::Replica,
};
use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use book::{Book, Judged, Word};
use differential_dataflow::{AsCollection, VecCollection, operators::CountTotal};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};
use timely::dataflow::{
    Stream,
    operators::{
        core::{Concatenate, OkErr},
        vec::Map,
    },
};

/// A row of the view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// The policy.
    pub policy: Arc<str>,
    /// The scope of the files.
    pub scope: ScopeName,
    /// The RSE.
    pub rse: RseName,
    /// Files that should be there.
    pub expected: i64,
    /// Of those, the ones that are AVAILABLE.
    pub have: i64,
    /// The ones that are COPYING.
    pub on_the_way: i64,
    /// The others.
    pub missing: i64,
    /// Their bytes; of a file whose size nobody tells, none.
    pub missing_bytes: i64,
    /// Files that are there and should not be.
    pub unexpected: i64,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("policy", DataType::Utf8, false),
        Field::new("scope", DataType::Utf8, false),
        Field::new("rse", DataType::Utf8, false),
        Field::new("expected", DataType::Int64, false),
        Field::new("have", DataType::Int64, false),
        Field::new("on_the_way", DataType::Int64, false),
        Field::new("missing", DataType::Int64, false),
        Field::new("missing_bytes", DataType::Int64, false),
        Field::new("unexpected", DataType::Int64, false),
    ]))
});

impl ViewRow for Placement {
    const VIEW: View = View {
        name: "placement",
        meaning: "How many files of a scope a placement policy expects at an RSE, and how many of them are there, \
                  on the way or missing, or are there and should not be.",
        cost: "For each file whose scope and name fit a policy, 150 bytes, its name and 40 bytes a replica; for each \
               file of a Rucio dataset that a policy speaks of, 100 bytes.",
    };

    fn schema() -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn batch(rows: &mut dyn Iterator<Item = &Self>) -> RecordBatch {
        let rows: Vec<&Self> = rows.collect();
        let number = |of: fn(&Self) -> i64| numbers(rows.iter().map(|row| of(row)));
        super::batch_of(
            Self::schema(),
            vec![
                texts(rows.iter().map(|row| &row.policy)),
                texts(rows.iter().map(|row| row.scope.as_str())),
                texts(rows.iter().map(|row| row.rse.as_str())),
                number(|row| row.expected),
                number(|row| row.have),
                number(|row| row.on_the_way),
                number(|row| row.missing),
                number(|row| row.missing_bytes),
                number(|row| row.unexpected),
            ],
        )
    }
}

/// What comes out.
pub struct Placements<'s> {
    /// Sums for each policy, scope and RSE.
    pub placement: VecCollection<'s, Epoch, Placement, isize>,
    /// The files that are missing or unexpected.
    pub gaps: VecCollection<'s, Epoch, PlacementGap, isize>,
}

/// See the module. The policies are those that [`check`] finds nothing wrong with.
pub fn placement<'s>(
    replicas: VecCollection<'s, Epoch, Replica, isize>,
    names: Stream<'s, Epoch, Vec<DidName>>,
    listings: VecCollection<'s, Epoch, DatasetName, Listing>,
    policies: Arc<[Policy]>,
) -> Placements<'s> {
    let scope = names.scope();
    // What no policy speaks of does not travel.
    let (mut scopes, spoken_of) = (HashMap::new(), Arc::clone(&policies));
    let replicas = replicas.inner.flat_map(move |(replica, epoch, times)| {
        let is_in = |policy: &Policy| policy.has_scope(replica.scope.as_str());
        let wanted = *scopes
            .entry(replica.scope)
            .or_insert_with(|| spoken_of.iter().any(is_in));
        wanted.then_some(Word::Replica(replica, times, epoch))
    });
    let spoken_of = Arc::clone(&policies);
    let names = names.flat_map(move |name| {
        let is_about = |policy: &Policy| policy.is_about(name.scope.as_str(), &name.name);
        spoken_of.iter().any(is_about).then_some(Word::Name(name))
    });
    let members = listed::listed(listings, Arc::clone(&policies));
    let words = scope.concatenate([replicas, names, members]);
    let mut book = Book::new(Arc::clone(&policies));
    let placing = Placing {
        exchange: |word: &Word| word.did().place(),
        epoch: |word| match word {
            Word::Replica(_, _, epoch) => Some(*epoch),
            _ => None,
        },
    };
    let judged = fold_closed(words, "placement", placing, move |closed, judged| {
        book.apply(closed, judged);
    });
    let (sums, gaps) = judged.ok_err(|judged| match judged {
        Judged::Sum(sum) => Ok(sum),
        Judged::Gap(gap) => Err(gap),
    });
    let names: Vec<Arc<str>> = policies
        .iter()
        .map(|policy| policy.name.as_str().into())
        .collect();
    let name_of = move |policy: u16| names.get(usize::from(policy)).map(Arc::clone).unwrap_or_default();
    let name_of_gap = name_of.clone();
    Placements {
        placement: sums.as_collection().count_total().map(
            move |((policy, scope, rse), ((expected, have, on_the_way), (missing, bytes, unexpected)))| {
                Placement {
                    policy: name_of(policy),
                    scope,
                    rse,
                    expected: expected as i64,
                    have: have as i64,
                    on_the_way: on_the_way as i64,
                    missing: missing as i64,
                    missing_bytes: bytes.shown(),
                    unexpected: unexpected as i64,
                }
            },
        ),
        gaps: gaps.as_collection().map(move |found| PlacementGap {
            policy: name_of_gap(found.policy),
            rse: found.rse,
            scope: found.scope,
            name: found.name,
            what: if found.unexpected {
                What::Unexpected
            } else {
                What::Missing
            },
            state: found.state,
            bytes: found.bytes,
        }),
    }
}
