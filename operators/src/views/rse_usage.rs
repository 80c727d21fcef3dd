//! RSE usage: how many files and bytes each RSE holds, by scope and replica state, now.
//!
//! ```text
//!   sums of replica changes --> one count and byte sum for each (RSE, scope, state) --> usage rows
//! ```
//!
//! In:    `(Usage, epoch, (files, bytes))` from the replica state, summed within each epoch.
//! Out:   `(RseUsage, epoch, +1 or -1)`, one live row for each (RSE, scope, state) that holds anything.
//! State: one row for each of those: thousands, whatever the number of replicas.

use super::{View, ViewRow, columns, wide::Wide};
use crate::{
    Epoch,
    facts::{RseName, ScopeName, State},
};
use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use differential_dataflow::{VecCollection, operators::CountTotal};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, LazyLock};

/// What usage is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Usage {
    /// The RSE.
    pub rse: RseName,
    /// The scope of the files.
    pub scope: ScopeName,
    /// The state of the replicas; never [`State::Gone`].
    pub state: State,
}

/// Files, and their bytes; of a file whose size nobody tells, none.
pub type Amount = (isize, Wide);

/// A row of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RseUsage {
    /// Of what.
    pub of: Usage,
    /// How many replicas.
    pub files: i64,
    /// Their bytes; the largest number there is stands for all that are larger.
    pub bytes: i64,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("rse", DataType::Utf8, false),
        Field::new("scope", DataType::Utf8, false),
        Field::new("state", DataType::Utf8, false),
        Field::new("files", DataType::Int64, false),
        Field::new("bytes", DataType::Int64, false),
    ]))
});

impl ViewRow for RseUsage {
    const VIEW: View = View {
        name: "rse_usage",
        meaning: "How many files and bytes an RSE holds of a scope in a state.",
        cost: "One row for each RSE, scope and state.",
    };

    fn schema() -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn batch(rows: &mut dyn Iterator<Item = &Self>) -> RecordBatch {
        let rows: Vec<&Self> = rows.collect();
        super::batch_of(
            Self::schema(),
            vec![
                columns::texts(rows.iter().map(|row| row.of.rse.as_str())),
                columns::texts(rows.iter().map(|row| row.of.scope.as_str())),
                columns::texts(rows.iter().map(|row| row.of.state.as_str())),
                columns::numbers(rows.iter().map(|row| row.files)),
                columns::numbers(rows.iter().map(|row| row.bytes)),
            ],
        )
    }
}

/// Files and bytes of each (RSE, scope, state).
pub fn rse_usage<'s>(
    sums: VecCollection<'s, Epoch, Usage, Amount>,
) -> VecCollection<'s, Epoch, RseUsage, isize> {
    sums.count_total().map(|(of, (files, bytes))| RseUsage {
        of,
        files: files as i64,
        bytes: bytes.shown(),
    })
}
