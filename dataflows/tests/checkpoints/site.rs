//! A site that writes checkpoints: writers of some processes and the committer, without a dataflow between them.

use crate::rows::{Fold, Handed, KINDS};
use crossbeam_channel::{Receiver, Sender, unbounded};
use dbb::checkpoint::{
    CheckpointError, Commit, Committer, CommitterPorts, CommitterSettings, Found, Manifest, Settings, Status,
    Store, Writer, WriterPorts, WriterSettings, Written, find,
};
use dbb_events::{Incarnation, Micros, Position};
use dbb_operators::{
    Epoch,
    checkpoint::{Collected, Kind, ReadTo, Restored},
    publish::Lost,
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

pub(crate) const PIPELINE: &str = "test";

pub(crate) fn settings(folder: &Path) -> Settings {
    Settings {
        url: Some(folder.to_str().unwrap().into()),
        ..Settings::default()
    }
}

pub(crate) fn store(folder: &Path) -> Store {
    Store::open(&settings(folder)).unwrap().unwrap()
}

/// What find says, with errors while reading as panics of who asks.
pub(crate) fn found(store: &Store) -> Result<Option<Found>, CheckpointError> {
    find(
        store,
        PIPELINE,
        &KINDS,
        &Status::default(),
        Arc::new(|error| panic!("{error}")),
    )
}

/// All rows of a kind, of all of `of` shares; each key once.
pub(crate) fn rows(found: &Found, kind: &'static Kind, of: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut all = BTreeMap::new();
    for share in 0..of {
        for (key, value) in found.rows(kind, share, of) {
            assert!(all.insert(key, value).is_none(), "a key twice");
        }
    }
    all
}

pub(crate) fn assert_holds(found: &Found, fold: &Fold, of: usize) {
    for kind in [&crate::rows::THINGS, &crate::rows::SUMS] {
        let (ours, theirs) = (rows(found, kind, of), fold.rows(kind));
        let wrong = ours.iter().find(|(key, value)| theirs.get(*key) != Some(value));
        let missing = theirs.keys().find(|key| !ours.contains_key(*key));
        assert!(
            wrong.is_none() && missing.is_none(),
            "{} of {of} shares: {wrong:?} is wrong, {missing:?} is missing",
            kind.name
        );
    }
}

pub(crate) struct Site {
    collected: Vec<Sender<Collected>>,
    written: Receiver<Written>,
    commits: Option<Sender<Commit>>,
    committed: Receiver<Manifest>,
    pub(crate) fatal: Receiver<CheckpointError>,
    pub(crate) status: Status,
    threads: Vec<JoinHandle<()>>,
}

pub(crate) struct Wanted<'a> {
    pub(crate) store: &'a Store,
    pub(crate) processes: usize,
    pub(crate) generation: i64,
    pub(crate) restored: Option<&'a Found>,
    pub(crate) keep: usize,
    pub(crate) give_up: Duration,
    pub(crate) apart_every: Option<Duration>,
}

impl<'a> Wanted<'a> {
    pub(crate) fn of(store: &'a Store, generation: i64) -> Self {
        Self {
            store,
            processes: 1,
            generation,
            restored: None,
            keep: 3,
            give_up: Duration::from_secs(60),
            apart_every: None,
        }
    }
}

impl Site {
    pub(crate) fn start(wanted: &Wanted<'_>) -> Self {
        let (written_in, written) = unbounded();
        let (fatal_in, fatal) = unbounded();
        let status = Status::default();
        let mut threads = Vec::new();
        let collected = (0..wanted.processes)
            .map(|process| {
                let (sender, receiver) = unbounded();
                let (written_in, fatal_in) = (written_in.clone(), fatal_in.clone());
                let settings = WriterSettings {
                    process,
                    generation: wanted.generation,
                    after: wanted.restored.map_or(0, Restored::epoch),
                    give_up: wanted.give_up,
                };
                let ports = WriterPorts {
                    collected: receiver,
                    written: Box::new(move |written| drop(written_in.send(written))),
                    on_fatal: Box::new(move |error| drop(fatal_in.send(error))),
                    status: status.clone(),
                };
                threads.push(Writer::start(wanted.store.clone(), settings, ports).unwrap());
                sender
            })
            .collect();
        let (commits, commits_out) = unbounded();
        let (committed_in, committed) = unbounded();
        let clock = Mutex::new(0);
        let ports = CommitterPorts {
            commits: commits_out,
            committed: Box::new(move |manifest| drop(committed_in.send(manifest.clone()))),
            on_fatal: Box::new(move |error| drop(fatal_in.send(error))),
            now: Box::new(move || {
                let mut clock = clock.lock().unwrap();
                *clock += 1;
                Micros(*clock)
            }),
            mark: Box::new(|| None),
            status: status.clone(),
        };
        let settings = CommitterSettings {
            pipeline: PIPELINE.into(),
            views: Vec::new(),
            generation: wanted.generation,
            ledger_generation: None,
            keep: wanted.keep,
            give_up: wanted.give_up,
            kinds: KINDS.to_vec(),
            apart_every: wanted.apart_every,
        };
        let previous = wanted.restored.map(|found| found.manifest().clone());
        threads.push(Committer::start(wanted.store.clone(), settings, previous, ports).unwrap());
        Self {
            collected,
            written,
            commits: Some(commits),
            committed,
            fatal,
            status,
            threads,
        }
    }

    /// Hands out `parts`, one for each process.
    pub(crate) fn collect(&self, epoch: Epoch, parts: Vec<Vec<Handed>>) {
        for (process, part) in parts.into_iter().enumerate() {
            let rows = part.into_iter().map(|handed| Box::new(handed) as _).collect();
            let collected = Collected {
                epoch,
                at: Micros(epoch as i64 * 10_000),
                is_last: false,
                rows,
                offsets: ReadTo::from([(
                    ("topic".into(), process as i32),
                    Position::new(Incarnation::default(), epoch * 7),
                )]),
            };
            self.collected[process].send(collected).unwrap();
        }
    }

    /// A whole checkpoint.
    pub(crate) fn checkpoint(
        &self,
        epoch: Epoch,
        parts: Vec<Vec<Handed>>,
    ) -> Result<Manifest, CheckpointError> {
        self.collect(epoch, parts);
        self.commit(Vec::new())
    }

    /// Commits what was collected last.
    pub(crate) fn commit(&self, gaps: Vec<Lost>) -> Result<Manifest, CheckpointError> {
        let mut written = Vec::new();
        for _ in &self.collected {
            crossbeam_channel::select! {
                recv(self.written) -> one => written.push(one.unwrap()),
                recv(self.fatal) -> error => return Err(error.unwrap()),
            }
        }
        self.commits
            .as_ref()
            .unwrap()
            .send(Commit { written, gaps })
            .unwrap();
        crossbeam_channel::select! {
            recv(self.committed) -> manifest => Ok(manifest.unwrap()),
            recv(self.fatal) -> error => Err(error.unwrap()),
        }
    }

    /// Ends the threads.
    pub(crate) fn end(mut self) {
        self.collected.clear();
        self.commits = None;
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}
