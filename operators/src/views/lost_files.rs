//! Lost files: those of which the last copy went bad, as long as there is no other.
//!
//! ```text
//!   lost --by file--> name, datasets, newest time --------------------\
//!   where files are AVAILABLE --join--> those found again --subtract--> lost file rows
//! ```
//!
//! In:    what was said of losses, in any order, repeats too; where files are AVAILABLE.
//! Out:   `(LostFile, epoch, +1 or -1)`, one live row for each lost file that is AVAILABLE nowhere.
//! State: the name and datasets of each file ever lost, some hundred bytes three times over; losses are rare.

use super::{View, ViewRow, available::Available, columns};
use crate::{
    Epoch,
    checkpoint::{Keep, Kind, Merge, kept, sum},
    facts::{DatasetName, Lost, ScopeName},
};
use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use dbb_events::Micros;
use differential_dataflow::{
    VecCollection,
    difference::{IsZero, Multiply, Semigroup},
    operators::{CountTotal, ThresholdTotal},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

/// A row of the view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LostFile {
    /// The scope.
    pub scope: ScopeName,
    /// The name.
    pub name: Box<str>,
    /// The Rucio datasets it was in, in order.
    pub datasets: BTreeSet<DatasetName>,
    /// When it was lost, the last time.
    pub lost_at: Micros,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("scope", DataType::Utf8, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("datasets", DataType::Utf8, false),
        Field::new("lost_at", columns::time_type(), false),
    ]))
});

impl ViewRow for LostFile {
    const VIEW: View = View {
        name: "lost_files",
        meaning: "A file of which the last copy was declared bad, the Rucio datasets it was in, joined by commas, and \
                  when; only while no replica of it is known to be AVAILABLE.",
        cost: "Some hundred bytes for each file ever lost; shared with other views, 40 bytes for each AVAILABLE replica.",
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
                columns::texts(rows().map(|row| row.scope.as_str())),
                columns::texts(rows().map(|row| &row.name)),
                columns::texts(rows().map(|row| columns::joined(&row.datasets))),
                columns::times(rows().map(|row| row.lost_at)),
            ],
        )
    }
}

/// Two rows of one file are one: all datasets, the later time.
impl Semigroup for LostFile {
    fn plus_equals(&mut self, other: &Self) {
        self.datasets.extend(&other.datasets);
        self.lost_at = self.lost_at.max(other.lost_at);
    }
}

impl IsZero for LostFile {
    fn is_zero(&self) -> bool {
        false
    }
}

impl Multiply<isize> for LostFile {
    type Output = Self;

    fn multiply(self, _times: &isize) -> Self {
        self
    }
}

/// The files ever lost, in a checkpoint.
pub(crate) static KIND: Kind = Kind {
    name: "lost_files",
    version: 1,
    merge: Merge::Sum(sum::<LostFile>),
};

/// The files that are lost, and AVAILABLE nowhere.
pub fn lost_files<'s>(
    lost: VecCollection<'s, Epoch, Lost, isize>,
    available: Available<'s>,
    keep: Option<&Keep>,
) -> VecCollection<'s, Epoch, LostFile, isize> {
    let lost = lost.explode(|lost| {
        let row = LostFile {
            scope: lost.scope,
            name: lost.name,
            datasets: lost.dataset.into_iter().collect(),
            lost_at: lost.at,
        };
        [(lost.did, row)]
    });
    let lost = kept(lost, &KIND, keep).count_total();
    let found = lost
        .clone()
        .arrange_by_key_named("lost_files")
        .join_core(available, |_, row, _| Some(row.clone()))
        .distinct_total();
    lost.map(|(_, row)| row).concat(found.negate())
}
