//! Scrubbing: each file that a kept checkpoint names is read whole once a day, so that a checkpoint is known to be sound
//! before an older one goes.
//!
//! ```text
//!   manifests that are kept --shards not read for a day--> few: at once    many: in background, with rests
//! ```
//!
//! State: when each shard was read last, and which were not as they were written.

use super::{
    checksum,
    error::CheckpointError,
    manifest::{Manifest, ShardEntry},
    patience::chain,
    status::Status,
    store::Store,
};
use dbb_events::Micros;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Builder, JoinHandle},
    time::Instant,
};

/// So often each file is read.
const EVERY_SECONDS: i64 = 24 * 3600;
/// So much of what was never read is read before the next checkpoint, in bytes: what was just written, mostly.
const AT_ONCE: u64 = 32 << 20;
/// How much longer it rests than reading one file took, and its priority.
const REST: u32 = 4;
const NICE: i32 = 19;

type Read = Vec<(String, Result<(), CheckpointError>)>;

/// See the module.
pub(super) struct Scrubber {
    store: Store,
    status: Status,
    /// When each was read and was as it was written.
    sound: BTreeMap<String, Micros>,
    damaged: BTreeSet<String>,
    stop: Arc<AtomicBool>,
    at_work: Option<JoinHandle<Read>>,
}

impl Scrubber {
    pub(super) fn new(store: &Store, status: &Status) -> Self {
        Self {
            store: store.clone(),
            status: status.clone(),
            sound: BTreeMap::new(),
            damaged: BTreeSet::new(),
            stop: Arc::default(),
            at_work: None,
        }
    }

    /// All of `manifest` has been read, at `now`.
    pub(super) fn was_read(&mut self, manifest: &Manifest, now: Micros) {
        let paths = manifest.shards.iter().map(|shard| (shard.path.clone(), now));
        self.sound.extend(paths);
    }

    /// True if every shard of `manifest` was read and was as it was written.
    pub(super) fn is_sound(&self, manifest: &Manifest) -> bool {
        let is_sound =
            |shard: &ShardEntry| self.sound.contains_key(&shard.path) && !self.damaged.contains(&shard.path);
        manifest.shards.iter().all(is_sound)
    }

    /// Reads what is due of `manifests`, which are all there are; the shards that are damaged.
    pub(super) fn scrub(&mut self, manifests: &[&Manifest], now: Micros) -> io::Result<&BTreeSet<String>> {
        if self.at_work.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(at_work) = self.at_work.take()
        {
            match at_work.join() {
                Ok(read) => self.learn(read, now),
                Err(_) => tracing::error!("the thread that reads checkpoints panicked"),
            }
        }
        let shards: BTreeMap<&str, &ShardEntry> = manifests
            .iter()
            .flat_map(|manifest| &manifest.shards)
            .map(|shard| (&*shard.path, shard))
            .collect();
        self.sound.retain(|path, _| shards.contains_key(&**path));
        self.damaged.retain(|path| shards.contains_key(&**path));
        let mut room = AT_ONCE;
        let (mut at_once, mut later) = (Vec::new(), Vec::new());
        for shard in shards.into_values() {
            match self.sound.get(&shard.path) {
                _ if self.damaged.contains(&shard.path) => {}
                None if shard.bytes <= room => {
                    room -= shard.bytes;
                    at_once.push(shard);
                }
                Some(at) if at.plus_seconds(EVERY_SECONDS) > now => {}
                _ => later.push(shard.clone()),
            }
        }
        let read = at_once
            .into_iter()
            .map(|shard| (shard.path.clone(), checksum::verify(&self.store, shard)))
            .collect();
        self.learn(read, now);
        let is_all = later.iter().all(|shard| self.sound.contains_key(&shard.path));
        let oldest = self.sound.values().min().copied().unwrap_or(now);
        self.status
            .scrubbed(if is_all { Some(oldest) } else { None }, &self.damaged);
        if self.at_work.is_none() && !later.is_empty() {
            let (store, stop) = (self.store.clone(), Arc::clone(&self.stop));
            let spawned = Builder::new()
                .name("checkpoint scrub".into())
                .spawn(move || read_all(&store, later, &stop))?;
            self.at_work = Some(spawned);
        }
        Ok(&self.damaged)
    }

    fn learn(&mut self, read: Read, now: Micros) {
        for (path, found) in read {
            match found {
                Ok(()) => drop(self.sound.insert(path, now)),
                Err(error @ CheckpointError::Damaged { .. }) => {
                    tracing::error!(error = chain(&error), "a file of the checkpoints is damaged");
                    self.sound.remove(&path);
                    self.damaged.insert(path);
                }
                // Read again the next time.
                Err(error) => tracing::warn!(
                    error = chain(&error),
                    "a file of the checkpoints could not be read"
                ),
            }
        }
    }
}

fn read_all(store: &Store, shards: Vec<ShardEntry>, stop: &AtomicBool) -> Read {
    // Of no consequence if the system does not allow it: there are pauses too.
    let _ = rustix::process::setpriority_process(None, NICE);
    let mut read = Read::new();
    for shard in shards {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let begun = Instant::now();
        let found = checksum::verify(store, &shard);
        read.push((shard.path, found));
        thread::sleep(begun.elapsed() * REST);
    }
    read
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(at_work) = self.at_work.take() {
            let _ = at_work.join();
        }
    }
}
