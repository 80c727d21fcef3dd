//! Compaction: shards merged into fewer, in background, so that a start reads little more than the state.
//!
//! ```text
//!   base + deltas that have as many rows --> a new base
//!   many small deltas                    --> one delta
//!   what is remembered for a time        --> one delta for each sixteenth of that time
//! ```
//!
//! In:    a manifest.
//! Out:   [`Replaced`]: shards that the next manifest has in place of others; merged, or copies of all of them, where no
//!        kept checkpoint shares nothing with the newest.
//! State: one file in memory, and a batch of rows for each shard that is read.
//!
//! It works for a short while and rests for longer, behind everything else that wants the processor.

use super::{
    checksum,
    encode::Encoded,
    error::CheckpointError,
    manifest::{Manifest, Role, ShardEntry},
    merge::Merged,
    names,
    shards::Cutter,
    status::Status,
    store::Store,
};
use crate::runtime::fault;
use bytes::Bytes;
use dbb_operators::{
    Epoch,
    checkpoint::{Kind, Merge},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Builder, JoinHandle},
    time::{Duration, Instant},
};

/// Deltas of one kind, above which they are merged into one.
const DELTAS: usize = 16;
/// Deltas of what is remembered for a time, which are merged where they cover a sixteenth of it.
const RUN: usize = 4;
const RUNS: u64 = 16;
/// Rows merged in one go, and how much longer it rests than that took.
const STEP: u64 = 4096;
const REST: u32 = 4;
/// The lowest priority there is.
const NICE: i32 = 19;

/// What is to be merged.
#[derive(Debug, Clone)]
pub(super) struct Job {
    kind: &'static Kind,
    role: Role,
    shards: Vec<ShardEntry>,
}

/// What there is to do.
#[derive(Debug, Clone)]
enum Task {
    Merge(Job),
    /// A copy of each shard, so that the checkpoint they are of shares nothing with those to come.
    Copy(Vec<ShardEntry>),
}

/// Shards that take the place of others.
#[derive(Debug)]
pub(super) enum Replaced {
    /// Some in place of all of these.
    Merged {
        old: BTreeSet<String>,
        new: Vec<ShardEntry>,
    },
    /// Each in place of one.
    Copied(BTreeMap<String, ShardEntry>),
}

impl Replaced {
    /// Puts the new shards where the first of the old ones was; false if one of those is not there any more.
    pub(super) fn apply(self, shards: &mut Vec<ShardEntry>) -> bool {
        let (old, new) = match self {
            Self::Merged { old, new } => (old, new),
            Self::Copied(mut copies) => {
                for shard in shards.iter_mut() {
                    if let Some(copy) = copies.remove(&shard.path) {
                        *shard = copy;
                    }
                }
                return true;
            }
        };
        let there = shards.iter().filter(|s| old.contains(&s.path)).count();
        let Some(at) = shards.iter().position(|s| old.contains(&s.path)) else {
            return false;
        };
        if there != old.len() {
            return false;
        }
        shards.retain(|shard| !old.contains(&shard.path));
        shards.splice(at..at, new);
        true
    }
}

/// What is worth merging; the kind with the most deltas first.
pub(super) fn due(manifest: &Manifest, kinds: &[&'static Kind]) -> Option<Job> {
    kinds
        .iter()
        .filter_map(|kind| {
            let of_kind = |shard: &&ShardEntry| shard.kind == kind.name;
            let shards: Vec<_> = manifest.shards.iter().filter(of_kind).cloned().collect();
            job(kind, shards)
        })
        .max_by_key(|job| job.shards.len())
}

fn job(kind: &'static Kind, shards: Vec<ShardEntry>) -> Option<Job> {
    if let Merge::Recent = kind.merge
        && let Some(remember) = shards.iter().filter_map(|shard| shard.remember).max()
    {
        let run = run(&shards, remember / RUNS)?;
        return Some(Job {
            kind,
            role: Role::Delta,
            shards: run.to_vec(),
        });
    }
    let rows = |role: Role| -> u64 {
        let of = shards.iter().filter(|shard| shard.role == role);
        of.map(|shard| shard.rows).sum()
    };
    let deltas = shards.iter().filter(|shard| shard.role == Role::Delta).count();
    if deltas >= 2 && rows(Role::Delta) >= rows(Role::Base) {
        Some(Job {
            kind,
            role: Role::Base,
            shards,
        })
    } else if deltas > DELTAS {
        let shards = shards.into_iter().filter(|shard| shard.role == Role::Delta);
        Some(Job {
            kind,
            role: Role::Delta,
            shards: shards.collect(),
        })
    } else {
        None
    }
}

/// The newest shards that follow each other and together cover no more than `span` epochs, if they are some and the
/// next one is too much. The oldest would be forgotten first.
fn run(shards: &[ShardEntry], span: u64) -> Option<&[ShardEntry]> {
    let mut newest = None;
    let mut from = 0;
    for at in 0..shards.len() {
        let covered = |from: usize| shards[at].to.saturating_sub(shards[from].from);
        if covered(from) <= span {
            continue;
        }
        if at - from >= RUN {
            newest = Some(&shards[from..at]);
            from = at;
        }
        while from < at && covered(from) > span {
            from += 1;
        }
    }
    newest
}

/// The thread that merges, one job at a time.
pub(super) struct Compactor {
    store: Store,
    generation: i64,
    status: Status,
    /// What it has made, and no manifest names yet.
    made: Arc<Mutex<BTreeSet<String>>>,
    stop: Arc<AtomicBool>,
    run: String,
    jobs: usize,
    /// The manifest whose shards are being copied.
    copying: Option<(i64, Epoch)>,
    at_work: Option<JoinHandle<Result<Replaced, CheckpointError>>>,
}

impl Compactor {
    pub(super) fn new(store: &Store, generation: i64, status: &Status) -> Self {
        Self {
            store: store.clone(),
            generation,
            status: status.clone(),
            made: Arc::default(),
            stop: Arc::default(),
            run: names::new_run(),
            jobs: 0,
            copying: None,
            at_work: None,
        }
    }

    /// What it has finished, if anything.
    pub(super) fn finished(&mut self) -> Option<Replaced> {
        if !self.at_work.as_ref()?.is_finished() {
            return None;
        }
        self.copying = None;
        match self.at_work.take()?.join() {
            Ok(Ok(replaced)) => Some(replaced),
            Ok(Err(error)) => {
                // The shards are as they were; a start would find out, and go back.
                tracing::warn!(
                    error = super::patience::chain(&error),
                    "shards of checkpoints could not be merged"
                );
                self.forget_made();
                None
            }
            Err(_) => {
                tracing::error!("the thread that merges checkpoints panicked");
                self.forget_made();
                None
            }
        }
    }

    /// What it has made so far, and no manifest names.
    pub(super) fn made(&self) -> BTreeSet<String> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was made is named by a manifest now, or of no use.
    pub(super) fn forget_made(&self) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The manifest that must stay until its shards are copied.
    pub(super) fn copying(&self) -> Option<(i64, Epoch)> {
        self.copying
    }

    /// Starts on what is due, unless it is at work; where nothing is, and `copies` are wanted, on those.
    pub(super) fn consider(
        &mut self,
        manifest: &Manifest,
        kinds: &[&'static Kind],
        copies: bool,
    ) -> io::Result<()> {
        if self.at_work.is_some() {
            return Ok(());
        }
        let task = match due(manifest, kinds) {
            Some(job) => Task::Merge(job),
            None if copies && !manifest.shards.is_empty() => Task::Copy(manifest.shards.clone()),
            None => return Ok(()),
        };
        if let Task::Copy(_) = task {
            self.copying = Some((manifest.generation, manifest.epoch));
        }
        self.jobs += 1;
        let work = Work {
            store: self.store.clone(),
            generation: self.generation,
            epoch: manifest.epoch,
            run: self.run.clone(),
            number: self.jobs,
            status: self.status.clone(),
            made: Arc::clone(&self.made),
            stop: Arc::clone(&self.stop),
        };
        let spawned = Builder::new()
            .name("checkpoint merge".into())
            .spawn(move || match &task {
                Task::Merge(job) => work.merge(job),
                Task::Copy(shards) => work.copy(shards),
            })?;
        self.at_work = Some(spawned);
        Ok(())
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(at_work) = self.at_work.take() {
            // What it has left behind is removed after the first checkpoint of the next run.
            let _ = at_work.join();
        }
    }
}

struct Work {
    store: Store,
    generation: i64,
    epoch: Epoch,
    run: String,
    number: usize,
    status: Status,
    made: Arc<Mutex<BTreeSet<String>>>,
    stop: Arc<AtomicBool>,
}

impl Work {
    fn merge(&self, job: &Job) -> Result<Replaced, CheckpointError> {
        // Of no consequence if the system does not allow it: there are pauses too.
        let _ = rustix::process::setpriority_process(None, NICE);
        // Otherwise a bit that was flipped would get a checksum that fits.
        for shard in &job.shards {
            checksum::verify(&self.store, shard)?;
            self.rest(Duration::ZERO)?;
        }
        let removals = job.role == Role::Delta;
        let all = 0..=u64::MAX;
        let mut merged = Merged::new(&self.store, &job.shards, job.kind.merge, all, removals)?;
        let mut cutter = Cutter::new(job.kind, self.epoch);
        let mut new = Vec::new();
        let mut begun = Instant::now();
        let mut done = 0_u64;
        loop {
            let mut file = None;
            let more = merged.next(&mut |key, value| {
                file = cutter.push(key, value)?;
                Ok(())
            })?;
            if let Some(encoded) = file {
                self.put(job, encoded, &mut new)?;
            }
            if !more {
                break;
            }
            done += 1;
            if done.is_multiple_of(STEP) {
                self.rest(begun.elapsed() * REST)?;
                begun = Instant::now();
            }
        }
        if let Some(encoded) = cutter.finish()? {
            self.put(job, encoded, &mut new)?;
        }
        Ok(Replaced::Merged {
            old: job.shards.iter().map(|shard| shard.path.clone()).collect(),
            new,
        })
    }

    fn copy(&self, shards: &[ShardEntry]) -> Result<Replaced, CheckpointError> {
        // As for merging.
        let _ = rustix::process::setpriority_process(None, NICE);
        let mut copies = BTreeMap::new();
        for shard in shards {
            let begun = Instant::now();
            let file = checksum::whole(&self.store, shard)?;
            let name = format!("{}-{}", self.number, copies.len());
            let path = names::merged(self.epoch, self.generation, &self.run, &shard.kind, &name);
            self.add(&path, file)?;
            let copy = ShardEntry {
                path,
                ..shard.clone()
            };
            copies.insert(shard.path.clone(), copy);
            self.rest(begun.elapsed() * REST)?;
        }
        Ok(Replaced::Copied(copies))
    }

    /// Writes a file that no manifest names yet.
    fn add(&self, path: &str, file: Bytes) -> Result<(), CheckpointError> {
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned());
        let bytes = file.len() as u64;
        self.store.add(path, file)?;
        self.status.merged(bytes);
        Ok(())
    }

    fn rest(&self, long: Duration) -> Result<(), CheckpointError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(CheckpointError::io(
                "merge",
                names::SHARDS,
                self.store.url(),
                io::ErrorKind::Interrupted.into(),
            ));
        }
        thread::sleep(long);
        Ok(())
    }

    fn put(&self, job: &Job, encoded: Encoded, new: &mut Vec<ShardEntry>) -> Result<(), CheckpointError> {
        let Encoded { file, rows, checksum } = encoded;
        let name = format!("{}-{}", self.number, new.len());
        let path = names::merged(self.epoch, self.generation, &self.run, job.kind.name, &name);
        let bytes = file.len() as u64;
        self.add(&path, file)?;
        fault::point("merged");
        new.push(ShardEntry {
            kind: job.kind.name.into(),
            version: job.kind.version,
            role: job.role,
            from: job.shards.iter().map(|shard| shard.from).min().unwrap_or(0),
            to: job.shards.iter().map(|shard| shard.to).max().unwrap_or(0),
            path,
            rows,
            bytes,
            checksum,
            remember: job.shards.iter().filter_map(|shard| shard.remember).max(),
        });
        Ok(())
    }
}
