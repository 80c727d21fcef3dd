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
    /// Keeps the newest `keep` manifests that can be read, and what they name. `newest` was just written; `made` are
    /// shards that the next one will name.
    pub(super) fn prune(
        &mut self,
        store: &Store,
        newest: &Manifest,
        keep: usize,
        made: &BTreeSet<String>,
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
        for file in store.list(names::SHARDS)? {
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
