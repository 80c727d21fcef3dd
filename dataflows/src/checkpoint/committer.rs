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
    intact::Intact,
    manifest::{FORMAT, Manifest, Next, ShardEntry},
    names,
    patience::{chain, persist},
    prune::{Keeping, Pruner},
    scrub::Scrubber,
    status::Status,
    store::Store,
    writer::Written,
};
use crossbeam_channel::Receiver;
use dbb_events::{Mark, Micros, Position};
use dbb_operators::{checkpoint::Kind, publish::Lost};
use std::{
    collections::BTreeSet,
    io,
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
    /// The same as its ledger counts it, if that is another.
    pub ledger_generation: Option<i64>,
    /// Manifests that are kept.
    pub keep: usize,
    /// How long the store may fail before that is fatal.
    pub give_up: Duration,
    /// The kinds of state that there are.
    pub kinds: Vec<&'static Kind>,
    /// One of the kept manifests shares no file with the newest, and is at most about so old; `None` if none need.
    pub apart_every: Option<Duration>,
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
    /// The state of the ledger: all outcomes of what is committed are in it.
    pub mark: Box<dyn Fn() -> Option<Mark> + Send>,
    /// How it is doing.
    pub status: Status,
}

/// See the module.
pub struct Committer {
    store: Store,
    settings: CommitterSettings,
    status: Status,
    now: Box<dyn Fn() -> Micros + Send>,
    mark: Box<dyn Fn() -> Option<Mark> + Send>,
    previous: Option<Manifest>,
    pruner: Pruner,
    compactor: Compactor,
    scrubber: Scrubber,
    intact: Intact,
    run: String,
    /// The epoch of the newest manifest of this run.
    ours: Option<u64>,
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
            scrubber: Scrubber::new(&store, &ports.status),
            intact: Intact::default(),
            run: names::new_run(),
            ours: None,
            store,
            settings,
            status: ports.status,
            now: ports.now,
            mark: ports.mark,
            previous,
            pruner: Pruner::default(),
        };
        if let Some(restored) = &committer.previous {
            // All of it was read before it was gone on from.
            committer.scrubber.was_read(restored, (committer.now)());
            committer.intact.hold(&committer.store, restored);
        }
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
        let mut manifest = self.next(commit, replaced);
        let path = manifest.path();
        let others: Vec<ShardEntry> = self.pruner.kept().flat_map(|kept| kept.shards.clone()).collect();
        persist(&self.status, self.settings.give_up, || {
            self.fence(manifest.epoch)?;
            let all_there = self
                .intact
                .see_to(&self.store, &mut manifest.shards, &others, &self.run);
            self.status
                .lost(all_there.as_ref().err().map(|error| chain(error)));
            all_there?;
            let file = manifest.encode();
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
        self.intact.hold(&self.store, &manifest);
        self.ours = Some(manifest.epoch);
        Ok(self.previous.insert(manifest))
    }

    /// Another `dbb` writes here, with a newer generation, which ends ours, or with the same one: it has another ledger.
    fn fence(&self, epoch: u64) -> Result<(), CheckpointError> {
        let ours = self.settings.generation;
        match find::listed(&self.store)?.first() {
            Some((newest, ..)) if *newest > ours => Err(CheckpointError::Fenced {
                store: self.store.url().into(),
                ours,
                newest: *newest,
            }),
            Some((newest, at, _)) if *newest == ours && self.ours.max(Some(epoch)) < Some(*at) => {
                Err(CheckpointError::Taken {
                    store: self.store.url().into(),
                    epoch: *at,
                })
            }
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
        let mut offsets = before.map(Manifest::places).unwrap_or_default();
        let mut gaps: BTreeSet<Lost> = before.iter().flat_map(|m| m.gaps.iter().cloned()).collect();
        gaps.extend(commit.gaps);
        let is_last = commit.written.iter().any(|written| written.is_last);
        let mut written = commit.written;
        written.sort_by_key(|written| written.process);
        for written in written {
            shards.extend(written.shards);
            for read in written.offsets {
                // Smaller than before it is that of another topic of the same name.
                offsets.insert((read.stream, read.partition), Position::new(read.of, read.next));
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
            ledger_generation: self.settings.ledger_generation,
            by: env!("CARGO_PKG_VERSION").into(),
            hash: checksum::NAME.into(),
            is_last,
            kinds: shards
                .iter()
                .map(|shard| (shard.kind.clone(), shard.version))
                .collect(),
            offsets: offsets
                .into_iter()
                .map(|((stream, partition), at)| Next {
                    stream,
                    partition,
                    next: at.next,
                    of: at.incarnation,
                })
                .collect(),
            ledger: (self.mark)(),
            gaps: gaps.into_iter().collect(),
            shards,
        }
    }

    /// What can wait, and may fail.
    fn tidy(&mut self) {
        let Some(manifest) = self.previous.clone() else {
            return;
        };
        if let Err(error) = self.look_after(&manifest) {
            tracing::warn!(error = chain(&error), "old checkpoints could not be looked after");
        }
        if manifest.is_last {
            return;
        }
        let copies = self.wants_copies(&manifest);
        let considered = self.compactor.consider(&manifest, &self.settings.kinds, copies);
        if let Err(error) = considered {
            tracing::warn!(%error, "shards of checkpoints are not merged");
        }
    }

    /// Reads what is due to be read, and then removes what is too much.
    fn look_after(&mut self, newest: &Manifest) -> Result<(), CheckpointError> {
        self.pruner.look(&self.store, newest)?;
        let kept: Vec<&Manifest> = self.pruner.kept().collect();
        match self.scrubber.scrub(&kept, (self.now)()) {
            Ok(damaged) => self.intact.damaged.clone_from(damaged),
            Err(error) => tracing::warn!(%error, "checkpoints are not read again"),
        }
        let scrubber = &self.scrubber;
        let keeping = Keeping {
            keep: self.settings.keep,
            is_sound: &|manifest| scrubber.is_sound(manifest),
            copying: self.compactor.copying(),
        };
        let compactor = &self.compactor;
        self.pruner
            .prune(&self.store, newest, &keeping, || compactor.made())
    }

    /// True if no kept manifest shares nothing with the newest, or only an old one.
    fn wants_copies(&self, newest: &Manifest) -> bool {
        let Some(every) = self.settings.apart_every else {
            return false;
        };
        let is_sound = |manifest: &Manifest| self.scrubber.is_sound(manifest);
        let oldest = (self.now)().plus_seconds(-i64::try_from(every.as_secs()).unwrap_or(i64::MAX));
        let apart = self.pruner.apart(newest, &is_sound);
        is_sound(newest) && apart.is_none_or(|apart| apart.written_at < oldest)
    }
}
