//! Finding the checkpoint to go on from: the newest that is sound.

use super::{
    checksum,
    error::CheckpointError,
    found::{Found, OnError},
    manifest::Manifest,
    names,
    patience::chain,
    status::Status,
    store::Store,
};
use dbb_operators::{Epoch, checkpoint::Kind};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// What is between the parts of a pipeline's name.
pub const PARTS: &str = "; ";

/// Files whose checksums are made at the same time.
const TOGETHER: usize = 4;

/// A manifest that is there.
#[derive(Debug)]
pub struct Listed {
    /// The file.
    pub path: String,
    /// Its epoch, by its name.
    pub epoch: Epoch,
    /// Its generation, by its name.
    pub generation: i64,
    /// What it says.
    pub manifest: Result<Manifest, CheckpointError>,
}

/// The manifests of a store: of a newer generation first, and of one generation the newer epoch first.
pub(super) fn listed(store: &Store) -> Result<Vec<(i64, Epoch, String)>, CheckpointError> {
    let mut manifests: Vec<_> = store
        .list(names::MANIFESTS)?
        .into_iter()
        .filter_map(|file| {
            let (epoch, generation) = names::manifest_of(&file.path)?;
            Some((generation, epoch, file.path))
        })
        .collect();
    // A later generation goes on from what an earlier one has left, perhaps from before its damaged end.
    manifests.sort_unstable_by(|a, b| b.cmp(a));
    Ok(manifests)
}

fn manifest(store: &Store, path: &str) -> Result<Manifest, CheckpointError> {
    let file = store
        .get(path)?
        .ok_or_else(|| CheckpointError::damaged(path, "is missing"))?;
    Manifest::decode(path, &file)
}

/// All manifests of a store, the newest first.
///
/// # Errors
///
/// The store does not answer.
pub fn list(store: &Store) -> Result<Vec<Listed>, CheckpointError> {
    let listed = listed(store)?;
    Ok(listed
        .into_iter()
        .map(|(generation, epoch, path)| Listed {
            epoch,
            generation,
            manifest: manifest(store, &path),
            path,
        })
        .collect())
}

/// Looks at every bit of the shards of `manifest`; the shards that are damaged, or could not be read.
pub fn verify(store: &Store, manifest: &Manifest) -> Vec<CheckpointError> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..TOGETHER.min(manifest.shards.len()) {
            scope.spawn(|| {
                while let Some(shard) = manifest.shards.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = checksum::verify(store, shard) {
                        found.lock().unwrap_or_else(PoisonError::into_inner).push(error);
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The newest checkpoint of `pipeline` whose files are all as they were written; `None` where there are no checkpoints.
///
/// One that is damaged is passed over, with a warning, for the one before. `kinds` are those whose rows are
/// understood here, `on_error` hears of what goes wrong while rows are read later.
///
/// # Errors
///
/// The store does not answer; what is there is of another pipeline, or of a version that is not understood here; or
/// all there is is damaged.
pub fn find(
    store: &Store,
    pipeline: &str,
    kinds: &[&'static Kind],
    status: &Status,
    on_error: OnError,
) -> Result<Option<Found>, CheckpointError> {
    let mut tried = Vec::new();
    for (_, _, path) in listed(store)? {
        match usable(store, &path, pipeline, kinds, true) {
            Ok(manifest) => return Ok(Some(Found::new(store, manifest, status, on_error))),
            Err(Unusable::Damaged(problems)) => {
                status.damaged();
                tracing::warn!(
                    checkpoint = path,
                    problem = problems,
                    "a checkpoint is damaged: going back to the one before"
                );
                tried.push(format!("`{path}`: {problems}"));
            }
            Err(Unusable::Other(error)) => return Err(error),
        }
    }
    if tried.is_empty() {
        return Ok(None);
    }
    Err(CheckpointError::NoneUsable {
        store: store.url().into(),
        tried,
    })
}

/// The checkpoint that another process of the cluster has found, and verified.
///
/// # Errors
///
/// It is not there, or not understood here.
pub fn open(
    store: &Store,
    (epoch, generation): (Epoch, i64),
    pipeline: &str,
    kinds: &[&'static Kind],
    status: &Status,
    on_error: OnError,
) -> Result<Found, CheckpointError> {
    let path = names::manifest(epoch, generation);
    match usable(store, &path, pipeline, kinds, false) {
        Ok(manifest) => Ok(Found::new(store, manifest, status, on_error)),
        Err(Unusable::Damaged(problems)) => Err(CheckpointError::damaged(&path, problems)),
        Err(Unusable::Other(error)) => Err(error),
    }
}

/// Is what `found` wrote the state of `wanted`? A pipeline is the list of what it is made of; it may have grown.
fn is_of(found: &str, wanted: &str) -> bool {
    let wanted: Vec<&str> = wanted.split(PARTS).collect();
    found.split(PARTS).all(|part| wanted.contains(&part))
}

enum Unusable {
    /// The one before may be better.
    Damaged(String),
    /// Nobody may go on from here.
    Other(CheckpointError),
}

fn usable(
    store: &Store,
    path: &str,
    pipeline: &str,
    kinds: &[&'static Kind],
    verified: bool,
) -> Result<Manifest, Unusable> {
    let manifest = manifest(store, path).map_err(|error| match error {
        CheckpointError::Damaged { problem, .. } => Unusable::Damaged(problem),
        other => Unusable::Other(other),
    })?;
    if names::manifest_of(path) != Some((manifest.epoch, manifest.generation)) {
        let (epoch, generation) = (manifest.epoch, manifest.generation);
        return Err(Unusable::Damaged(format!(
            "holds what was written under another name, of epoch {epoch} and generation {generation}"
        )));
    }
    if !is_of(&manifest.pipeline, pipeline) {
        return Err(Unusable::Other(CheckpointError::Pipeline {
            store: store.url().into(),
            found: manifest.pipeline,
            wanted: pipeline.into(),
        }));
    }
    for (name, version) in &manifest.kinds {
        let Some(kind) = kinds.iter().find(|kind| kind.name == name) else {
            return Err(Unusable::Other(CheckpointError::UnknownKind {
                path: path.into(),
                kind: name.clone(),
                by: manifest.by,
            }));
        };
        if kind.version != *version {
            return Err(Unusable::Other(CheckpointError::Kind {
                path: path.into(),
                kind: name.clone(),
                version: *version,
                known: kind.version,
                by: manifest.by,
            }));
        }
    }
    if verified {
        let (damaged, other): (Vec<_>, Vec<_>) = verify(store, &manifest)
            .into_iter()
            .partition(|error| matches!(error, CheckpointError::Damaged { .. }));
        // What could not be read now is perhaps as it should be: going back would lose it.
        if let Some(error) = other.into_iter().next() {
            return Err(Unusable::Other(error));
        }
        if !damaged.is_empty() {
            let told: Vec<_> = damaged.iter().map(|error| chain(error)).collect();
            return Err(Unusable::Damaged(told.join(", ")));
        }
    }
    Ok(manifest)
}
