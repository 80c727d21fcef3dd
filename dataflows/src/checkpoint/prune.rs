//! Pruning: checkpoints that are too many, and shards that none of the others names.

use super::{error::CheckpointError, find, manifest::Manifest, names, store::Store};
use dbb_operators::Epoch;
use std::collections::{BTreeMap, BTreeSet};

/// What the manifests that are kept name, so that they are read once.
#[derive(Default)]
pub(super) struct Pruner {
    named: BTreeMap<(i64, Epoch), BTreeSet<String>>,
}

impl Pruner {
    /// Keeps the newest `keep` manifests that can be read, and what they name. `newest` was just written; `made` tells
    /// of the shards that the next one will name, each of which it knows before there is a file of it.
    pub(super) fn prune(
        &mut self,
        store: &Store,
        newest: &Manifest,
        keep: usize,
        made: impl FnOnce() -> BTreeSet<String>,
    ) -> Result<(), CheckpointError> {
        let paths = |manifest: &Manifest| manifest.shards.iter().map(|s| s.path.clone()).collect();
        let here = (newest.generation, newest.epoch);
        self.named.insert(here, paths(newest));
        let mut kept = BTreeSet::new();
        for (generation, epoch, path) in find::listed(store)? {
            let id = (generation, epoch);
            if kept.len() < keep && !self.named.contains_key(&id) {
                match store.get(&path)?.map(|file| Manifest::decode(&path, &file)) {
                    Some(Ok(manifest)) => drop(self.named.insert(id, paths(&manifest))),
                    // Of no use to anyone, and it names what nobody can know.
                    _ => tracing::warn!(checkpoint = path, "a damaged checkpoint is removed"),
                }
            }
            if kept.len() < keep && self.named.contains_key(&id) {
                kept.insert(id);
            } else {
                store.delete(&path)?;
            }
        }
        self.named.retain(|id, _| kept.contains(id));
        let files = store.list(names::SHARDS)?;
        // Asked after the files were listed: what is merged meanwhile is in neither, or in both.
        let made = made();
        for file in files {
            let Some((epoch, generation)) = names::shard_of(&file.path) else {
                continue;
            };
            // A later one is being written for the next manifest, perhaps by another process.
            let is_old = (generation, epoch) <= here;
            if is_old
                && !made.contains(&file.path)
                && !self.named.values().any(|named| named.contains(&file.path))
            {
                store.delete(&file.path)?;
            }
        }
        store.sweep(names::SHARDS)?;
        store.sweep(names::MANIFESTS)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::checkpoint::{Settings, manifest::FORMAT};
    use bytes::Bytes;
    use dbb_events::Micros;

    fn manifest(epoch: Epoch) -> Manifest {
        Manifest {
            format: FORMAT,
            epoch,
            at: Micros(0),
            written_at: Micros(0),
            pipeline: "test".into(),
            generation: 1,
            by: "0".into(),
            hash: String::new(),
            is_last: false,
            views: Vec::new(),
            kinds: BTreeMap::new(),
            offsets: Vec::new(),
            gaps: Vec::new(),
            shards: Vec::new(),
        }
    }

    #[test]
    fn a_shard_that_is_merged_while_old_ones_are_looked_for_stays() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            url: Some(folder.path().to_str().unwrap().into()),
            ..Settings::default()
        };
        let store = Store::open(&settings).unwrap().unwrap();
        let newest = manifest(7);
        store.create(&newest.path(), newest.encode()).unwrap();
        let put = |name: &str| {
            let path = names::merged(7, 1, "things", name);
            store.put(&path, Bytes::from_static(b"rows")).unwrap();
            path
        };
        let left = put("1-0");
        // What is made after it was asked is not in the answer, as when another thread makes it.
        let mut merged = String::new();
        let made = || {
            merged = put("2-0");
            BTreeSet::new()
        };
        Pruner::default().prune(&store, &newest, 3, made).unwrap();
        assert_eq!(
            store.size(&left).unwrap(),
            None,
            "left by somebody who was killed"
        );
        assert!(
            store.size(&merged).unwrap().is_some(),
            "the next manifest names it"
        );
    }
}
