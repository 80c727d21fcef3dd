//! Pruning: checkpoints that are too many, and shards that none of the others names.

use super::{error::CheckpointError, find, manifest::Manifest, names, store::Store};
use dbb_operators::Epoch;
use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

/// The manifests that are kept, so that they are read once.
#[derive(Default)]
pub(super) struct Pruner {
    kept: BTreeMap<(i64, Epoch), Manifest>,
}

/// What is to be kept.
pub(super) struct Keeping<'a> {
    /// So many that are sound, beside those newer ones of which nobody knows yet.
    pub(super) keep: usize,
    /// Is it known to be sound?
    pub(super) is_sound: &'a dyn Fn(&Manifest) -> bool,
    /// One that is being copied.
    pub(super) copying: Option<(i64, Epoch)>,
}

impl Pruner {
    /// The manifests that are kept.
    pub(super) fn kept(&self) -> impl DoubleEndedIterator<Item = &Manifest> {
        self.kept.values()
    }

    /// The newest sound manifest that shares nothing with `newest`.
    pub(super) fn apart(&self, newest: &Manifest, is_sound: &dyn Fn(&Manifest) -> bool) -> Option<&Manifest> {
        let named: BTreeSet<&str> = newest.shards.iter().map(|shard| &*shard.path).collect();
        let is_apart = |manifest: &&Manifest| {
            manifest.shards.iter().all(|shard| !named.contains(&*shard.path)) && !manifest.shards.is_empty()
        };
        self.kept()
            .rev()
            .filter(is_apart)
            .find(|manifest| is_sound(manifest))
    }

    /// Reads the manifests that are there and not known; `newest` was just written.
    pub(super) fn look(&mut self, store: &Store, newest: &Manifest) -> Result<(), CheckpointError> {
        self.kept
            .insert((newest.generation, newest.epoch), newest.clone());
        let mut there = BTreeSet::new();
        for (generation, epoch, path) in find::listed(store)? {
            let id = (generation, epoch);
            if let Entry::Vacant(unknown) = self.kept.entry(id) {
                match store.get(&path)?.map(|file| Manifest::decode(&path, &file)) {
                    Some(Ok(manifest)) => drop(unknown.insert(manifest)),
                    _ => {
                        // Of no use to anyone, and it names what nobody can know.
                        tracing::warn!(checkpoint = path, "a damaged checkpoint is removed");
                        store.delete(&path)?;
                        continue;
                    }
                }
            }
            there.insert(id);
        }
        self.kept.retain(|id, _| there.contains(id));
        Ok(())
    }

    /// Keeps the newest manifests that are sound, one that shares nothing with `newest`, and what they name. `made` tells
    /// of the shards that the next one will name, each of which it knows before there is a file of it.
    pub(super) fn prune(
        &mut self,
        store: &Store,
        newest: &Manifest,
        keeping: &Keeping<'_>,
        made: impl FnOnce() -> BTreeSet<String>,
    ) -> Result<(), CheckpointError> {
        let here = (newest.generation, newest.epoch);
        let id = |manifest: &Manifest| (manifest.generation, manifest.epoch);
        let apart = self.apart(newest, keeping.is_sound).map(id);
        let (mut sound, mut gone) = (0, Vec::new());
        for (id, manifest) in self.kept.iter().rev() {
            if sound >= keeping.keep && Some(*id) != apart && Some(*id) != keeping.copying {
                gone.push(*id);
            } else if (keeping.is_sound)(manifest) {
                sound += 1;
            }
        }
        for (generation, epoch) in gone {
            store.delete(&names::manifest(epoch, generation))?;
            self.kept.remove(&(generation, epoch));
        }
        let named: BTreeSet<&str> = self
            .kept()
            .flat_map(|manifest| &manifest.shards)
            .map(|shard| &*shard.path)
            .collect();
        let files = store.list(names::SHARDS)?;
        // Asked after the files were listed: what is merged meanwhile is in neither, or in both.
        let made = made();
        for file in files {
            let Some((epoch, generation)) = names::shard_of(&file.path) else {
                continue;
            };
            // A later one is being written for the next manifest, perhaps by another process.
            let is_old = (generation, epoch) <= here;
            if is_old && !made.contains(&file.path) && !named.contains(&*file.path) {
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
            ledger_generation: None,
            by: "0".into(),
            hash: String::new(),
            is_last: false,
            views: Vec::new(),
            kinds: BTreeMap::new(),
            offsets: Vec::new(),
            ledger: None,
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
            let path = names::merged(7, 1, "run", "things", name);
            store.add(&path, Bytes::from_static(b"rows")).unwrap();
            path
        };
        let left = put("1-0");
        // What is made after it was asked is not in the answer, as when another thread makes it.
        let mut merged = String::new();
        let made = || {
            merged = put("2-0");
            BTreeSet::new()
        };
        let keeping = Keeping {
            keep: 3,
            is_sound: &|_| true,
            copying: None,
        };
        let mut pruner = Pruner::default();
        pruner.look(&store, &newest).unwrap();
        pruner.prune(&store, &newest, &keeping, made).unwrap();
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
