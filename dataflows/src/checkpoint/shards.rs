//! Shards from rows: sorted, each key once, cut into files of a size that memory can hold.

use super::{
    encode::{Encoded, Encoder},
    error::CheckpointError,
    shard::head,
};
use dbb_operators::checkpoint::{Kind, Merge, Rows};

/// Where a file is cut, in bytes: it is in memory until it is written.
const CUT: usize = 64 << 20;
/// Rows between two looks at the size.
const LOOK: u64 = 8_192;

/// Cuts rows, sorted by key, into files.
pub(super) struct Cutter {
    kind: String,
    version: u16,
    epoch: u64,
    encoder: Option<Encoder>,
}

impl Cutter {
    /// Files of rows of `kind`, as of `epoch`.
    pub(super) fn new(kind: &Kind, epoch: u64) -> Self {
        Self {
            kind: kind.name.into(),
            version: kind.version,
            epoch,
            encoder: None,
        }
    }

    /// One more row; a file, if it is large enough with it.
    pub(super) fn push(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Option<Encoded>, CheckpointError> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => self
                .encoder
                .insert(Encoder::new(&self.kind, self.version, self.epoch)?),
        };
        encoder.push(key, value)?;
        if encoder.rows().is_multiple_of(LOOK) && encoder.bytes() >= CUT {
            return self.finish();
        }
        Ok(None)
    }

    /// The last file, if there is anything in it.
    pub(super) fn finish(&mut self) -> Result<Option<Encoded>, CheckpointError> {
        self.encoder.take().map(Encoder::finish).transpose()
    }
}

struct RowAt {
    head: u64,
    at: usize,
    key: u32,
    /// `u32::MAX` for a row without one.
    value: u32,
}

/// The files of rows that were handed out together, all of one kind.
pub(super) fn encode(
    kind: &'static Kind,
    handed: Vec<Box<dyn Rows>>,
    epoch: u64,
) -> Result<Vec<Encoded>, CheckpointError> {
    let too_long = || dbb_operators::checkpoint::Damaged {
        kind: kind.name,
        reason: "a row has more than 4 GiB".into(),
    };
    let mut bytes = Vec::new();
    let mut rows = Vec::with_capacity(handed.iter().map(|rows| rows.len()).sum());
    let mut fault = None;
    for some in handed {
        some.for_each(&mut |key, value| {
            let length = |of: &[u8]| u32::try_from(of.len()).ok().filter(|length| *length < u32::MAX);
            let (Some(key_length), Some(value_length)) = (length(key), value.map_or(Some(u32::MAX), length))
            else {
                fault = Some(too_long());
                return;
            };
            rows.push(RowAt {
                head: head(key),
                at: bytes.len(),
                key: key_length,
                value: value_length,
            });
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value.unwrap_or_default());
        });
    }
    if let Some(fault) = fault {
        return Err(fault.into());
    }
    let key = |row: &RowAt| &bytes[row.at..row.at + row.key as usize];
    let value = |row: &RowAt| {
        let at = row.at + row.key as usize;
        (row.value != u32::MAX).then(|| &bytes[at..at + row.value as usize])
    };
    // Rows of one key stay in the order in which they were handed out.
    rows.sort_by(|a, b| a.head.cmp(&b.head).then_with(|| key(a).cmp(key(b))));
    let mut files = Vec::new();
    let mut cutter = Cutter::new(kind, epoch);
    for same in rows.chunk_by(|a, b| a.head == b.head && key(a) == key(b)) {
        let Some(newest) = same.last() else { continue };
        let done = match (kind.merge, same) {
            (Merge::Sum(add), [first, _, ..]) => {
                let mut sum = value(first).map(<[u8]>::to_vec);
                for more in same[1..].iter().filter_map(value) {
                    sum = match sum {
                        None => Some(more.to_vec()),
                        Some(sum) => add(&sum, more)?,
                    };
                }
                match sum {
                    Some(sum) => cutter.push(key(newest), Some(&sum))?,
                    None => None,
                }
            }
            _ => cutter.push(key(newest), value(newest))?,
        };
        files.extend(done);
    }
    files.extend(cutter.finish()?);
    Ok(files)
}
