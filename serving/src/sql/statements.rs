//! `statements()`: what runs now, by whom it is asked, and since when.

use super::running::Running;
use arrow::{
    array::{ArrayRef, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use datafusion::{
    catalog::{MemTable, TableFunctionImpl, TableProvider},
    error::Result,
    logical_expr::Expr,
};
use std::{
    sync::{Arc, LazyLock},
    time::UNIX_EPOCH,
};

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let since = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    Arc::new(Schema::new(vec![
        Field::new("pid", DataType::Int32, false),
        Field::new("user", DataType::Utf8, false),
        Field::new("since", since, false),
        Field::new("state", DataType::Utf8, false),
        Field::new("statement", DataType::Utf8, false),
    ]))
});

/// The function.
#[derive(Debug)]
pub(super) struct Statements(pub(super) Arc<Running>);

impl TableFunctionImpl for Statements {
    fn call(&self, _: &[Expr]) -> Result<Arc<dyn TableProvider>> {
        let all = self.0.all();
        let micros = |since: &std::time::SystemTime| {
            let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
        };
        let since = all.iter().map(|shown| micros(&shown.since));
        let since = TimestampMicrosecondArray::from_iter_values(since).with_timezone("+00:00");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_iter_values(
                all.iter().map(|shown| shown.who.pid),
            )),
            Arc::new(StringArray::from_iter_values(
                all.iter().map(|shown| &shown.who.user),
            )),
            Arc::new(since),
            Arc::new(StringArray::from_iter_values(all.iter().map(|shown| shown.state))),
            Arc::new(StringArray::from_iter_values(all.iter().map(|shown| &shown.text))),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?;
        Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
    }
}
