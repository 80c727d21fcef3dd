//! A checkpoint that was found, and its rows.

use super::{
    error::CheckpointError,
    manifest::{Manifest, ShardEntry},
    merge::Merged,
    shard::range_of,
    status::Status,
    store::Store,
};
use crossbeam_channel::bounded;
use dbb_events::Micros;
use dbb_operators::{
    Epoch,
    checkpoint::{Damaged, Kind, ReadTo, Restored, Row},
    publish::{BoundOffsets, Lost},
};
use std::{
    iter,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    thread::Builder,
};

/// Told what went wrong while rows were read: the process is to end.
pub type OnError = Arc<dyn Fn(CheckpointError) + Send + Sync>;

/// Rows that are handed over together, and how many such lots are read ahead.
const LOT: usize = 4096;
const AHEAD: usize = 4;

/// A checkpoint whose files are all there. Cheap to clone.
#[derive(Clone)]
pub struct Found {
    store: Store,
    manifest: Arc<Manifest>,
    status: Status,
    on_error: OnError,
    failed: Arc<AtomicBool>,
}

impl Found {
    pub(super) fn new(store: &Store, manifest: Manifest, status: &Status, on_error: OnError) -> Self {
        status.found(&manifest);
        Self {
            store: store.clone(),
            manifest: Arc::new(manifest),
            status: status.clone(),
            on_error,
            failed: Arc::default(),
        }
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// When its epoch began.
    pub fn at(&self) -> Micros {
        self.manifest.at
    }

    /// Where each partition goes on.
    pub fn offsets(&self) -> BoundOffsets {
        self.manifest.bound_offsets()
    }

    /// The same, with the incarnations in which they mean something.
    pub fn places(&self) -> ReadTo {
        self.manifest.places()
    }

    /// Records that were missing when they were wanted.
    pub fn gaps(&self) -> &[Lost] {
        &self.manifest.gaps
    }

    fn fail(&self, error: CheckpointError) {
        // One of them is enough.
        if !self.failed.swap(true, Ordering::Relaxed) {
            (self.on_error)(error);
        }
    }

    fn read(
        &self,
        kind: &Kind,
        shards: &[ShardEntry],
        share: usize,
        of: usize,
        give: &mut dyn FnMut(Vec<Row>) -> bool,
    ) -> Result<(), CheckpointError> {
        let mut merged = Merged::new(&self.store, shards, kind.merge, range_of(share, of), false)?;
        let mut lot = Vec::with_capacity(LOT);
        let mut more = true;
        while more {
            more = merged.next(&mut |key, value| {
                lot.push((key.to_vec(), value.unwrap_or_default().to_vec()));
                Ok(())
            })?;
            if lot.len() >= LOT || !more {
                self.status.restored(lot.len() as u64);
                if !give(std::mem::replace(&mut lot, Vec::with_capacity(LOT))) {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Restored for Found {
    fn epoch(&self) -> Epoch {
        self.manifest.epoch
    }

    fn rows(&self, kind: &'static Kind, share: usize, of: usize) -> Box<dyn Iterator<Item = Row> + Send> {
        let of_kind = |shard: &&ShardEntry| shard.kind == kind.name;
        let shards: Vec<_> = self.manifest.shards.iter().filter(of_kind).cloned().collect();
        if shards.is_empty() {
            return Box::new(iter::empty());
        }
        let (sender, receiver) = bounded(AHEAD);
        let found = self.clone();
        let started = Builder::new().name("checkpoint read".into()).spawn(move || {
            let read = found.read(kind, &shards, share, of, &mut |lot| sender.send(lot).is_ok());
            if let Err(error) = read {
                found.fail(error);
            }
        });
        if let Err(error) = started {
            self.fail(CheckpointError::io(
                "start a thread to read",
                kind.name,
                self.store.url(),
                error,
            ));
        }
        Box::new(receiver.into_iter().flatten())
    }

    fn refuse(&self, damaged: Damaged) {
        self.fail(damaged.into());
    }
}
