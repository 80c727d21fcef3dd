//! Transfers: what went from RSE to RSE in each hour, how much of it failed, and how long each stage took.
//!
//! ```text
//!   attempts that ended --> counts for each (source, destination, hour), and in each bucket of each stage
//!                       --> quantiles --> transfer rows
//! ```
//!
//! In:    attempts, each once. Those that were only queued or submitted, and deletions, say nothing here.
//! Out:   `(Transfers, epoch, +1 or -1)`, one live row for each (source, destination, hour of event time).
//! State: for each row its counts and the buckets that are not empty, some hundred of 48 bytes; hours are
//!        never closed, so late events amend theirs.
//!
//! Stages are of transfers that were done; one whose duration is not told does not count in its quantiles.

use super::{
    View, ViewRow, columns, sketch,
    wide::{MAX_FILE_BYTES, Wide},
};
use crate::{
    Epoch,
    checkpoint::{Keep, Kind, Merge, kept, sum},
    facts::{Attempt, RseName, Step, UNKNOWN_MS},
};
use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use dbb_events::Micros;
use differential_dataflow::VecCollection;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, LazyLock};

const HOUR_US: i64 = 3_600_000_000;

/// What transfers are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Route {
    /// Where they come from; empty where it is not told.
    pub src: RseName,
    /// Where they go.
    pub dst: RseName,
    /// The beginning of the hour of their events.
    pub hour: Micros,
}

/// How long a stage took, in milliseconds: half of the transfers, and 95 %, took no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Took {
    /// The median; `None` where no duration is told.
    pub p50_ms: Option<u32>,
    /// The 95th percentile.
    pub p95_ms: Option<u32>,
}

/// The stages of a transfer, in the order of their columns.
pub const STAGES: [&str; 5] = ["waited", "queued", "ran", "noticed", "total"];

/// A row of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Transfers {
    /// Of what.
    pub of: Route,
    /// Files that landed.
    pub done: i64,
    /// Tries that failed: refused by FTS, failed, or lost by it.
    pub failed: i64,
    /// Bytes that landed; of a file whose size is not told, none.
    pub bytes: i64,
    /// How long each of [`STAGES`] took, of those that landed.
    pub took: [Took; 5],
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![
        Field::new("src_rse", DataType::Utf8, false),
        Field::new("dst_rse", DataType::Utf8, false),
        Field::new("hour", columns::time_type(), false),
        Field::new("done", DataType::Int64, false),
        Field::new("failed", DataType::Int64, false),
        Field::new("bytes", DataType::Int64, false),
    ];
    for stage in STAGES {
        for quantile in ["p50", "p95"] {
            fields.push(Field::new(
                format!("{stage}_{quantile}_s"),
                DataType::Float64,
                true,
            ));
        }
    }
    Arc::new(Schema::new(fields))
});

impl ViewRow for Transfers {
    const VIEW: View = View {
        name: "transfers",
        meaning: "How many files and bytes went from an RSE to an RSE in an hour of event time, how many tries failed, \
                  and how many seconds the stages of those done took.",
        cost: "For each source, destination and hour, one row and some hundred buckets of 48 bytes; hours are never closed.",
    };

    fn schema() -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn batch(rows: &mut dyn Iterator<Item = &Self>) -> RecordBatch {
        let rows: Vec<&Self> = rows.collect();
        let rows = || rows.iter();
        let mut arrays: Vec<ArrayRef> = vec![
            columns::texts(rows().map(|row| row.of.src.as_str())),
            columns::texts(rows().map(|row| row.of.dst.as_str())),
            columns::times(rows().map(|row| row.of.hour)),
            columns::numbers(rows().map(|row| row.done)),
            columns::numbers(rows().map(|row| row.failed)),
            columns::numbers(rows().map(|row| row.bytes)),
        ];
        for stage in 0..STAGES.len() {
            arrays.push(columns::told_seconds(rows().map(|row| row.took[stage].p50_ms)));
            arrays.push(columns::told_seconds(rows().map(|row| row.took[stage].p95_ms)));
        }
        super::batch_of(Self::schema(), arrays)
    }
}

/// What is counted of a route; the count is the difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Of {
    Done,
    Failed,
    Bytes,
    /// A stage and a bucket of its durations.
    Stage(u8, u16),
}

/// What `attempt` adds to the counts of its route; nothing unless a transfer ended.
fn counts(attempt: Attempt) -> impl Iterator<Item = ((Route, Of), Wide)> {
    let ended = match attempt.step {
        Step::Done => Some(Of::Done),
        Step::Failed | Step::Lost | Step::SubmissionFailed => Some(Of::Failed),
        Step::Queued | Step::Submitted | Step::Deleted | Step::NotFound | Step::DeletionFailed => None,
    };
    let done = ended == Some(Of::Done);
    let route = Route {
        src: attempt.src.unwrap_or_else(|| RseName::new("")),
        dst: attempt.rse,
        hour: Micros(attempt.at.0.saturating_sub(attempt.at.0.rem_euclid(HOUR_US))),
    };
    let bytes = Some(bytes_of(&attempt)).filter(|bytes| done && bytes.0 > 0);
    let stages = durations(&attempt)
        .into_iter()
        .zip(0u8..)
        .filter(move |(ms, _)| done && *ms != UNKNOWN_MS)
        .map(|(ms, stage)| (Of::Stage(stage, sketch::bucket(ms)), Wide(1)));
    ended
        .map(|of| (of, Wide(1)))
        .into_iter()
        .chain(bytes.map(|bytes| (Of::Bytes, bytes)))
        .chain(stages)
        .map(move |(of, count)| ((route, of), count))
}

/// The size that counts: none where it is not told, or is more than a file can have.
pub(super) fn bytes_of(attempt: &Attempt) -> Wide {
    let plausible = attempt.bytes.filter(|bytes| *bytes <= MAX_FILE_BYTES);
    plausible.map(Wide::from).unwrap_or_default()
}

/// The durations of [`STAGES`]; the total is known where all the others are.
fn durations(attempt: &Attempt) -> [u32; 5] {
    let stages = [
        attempt.waited_ms,
        attempt.queued_ms,
        attempt.ran_ms,
        attempt.noticed_ms,
    ];
    let total = if stages.contains(&UNKNOWN_MS) {
        UNKNOWN_MS
    } else {
        let sum = stages.iter().fold(0u32, |sum, ms| sum.saturating_add(*ms));
        sum.min(UNKNOWN_MS - 1)
    };
    let [waited, queued, ran, noticed] = stages;
    [waited, queued, ran, noticed, total]
}

/// The row of a route, from its counts in order.
fn row(of: Route, counts: &[(&Of, Wide)]) -> Transfers {
    let mut row = Transfers {
        of,
        done: 0,
        failed: 0,
        bytes: 0,
        took: [Took::default(); 5],
    };
    let mut buckets: [Vec<(u16, isize)>; 5] = Default::default();
    for (what, count) in counts {
        match what {
            Of::Done => row.done = count.shown(),
            Of::Failed => row.failed = count.shown(),
            Of::Bytes => row.bytes = count.shown(),
            Of::Stage(stage, bucket) => buckets[usize::from(*stage)].push((*bucket, count.shown() as isize)),
        }
    }
    row.took = buckets.map(|buckets| Took {
        p50_ms: sketch::quantile(&buckets, 50),
        p95_ms: sketch::quantile(&buckets, 95),
    });
    row
}

/// The counts in a checkpoint; what a bucket means is part of its version.
pub(crate) static KIND: Kind = Kind {
    name: "transfers",
    version: 1,
    merge: Merge::Sum(sum::<Wide>),
};

/// Counts, bytes and durations of each (source, destination, hour).
pub fn transfers<'s>(
    attempts: VecCollection<'s, Epoch, Attempt, isize>,
    keep: Option<&Keep>,
) -> VecCollection<'s, Epoch, Transfers, isize> {
    // There are few routes: what comes together is added up before it is sent to its worker.
    let counts = attempts.explode(counts).consolidate_stream();
    kept(counts, &KIND, keep)
        .reduce_named("transfers", |of, counts, rows| rows.push((row(*of, counts), 1)))
        .map(|(_, row)| row)
}
