//! Views: live tables over the stream, one file each.
//!
//! ```text
//!   changes, attempts, ... --> one operator a view --> rows --> published together --> SQL, HTTP, files
//! ```
//!
//! A view says its name, what one row means, what it costs, and its columns; the rest is the same for all.

pub(crate) mod answers;
pub mod attempts;
pub mod available;
pub(crate) mod closed;
pub mod collected;
pub(crate) mod columns;
pub mod dataset_progress;
pub mod failures;
pub mod ingest_backlog;
pub mod listings;
pub mod lost_files;
pub mod newest;
pub mod placement;
pub mod reference;
pub mod rows;
pub mod rse_usage;
pub mod rules;
pub mod site_completeness;
pub mod site_outcomes;
pub mod stream_health;
pub mod transfers;
pub mod wide;

pub use dbb_events::sketch;
pub use reference::{Described, all};
pub use rows::Rows;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use differential_dataflow::ExchangeData;
use std::sync::Arc;

/// What a view is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The name of the table.
    pub name: &'static str,
    /// What one row means, in one sentence.
    pub meaning: &'static str,
    /// What it keeps in memory, in one sentence.
    pub cost: &'static str,
}

/// A row of a view that is kept as rows. Its order is that of its key, which comes first.
pub trait ViewRow: ExchangeData + Send + Sync {
    /// The view.
    const VIEW: View;

    /// Its columns.
    fn schema() -> SchemaRef;

    /// These rows, as columns of [`ViewRow::schema`].
    fn batch(rows: &mut dyn Iterator<Item = &Self>) -> RecordBatch
    where
        Self: Sized;
}

/// What a reader of a table wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// The columns, by their places in the schema, in the order wanted; all of them when `None`.
    pub projection: Option<Vec<usize>>,
    /// Columns of text, by name, that must have this value. A table may give other rows too.
    pub equal: Vec<(String, String)>,
}

/// One view at one published epoch: it never changes.
pub trait Table: Send + Sync {
    /// Its columns.
    fn schema(&self) -> SchemaRef;

    /// How many rows it has.
    fn rows(&self) -> usize;

    /// The rows, in batches of some thousands, made as they are asked for; after an error, nothing.
    fn scan(&self, scan: &Scan) -> Batches;

    /// True when its rows may have to be waited for, since somebody else has them.
    fn waits(&self) -> bool {
        false
    }
}

/// Rows, as they are made.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch, Unread>> + Send>;

/// Rows that cannot be had, and why: those of another process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unread(pub String);

/// The rows of several tables of one schema, after each other.
pub struct Chained(pub SchemaRef, pub Vec<Arc<dyn Table>>);

impl Table for Chained {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }

    fn rows(&self) -> usize {
        self.1.iter().map(|table| table.rows()).sum()
    }

    fn waits(&self) -> bool {
        self.1.iter().any(|table| table.waits())
    }

    fn scan(&self, scan: &Scan) -> Batches {
        let (tables, scan) = (self.1.clone(), scan.clone());
        Box::new(tables.into_iter().flat_map(move |table| table.scan(&scan)))
    }
}

/// The columns of `batch` that are wanted.
pub(crate) fn projected(batch: RecordBatch, projection: Option<&[usize]>) -> RecordBatch {
    match projection {
        None => batch,
        // Places come from the schema of this very table.
        Some(columns) => batch.project(columns).unwrap_or(batch),
    }
}

/// These columns, which the view made by its own schema; none where they do not fit it, which its tests show.
pub(crate) fn batch_of(schema: SchemaRef, columns: Vec<arrow::array::ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(Arc::clone(&schema), columns).unwrap_or_else(|_| RecordBatch::new_empty(schema))
}
