//! Checksums of files.

use super::{error::CheckpointError, manifest::ShardEntry, store::Store};
use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// What they are called in manifests.
pub(super) const NAME: &str = "xxh3-128";

/// Bytes looked at in one go.
const PIECE: u64 = 8 << 20;

pub(super) fn of(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// Looks whether a shard is there and has its size.
///
/// # Errors
///
/// It has not, or the store does not answer.
pub fn is_there(store: &Store, shard: &ShardEntry) -> Result<(), CheckpointError> {
    let path = &shard.path;
    match store.size(path)? {
        None => Err(CheckpointError::damaged(path, "is missing")),
        Some(bytes) if bytes != shard.bytes => {
            let problem = format!("has {bytes} bytes instead of {}", shard.bytes);
            Err(CheckpointError::damaged(path, problem))
        }
        Some(_) => Ok(()),
    }
}

/// The file of a shard, all of it as it was written.
///
/// # Errors
///
/// It is not, or the store does not answer.
pub(super) fn whole(store: &Store, shard: &ShardEntry) -> Result<Bytes, CheckpointError> {
    is_there(store, shard)?;
    let file = store.range(&shard.path, 0..shard.bytes)?;
    if of(&file) == shard.checksum {
        Ok(file)
    } else {
        Err(CheckpointError::damaged(
            &shard.path,
            "does not have its checksum",
        ))
    }
}

/// Looks whether a shard is all there, bit by bit.
///
/// # Errors
///
/// It is not, or the store does not answer.
pub(super) fn verify(store: &Store, shard: &ShardEntry) -> Result<(), CheckpointError> {
    is_there(store, shard)?;
    let path = &shard.path;
    let mut hash = Xxh3::new();
    let mut at = 0;
    while at < shard.bytes {
        let end = (at + PIECE).min(shard.bytes);
        hash.update(&store.range(path, at..end)?);
        at = end;
    }
    if format!("{:032x}", hash.digest128()) == shard.checksum {
        Ok(())
    } else {
        Err(CheckpointError::damaged(path, "does not have its checksum"))
    }
}
