//! Where parts meet. One for the process.

use super::{AllMissing, BoundOffsets, END, Part, PartKey, Published, asks::Word};
use crate::{
    Epoch,
    views::{Chained, Table},
};
use dbb_events::Micros;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a process keeps replicas that somebody asked for, until they are fetched.
const KEPT: Duration = Duration::from_secs(10);

/// See the module.
pub struct Publisher {
    every: Epoch,
    /// The first epoch that may be published.
    first: AtomicU64,
    /// How many processes publish.
    processes: usize,
    /// The end is published too.
    ends: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    expected: BTreeSet<PartKey>,
    open: BTreeMap<Epoch, BTreeMap<PartKey, Part>>,
    times: BTreeMap<Epoch, Micros>,
    minted: Epoch,
    asked: BTreeSet<Epoch>,
    newest: Option<Arc<Published>>,
    shared: Shared,
}

/// What only a cluster needs.
#[derive(Default)]
struct Shared {
    /// Where this process can be asked, until it is said.
    address: Option<String>,
    /// Where each process can be asked.
    addresses: BTreeMap<usize, String>,
    /// The number of the newest wish for replicas, of the newest that was said, and of the newest that was heard by
    /// all, with the epoch they will have.
    wished: u64,
    said: u64,
    heard: (u64, Epoch),
    /// What was published with replicas lately, and until when it is kept.
    kept: BTreeMap<Epoch, (Instant, Arc<Published>)>,
}

impl Publisher {
    /// One that publishes at every multiple of `every`, and at the end; with 0 only at the end.
    pub fn new(every: Epoch) -> Self {
        Self::after(every, None)
    }

    /// The same, where epochs go on after that of a checkpoint: nothing is published up to it.
    pub fn after(every: Epoch, after: Option<Epoch>) -> Self {
        Self {
            every,
            first: AtomicU64::new(after.map_or(0, |after| after.saturating_add(1))),
            processes: 1,
            ends: true,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Says, before the dataflow is built, that epochs go on after that of a checkpoint.
    pub fn goes_on_after(&self, epoch: Epoch) {
        self.first.store(epoch.saturating_add(1), Ordering::Relaxed);
    }

    /// The same, as one of so many processes, each of which publishes; without it, only the first one does.
    pub fn one_of(mut self, processes: usize) -> Self {
        self.processes = processes.max(1);
        self
    }

    /// The same, where the end of the input is that of the process alone: nothing is published at it.
    pub fn endless(mut self) -> Self {
        self.ends = false;
        self
    }

    /// How many processes publish.
    pub fn processes(&self) -> usize {
        self.processes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first worker of each process that publishes.
    pub(crate) fn keepers(&self, peers: usize) -> Vec<usize> {
        let workers = (peers / self.processes).max(1);
        (0..self.processes).map(|process| process * workers).collect()
    }

    /// Says, while the dataflow is built, that this part will be offered for every published epoch.
    pub fn expect(&self, part: PartKey) {
        self.lock().expected.insert(part);
    }

    /// Records that `epoch` was announced at `at`; called before anything of the epoch can be heard here.
    pub fn minted(&self, epoch: Epoch, at: Micros) {
        let mut state = self.lock();
        state.minted = state.minted.max(epoch);
        if self.every > 0 && epoch.is_multiple_of(self.every) {
            state.times.insert(epoch, at);
        }
    }

    /// When a published epoch was announced; `None` once it is published, and for [`END`].
    pub fn began(&self, epoch: Epoch) -> Option<Micros> {
        self.lock().times.get(&epoch).copied()
    }

    /// The first epoch from `epoch` on that is published.
    pub fn next(&self, epoch: Epoch) -> Epoch {
        match self.every {
            0 => END,
            every => epoch.div_ceil(every).saturating_mul(every),
        }
    }

    /// The epochs to publish above `done` and below `frontier`, [`END`] among them when there is no frontier.
    pub fn due(&self, done: Option<Epoch>, frontier: Option<Epoch>) -> Vec<Epoch> {
        let mut due = Vec::new();
        if self.every > 0 {
            let first = done
                .map_or(0, |done| done.saturating_add(1))
                .max(self.first.load(Ordering::Relaxed))
                .div_ceil(self.every);
            // Without a frontier nothing says how far the epochs went: the end covers them.
            let last = frontier.unwrap_or(0);
            due.extend(
                (first..)
                    .map(|n| n.saturating_mul(self.every))
                    .take_while(|epoch| *epoch < last),
            );
        }
        if frontier.is_none() && self.ends && done != Some(END) {
            due.push(END);
        }
        due
    }

    /// True when somebody asked for the replicas as of `epoch`.
    pub fn is_asked(&self, epoch: Epoch) -> bool {
        epoch == END || self.lock().asked.contains(&epoch)
    }

    /// Offers one part of `epoch`; the last one publishes it.
    pub fn offer(&self, part: PartKey, epoch: Epoch, value: Part) {
        let mut state = self.lock();
        if state.newest.as_ref().is_some_and(|newest| newest.epoch >= epoch) {
            return;
        }
        let parts = state.open.entry(epoch).or_default();
        parts.insert(part, value);
        if parts.len() < state.expected.len() {
            return;
        }
        let Some(parts) = state.open.remove(&epoch) else {
            return;
        };
        let newer = state.open.split_off(&epoch);
        state.open = newer;
        let at = match state.times.get(&epoch) {
            Some(at) => *at,
            None => state.times.last_key_value().map_or(Micros(0), |(_, at)| *at),
        };
        state.times = state.times.split_off(&epoch);
        state.asked = state.asked.split_off(&epoch.saturating_add(1));
        let published = Arc::new(assemble(epoch, at, parts));
        let now = Instant::now();
        state.shared.kept.retain(|_, (until, _)| *until > now);
        if self.processes > 1 && published.tables.contains_key(REPLICAS) {
            let kept = (now + KEPT, Arc::clone(&published));
            state.shared.kept.insert(epoch, kept);
        }
        state.newest = Some(published);
        drop(state);
        self.changed.notify_all();
    }

    /// What was published last; `None` before the first.
    pub fn newest(&self) -> Option<Arc<Published>> {
        self.lock().newest.clone()
    }

    /// Waits for something published that has the replicas too, as of no earlier than now; for at most `patience`.
    ///
    /// In a cluster, they are those of this process, and [`Publisher::with_replicas_of`] has the others there.
    pub fn with_replicas(&self, patience: Duration) -> Option<Arc<Published>> {
        if self.processes > 1 {
            return self.with_replicas_everywhere(patience);
        }
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        let mut wanted: Option<Epoch> = None;
        loop {
            let newest = state.newest.clone();
            if let Some(newest) = &newest
                && wanted.is_some_and(|wanted| newest.epoch >= wanted)
                && newest.tables.contains_key(REPLICAS)
            {
                return Some(Arc::clone(newest));
            }
            let done = newest.map(|newest| newest.epoch);
            if done == Some(END) {
                return state.at_the_end();
            }
            if wanted.is_none_or(|wanted| done.is_some_and(|done| done >= wanted)) {
                // The next epoch to publish of which nobody has offered a part, for it has not ended.
                let next = self.next(done.map_or(0, |done| done + 1).max(state.minted));
                state.asked.insert(next);
                wanted = Some(next);
            }
            state = self.wait(state, deadline)?;
        }
    }

    fn with_replicas_everywhere(&self, patience: Duration) -> Option<Arc<Published>> {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        state.shared.wished += 1;
        let number = state.shared.wished;
        let mut wanted: Option<Epoch> = None;
        loop {
            let (heard, epoch) = state.shared.heard;
            if wanted.is_none() && heard >= number {
                wanted = Some(epoch);
            }
            if let Some(wanted) = wanted
                && let Some((_, (_, published))) = state.shared.kept.range(wanted..).next()
            {
                return Some(Arc::clone(published));
            }
            if state.newest.as_ref().is_some_and(|newest| newest.epoch == END) {
                return state.at_the_end();
            }
            state = self.wait(state, deadline)?;
        }
    }

    /// Waits until the replicas as of `epoch`, which somebody asked for, are published here, for at most `patience`;
    /// `None` also when they are no longer kept.
    pub fn with_replicas_of(&self, epoch: Epoch, patience: Duration) -> Option<Arc<Published>> {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if let Some((_, published)) = state.shared.kept.get(&epoch) {
                return Some(Arc::clone(published));
            }
            if let Some(newest) = &state.newest
                && newest.epoch >= epoch
            {
                return Some(Arc::clone(newest)).filter(|newest| newest.epoch == epoch);
            }
            state = self.wait(state, deadline)?;
        }
    }

    /// Waits until something above `epoch` is published (anything, if `None`), for at most `patience`.
    pub fn beyond(&self, epoch: Option<Epoch>, patience: Duration) -> Option<Arc<Published>> {
        let is_beyond = |newest: &Published| epoch.is_none_or(|epoch| newest.epoch > epoch);
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), patience, |state| {
                !state.newest.as_deref().is_some_and(is_beyond)
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.newest.clone().filter(|newest| is_beyond(newest))
    }

    /// `None` when the time is over.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, deadline: Instant) -> Option<MutexGuard<'a, State>> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let waited = self.changed.wait_timeout(state, left);
        Some(waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Says where this process can be asked for its share; the other processes hear of it with the next tick.
    pub fn announce(&self, address: String) {
        self.lock().shared.address = Some(address);
    }

    /// Where each process can be asked, itself among them; only those that have been heard of.
    pub fn addresses(&self) -> BTreeMap<usize, String> {
        self.lock().shared.addresses.clone()
    }

    /// What `process`, which is this one, has to say with the next tick.
    pub(super) fn says(&self, process: usize) -> Vec<Word> {
        let shared = &mut self.lock().shared;
        let here = shared
            .address
            .take()
            .map(|address| Word::Here { process, address });
        let number = shared.wished;
        let ask = (shared.said < number).then_some(Word::Ask { process, number });
        shared.said = number;
        here.into_iter().chain(ask).collect()
    }

    /// Writes down what was said in `epoch`, which `process`, this one, hears.
    pub(super) fn hears(&self, epoch: Epoch, word: Word, here: Option<usize>) {
        let mut state = self.lock();
        match word {
            Word::Tick(_) => {}
            Word::Here { process, address } => {
                state.shared.addresses.insert(process, address);
            }
            Word::Ask { process, number } => {
                let next = self.next(epoch);
                state.asked.insert(next);
                if here == Some(process) {
                    state.shared.heard = (number, next);
                }
            }
        }
        drop(state);
        self.changed.notify_all();
    }
}

impl State {
    /// Nothing comes after it.
    fn at_the_end(&self) -> Option<Arc<Published>> {
        let newest = self.newest.clone();
        newest.filter(|newest| newest.tables.contains_key(REPLICAS))
    }
}

/// The view that is published only for those who ask.
const REPLICAS: &str = "replicas";

fn assemble(epoch: Epoch, at: Micros, parts: BTreeMap<PartKey, Part>) -> Published {
    let mut offsets = BoundOffsets::new();
    let mut missing = AllMissing::new();
    let mut tables: BTreeMap<&'static str, Vec<Arc<dyn Table>>> = BTreeMap::new();
    let mut absent = BTreeSet::new();
    for ((name, _), part) in parts {
        match part {
            Part::Table(table) => tables.entry(name).or_default().push(table),
            Part::NotAsked => {
                absent.insert(name);
            }
            Part::Missing(found) => missing.extend(found),
            Part::Offsets(read) => {
                for (partition, next) in read {
                    let known = offsets.entry(partition).or_default();
                    *known = next.max(*known);
                }
            }
        }
    }
    let tables = tables
        .into_iter()
        .filter(|(name, _)| !absent.contains(name))
        .map(|(name, mut shares)| {
            let table = if shares.len() == 1 {
                shares.remove(0)
            } else {
                Arc::new(Chained(shares[0].schema(), shares)) as Arc<dyn Table>
            };
            (name, table)
        })
        .collect();
    Published {
        epoch,
        at,
        offsets,
        missing,
        tables,
    }
}
