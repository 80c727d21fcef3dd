//! The manifest of a checkpoint: what it is as of, and the shards that hold it.
//!
//! The file is two lines of JSON: the manifest, and the checksum of that line. It is written last, once, and names
//! everything else; a checkpoint without it is none.

use super::{checksum, error::CheckpointError, names};
use bytes::Bytes;
use dbb_events::{Incarnation, Mark, Micros, Position};
use dbb_operators::{
    Epoch,
    checkpoint::ReadTo,
    publish::{BoundOffsets, Lost},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// The format that is written here, and the newest that is read.
pub const FORMAT: u32 = 1;

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The state is that of the end of this epoch.
    pub epoch: Epoch,
    /// When that epoch began.
    pub at: Micros,
    /// When this was written.
    pub written_at: Micros,
    /// Whose state it is.
    pub pipeline: String,
    /// Of the process that wrote it.
    pub generation: i64,
    /// The same as its ledger counts it, where that was another: after checkpoints of another ledger were taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_generation: Option<i64>,
    /// The version of dbb that wrote it.
    pub by: String,
    /// How checksums are made.
    pub hash: String,
    /// True at the end of the input.
    pub is_last: bool,
    /// The views whose state it is.
    #[serde(default)]
    pub views: Vec<String>,
    /// Each kind of state, and the version of its rows.
    pub kinds: BTreeMap<String, u16>,
    /// For each partition the offset of the next record.
    pub offsets: Vec<Next>,
    /// The state of the ledger by which all below them was handled; `None` where an older version wrote it.
    #[serde(default)]
    pub ledger: Option<Mark>,
    /// Records that the source no longer had when they were wanted.
    pub gaps: Vec<Lost>,
    /// The files, of each kind the older first.
    pub shards: Vec<ShardEntry>,
}

/// Where a partition goes on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Next {
    /// The topic, or the path of the file.
    pub stream: Arc<str>,
    /// The partition of the topic; 0 for files.
    pub partition: i32,
    /// Everything below this offset is in the state.
    pub next: u64,
    /// Of which of the topics, and logs, of the name.
    #[serde(default)]
    pub of: Incarnation,
}

/// What a shard is to those beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// All there was until its last epoch. The bases of one kind follow each other by their keys.
    Base,
    /// What changed after that.
    Delta,
}

/// A file of rows of one kind, sorted by their keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// Of which state.
    pub kind: String,
    /// The version of its rows.
    pub version: u16,
    /// All, or what changed.
    pub role: Role,
    /// The first checkpoint whose rows are in it.
    pub from: Epoch,
    /// The last one.
    pub to: Epoch,
    /// The file, from the top of the store.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// The checksum of all its bytes.
    pub checksum: String,
    /// For how many epochs after `to` its rows must be kept; for ever if not said.
    // Not left out where there is none: processes tell each other of shards in a form that names no fields.
    #[serde(default)]
    pub remember: Option<Epoch>,
}

#[derive(Serialize, Deserialize)]
struct Seal {
    hash: String,
    checksum: String,
}

/// What can be read of a manifest of any format.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

impl Manifest {
    /// Where it is written.
    pub fn path(&self) -> String {
        names::manifest(self.epoch, self.generation)
    }

    /// The rows of all its shards, those that were replaced since counted too.
    pub fn rows(&self) -> u64 {
        self.shards.iter().map(|shard| shard.rows).sum()
    }

    /// The size of all its shards.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// The offsets, as sources and sinks say them.
    pub fn bound_offsets(&self) -> BoundOffsets {
        self.offsets
            .iter()
            .map(|o| ((Arc::clone(&o.stream), o.partition), o.next))
            .collect()
    }

    /// The same, with the incarnations in which they mean something.
    pub fn places(&self) -> ReadTo {
        self.offsets
            .iter()
            .map(|o| ((Arc::clone(&o.stream), o.partition), Position::new(o.of, o.next)))
            .collect()
    }

    /// The file.
    pub(super) fn encode(&self) -> Bytes {
        let seal = |line: &str| Seal {
            hash: checksum::NAME.into(),
            checksum: checksum::of(line.as_bytes()),
        };
        // Strings, numbers and lists: there is nothing that JSON could not say.
        let line = serde_json::to_string(self).unwrap_or_default();
        let sealed = serde_json::to_string(&seal(&line)).unwrap_or_default();
        format!("{line}\n{sealed}\n").into()
    }

    /// What the file at `path` says.
    ///
    /// # Errors
    ///
    /// It is damaged, or of a newer format.
    pub(super) fn decode(path: &str, file: &[u8]) -> Result<Self, CheckpointError> {
        let damaged = |problem: &str| CheckpointError::damaged(path, problem);
        let mut lines = file.split(|byte| *byte == b'\n');
        let (Some(line), Some(seal), Some([])) = (lines.next(), lines.next(), lines.next()) else {
            return Err(damaged("is cut short"));
        };
        let seal: Seal =
            serde_json::from_slice(seal).map_err(|_| damaged("has no checksum that can be read"))?;
        // Before its checksum, which a newer format may make otherwise.
        if let Ok(AnyFormat { format }) = serde_json::from_slice(line)
            && format > FORMAT
        {
            return Err(CheckpointError::Newer {
                path: path.into(),
                format,
                known: FORMAT,
            });
        }
        if seal.hash != checksum::NAME || seal.checksum != checksum::of(line) {
            return Err(damaged("does not have its checksum"));
        }
        serde_json::from_slice(line).map_err(|error| damaged(&format!("cannot be read: {error}")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: FORMAT,
            epoch: 3000,
            at: Micros(1),
            written_at: Micros(2),
            pipeline: "p".into(),
            views: Vec::new(),
            generation: 7,
            ledger_generation: None,
            by: "0.1.0".into(),
            hash: checksum::NAME.into(),
            is_last: false,
            kinds: BTreeMap::from([("replicas".into(), 1)]),
            offsets: vec![Next {
                stream: "t\n".into(),
                partition: 0,
                next: 3,
                of: Incarnation::of(5).cut(),
            }],
            ledger: Some(Mark { ledger: 1, at: 2 }),
            gaps: Vec::new(),
            shards: Vec::new(),
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let written = manifest();
        assert_eq!(Manifest::decode("m", &written.encode()).unwrap(), written);
    }

    #[test]
    fn no_bit_of_a_manifest_may_be_another_and_none_of_it_may_be_missing() {
        let file = manifest().encode().to_vec();
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let read = Manifest::decode("m", &flipped);
            // The word `hash` of the seal is for readers to come.
            assert!(
                read.is_err() || read.unwrap() == manifest(),
                "bit {bit}: {:?}",
                String::from_utf8_lossy(&flipped)
            );
        }
        for length in 0..file.len() {
            assert!(Manifest::decode("m", &file[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut newer = manifest();
        newer.format = FORMAT + 1;
        let told = Manifest::decode("m", &newer.encode()).unwrap_err().to_string();
        assert_eq!(
            told,
            "checkpoint `m` has format 2, and this dbb knows formats up to 1: run the newer dbb that wrote it"
        );
    }
}
