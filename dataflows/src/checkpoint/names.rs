//! The names of files. Those of manifests sort by epoch; those of shards say which checkpoint they were written for,
//! and have a word of their run in them: no other run, whatever its generation, makes a file of the same name.

use dbb_operators::Epoch;

/// The folder of manifests.
pub(super) const MANIFESTS: &str = "manifests";
/// The folder of shards.
pub(super) const SHARDS: &str = "shards";

pub(super) fn manifest(epoch: Epoch, generation: i64) -> String {
    format!("{MANIFESTS}/{epoch:020}-{generation}.json")
}

/// The epoch and the generation of a manifest; `None` for a file that is none.
pub(super) fn manifest_of(path: &str) -> Option<(Epoch, i64)> {
    let name = path.strip_prefix(MANIFESTS)?.strip_prefix('/')?;
    let (epoch, generation) = name.strip_suffix(".json")?.split_once('-')?;
    Some((epoch.parse().ok()?, generation.parse().ok()?))
}

/// A word that no other run has.
pub(super) fn new_run() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// A shard of changes of a run in a process; `n` tells those of one kind apart.
pub(super) fn delta(
    epoch: Epoch,
    generation: i64,
    (run, process): (&str, usize),
    kind: &str,
    n: usize,
) -> String {
    format!("{SHARDS}/{epoch:020}-{generation}-{run}-{process}-{kind}-{n}.parquet")
}

/// A shard made of others, the last of which was of `epoch`.
pub(super) fn merged(epoch: Epoch, generation: i64, run: &str, kind: &str, n: &str) -> String {
    format!("{SHARDS}/{epoch:020}-{generation}-{run}-merged-{kind}-{n}.parquet")
}

/// The epoch and the generation a shard was written in; `None` for a file that is none.
pub(super) fn shard_of(path: &str) -> Option<(Epoch, i64)> {
    let name = path.strip_prefix(SHARDS)?.strip_prefix('/')?;
    let mut words = name.strip_suffix(".parquet")?.splitn(3, '-');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_they_are() {
        assert_eq!(manifest(3000, 7), "manifests/00000000000000003000-7.json");
        assert_eq!(manifest_of(&manifest(3000, 7)), Some((3000, 7)));
        assert_eq!(
            shard_of(&delta(3000, 7, (&new_run(), 1), "replicas", 0)),
            Some((3000, 7))
        );
        assert_eq!(
            shard_of(&merged(3000, 7, &new_run(), "replicas", "1-4")),
            Some((3000, 7))
        );
        assert_ne!(new_run(), new_run());
        assert_eq!(manifest_of("manifests/notes.txt"), None);
        assert_eq!(shard_of("shards/probe"), None);
    }
}
