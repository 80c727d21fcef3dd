//! Placement gaps: which files a policy misses at an RSE, and which it does not want there.

use crate::{
    facts::{RseName, ScopeName, State},
    views::{
        View, ViewRow, batch_of,
        columns::{numbers, texts, told_texts},
        wide::Wide,
    },
};
use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, LazyLock};

/// A row of the view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PlacementGap {
    /// The policy.
    pub policy: Arc<str>,
    /// The RSE.
    pub rse: RseName,
    /// The file's scope.
    pub scope: ScopeName,
    /// Its name.
    pub name: Box<str>,
    /// What is wrong.
    pub what: What,
    /// The state of its replica there; `None` where there is none.
    pub state: Option<State>,
    /// Its size in bytes; 0 where nobody tells.
    pub bytes: u64,
}

/// What is wrong with a file at an RSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum What {
    /// It should be there, and is neither usable nor on the way.
    Missing,
    /// It is there, and should not be.
    Unexpected,
}

impl What {
    /// The word in the view.
    pub fn as_str(self) -> &'static str {
        match self {
            What::Missing => "missing",
            What::Unexpected => "unexpected",
        }
    }
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("policy", DataType::Utf8, false),
        Field::new("rse", DataType::Utf8, false),
        Field::new("scope", DataType::Utf8, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("what", DataType::Utf8, false),
        Field::new("state", DataType::Utf8, true),
        Field::new("bytes", DataType::Int64, false),
    ]))
});

impl ViewRow for PlacementGap {
    const VIEW: View = View {
        name: "placement_gaps",
        meaning: "A file that a placement policy expects at an RSE where it is neither usable nor on the way, or that \
                  is where the policy does not want it.",
        cost: "150 bytes and the file's name for each row, beside what `placement` keeps.",
    };

    fn schema() -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn batch(rows: &mut dyn Iterator<Item = &Self>) -> RecordBatch {
        let rows: Vec<&Self> = rows.collect();
        batch_of(
            Self::schema(),
            vec![
                texts(rows.iter().map(|row| &row.policy)),
                texts(rows.iter().map(|row| row.rse.as_str())),
                texts(rows.iter().map(|row| row.scope.as_str())),
                texts(rows.iter().map(|row| &row.name)),
                texts(rows.iter().map(|row| row.what.as_str())),
                told_texts(rows.iter().map(|row| row.state.map(State::as_str))),
                numbers(rows.iter().map(|row| Wide::from(row.bytes).shown())),
            ],
        )
    }
}
