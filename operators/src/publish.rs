//! Publish: all views become visible together, as of one epoch.
//!
//! ```text
//!   rows of a view ----\
//!   replica snapshots ---> parts of epoch e, until all are there --> Published, at once
//!   offsets of readers -/
//! ```
//!
//! In:    one part for each view (and each worker, where a view is kept by all), for each epoch that is published.
//! Out:   [`Published`]: every view, and the offsets that it is the fold of.
//! State: the newest published epoch, and the parts of those that are not complete yet.
//!
//! Every operator offers every published epoch, so that the parts always meet. A snapshot of all replicas is
//! taken only when somebody asks for it.

use crate::{
    Epoch,
    views::{Chained, Rows, Table, ViewRow},
};
use dbb_events::Micros;
use differential_dataflow::VecCollection;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use timely::dataflow::{channels::pact::Exchange, operators::generic::Operator};

/// The epoch under which the end of a finite input is published.
pub const END: Epoch = Epoch::MAX;

/// For each topic or file, and partition, the offset of the next record.
pub type BoundOffsets = BTreeMap<(Arc<str>, i32), u64>;

/// All views as of one epoch.
pub struct Published {
    /// The epoch; [`END`] after the last.
    pub epoch: Epoch,
    /// When the epoch began, by the clock of the worker that announced it.
    pub at: Micros,
    /// What had been read by its end: the views are the fold of exactly these records.
    pub offsets: BoundOffsets,
    /// The views by name. `replicas` only where it was asked for.
    pub tables: BTreeMap<&'static str, Arc<dyn Table>>,
}

/// One piece of what is published.
pub enum Part {
    /// A view, or one worker's share of it.
    Table(Arc<dyn Table>),
    /// A share of a view that nobody asked for.
    NotAsked,
    /// What one worker has read.
    Offsets(BoundOffsets),
}

/// Whose piece: the name of the view, and the worker.
pub type PartKey = (&'static str, usize);

/// The name under which readers offer their offsets.
pub const OFFSETS: &str = "(offsets)";

/// Where parts meet. One for the process.
pub struct Publisher {
    every: Epoch,
    after: Option<Epoch>,
    state: Mutex<State>,
    published: Condvar,
}

#[derive(Default)]
struct State {
    expected: BTreeSet<PartKey>,
    open: BTreeMap<Epoch, BTreeMap<PartKey, Part>>,
    times: BTreeMap<Epoch, Micros>,
    minted: Epoch,
    asked: BTreeSet<Epoch>,
    newest: Option<Arc<Published>>,
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
            after,
            state: Mutex::default(),
            published: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says, while the dataflow is built, that this part will be offered for every published epoch.
    pub fn expect(&self, part: PartKey) {
        self.lock().expected.insert(part);
    }

    /// Records that `epoch` was announced at `at`; called before anyone can hear of it.
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

    /// The epochs to publish above `done` and below `frontier`, [`END`] among them when there is no frontier.
    pub fn due(&self, done: Option<Epoch>, frontier: Option<Epoch>) -> Vec<Epoch> {
        let mut due = Vec::new();
        if self.every > 0 {
            let done_before = done.max(self.after);
            let first = done_before
                .map_or(0, |done| done.saturating_add(1))
                .div_ceil(self.every);
            // Without a frontier nothing says how far the epochs went: the end covers them.
            let last = frontier.unwrap_or(0);
            due.extend(
                (first..)
                    .map(|n| n.saturating_mul(self.every))
                    .take_while(|epoch| *epoch < last),
            );
        }
        if frontier.is_none() && done != Some(END) {
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
        state.newest = Some(Arc::new(assemble(epoch, at, parts)));
        drop(state);
        self.published.notify_all();
    }

    /// What was published last; `None` before the first.
    pub fn newest(&self) -> Option<Arc<Published>> {
        self.lock().newest.clone()
    }

    /// Waits for something published that has the replicas too, as of no earlier than now; for at most `patience`.
    pub fn with_replicas(&self, patience: Duration) -> Option<Arc<Published>> {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        let mut wanted: Option<Epoch> = None;
        loop {
            let newest = state.newest.clone();
            if let Some(newest) = &newest
                && wanted.is_some_and(|wanted| newest.epoch >= wanted)
                && newest.tables.contains_key("replicas")
            {
                return Some(Arc::clone(newest));
            }
            let done = newest.map(|newest| newest.epoch);
            if done == Some(END) {
                // Nothing comes after it.
                return state
                    .newest
                    .clone()
                    .filter(|newest| newest.tables.contains_key("replicas"));
            }
            if wanted.is_none_or(|wanted| done.is_some_and(|done| done >= wanted)) {
                let next = self.unoffered(&state, done);
                state.asked.insert(next);
                wanted = Some(next);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self
                .published
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// The next epoch to publish of which nobody has offered a part, for it has not ended.
    fn unoffered(&self, state: &State, done: Option<Epoch>) -> Epoch {
        if self.every == 0 {
            return END;
        }
        let least = done.map_or(0, |done| done + 1).max(state.minted);
        least.div_ceil(self.every).saturating_mul(self.every)
    }

    /// Waits until something above `epoch` is published (anything, if `None`), for at most `patience`.
    pub fn beyond(&self, epoch: Option<Epoch>, patience: Duration) -> Option<Arc<Published>> {
        let is_beyond = |newest: &Published| epoch.is_none_or(|epoch| newest.epoch > epoch);
        let (state, _) = self
            .published
            .wait_timeout_while(self.lock(), patience, |state| {
                !state.newest.as_deref().is_some_and(is_beyond)
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.newest.clone().filter(|newest| is_beyond(newest))
    }
}

fn assemble(epoch: Epoch, at: Micros, parts: BTreeMap<PartKey, Part>) -> Published {
    let mut offsets = BoundOffsets::new();
    let mut tables: BTreeMap<&'static str, Vec<Arc<dyn Table>>> = BTreeMap::new();
    let mut absent = BTreeSet::new();
    for ((name, _), part) in parts {
        match part {
            Part::Table(table) => tables.entry(name).or_default().push(table),
            Part::NotAsked => {
                absent.insert(name);
            }
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
        tables,
    }
}

/// Keeps the rows of a view on the first worker, and offers them at each published epoch.
pub fn publish<R: ViewRow>(rows: VecCollection<'_, Epoch, R, isize>, publisher: &Arc<Publisher>) {
    let name = R::VIEW.name;
    let publisher = Arc::clone(publisher);
    let keeps = rows.inner.scope().worker().index() == 0;
    if keeps {
        publisher.expect((name, 0));
    }
    let mut kept = Rows::<R>::default();
    let mut open: BTreeMap<Epoch, Vec<(R, isize)>> = BTreeMap::new();
    let mut done = None;
    rows.inner.sink(
        Exchange::new(|_: &(R, Epoch, isize)| 0),
        &format!("publish {name}"),
        move |(input, frontier)| {
            input.for_each_stamp(|_, data| {
                for (row, epoch, times) in data.flat_map(|updates| updates.drain(..)) {
                    open.entry(epoch).or_default().push((row, times));
                }
            });
            if !keeps {
                return;
            }
            for due in publisher.due(done, frontier.frontier().first().copied()) {
                let later = match due.checked_add(1) {
                    Some(next) => open.split_off(&next),
                    None => BTreeMap::new(),
                };
                for (row, times) in std::mem::replace(&mut open, later).into_values().flatten() {
                    kept.update(row, times);
                }
                publisher.offer((name, 0), due, Part::Table(Arc::new(kept.clone())));
                done = Some(due);
            }
        },
    );
}
