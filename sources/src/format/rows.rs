//! Columns: the bodies of events in a Parquet file, as lines.
//!
//! In:    a file with a column `value`, `body` or `event`, of text or bytes; others are not looked at.
//! Out:   one line a row, blank for a null. A line end inside a body, where JSON has white space, becomes a space.
//! State: one batch of rows.

use super::Start;
use arrow::{
    array::{Array, LargeBinaryArray},
    compute::cast,
    datatypes::{DataType, Schema},
    error::ArrowError,
};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    errors::ParquetError,
    file::metadata::{ParquetMetaData, RowGroupMetaData},
};
use std::{
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The names that the column with the body may have.
const NAMES: [&str; 3] = ["value", "body", "event"];

/// Rows decoded at once.
const ROWS: usize = 1024;

#[derive(Debug)]
pub(super) struct Columns {
    batches: ParquetRecordBatchReader,
    batch: Option<LargeBinaryArray>,
    /// The next row of `batch`.
    at: usize,
    /// The number of that row in the file.
    row: u64,
    rows: u64,
    size: u64,
    count: Arc<AtomicU64>,
    block: usize,
}

impl Columns {
    pub(super) fn new(file: File, size: u64, count: Arc<AtomicU64>, block: u64) -> io::Result<Self> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| damaged(&error))?;
        let column = body_column(builder.schema())?;
        sound(builder.metadata(), column, size)?;
        let rows = builder.metadata().file_metadata().num_rows();
        let mask = ProjectionMask::roots(builder.parquet_schema(), [column]);
        let batches = builder
            .with_projection(mask)
            .with_batch_size(ROWS)
            .build()
            .map_err(|error| damaged(&error))?;
        Ok(Self {
            batches,
            batch: None,
            at: 0,
            row: 0,
            rows: rows.max(0) as u64,
            size,
            count,
            block: block as usize,
        })
    }

    /// Puts the next bodies into `buffer`, which is empty, and tells which row begins it.
    pub(super) fn fill(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Start>> {
        let start = Start {
            offset: self.row,
            line: Some(self.row + 1),
        };
        while buffer.len() < self.block {
            let Some(batch) = &self.batch else {
                // What is there goes first: the next batch may be damaged.
                if !buffer.is_empty() || !self.next_batch()? {
                    break;
                }
                continue;
            };
            if self.at == batch.len() {
                self.batch = None;
                continue;
            }
            if !batch.is_null(self.at) {
                let body = batch.value(self.at);
                let begin = buffer.len();
                buffer.extend_from_slice(body);
                for byte in &mut buffer[begin..] {
                    if *byte == b'\n' {
                        *byte = b' ';
                    }
                }
            }
            buffer.push(b'\n');
            self.at += 1;
            self.row += 1;
        }
        Ok((!buffer.is_empty()).then_some(start))
    }

    fn next_batch(&mut self) -> io::Result<bool> {
        let row = self.row;
        let rows = self.rows;
        let at = |error: &ArrowError| {
            let detail = format!("after {row} of its {rows} rows: {error}");
            io::Error::new(io::ErrorKind::InvalidData, detail)
        };
        let Some(batch) = self.batches.next() else {
            return Ok(false);
        };
        let batch = batch.map_err(|error| at(&error))?;
        let bodies = cast(batch.column(0), &DataType::LargeBinary).map_err(|error| at(&error))?;
        let read = batch.num_rows() as u128 * u128::from(self.size) / u128::from(self.rows.max(1));
        self.count.fetch_add(read as u64, Relaxed);
        self.batch = bodies.as_any().downcast_ref::<LargeBinaryArray>().cloned();
        self.at = 0;
        Ok(self.batch.is_some())
    }
}

/// The index of the column that holds the bodies.
fn body_column(schema: &Schema) -> io::Result<usize> {
    let found = NAMES.iter().find_map(|name| schema.index_of(name).ok());
    let Some(index) = found else {
        let names: Vec<&str> = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        let detail = format!(
            "no column `value`, `body` or `event` that would hold the events; its columns are {}",
            names.join(", ")
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, detail));
    };
    let field = schema.field(index);
    let mut of = field.data_type();
    if let DataType::Dictionary(_, value) = of {
        of = value;
    }
    match of {
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => Ok(index),
        other => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("column `{}` is {other}, not text or bytes", field.name()),
        )),
    }
}

/// The parser takes the places and sizes of the column's chunks as they are: are they inside the file?
fn sound(metadata: &ParquetMetaData, column: usize, size: u64) -> io::Result<()> {
    let inside = |group: &RowGroupMetaData| -> Option<bool> {
        let chunk = group.columns().get(column)?;
        let data = u64::try_from(chunk.data_page_offset()).ok()?;
        let start = match chunk.dictionary_page_offset() {
            Some(dictionary) => u64::try_from(dictionary).ok()?,
            None => data,
        };
        let length = u64::try_from(chunk.compressed_size()).ok()?;
        let rows = u64::try_from(group.num_rows()).ok()?;
        let values = u64::try_from(chunk.num_values()).ok()?;
        Some(start.checked_add(length)? <= size && data < size && rows == values)
    };
    let count = |group: &RowGroupMetaData| group.num_rows().max(0);
    let rows: i64 = metadata
        .row_groups()
        .iter()
        .map(count)
        .fold(0, i64::saturating_add);
    let all = metadata
        .row_groups()
        .iter()
        .all(|group| inside(group) == Some(true));
    if all && rows == metadata.file_metadata().num_rows() {
        return Ok(());
    }
    let detail = "its footer tells of rows or places that are not in the file";
    Err(io::Error::new(io::ErrorKind::InvalidData, detail))
}

fn damaged(error: &ParquetError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
