//! Rows: the bodies of events in a Parquet file, and the topics they were published to.
//!
//! In:    a file with a column `value`, `body` or `event`, of text or bytes, and perhaps one `topic`; others are not
//!        looked at.
//! Out:   row after row, each with its number.
//! State: one batch of rows.

use arrow::{
    array::{Array, LargeBinaryArray, StringArray},
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
use std::{fs::File, io, os::unix::fs::FileExt};

/// The names that the column with the body may have.
const NAMES: [&str; 3] = ["value", "body", "event"];

/// Rows decoded at once.
const ROWS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Rows {
    batches: ParquetRecordBatchReader,
    bodies: Option<LargeBinaryArray>,
    topics: Option<StringArray>,
    /// The next row of the batch.
    at: usize,
    /// The number of that row in the file.
    row: u64,
    rows: u64,
    size: u64,
    read: u64,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    /// How many rows are before it.
    pub(crate) number: u64,
    /// The topic, where there is such a column and a text in it.
    pub(crate) topic: Option<&'a str>,
    /// The body; of a null, nothing.
    pub(crate) body: &'a [u8],
}

impl Rows {
    /// The rows of `file`, of `size` bytes, from number `from` on; their topics if they are wanted.
    pub(crate) fn new(file: File, size: u64, from: u64, with_topics: bool) -> io::Result<Self> {
        if !is_complete(&file)? {
            let why = "its end is missing: it is cut short, or not written to its end";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| damaged(&error))?;
        let body = body_column(builder.schema())?;
        let topic = topic_column(builder.schema()).filter(|topic| with_topics && *topic != body);
        for column in topic.into_iter().chain([body]) {
            sound(builder.metadata(), column, size)?;
        }
        let rows = builder.metadata().file_metadata().num_rows().max(0) as u64;
        // They come in the order of the file, whatever the order here.
        let mask = ProjectionMask::roots(builder.parquet_schema(), topic.into_iter().chain([body]));
        let from = from.min(rows);
        let batches = builder
            .with_projection(mask)
            .with_batch_size(ROWS)
            .with_offset(usize::try_from(from).unwrap_or(usize::MAX))
            .build()
            .map_err(|error| damaged(&error))?;
        Ok(Self {
            batches,
            bodies: None,
            topics: None,
            at: 0,
            row: from,
            rows,
            size,
            read: 0,
        })
    }

    /// The number of the next row.
    pub(crate) fn row(&self) -> u64 {
        self.row
    }

    /// True where the next row is decoded already, or there is none: then no error comes before it.
    pub(crate) fn has_next(&self) -> bool {
        self.bodies.as_ref().is_some_and(|bodies| self.at < bodies.len())
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    ///
    /// The file is damaged behind the rows that were given.
    pub(crate) fn next_row(&mut self) -> io::Result<Option<Row<'_>>> {
        while !self.has_next() {
            if !self.next_batch()? {
                return Ok(None);
            }
        }
        let (at, number) = (self.at, self.row);
        self.at += 1;
        self.row += 1;
        Ok(self.bodies.as_ref().map(|bodies| Row {
            number,
            topic: self
                .topics
                .as_ref()
                .filter(|topics| !topics.is_null(at))
                .map(|topics| topics.value(at)),
            body: if bodies.is_null(at) { &[] } else { bodies.value(at) },
        }))
    }

    /// About how many bytes of the file were read since the last call.
    pub(crate) fn take_read(&mut self) -> u64 {
        std::mem::take(&mut self.read)
    }

    fn next_batch(&mut self) -> io::Result<bool> {
        let (row, rows) = (self.row, self.rows);
        let at = |error: &ArrowError| {
            let detail = format!("after {row} of its {rows} rows: {error}");
            io::Error::new(io::ErrorKind::InvalidData, detail)
        };
        self.bodies = None;
        let Some(batch) = self.batches.next() else {
            return Ok(false);
        };
        let batch = batch.map_err(|error| at(&error))?;
        let schema = batch.schema();
        let body = body_column(&schema)?;
        let bodies = cast(batch.column(body), &DataType::LargeBinary).map_err(|error| at(&error))?;
        let topic = topic_column(&schema).filter(|topic| *topic != body);
        let topics = topic.map(|topic| cast(batch.column(topic), &DataType::Utf8));
        let topics = topics.transpose().map_err(|error| at(&error))?;
        let read = batch.num_rows() as u128 * u128::from(self.size) / u128::from(self.rows.max(1));
        self.read += read as u64;
        self.bodies = bodies.as_any().downcast_ref::<LargeBinaryArray>().cloned();
        self.topics = topics.and_then(|topics| topics.as_any().downcast_ref::<StringArray>().cloned());
        self.at = 0;
        Ok(self.bodies.is_some())
    }
}

/// Does it end as a file does that was written to its end?
fn is_complete(file: &File) -> io::Result<bool> {
    let mut end = [0; 4];
    let size = file.metadata()?.len();
    // Magic, and after the footer its length and the magic again.
    Ok(size >= 12 && file.read_exact_at(&mut end, size - 4).is_ok() && end == *b"PAR1")
}

/// How many rows a complete file has.
pub(crate) fn count_rows(file: File) -> io::Result<u64> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| damaged(&error))?;
    Ok(builder.metadata().file_metadata().num_rows().max(0) as u64)
}

/// The index of the column that tells the topics, where there is one of text.
fn topic_column(schema: &Schema) -> Option<usize> {
    let index = schema.index_of("topic").ok()?;
    let mut of = schema.field(index).data_type();
    if let DataType::Dictionary(_, value) = of {
        of = value;
    }
    matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View).then_some(index)
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
