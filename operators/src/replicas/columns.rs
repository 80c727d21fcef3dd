//! Columns: rows of the view `replicas` as Arrow makes them.

use crate::{
    facts::{Basis, DidKey, State},
    views::batch_of,
};
use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringBuilder, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use std::{
    fmt::Write,
    sync::{Arc, LazyLock},
};

/// One row.
pub(super) struct Line<'a> {
    pub(super) did: DidKey,
    pub(super) scope: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) rse: &'a str,
    pub(super) state: State,
    pub(super) bytes: Option<u64>,
    pub(super) adler32: Option<u32>,
    pub(super) basis: Basis,
    pub(super) at: i64,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("scope", DataType::Utf8, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("rse", DataType::Utf8, false),
        Field::new("state", DataType::Utf8, false),
        Field::new("bytes", DataType::Int64, true),
        Field::new("adler32", DataType::Utf8, true),
        Field::new("basis", DataType::Utf8, false),
        Field::new(
            "updated_at",
            DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
            false,
        ),
    ]))
});

/// The columns of the view.
pub(super) fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// The lines as columns, of which only those wanted are made.
pub(super) fn batch(lines: &[Line<'_>], projection: Option<&[usize]>) -> RecordBatch {
    let all: Vec<usize> = (0..SCHEMA.fields().len()).collect();
    let wanted = projection.unwrap_or(&all);
    // Nothing wanted but how many there are: Arrow counts them by a column, which then goes.
    let made: &[usize] = if wanted.is_empty() { &[7] } else { wanted };
    let Ok(schema) = SCHEMA.project(made) else {
        return RecordBatch::new_empty(schema());
    };
    let batch = batch_of(
        Arc::new(schema),
        made.iter().map(|column| self::column(lines, *column)).collect(),
    );
    crate::views::projected(batch, wanted.is_empty().then_some(&[]))
}

fn column(lines: &[Line<'_>], column: usize) -> ArrayRef {
    match column {
        0 => text(lines, |line, into| into.append_value(line.scope)),
        1 => text(lines, |line, into| match line.name {
            Some(name) => into.append_value(name),
            // Nobody told it: what stands for it is better than nothing.
            None => {
                let _ = write!(into, "?{:016x}{:016x}", line.did.high, line.did.low);
                into.append_value("");
            }
        }),
        2 => text(lines, |line, into| into.append_value(line.rse)),
        3 => text(lines, |line, into| into.append_value(line.state.as_str())),
        4 => Arc::new(Int64Array::from_iter(
            lines
                .iter()
                .map(|line| line.bytes.and_then(|bytes| i64::try_from(bytes).ok())),
        )),
        5 => text(lines, |line, into| match line.adler32 {
            Some(adler32) => {
                let _ = write!(into, "{adler32:08x}");
                into.append_value("");
            }
            None => into.append_null(),
        }),
        6 => text(lines, |line, into| into.append_value(line.basis.as_str())),
        _ => Arc::new(
            TimestampMicrosecondArray::from_iter_values(lines.iter().map(|line| line.at))
                .with_timezone("+00:00"),
        ),
    }
}

fn text(lines: &[Line<'_>], mut append: impl FnMut(&Line<'_>, &mut StringBuilder)) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(lines.len(), lines.len() * 16);
    for line in lines {
        append(line, &mut builder);
    }
    Arc::new(builder.finish())
}
