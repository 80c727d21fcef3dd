//! `as_of()`: the epoch of the statement itself, when it began, and what had been read by its end.
//!
//! One row for each partition, and one with empty columns where nothing was read from any. Of a partition of which the
//! source no longer had all that was wanted, it tells how many records the views are without, and since when.

use arrow::{
    array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use datafusion::{
    catalog::{MemTable, TableFunctionImpl, TableProvider},
    error::Result,
    logical_expr::Expr,
};
use dbb_operators::publish::{END, Published};
use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        // Both are null at the end of a replay, whose epochs have neither a number nor a time.
        Field::new("epoch", DataType::Int64, true),
        Field::new(
            "at",
            DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
            true,
        ),
        Field::new("stream", DataType::Utf8, true),
        Field::new("partition", DataType::Int32, true),
        Field::new("next_offset", DataType::Int64, true),
        // Null also where records are missing, and nobody can tell how many.
        Field::new("missing", DataType::Int64, true),
        Field::new(
            "missing_since",
            DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
            true,
        ),
    ]))
});

/// The function, for one pinned epoch.
pub(super) struct AsOf(pub(super) Option<Arc<Published>>);

impl std::fmt::Debug for AsOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AsOf")
            .field(&self.0.as_ref().map(|p| p.epoch))
            .finish()
    }
}

impl TableFunctionImpl for AsOf {
    fn call(&self, _: &[Expr]) -> Result<Arc<dyn TableProvider>> {
        let batch = match &self.0 {
            Some(published) => batch(published)?,
            None => RecordBatch::new_empty(Arc::clone(&SCHEMA)),
        };
        Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
    }
}

fn batch(published: &Published) -> Result<RecordBatch> {
    let partitions: BTreeSet<_> = published.offsets.keys().chain(published.missing.keys()).collect();
    let read: Vec<_> = if partitions.is_empty() {
        vec![None]
    } else {
        partitions.into_iter().map(Some).collect()
    };
    let rows = read.len();
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let epoch = (published.epoch != END).then(|| number(published.epoch));
    let at = (published.at.0 != 0).then_some(published.at.0);
    let stream = read.iter().map(|read| read.map(|(stream, _)| &**stream));
    let partition = read.iter().map(|read| read.map(|(_, partition)| *partition));
    let next = read
        .iter()
        .map(|read| published.offsets.get((*read)?).copied().map(number));
    let missing = read.iter().map(|read| match published.missing.get((*read)?) {
        Some(missing) => missing.records.map(number),
        None => Some(0),
    });
    let since = read
        .iter()
        .map(|read| published.missing.get((*read)?).map(|missing| missing.since.0));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![epoch; rows])),
        Arc::new(TimestampMicrosecondArray::from(vec![at; rows]).with_timezone("+00:00")),
        Arc::new(stream.collect::<StringArray>()),
        Arc::new(partition.collect::<Int32Array>()),
        Arc::new(next.collect::<Int64Array>()),
        Arc::new(missing.collect::<Int64Array>()),
        Arc::new(
            since
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("+00:00"),
        ),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?)
}
