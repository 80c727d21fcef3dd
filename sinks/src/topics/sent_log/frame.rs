//! Frame: some records of one lane that were published together, as bytes of a segment.
//!
//! ```text
//!   "DBS1" | length of head, of body, of body unpacked | hash of all that follows and the lengths | head | body
//!            head: lane, RSE, first number, how many, the last number confirmed at the time; then the time, which
//!            earlier versions of dbb neither wrote nor read
//!            body: records, postcard in zstd
//! ```
//!
//! A frame replaces whatever earlier frames of its lane have at its first number and above.

use bytes::Bytes;
use dbb_events::{EventId, Micros};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use xxhash_rust::xxh3::Xxh3;
use zstd::bulk::{Compressor, Decompressor};

const MAGIC: [u8; 4] = *b"DBS1";
pub(super) const FIXED: usize = 24;

/// More than any frame that is written: lengths beyond it are damage.
const MOST: u32 = 1 << 30;

/// A record as it was published, but for its lane and number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) id: EventId,
    pub(crate) source: String,
    pub(crate) key: String,
    pub(crate) body: Bytes,
}

/// What is known of a frame without its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head<'a> {
    #[serde(borrow)]
    pub(super) topic: std::borrow::Cow<'a, str>,
    pub(super) partition: i32,
    #[serde(borrow)]
    pub(super) rse: std::borrow::Cow<'a, str>,
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) confirmed: u64,
}

impl Head<'_> {
    /// The head in these bytes, and when its frame was written, if that is told.
    pub(super) fn read(bytes: &[u8]) -> io::Result<(Head<'_>, Option<Micros>)> {
        let (head, rest) = postcard::take_from_bytes(bytes).map_err(io::Error::other)?;
        Ok((head, postcard::from_bytes(rest).ok().map(Micros)))
    }
}

/// Lengths and hash at the beginning of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fixed {
    head: u32,
    pub(super) body: u32,
    raw: u32,
    hash: u64,
}

/// Makes frames; keeps what it needs for that.
pub(super) struct Packer {
    zstd: Compressor<'static>,
    raw: Vec<u8>,
}

impl Packer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            // The fastest: the disk is no bottleneck, the processor is.
            zstd: Compressor::new(1)?,
            raw: Vec::new(),
        })
    }

    /// Appends a frame to `out`.
    pub(super) fn pack<'a>(
        &mut self,
        head: &Head<'_>,
        records: impl Iterator<Item = &'a Kept>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.raw.clear();
        for record in records {
            postcard::to_io(record, &mut self.raw).map_err(io::Error::other)?;
        }
        let body = match self.raw.len() {
            0 => Vec::new(),
            _ => self.zstd.compress(&self.raw)?,
        };
        let mut head = postcard::to_stdvec(head).map_err(io::Error::other)?;
        postcard::to_io(&crate::clock::now().0, &mut head).map_err(io::Error::other)?;
        let lengths =
            [head.len(), body.len(), self.raw.len()].map(|length| u32::try_from(length).unwrap_or(u32::MAX));
        if lengths.iter().any(|length| *length > MOST) {
            return Err(io::Error::other("more than 1 GiB in one frame"));
        }
        out.extend_from_slice(&MAGIC);
        lengths
            .iter()
            .for_each(|length| out.extend_from_slice(&length.to_le_bytes()));
        out.extend_from_slice(&hash(lengths, &head, &body).to_le_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(&body);
        Ok(())
    }
}

fn hash(lengths: [u32; 3], head: &[u8], body: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    lengths
        .iter()
        .for_each(|length| hash.update(&length.to_le_bytes()));
    hash.update(head);
    hash.update(body);
    hash.digest()
}

impl Fixed {
    /// Of a frame that begins with `bytes`, if one does.
    pub(super) fn read(bytes: &[u8; FIXED]) -> Option<Self> {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let fixed = Self {
            head: number(4),
            body: number(8),
            raw: number(12),
            hash: u64::from(number(16)) | u64::from(number(20)) << 32,
        };
        let sound = bytes[..4] == MAGIC
            && [fixed.head, fixed.body, fixed.raw]
                .iter()
                .all(|length| *length <= MOST);
        sound.then_some(fixed)
    }

    /// The bytes of the whole frame.
    pub(super) fn length(&self) -> u64 {
        FIXED as u64 + u64::from(self.head) + u64::from(self.body)
    }

    /// Reads the head.
    pub(super) fn head(&self, from: &mut impl Read, into: &mut Vec<u8>) -> io::Result<()> {
        into.resize(self.head as usize, 0);
        from.read_exact(into)
    }

    /// Reads the body; `None` if the frame is damaged.
    pub(super) fn body(&self, head: &[u8], from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
        let mut body = vec![0; self.body as usize];
        from.read_exact(&mut body)?;
        let lengths = [self.head, self.body, self.raw];
        Ok((hash(lengths, head, &body) == self.hash).then_some(body))
    }

    /// The records of a body.
    pub(super) fn records(&self, body: &[u8]) -> io::Result<Vec<Kept>> {
        let mut records = Vec::new();
        if body.is_empty() {
            return Ok(records);
        }
        let raw = Decompressor::new()?.decompress(body, self.raw as usize)?;
        let mut rest = raw.as_slice();
        while !rest.is_empty() {
            let (record, after) = postcard::take_from_bytes(rest).map_err(io::Error::other)?;
            records.push(record);
            rest = after;
        }
        Ok(records)
    }
}
