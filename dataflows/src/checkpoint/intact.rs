//! Intact: what a manifest is to name is there, as it was written, before the manifest is.
//!
//! ```text
//!   shards of the manifest --listed, scrubbed--> all there
//!                                    \--> lost: from the file that is still open, or from one with the same bytes
//! ```
//!
//! State: the shards of the newest manifest, held open: a folder that somebody removes takes their names, not their bytes.

use super::{
    checksum,
    error::CheckpointError,
    manifest::{Manifest, ShardEntry},
    names,
    store::Store,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::unix::fs::FileExt,
};

/// The most files that are held open.
const HELD: usize = 300;

/// See the module.
#[derive(Default)]
pub(super) struct Intact {
    held: BTreeMap<String, File>,
    /// Found not to be what was written.
    pub(super) damaged: BTreeSet<String>,
}

impl Intact {
    /// Holds what `manifest`, which was just written or found, names.
    pub(super) fn hold(&mut self, store: &Store, manifest: &Manifest) {
        let named: BTreeSet<&str> = manifest.shards.iter().map(|shard| &*shard.path).collect();
        self.held.retain(|path, _| named.contains(&**path));
        self.damaged.retain(|path| named.contains(&**path));
        for path in named {
            if self.held.len() < HELD
                && !self.held.contains_key(path)
                && let Some(file) = store.hold(path)
            {
                self.held.insert(path.to_owned(), file);
            }
        }
    }

    /// Sees to it that all shards are there; what is lost is written again, out of what is still open or out of a shard of
    /// `others` with the same bytes. One that is damaged gets another name, which `run` makes its own.
    ///
    /// # Errors
    ///
    /// Something is lost and cannot be had again; or the store does not answer.
    pub(super) fn see_to(
        &self,
        store: &Store,
        shards: &mut [ShardEntry],
        others: &[ShardEntry],
        run: &str,
    ) -> Result<(), CheckpointError> {
        let there: BTreeMap<String, u64> = store
            .list(names::SHARDS)?
            .into_iter()
            .map(|file| (file.path, file.bytes))
            .collect();
        for shard in shards {
            let problem = match there.get(&shard.path) {
                Some(bytes) if *bytes != shard.bytes => "it does not have its size",
                Some(_) if self.damaged.contains(&shard.path) => "it does not have its checksum",
                Some(_) => continue,
                None => "it is gone",
            };
            let found = self.still_open(shard).or_else(|| twin(store, shard, others));
            let Some(bytes) = found else {
                return Err(CheckpointError::lost(&shard.path, store.url(), problem));
            };
            tracing::warn!(
                shard = shard.path,
                problem,
                "a file of the checkpoints was lost: it is written again"
            );
            if there.contains_key(&shard.path) {
                let stem = shard.path.trim_end_matches(".parquet");
                shard.path = format!("{stem}-again-{run}.parquet");
            }
            store.add(&shard.path, bytes)?;
        }
        Ok(())
    }

    fn still_open(&self, shard: &ShardEntry) -> Option<Bytes> {
        let file = self.held.get(&shard.path)?;
        let mut bytes = vec![0; usize::try_from(shard.bytes).ok()?];
        file.read_exact_at(&mut bytes, 0).ok()?;
        (checksum::of(&bytes) == shard.checksum).then(|| bytes.into())
    }
}

/// The bytes of another shard that was written as this one was.
fn twin(store: &Store, shard: &ShardEntry, others: &[ShardEntry]) -> Option<Bytes> {
    let same = |other: &&ShardEntry| {
        (&other.checksum, other.bytes) == (&shard.checksum, shard.bytes) && other.path != shard.path
    };
    others
        .iter()
        .filter(same)
        .find_map(|other| checksum::whole(store, other).ok())
}
