//! The committer: the thread of the first process that writes manifests, one after the other.
//!
//! ```text
//!   Written of all processes + the manifest before --> manifest --created--> pruning, merging in background
//! ```
//!
//! In:    [`Commit`], in the order of their epochs; it ends when nobody can send any more.
//! Out:   the manifest, once it survives a loss of power.
//! State: the manifest before.

use super::{
    checksum,
    compact::{Compactor, Replaced},
    error::CheckpointError,
    find,
    manifest::{FORMAT, Manifest, Next, ShardEntry},
    patience::{chain, persist},
    prune::Pruner,
    status::Status,
    store::Store,
    writer::Written,
};
use crossbeam_channel::Receiver;
use dbb_events::Micros;
use dbb_operators::{checkpoint::Kind, publish::Lost};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::Duration,
};

/// All that was written of one epoch.
#[derive(Debug, Clone)]
pub struct Commit {
    /// By each process.
    pub written: Vec<Written>,
    /// Records that were found missing since the start; those of the manifest before are known.
    pub gaps: Vec<Lost>,
}

/// Whose manifests, and how many are kept.
#[derive(Debug, Clone)]
pub struct CommitterSettings {
    /// Whose state it is: what a checkpoint must say to be used.
    pub pipeline: String,
    /// The views whose state it is.
    pub views: Vec<String>,
    /// The generation of this run.
    pub generation: i64,
    /// Manifests that are kept.
    pub keep: usize,
    /// How long the store may fail before that is fatal.
    pub give_up: Duration,
    /// The kinds of state that there are.
    pub kinds: Vec<&'static Kind>,
}

/// How the committer is tied to the rest. All closures are called on its thread.
pub struct CommitterPorts {
    /// What is to be committed.
    pub commits: Receiver<Commit>,
    /// Called for each, when it is durable.
    pub committed: Box<dyn FnMut(&Manifest) + Send>,
    /// Called once, before the thread ends, when it cannot go on.
    pub on_fatal: Box<dyn FnOnce(CheckpointError) + Send>,
    /// The time.
    pub now: Box<dyn Fn() -> Micros + Send>,
    /// How it is doing.
    pub status: Status,
}

/// See the module.
pub struct Committer {
    store: Store,
    settings: CommitterSettings,
    status: Status,
    now: Box<dyn Fn() -> Micros + Send>,
    previous: Option<Manifest>,
    pruner: Pruner,
    compactor: Compactor,
}

impl Committer {
    /// Starts the thread; `previous` is the checkpoint that was restored.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub fn start(
        store: Store,
        settings: CommitterSettings,
        previous: Option<Manifest>,
        mut ports: CommitterPorts,
    ) -> io::Result<JoinHandle<()>> {
        let mut committer = Self {
            compactor: Compactor::new(&store, settings.generation, &ports.status),
            store,
            settings,
            status: ports.status,
            now: ports.now,
            previous,
            pruner: Pruner::default(),
        };
        Builder::new().name("manifests".into()).spawn(move || {
            for commit in &ports.commits {
                match committer.commit(commit) {
                    Ok(manifest) => (ports.committed)(manifest),
                    Err(error) => {
                        (ports.on_fatal)(error);
                        return;
                    }
                }
                committer.tidy();
            }
        })
    }

    fn commit(&mut self, commit: Commit) -> Result<&Manifest, CheckpointError> {
        let replaced = self.compactor.finished();
        let was_replaced = replaced.is_some();
        let manifest = self.next(commit, replaced);
        let file = manifest.encode();
        let path = manifest.path();
        persist(&self.status, self.settings.give_up, || {
            self.fence()?;
            if self.store.create(&path, file.clone())? || self.store.get(&path)?.as_ref() == Some(&file) {
                // The second: an earlier attempt whose answer was lost.
                return Ok(());
            }
            Err(CheckpointError::Taken {
                store: self.store.url().into(),
                epoch: manifest.epoch,
            })
        })?;
        if was_replaced {
            self.compactor.forget_made();
        }
        self.status.committed(&manifest);
        Ok(self.previous.insert(manifest))
    }

    /// Another `dbb` with a newer generation writes here: ours is over.
    fn fence(&self) -> Result<(), CheckpointError> {
        let newest = find::listed(&self.store)?
            .first()
            .map(|(generation, ..)| *generation);
        match newest {
            Some(newest) if newest > self.settings.generation => Err(CheckpointError::Fenced {
                store: self.store.url().into(),
                ours: self.settings.generation,
                newest,
            }),
            _ => Ok(()),
        }
    }

    /// The manifest that follows the one before.
    fn next(&self, commit: Commit, replaced: Option<Replaced>) -> Manifest {
        let before = self.previous.as_ref();
        let newest = commit.written.iter().max_by_key(|written| written.epoch);
        let (epoch, at) = newest.map_or((0, Micros(0)), |written| (written.epoch, written.at));
        let mut shards: Vec<ShardEntry> = before.map(|m| m.shards.clone()).unwrap_or_default();
        if let Some(replaced) = replaced
            && !replaced.apply(&mut shards)
        {
            tracing::debug!("merged shards came too late: some of what they replace is forgotten already");
        }
        let mut offsets: BTreeMap<(Arc<str>, i32), u64> =
            before.map(Manifest::bound_offsets).unwrap_or_default();
        let mut gaps: BTreeSet<Lost> = before.iter().flat_map(|m| m.gaps.iter().cloned()).collect();
        gaps.extend(commit.gaps);
        let is_last = commit.written.iter().any(|written| written.is_last);
        let mut written = commit.written;
        written.sort_by_key(|written| written.process);
        for written in written {
            shards.extend(written.shards);
            for read in written.offsets {
                // Smaller than before it is that of another topic of the same name.
                offsets.insert((read.stream, read.partition), read.next);
            }
        }
        shards.retain(|shard| {
            shard
                .remember
                .is_none_or(|epochs| shard.to.saturating_add(epochs) >= epoch)
        });
        Manifest {
            format: FORMAT,
            epoch,
            at,
            written_at: (self.now)(),
            pipeline: self.settings.pipeline.clone(),
            views: self.settings.views.clone(),
            generation: self.settings.generation,
            by: env!("CARGO_PKG_VERSION").into(),
            hash: checksum::NAME.into(),
            is_last,
            kinds: shards
                .iter()
                .map(|shard| (shard.kind.clone(), shard.version))
                .collect(),
            offsets: offsets
                .into_iter()
                .map(|((stream, partition), next)| Next {
                    stream,
                    partition,
                    next,
                })
                .collect(),
            gaps: gaps.into_iter().collect(),
            shards,
        }
    }

    /// What can wait, and may fail.
    fn tidy(&mut self) {
        let Some(manifest) = &self.previous else { return };
        let made = || self.compactor.made();
        if let Err(error) = self.pruner.prune(&self.store, manifest, self.settings.keep, made) {
            tracing::warn!(error = chain(&error), "old checkpoints could not be removed");
        }
        if manifest.is_last {
            return;
        }
        if let Err(error) = self.compactor.consider(manifest, &self.settings.kinds) {
            tracing::warn!(%error, "shards of checkpoints are not merged");
        }
    }
}
