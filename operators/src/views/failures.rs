//! Failures: why transfers and deletions failed, by the kind of reason they gave.
//!
//! ```text
//!   attempts that failed --> count, bytes, first and last for each (step, class, source, RSE) --> failure rows
//! ```
//!
//! In:    attempts, each once.
//! Out:   `(Failures, epoch, +1 or -1)`, one live row for each (step, class, source, RSE) that ever failed.
//! State: one row for each of those: hundreds to thousands, whatever the number of attempts.

use super::{View, ViewRow, columns, newest::Newest, transfers::bytes_of, wide::Wide};
use crate::{
    Epoch,
    checkpoint::{Keep, Kind, Merge, kept, sum},
    facts::{Attempt, FailureClass, RseName},
};
use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use dbb_events::Micros;
use differential_dataflow::{VecCollection, operators::CountTotal};
use serde::{Deserialize, Serialize};
use std::{
    cmp::Reverse,
    sync::{Arc, LazyLock},
};
use ustr::Ustr;

/// A row of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Failures {
    /// The word of what failed: [`crate::facts::Step`].
    pub step: Ustr,
    /// The word of the kind of reason: [`FailureClass`].
    pub class: Ustr,
    /// Where the files come from; empty for deletions, and where it is not told.
    pub src: RseName,
    /// Where they were to go, or to be deleted.
    pub rse: RseName,
    /// How often.
    pub count: i64,
    /// The bytes of the files, each as often as it failed.
    pub bytes: i64,
    /// When first.
    pub first_at: Micros,
    /// When last.
    pub last_at: Micros,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("step", DataType::Utf8, false),
        Field::new("class", DataType::Utf8, false),
        Field::new("src_rse", DataType::Utf8, false),
        Field::new("rse", DataType::Utf8, false),
        Field::new("count", DataType::Int64, false),
        Field::new("bytes", DataType::Int64, false),
        Field::new("first_at", columns::time_type(), false),
        Field::new("last_at", columns::time_type(), false),
    ]))
});

impl ViewRow for Failures {
    const VIEW: View = View {
        name: "failures",
        meaning: "How often, from when to when, a step of transfers from an RSE to an RSE, or of deletions at an RSE, \
                  failed for a kind of reason.",
        cost: "One row for each step, class, source and RSE that ever failed.",
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
                columns::texts(rows().map(|row| row.step.as_str())),
                columns::texts(rows().map(|row| row.class.as_str())),
                columns::texts(rows().map(|row| row.src.as_str())),
                columns::texts(rows().map(|row| row.rse.as_str())),
                columns::numbers(rows().map(|row| row.count)),
                columns::numbers(rows().map(|row| row.bytes)),
                columns::times(rows().map(|row| row.first_at)),
                columns::times(rows().map(|row| row.last_at)),
            ],
        )
    }
}

/// Count and bytes, then the first and the last time.
type Tally = ((isize, Wide), (Newest<Reverse<Micros>>, Newest<Micros>));

/// The tallies in a checkpoint.
pub(crate) static KIND: Kind = Kind {
    name: "failures",
    version: 1,
    merge: Merge::Sum(sum::<Tally>),
};

/// Counts, bytes and times of each (step, class, source, RSE) that failed.
pub fn failures<'s>(
    attempts: VecCollection<'s, Epoch, Attempt, isize>,
    keep: Option<&Keep>,
) -> VecCollection<'s, Epoch, Failures, isize> {
    let tallies = attempts
        .explode(|attempt| {
            let class = attempt.failure.unwrap_or(FailureClass::NotTold);
            let key = (attempt.step, class, attempt.src, attempt.rse);
            let tally: Tally = (
                (1, bytes_of(&attempt)),
                (Newest(Reverse(attempt.at)), Newest(attempt.at)),
            );
            attempt.step.is_failure().then_some((key, tally))
        })
        .consolidate_stream();
    kept(tallies, &KIND, keep)
        .count_total()
        .map(|((step, class, src, rse), tally)| {
            let ((count, bytes), (Newest(Reverse(first_at)), Newest(last_at))) = tally;
            Failures {
                step: step.as_str().into(),
                class: class.as_str().into(),
                src: src.unwrap_or_else(|| RseName::new("")),
                rse,
                count: count as i64,
                bytes: bytes.shown(),
                first_at,
                last_at,
            }
        })
}
