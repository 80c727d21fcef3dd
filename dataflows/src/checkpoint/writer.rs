//! The writer: the thread of each process that makes shards of what was collected.
//!
//! In:    [`Collected`], in the order of their epochs; it ends when nobody can send any more.
//! Out:   [`Written`] for each, once its shards survive a loss of power.
//! State: the rows of the checkpoint that is being written; those after it wait in the channel.

use super::{
    encode::Encoded,
    error::CheckpointError,
    manifest::{Role, ShardEntry},
    names,
    patience::persist,
    shards,
    status::Status,
    store::Store,
};
use crate::runtime::fault;
use crossbeam_channel::Receiver;
use dbb_events::Micros;
use dbb_operators::{
    Epoch,
    checkpoint::{Collected, ReadTo, Rows},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

/// The shards of one process, of one epoch; it travels through the dataflow to the committer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The epoch.
    pub epoch: Epoch,
    /// When it began.
    pub at: Micros,
    /// True at the end of the input.
    pub is_last: bool,
    /// Which process wrote it.
    pub process: usize,
    /// What it wrote.
    pub shards: Vec<ShardEntry>,
    /// What its readers had read: topic or path, partition, next offset.
    pub offsets: Vec<super::Next>,
}

/// Whose shards, and for how long they are tried.
#[derive(Debug, Clone, Copy)]
pub struct WriterSettings {
    /// The number of this process.
    pub process: usize,
    /// The generation of this run.
    pub generation: i64,
    /// The epoch that was restored; 0 if none was.
    pub after: Epoch,
    /// How long the store may fail before that is fatal.
    pub give_up: Duration,
}

/// How the writer is tied to the rest. All closures are called on its thread.
pub struct WriterPorts {
    /// What is to be written.
    pub collected: Receiver<Collected>,
    /// Called for each, when it is durable.
    pub written: Box<dyn FnMut(Written) + Send>,
    /// Called once, before the thread ends, when it cannot go on.
    pub on_fatal: Box<dyn FnOnce(CheckpointError) + Send>,
    /// How it is doing.
    pub status: Status,
}

/// See the module.
pub struct Writer {
    store: Store,
    settings: WriterSettings,
    status: Status,
    run: String,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub fn start(
        store: Store,
        settings: WriterSettings,
        mut ports: WriterPorts,
    ) -> io::Result<JoinHandle<()>> {
        let mut writer = Self {
            store,
            settings,
            status: ports.status,
            run: names::new_run(),
        };
        Builder::new().name("checkpoint".into()).spawn(move || {
            for collected in &ports.collected {
                match writer.write(collected) {
                    Ok(written) => (ports.written)(written),
                    Err(error) => {
                        (ports.on_fatal)(error);
                        return;
                    }
                }
            }
        })
    }

    fn write(&mut self, collected: Collected) -> Result<Written, CheckpointError> {
        let begun = Instant::now();
        let epoch = collected.epoch;
        let mut by_kind: BTreeMap<&str, Vec<Box<dyn Rows>>> = BTreeMap::new();
        for rows in collected.rows {
            by_kind.entry(rows.kind().name).or_default().push(rows);
        }
        let mut entries = Vec::new();
        for rows in by_kind.into_values() {
            let Some(kind) = rows.first().map(|rows| rows.kind()) else {
                continue;
            };
            // Those of one kind remember equally long, whichever worker they come from.
            let remember = rows.iter().filter_map(|rows| rows.remember()).max();
            for (n, encoded) in shards::encode(kind, rows, epoch)?.into_iter().enumerate() {
                let Encoded { file, rows, checksum } = encoded;
                let entry = ShardEntry {
                    kind: kind.name.into(),
                    version: kind.version,
                    role: Role::Delta,
                    from: self.settings.after + 1,
                    to: epoch,
                    path: names::delta(
                        epoch,
                        self.settings.generation,
                        (&self.run, self.settings.process),
                        kind.name,
                        n,
                    ),
                    rows,
                    bytes: file.len() as u64,
                    checksum,
                    remember,
                };
                fault::point("shards_write");
                persist(&self.status, self.settings.give_up, || {
                    self.store.add(&entry.path, file.clone())
                })?;
                entries.push(entry);
            }
        }
        self.settings.after = epoch;
        self.status.shards(
            entries.iter().map(|entry| entry.rows).sum(),
            entries.iter().map(|entry| entry.bytes).sum(),
            begun.elapsed(),
        );
        Ok(Written {
            epoch,
            at: collected.at,
            is_last: collected.is_last,
            process: self.settings.process,
            shards: entries,
            offsets: offsets(collected.offsets),
        })
    }
}

fn offsets(read: ReadTo) -> Vec<super::Next> {
    read.into_iter()
        .map(|((stream, partition), at)| super::Next {
            stream,
            partition,
            next: at.next,
            of: at.incarnation,
        })
        .collect()
}
