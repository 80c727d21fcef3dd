//! Keeping: what of a run is there for the next one, and what was there of the last.
//!
//! ```text
//!   store --newest sound checkpoint--> where the source begins, what operators are given back
//!   operators, readers --collected--> writer --shards--> dataflow, until outcomes are durable --> committer
//! ```
//!
//! Frontier: a manifest is written when every record below its offsets has a durable outcome. A start may take all of
//! them for known.

use super::{live::Live, work::now};
use crate::{
    checkpoint::{
        self, CheckpointError, Commit, Committer, CommitterPorts, CommitterSettings, Found, Manifest, Status,
        Store, Writer, WriterPorts, WriterSettings, Written,
    },
    cluster::Place,
    config::Config,
    runtime::{
        Control, fault,
        manifest::{Piece, Whole},
    },
};
use crossbeam_channel::{Receiver, Sender};
use dbb_events::{Incarnation, Mark, Position};
use dbb_operators::{
    Epoch,
    checkpoint::{Checkpoints, Collected, Keep, Restored, kinds},
    publish::Lost,
};
use dbb_sinks::ledger::{Generation, NewestMark};
use dbb_sources::{Begin, Offsets, Partition, Positions};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How old the checkpoint may be, about, that shares no file with the newest.
const APART_EVERY: Duration = Duration::from_secs(24 * 3600);

impl Piece for Written {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn is_last(&self) -> bool {
        self.is_last
    }
}

/// The store, and what was found there.
pub(super) struct Opened {
    store: Store,
    status: Status,
    found: Option<Found>,
    views: Vec<String>,
    /// The generation of the newest manifest there is, and what its ledger called it.
    above: Option<(i64, Option<i64>)>,
    /// Those are another pipeline's, and taken over.
    adopts: bool,
    /// Partitions that damaged checkpoints tell of: all of them is wanted again.
    again: Offsets,
}

impl Opened {
    /// Looks for the checkpoint to go on from; `None` where none are kept.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: the store does not answer, or holds what cannot be gone on from.
    pub(super) fn of(
        config: &Config,
        live: Option<&Live>,
        control: &Arc<Control>,
    ) -> Result<Option<Self>, CheckpointError> {
        let Some(store) = Store::open(&config.checkpoint)? else {
            return Ok(None);
        };
        let (status, failed) = (Status::default(), Arc::clone(control));
        let on_error = Arc::new(move |error: CheckpointError| failed.fail(error.to_string()));
        let find = |pipeline: &str| checkpoint::find(&store, pipeline, &kinds(), &status, on_error.clone());
        let mut adopts = false;
        let newest = checkpoint::list(&store)?.into_iter().next();
        let above = newest.map(|newest| {
            let by_ledger = newest
                .manifest
                .ok()
                .and_then(|manifest| manifest.ledger_generation);
            (newest.generation, by_ledger)
        });
        let found = match find(&pipeline(config)) {
            Err(CheckpointError::Pipeline { found, wanted, .. }) if config.checkpoint.adopt => {
                tracing::warn!(
                    found,
                    wanted,
                    "going on from the checkpoints of another pipeline, as asked for"
                );
                adopts = true;
                find(&found)
            }
            found => found,
        };
        let mut again = Offsets::new();
        let found = match found {
            Ok(found) => found,
            // What is lost of them is in the source, or is told as missing.
            Err(error @ CheckpointError::NoneUsable { .. }) => {
                tracing::error!(%error, "views are made anew, from the oldest record there is");
                again = partitions(&store)?;
                None
            }
            Err(error @ CheckpointError::Kind { .. }) => {
                tracing::warn!(%error, "views are made anew, from the oldest record there is");
                None
            }
            Err(error) => return Err(error),
        };
        let views: Vec<String> = live.iter().flat_map(|live| live.names()).collect();
        let found = found.filter(|found| has_all(found.manifest(), &views));
        match &found {
            Some(found) => tell(found),
            None => tracing::info!(store = store.url(), "no checkpoint to go on from"),
        }
        Ok(Some(Self {
            store,
            status,
            found,
            views,
            above,
            adopts,
            again,
        }))
    }

    /// With which record the source begins.
    pub(super) fn begin(&self) -> Option<Begin> {
        let Some(found) = &self.found else {
            // From 0: what is not there any more is missing.
            let at = |(partition, next): (&Partition, &u64)| {
                (partition.clone(), Position::new(Incarnation::default(), *next))
            };
            return (!self.again.is_empty())
                .then(|| Begin::At(Arc::new(self.again.iter().map(at).collect())));
        };
        let places = found.places().into_iter();
        let places: Positions = places
            .map(|((stream, partition), at)| (Partition { stream, partition }, at))
            .collect();
        Some(Begin::At(places.into()))
    }

    /// The state of the ledger by which all below was handled.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.found.as_ref()?.manifest().ledger
    }

    /// The epoch of the checkpoint.
    pub(super) fn restored(&self) -> Option<Epoch> {
        self.found.as_ref().map(|found| found.epoch())
    }

    /// Starts the threads that write.
    ///
    /// # Errors
    ///
    /// There are no threads to be had.
    pub(super) fn start(
        self,
        config: &Config,
        place: Place,
        generation: Generation,
        newest: NewestMark,
        control: &Arc<Control>,
    ) -> io::Result<(Kept, Keepers)> {
        let of_ledger = generation;
        let generation = match self.above {
            // A ledger whose checkpoints follow those of another counts otherwise: what is newest here was written last.
            Some((above, by_ledger))
                if above >= generation.0
                    && (self.adopts || by_ledger.is_some_and(|before| before < generation.0)) =>
            {
                Generation(above.saturating_add(1))
            }
            _ => generation,
        };
        let restored = self.restored();
        let give_up = Duration::from_secs(config.checkpoint.give_up_seconds);
        let (checkpoints, collected) = Checkpoints::new(config.checkpoint.every_epochs(), restored);
        let (piece, written) = crossbeam_channel::unbounded();
        let mut threads = vec![self.writer(collected, piece, place, generation, give_up, control)?];
        let (commits, committed) = crossbeam_channel::unbounded();
        let ended = Arc::new(AtomicBool::new(false));
        // One process commits, for all.
        if place.is_first() {
            let ended = Arc::clone(&ended);
            let writes = (generation, of_ledger, newest);
            threads.push(self.committer(committed, ended, config, writes, give_up, control)?);
        }
        let keepers = Keepers {
            threads,
            status: self.status,
            ended: place.is_first().then_some(ended),
        };
        let kept = Kept {
            keep: Keep {
                checkpoints: Arc::new(checkpoints),
                restored: self
                    .found
                    .clone()
                    .map(|found| Arc::new(found) as Arc<dyn Restored>),
            },
            found: self.found,
            written: Mutex::new(Some(written)),
            commits,
        };
        Ok((kept, keepers))
    }

    fn writer(
        &self,
        collected: Receiver<Collected>,
        piece: Sender<Written>,
        place: Place,
        generation: Generation,
        give_up: Duration,
        control: &Arc<Control>,
    ) -> io::Result<JoinHandle<()>> {
        let failed = Arc::clone(control);
        let settings = WriterSettings {
            process: place.process,
            generation: generation.0,
            after: self.restored().unwrap_or(0),
            give_up,
        };
        let ports = WriterPorts {
            collected,
            written: Box::new(move |written| {
                fault::point("shards_written");
                // Without a receiver the dataflow has gone, and nobody commits any more.
                let _ = piece.send(written);
            }),
            on_fatal: Box::new(move |error| failed.fail(error.to_string())),
            status: self.status.clone(),
        };
        Writer::start(self.store.clone(), settings, ports)
    }

    fn committer(
        &self,
        commits: Receiver<Commit>,
        ended: Arc<AtomicBool>,
        config: &Config,
        (generation, of_ledger, newest): (Generation, Generation, NewestMark),
        give_up: Duration,
        control: &Arc<Control>,
    ) -> io::Result<JoinHandle<()>> {
        let failed = Arc::clone(control);
        let settings = CommitterSettings {
            pipeline: pipeline(config),
            views: self.views.clone(),
            generation: generation.0,
            ledger_generation: (of_ledger != generation).then_some(of_ledger.0),
            keep: config.checkpoint.keep,
            give_up,
            kinds: kinds(),
            apart_every: Some(APART_EVERY),
        };
        let ports = CommitterPorts {
            commits,
            committed: Box::new(move |manifest: &Manifest| {
                fault::point("manifest_written");
                tracing::debug!(epoch = manifest.epoch, bytes = manifest.bytes(), "checkpoint");
                ended.store(manifest.is_last, Ordering::Release);
            }),
            on_fatal: Box::new(move |error| match error {
                CheckpointError::Fenced { .. } => failed.yield_to_another(error.to_string()),
                _ => failed.fail(error.to_string()),
            }),
            now: Box::new(now),
            mark: Box::new(move || newest.get()),
            status: self.status.clone(),
        };
        let previous = self.found.as_ref().map(|found| found.manifest().clone());
        Committer::start(self.store.clone(), settings, previous, ports)
    }
}

/// Whose checkpoints these are: what is read, and the ledger that tells what of it has outcomes. More topics or paths
/// than before are the same pipeline, grown; views are compared apart.
fn pipeline(config: &Config) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let source = &config.source;
    let mut parts = vec![match &source.kafka {
        Some(kafka) => format!("events of group {}", kafka.group_id),
        None => "events of files".into(),
    }];
    if let Some(kafka) = &source.kafka {
        parts.extend(kafka.topics.iter().map(|topic| format!("topic {topic}")));
    }
    if let Some(log) = &source.log {
        let path = |path: &PathBuf| format!("path {}", absolute(path).display());
        parts.extend(log.paths.iter().map(path));
    }
    if let Some(stomp) = &source.stomp {
        parts.push(format!("messages of {}", stomp.destination));
    }
    let ledger = &config.ledger.url;
    parts.push(match ledger.strip_prefix("sqlite:") {
        Some(path) => format!("ledger {}", absolute(Path::new(path)).display()),
        None => {
            // Host and database: who asks, and how, is of no importance.
            let place = ledger.split_once("://").map_or(&**ledger, |(_, place)| place);
            let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
            format!("ledger {}", place.split('?').next().unwrap_or_default())
        }
    });
    parts.join(checkpoint::PARTS)
}

/// The partitions that the checkpoints tell of, whatever is damaged of them, from their beginnings.
fn partitions(store: &Store) -> Result<Offsets, CheckpointError> {
    let manifests = checkpoint::list(store)?.into_iter();
    let manifests = manifests.filter_map(|listed| listed.manifest.ok());
    let offsets = manifests.flat_map(|manifest| manifest.bound_offsets().into_keys());
    Ok(offsets
        .map(|(stream, partition)| (Partition { stream, partition }, 0))
        .collect())
}

/// False, with a word about it, if a view is wanted whose state is not there.
fn has_all(manifest: &Manifest, wanted: &[String]) -> bool {
    let new: Vec<_> = wanted
        .iter()
        .filter(|name| !manifest.views.contains(name))
        .collect();
    if !new.is_empty() {
        tracing::warn!(
            epoch = manifest.epoch,
            views = ?new,
            "the checkpoint is without views that are wanted now: all are made anew, from the oldest record there is"
        );
    }
    new.is_empty()
}

fn tell(found: &Found) {
    let offsets: Vec<String> = found
        .offsets()
        .iter()
        .map(|((stream, partition), next)| format!("{stream}[{partition}]={next}"))
        .collect();
    tracing::info!(
        epoch = found.epoch(),
        at = %found.at(),
        rows = found.manifest().rows(),
        bytes = found.manifest().bytes(),
        gaps = found.gaps().len(),
        offsets = offsets.join(" "),
        "resuming from a checkpoint"
    );
}

/// What the workers have of it.
pub(super) struct Kept {
    /// For operators.
    pub(super) keep: Keep,
    found: Option<Found>,
    written: Mutex<Option<Receiver<Written>>>,
    commits: Sender<Commit>,
}

impl Kept {
    /// The epoch that was restored.
    pub(super) fn restored(&self) -> Option<Epoch> {
        self.found.as_ref().map(|found| found.epoch())
    }

    /// What earlier runs have found missing.
    pub(super) fn lost(&self) -> Vec<Lost> {
        self.found
            .iter()
            .flat_map(|found| found.gaps().to_vec())
            .collect()
    }

    /// What this process writes; taken by its first worker.
    pub(super) fn take_written(&self) -> Option<Receiver<Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Hands checkpoints over to whoever commits them.
    pub(super) fn commits(&self) -> impl FnMut(Whole<Written>) + 'static {
        let commits = self.commits.clone();
        move |whole| {
            fault::point("manifest_write");
            // Without a receiver it has told why it could not go on.
            let _ = commits.send(Commit {
                written: whole.pieces,
                gaps: whole.lost,
            });
        }
    }
}

/// The threads that write checkpoints.
pub(super) struct Keepers {
    threads: Vec<JoinHandle<()>>,
    status: Status,
    /// The last checkpoint is durable; of the process that commits.
    ended: Option<Arc<AtomicBool>>,
}

impl Keepers {
    /// How they are doing.
    pub(super) fn status(&self) -> Status {
        self.status.clone()
    }

    /// Waits for them, once the dataflow has gone; longer than `patience` only for what is being written.
    pub(super) fn join(self, patience: Duration) {
        let since = Instant::now();
        while self.threads.iter().any(|thread| !thread.is_finished()) && since.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.status.leave();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the checkpoints panicked");
            }
        }
        let newest = self.status.figures().newest.map(|newest| newest.epoch);
        match self.ended.map(|ended| ended.load(Ordering::Acquire)) {
            None => {}
            Some(true) => tracing::info!(epoch = newest, "the last checkpoint is written"),
            Some(false) => tracing::warn!(
                epoch = newest,
                "the last checkpoint is not written: what came after that of this epoch will be read again"
            ),
        }
    }
}
