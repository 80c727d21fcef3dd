//! Rows of one kind, sorted, as Parquet files.
//!
//! In:    rows, each key greater than the one before.
//! Out:   a file, with row groups small enough that who wants a range of keys reads little else.
//! State: one file in memory.

use super::{checksum, error::CheckpointError};
use arrow::{
    array::{ArrayRef, BinaryBuilder, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use bytes::Bytes;
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, Encoding, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};
use std::sync::Arc;

/// Rows in a row group.
const GROUP: usize = 65_536;
/// Rows encoded in one go.
const BATCH: usize = 8_192;

/// A file that was made.
pub(super) struct Encoded {
    pub(super) file: Bytes,
    pub(super) rows: u64,
    pub(super) checksum: String,
}

/// Makes one file.
pub(super) struct Encoder {
    kind: String,
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
    keys: BinaryBuilder,
    values: BinaryBuilder,
    rows: u64,
}

impl Encoder {
    /// A file of rows of `kind` of `version`, as of `epoch`.
    pub(super) fn new(kind: &str, version: u16, epoch: u64) -> Result<Self, CheckpointError> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("key", DataType::Binary, false),
            Field::new("value", DataType::Binary, true),
        ]));
        let said = [
            ("kind", kind.to_owned()),
            ("version", version.to_string()),
            ("epoch", epoch.to_string()),
        ];
        let options = ArrowWriterOptions::new()
            .with_properties(properties(&said))
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options)
            .map_err(|source| failed(kind, source))?;
        Ok(Self {
            kind: kind.into(),
            schema,
            writer,
            keys: BinaryBuilder::new(),
            values: BinaryBuilder::new(),
            rows: 0,
        })
    }

    /// One more row.
    pub(super) fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), CheckpointError> {
        self.keys.append_value(key);
        self.values.append_option(value);
        self.rows += 1;
        if self.rows.is_multiple_of(BATCH as u64) {
            self.flush().map_err(|source| failed(&self.kind, source))?;
        }
        Ok(())
    }

    /// About how large the file is by now.
    pub(super) fn bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        let columns: Vec<ArrayRef> = vec![Arc::new(self.keys.finish()), Arc::new(self.values.finish())];
        self.writer
            .write(&RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// The file.
    pub(super) fn finish(mut self) -> Result<Encoded, CheckpointError> {
        let done = self.flush().and_then(|()| self.writer.into_inner());
        let file = done.map_err(|source| failed(&self.kind, source))?;
        Ok(Encoded {
            checksum: checksum::of(&file),
            file: file.into(),
            rows: self.rows,
        })
    }
}

fn failed(kind: &str, source: ParquetError) -> CheckpointError {
    CheckpointError::Encode {
        kind: kind.into(),
        source,
    }
}

fn properties(said: &[(&str, String)]) -> WriterProperties {
    let key = ColumnPath::from("key");
    WriterProperties::builder()
        .set_created_by(concat!("dbb ", env!("CARGO_PKG_VERSION")).into())
        // The level that is fastest: what is written often is read seldom.
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_column_encoding(key.clone(), Encoding::DELTA_BYTE_ARRAY)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled(key, EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(GROUP))
        .set_key_value_metadata(Some(
            said.iter()
                .map(|(key, value)| KeyValue::new((*key).to_owned(), value.clone()))
                .collect(),
        ))
        .build()
}
