//! Reading a shard: the rows of a range of keys, one after the other.

use super::{error::CheckpointError, manifest::ShardEntry, store::Store};
use arrow::array::{Array, BinaryArray, RecordBatch, cast::AsArray};
use bytes::{Buf, Bytes};
use dbb_operators::checkpoint::Give;
use parquet::{
    arrow::arrow_reader::{
        ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
    },
    errors::{ParquetError, Result as ParquetResult},
    file::{
        metadata::RowGroupMetaData,
        reader::{ChunkReader, Length},
        statistics::Statistics,
    },
};
use std::ops::{Range, RangeInclusive};

/// Rows decoded in one go.
const BATCH: usize = 8_192;
/// The end of a file, where its footer nearly always fits.
const END: u64 = 64 << 10;

/// The first eight bytes of a key, as a number that sorts as they do.
pub(super) fn head(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = key.len().min(8);
    bytes[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(bytes)
}

/// The heads of the keys of one of `of` shares.
pub(super) fn range_of(share: usize, of: usize) -> RangeInclusive<u64> {
    let bound = |n: usize| (n as u128 * (1 << 64) / of.max(1) as u128) as u64;
    if share + 1 >= of {
        bound(share)..=u64::MAX
    } else {
        bound(share)..=bound(share + 1) - 1
    }
}

/// Part of a file, as the Parquet library wants to see it.
struct Part {
    size: u64,
    /// Where the bytes begin.
    at: u64,
    bytes: Bytes,
}

impl Length for Part {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Part {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let end = self.at + self.bytes.len() as u64;
        self.get_bytes(start, usize::try_from(end.saturating_sub(start))?)
            .map(Buf::reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let outside = || ParquetError::General(format!("no bytes at {start}, {length} of them"));
        let from = usize::try_from(start.checked_sub(self.at).ok_or_else(outside)?)?;
        let to = from.checked_add(length).ok_or_else(outside)?;
        if to > self.bytes.len() {
            return Err(outside());
        }
        Ok(self.bytes.slice(from..to))
    }
}

/// The rows of one shard, in the order of their keys.
pub(super) struct Reader {
    store: Store,
    path: String,
    size: u64,
    keys: RangeInclusive<u64>,
    metadata: ArrowReaderMetadata,
    /// The row groups that are still to be read, the last first.
    groups: Vec<usize>,
    batches: Option<ParquetRecordBatchReader>,
    batch: Option<Batch>,
}

struct Batch {
    keys: BinaryArray,
    values: BinaryArray,
    at: usize,
    head: u64,
}

impl Reader {
    /// The rows of `shard` whose keys have a head among `keys`, at the first of them.
    pub(super) fn open(
        store: &Store,
        shard: &ShardEntry,
        keys: RangeInclusive<u64>,
    ) -> Result<Self, CheckpointError> {
        let metadata = footer(store, shard)?;
        let groups = (0..metadata.metadata().num_row_groups())
            .rev()
            .filter(|group| may_hold(metadata.metadata().row_group(*group), &keys))
            .collect();
        let mut reader = Self {
            store: store.clone(),
            path: shard.path.clone(),
            size: shard.bytes,
            keys,
            metadata,
            groups,
            batches: None,
            batch: None,
        };
        reader.find_first()?;
        Ok(reader)
    }

    /// The head of the present key; `None` at the end.
    pub(super) fn head(&self) -> Option<u64> {
        self.batch.as_ref().map(|batch| batch.head)
    }

    /// The present key; empty at the end.
    pub(super) fn key(&self) -> &[u8] {
        self.batch
            .as_ref()
            .map_or(&[], |batch| batch.keys.value(batch.at))
    }

    /// The present value.
    pub(super) fn value(&self) -> Option<&[u8]> {
        self.batch
            .as_ref()
            .filter(|batch| batch.values.is_valid(batch.at))
            .map(|batch| batch.values.value(batch.at))
    }

    /// On to the next row.
    pub(super) fn advance(&mut self) -> Result<(), CheckpointError> {
        if let Some(batch) = &mut self.batch {
            batch.at += 1;
            if batch.at < batch.keys.len() {
                batch.head = head(batch.keys.value(batch.at));
                if batch.head > *self.keys.end() {
                    self.end();
                }
                return Ok(());
            }
        }
        self.next_batch()?;
        if self.batch.as_ref().is_some_and(|b| b.head > *self.keys.end()) {
            self.end();
        }
        Ok(())
    }

    fn end(&mut self) {
        self.batch = None;
        self.batches = None;
        self.groups.clear();
    }

    fn find_first(&mut self) -> Result<(), CheckpointError> {
        self.next_batch()?;
        let from = *self.keys.start();
        while let Some(batch) = &mut self.batch {
            let last = head(batch.keys.value(batch.keys.len() - 1));
            if last < from {
                self.next_batch()?;
                continue;
            }
            while batch.head < from {
                batch.at += 1;
                batch.head = head(batch.keys.value(batch.at));
            }
            if batch.head > *self.keys.end() {
                self.end();
            }
            break;
        }
        Ok(())
    }

    /// The next batch that is not empty; none after the last.
    fn next_batch(&mut self) -> Result<(), CheckpointError> {
        self.batch = None;
        loop {
            let next = match &mut self.batches {
                Some(batches) => batches.next(),
                None => None,
            };
            match next {
                Some(batch) => {
                    let batch = batch.map_err(|error| unreadable(&self.path, &error))?;
                    if batch.num_rows() > 0 {
                        self.batch = Some(columns(&self.path, &batch)?);
                        return Ok(());
                    }
                }
                None => match self.groups.pop() {
                    Some(group) => self.batches = Some(self.open_group(group)?),
                    None => {
                        self.batches = None;
                        return Ok(());
                    }
                },
            }
        }
    }

    /// A row group is fetched whole: one request, and not the rest of the file.
    fn open_group(&self, group: usize) -> Result<ParquetRecordBatchReader, CheckpointError> {
        let span = span(self.metadata.metadata().row_group(group));
        if span.start > span.end || span.end > self.size {
            return Err(CheckpointError::damaged(
                &self.path,
                "has a row group outside of itself",
            ));
        }
        let part = Part {
            size: self.size,
            at: span.start,
            bytes: self.store.range(&self.path, span)?,
        };
        ParquetRecordBatchReaderBuilder::new_with_metadata(part, self.metadata.clone())
            .with_row_groups(vec![group])
            .with_batch_size(BATCH)
            .build()
            .map_err(|error| unreadable(&self.path, &error))
    }
}

/// Gives the first `limit` rows of a shard, as they are.
///
/// # Errors
///
/// It cannot be read.
pub fn look(
    store: &Store,
    shard: &ShardEntry,
    limit: usize,
    give: &mut Give<'_>,
) -> Result<(), CheckpointError> {
    if limit == 0 {
        return Ok(());
    }
    let mut reader = Reader::open(store, shard, 0..=u64::MAX)?;
    for _ in 0..limit {
        if reader.head().is_none() {
            break;
        }
        give(reader.key(), reader.value());
        reader.advance()?;
    }
    Ok(())
}

fn unreadable(path: &str, error: &dyn std::fmt::Display) -> CheckpointError {
    CheckpointError::damaged(path, format!("cannot be read: {error}"))
}

fn columns(path: &str, batch: &RecordBatch) -> Result<Batch, CheckpointError> {
    let column = |name: &str| batch.column_by_name(name)?.as_binary_opt::<i32>().cloned();
    let (Some(keys), Some(values)) = (column("key"), column("value")) else {
        return Err(CheckpointError::damaged(path, "has no columns `key` and `value`"));
    };
    let head = head(keys.value(0));
    Ok(Batch {
        keys,
        values,
        at: 0,
        head,
    })
}

/// The bytes of a row group: its columns follow each other.
fn span(group: &RowGroupMetaData) -> Range<u64> {
    let columns = || group.columns().iter().map(|column| column.byte_range());
    let start = columns().map(|(start, _)| start).min();
    let end = columns()
        .map(|(start, length)| start.saturating_add(length))
        .max();
    start.unwrap_or(0)..end.unwrap_or(0)
}

/// False if the statistics of the row group say that no key of it is wanted.
fn may_hold(group: &RowGroupMetaData, keys: &RangeInclusive<u64>) -> bool {
    match group.columns().first().and_then(|column| column.statistics()) {
        Some(Statistics::ByteArray(statistics)) => {
            let least = statistics.min_opt().map_or(0, |min| head(min.data()));
            let most = statistics.max_opt().map_or(u64::MAX, |max| head(max.data()));
            least <= *keys.end() && most >= *keys.start()
        }
        _ => true,
    }
}

fn footer(store: &Store, shard: &ShardEntry) -> Result<ArrowReaderMetadata, CheckpointError> {
    let read = |at: u64| {
        let part = Part {
            size: shard.bytes,
            at,
            bytes: store.range(&shard.path, at..shard.bytes)?,
        };
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        ArrowReaderMetadata::load(&part, options).map_err(|error| unreadable(&shard.path, &error))
    };
    let at = shard.bytes.saturating_sub(END);
    match read(at) {
        // Its footer is larger.
        Err(CheckpointError::Damaged { .. }) if at > 0 => read(0),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_one_share() {
        for of in 1..=7 {
            let mut next = 0_u128;
            for share in 0..of {
                let range = range_of(share, of);
                assert_eq!(u128::from(*range.start()), next);
                next = u128::from(*range.end()) + 1;
            }
            assert_eq!(next, 1 << 64);
        }
    }

    #[test]
    fn heads_sort_as_keys_do() {
        assert!(head(b"") <= head(b"a") && head(b"a") < head(b"a\0\x01") && head(b"a") < head(b"b"));
        assert_eq!(head(b"12345678"), head(b"123456789"));
    }
}
