//! Rows: one record a row of a Parquet file.

use arrow::{
    array::{ArrayRef, Int32Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use dbb_events::Received;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use std::{fs::File, io, path::Path, sync::Arc};

/// Rows and bytes gathered before they are encoded.
const ROWS: usize = 4096;
const BYTES: usize = 8 * 1024 * 1024;

/// Rows read back at a stretch, and bytes that a group has in memory at most.
const GROUP_ROWS: usize = 100_000;
const GROUP_BYTES: usize = 64 * 1024 * 1024;

pub(super) struct Rows {
    writer: ArrowWriter<File>,
    schema: Arc<Schema>,
    topic: StringBuilder,
    partition: Int32Builder,
    offset: Int64Builder,
    appended_at: TimestampMicrosecondBuilder,
    value: StringBuilder,
    rows: usize,
    bytes: usize,
}

impl Rows {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Arc::new(Schema::new(vec![
            Field::new("topic", DataType::Utf8, true),
            Field::new("partition", DataType::Int32, false),
            Field::new("offset", DataType::Int64, false),
            Field::new("appended_at", utc, true),
            Field::new("value", DataType::Utf8, false),
        ]));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let writer = ArrowWriter::try_new(File::create(path)?, schema.clone(), Some(properties))?;
        Ok(Self {
            writer,
            schema,
            topic: StringBuilder::new(),
            partition: Int32Builder::new(),
            offset: Int64Builder::new(),
            appended_at: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            value: StringBuilder::new(),
            rows: 0,
            bytes: 0,
        })
    }

    pub(super) fn write(&mut self, record: &Received, text: &str) -> io::Result<()> {
        self.topic.append_option(record.topic.as_deref());
        self.partition.append_value(record.place.partition);
        self.offset
            .append_value(i64::try_from(record.place.offset).unwrap_or(i64::MAX));
        self.appended_at.append_option(record.appended_at.map(|at| at.0));
        self.value.append_value(text);
        self.rows += 1;
        self.bytes += text.len();
        if self.rows >= ROWS || self.bytes >= BYTES {
            self.encode()?;
        }
        Ok(())
    }

    fn encode(&mut self) -> io::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.topic.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.appended_at.finish()),
            Arc::new(self.value.finish()),
        ];
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(io::Error::other)?;
        self.writer.write(&batch)?;
        (self.rows, self.bytes) = (0, 0);
        if self.writer.in_progress_size() >= GROUP_BYTES {
            self.writer.flush()?;
        }
        Ok(())
    }

    /// Bytes written so far, and about what is still to be.
    pub(super) fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    pub(super) fn finish(mut self) -> io::Result<File> {
        self.encode()?;
        Ok(self.writer.into_inner()?)
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").finish_non_exhaustive()
    }
}
