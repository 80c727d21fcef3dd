//! Output: one file a view, its rows in the order of their key, complete or not there at all.
//!
//! ```text
//!   tables --> sorted --> .NAME.new --> all of them written --> NAME
//! ```

use super::{Format, ReplayError};
use arrow::{
    array::{Array, RecordBatch, StringArray},
    compute::interleave_record_batch,
    datatypes::SchemaRef,
    error::ArrowError,
    json::{WriterBuilder, writer::LineDelimited},
};
use dbb_operators::views::{Scan, Table};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};
use std::{
    cmp::Ordering,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Rows made into columns at once.
const BATCH: usize = 8192;

/// Times as `dbb` shows them everywhere.
const TIME: &str = "%Y-%m-%dT%H:%M:%S%.6fZ";

/// Writes each table to `folder/NAME.ndjson` or `folder/NAME.parquet`. Files that are there are replaced once
/// all are complete.
///
/// # Errors
///
/// Something could not be written; what was there before still is.
pub(crate) fn write<'a>(
    folder: &Path,
    format: Format,
    tables: impl IntoIterator<Item = (&'a str, &'a Arc<dyn Table>)>,
) -> Result<Vec<PathBuf>, ReplayError> {
    make(folder)?;
    let mut complete = Vec::new();
    for (name, table) in tables {
        let target = folder.join(format!("{name}.{}", format.extension()));
        let hidden = folder.join(format!(".{name}.{}.new", format.extension()));
        if let Err(source) = write_one(&hidden, format, &**table) {
            for (hidden, _) in complete {
                let _ = fs::remove_file::<PathBuf>(hidden);
            }
            let _ = fs::remove_file(&hidden);
            return Err(ReplayError::Write { path: target, source });
        }
        complete.push((hidden, target));
    }
    complete
        .into_iter()
        .map(|(hidden, target)| match fs::rename(&hidden, &target) {
            Ok(()) => Ok(target),
            Err(source) => Err(ReplayError::Write { path: target, source }),
        })
        .collect()
}

/// Makes the folder, so that what cannot be written is known before anything is read.
pub(crate) fn make(folder: &Path) -> Result<(), ReplayError> {
    fs::create_dir_all(folder).map_err(|source| ReplayError::Write {
        path: folder.to_owned(),
        source,
    })
}

fn write_one(path: &Path, format: Format, table: &dyn Table) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let rows = Sorted::of(table).map_err(io::Error::other)?;
    match format {
        Format::Ndjson => {
            let mut writer = WriterBuilder::new()
                .with_explicit_nulls(true)
                .with_timestamp_tz_format(TIME.into())
                .build::<_, LineDelimited>(&mut file);
            for batch in rows.batches() {
                let batch = batch.map_err(io::Error::other)?;
                writer.write(&batch).map_err(io::Error::other)?;
            }
            writer.finish().map_err(io::Error::other)?;
        }
        Format::Parquet => {
            let properties = WriterProperties::builder()
                .set_compression(Compression::SNAPPY)
                .build();
            let schema = Arc::clone(&rows.schema);
            let mut writer =
                ArrowWriter::try_new(&mut file, schema, Some(properties)).map_err(io::Error::other)?;
            for batch in rows.batches() {
                let batch = batch.map_err(io::Error::other)?;
                writer.write(&batch).map_err(io::Error::other)?;
            }
            writer.close().map_err(io::Error::other)?;
        }
    }
    file.flush()?;
    file.get_ref().sync_all()
}

/// The rows of a table in the order of their key.
struct Sorted {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// Where each row is: batch, and row in it. `None` where they are in order as they come.
    order: Option<Vec<(u32, u32)>>,
}

impl Sorted {
    /// Views that are kept as rows are in order; replicas are kept by the hash of their file.
    fn of(table: &dyn Table) -> Result<Self, ArrowError> {
        let schema = table.schema();
        let batches: Vec<RecordBatch> = table
            .scan(&Scan::default())
            .collect::<Result<_, _>>()
            .map_err(|unread| ArrowError::ExternalError(Box::new(unread)))?;
        let key = ["scope", "name", "rse"].map(|column| schema.index_of(column));
        let order = match key {
            [Ok(scope), Ok(name), Ok(rse)] => Some(order(&batches, &[scope, name, rse])),
            _ => None,
        };
        Ok(Self {
            schema,
            batches,
            order,
        })
    }

    fn batches(&self) -> Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + '_> {
        let Some(order) = &self.order else {
            return Box::new(self.batches.iter().cloned().map(Ok));
        };
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        Box::new(order.chunks(BATCH).map(move |rows| {
            let rows: Vec<(usize, usize)> = rows
                .iter()
                .map(|(batch, row)| (*batch as usize, *row as usize))
                .collect();
            interleave_record_batch(&batches, &rows)
        }))
    }
}

fn order(batches: &[RecordBatch], key: &[usize]) -> Vec<(u32, u32)> {
    let columns: Vec<Vec<&StringArray>> = batches
        .iter()
        .map(|batch| {
            key.iter()
                .filter_map(|column| batch.column(*column).as_any().downcast_ref())
                .collect()
        })
        .collect();
    let mut rows: Vec<(u32, u32)> = batches
        .iter()
        .zip(0u32..)
        .flat_map(|(batch, at)| (0..batch.num_rows() as u32).map(move |row| (at, row)))
        .collect();
    rows.sort_unstable_by(|a, b| {
        let (left, right) = (&columns[a.0 as usize], &columns[b.0 as usize]);
        left.iter()
            .zip(right)
            .map(|(left, right)| left.value(a.1 as usize).cmp(right.value(b.1 as usize)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    });
    rows
}
