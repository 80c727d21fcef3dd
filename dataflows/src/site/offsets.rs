//! Offsets in the ledger: how far each partition is handled, beside what the source itself stores.
//!
//! ```text
//!   acks of files --\
//!   Kafka's commits --> thread --one transaction a moment--> ledger
//!                         \--every second--> is it still the ledger that it was?
//! ```
//!
//! Sources without a memory of their own (files) go on from here. A source that has one is compared with it at a start: the
//! group may have forgotten, and the ledger may be an older copy, or another.
//!
//! Invariant: outcomes are in the ledger before the offsets above them are, so in whatever copy of it, too.

use crate::runtime::Control;
use dbb_events::{Incarnation, Mark, Position};
use dbb_sinks::ledger::{self, Generation, Ledger, LedgerError, LedgerSettings};
use dbb_sources::{
    OffsetStore, Offsets, Partition, Positions,
    kafka::{AskMark, KafkaStatistics},
};
use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

/// What is acked within this time is one transaction.
const GATHER: Duration = Duration::from_millis(50);
/// How often a source with a memory of its own is looked at, and whether the ledger is still the one it was.
const LOOK: Duration = Duration::from_secs(1);
/// Between two attempts, while the ledger is away.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest that the end of a run waits for the last of them.
const FLUSH: Duration = Duration::from_secs(10);

/// Places of the ledger, in a source's words.
pub(crate) fn of_partitions(places: &ledger::Offsets) -> Positions {
    let of = |((stream, partition), at): (&(Arc<str>, i32), &Position)| {
        let (stream, partition) = (Arc::clone(stream), *partition);
        (Partition { stream, partition }, *at)
    };
    places.iter().map(of).collect()
}

/// The same without their incarnations, for sources that have none.
pub(super) fn plain(places: &Positions) -> Offsets {
    let of = |(partition, at): (&Partition, &Position)| (partition.clone(), at.next);
    places.iter().map(of).collect()
}

/// Asks a ledger that others write for its mark, over a connection of its own.
pub(super) fn asks(settings: &LedgerSettings) -> AskMark {
    let (settings, held) = (settings.clone(), Mutex::new(None::<Ledger>));
    Arc::new(move || {
        let mut held = lock(&held);
        let mut ledger = held.take().or_else(|| Ledger::open(&settings).ok())?;
        let mark: Mark = ledger.mark().ok()?;
        *held = Some(ledger);
        Some(mark)
    })
}

/// The ledger as a store of offsets. What is given is stored a moment later, by a thread: nobody waits.
#[derive(Clone)]
pub(super) struct LedgerOffsets {
    settings: LedgerSettings,
    pending: Arc<Pending>,
}

#[derive(Default)]
struct Pending {
    state: Mutex<State>,
    changed: Condvar,
    end: AtomicBool,
}

#[derive(Default)]
struct State {
    given: Positions,
    /// Some of what was given is being stored.
    under_way: bool,
}

/// The thread, and how it is ended.
pub(super) struct OffsetsThread {
    pending: Arc<Pending>,
    thread: JoinHandle<()>,
}

impl LedgerOffsets {
    pub(super) fn new(settings: LedgerSettings) -> Self {
        Self {
            settings,
            pending: Arc::default(),
        }
    }

    /// Starts the thread, which writes under this process's generation.
    pub(super) fn start(
        &self,
        generation: Generation,
        statistics: Option<KafkaStatistics>,
        control: &Arc<Control>,
    ) -> io::Result<OffsetsThread> {
        let mut keeper = Keeper {
            settings: self.settings.clone(),
            generation,
            pending: Arc::clone(&self.pending),
            statistics,
            stored: Positions::new(),
            ledger: None,
            looked: Instant::now(),
            control: Arc::clone(control),
        };
        let thread = Builder::new()
            .name("ledger offsets".into())
            .spawn(move || keeper.run())?;
        Ok(OffsetsThread {
            pending: Arc::clone(&self.pending),
            thread,
        })
    }
}

impl OffsetsThread {
    /// Lets it store what is left; not for long, for what is not stored is known by its outcomes.
    pub(super) fn join(self) {
        self.pending.end.store(true, Ordering::Release);
        self.pending.changed.notify_all();
        let since = Instant::now();
        while !self.thread.is_finished() && since.elapsed() < PAUSE * 2 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

struct Keeper {
    settings: LedgerSettings,
    generation: Generation,
    pending: Arc<Pending>,
    statistics: Option<KafkaStatistics>,
    /// What the ledger has of a source with a memory of its own.
    stored: Positions,
    ledger: Option<Ledger>,
    looked: Instant,
    control: Arc<Control>,
}

impl Keeper {
    fn run(&mut self) {
        let mut is_away = false;
        loop {
            let ends = self.pending.end.load(Ordering::Acquire);
            match self.step(ends) {
                Ok(()) => is_away = false,
                Err(error @ LedgerError::Replaced { .. }) => {
                    self.control.start_again(error.to_string());
                    return;
                }
                // Whoever writes outcomes says what this means.
                Err(LedgerError::Fenced { .. }) => return,
                Err(error) => {
                    if !std::mem::replace(&mut is_away, true) {
                        tracing::warn!(%error, "offsets are not in the ledger yet: it is tried again, and told once");
                    }
                    self.ledger = None;
                    if !ends {
                        std::thread::sleep(PAUSE);
                    }
                }
            }
            if ends {
                return;
            }
            let state = lock(&self.pending.state);
            if state.given.is_empty() {
                // Woken by what is given, or by the end.
                let _ = self.pending.changed.wait_timeout(state, LOOK);
            }
            std::thread::sleep(GATHER);
        }
    }

    fn step(&mut self, ends: bool) -> Result<(), LedgerError> {
        let mut places = {
            let mut state = lock(&self.pending.state);
            state.under_way = !state.given.is_empty();
            std::mem::take(&mut state.given)
        };
        let looks = ends || self.looked.elapsed() >= LOOK;
        if looks && let Some(statistics) = &self.statistics {
            let handled = statistics.handled().into_iter();
            places.extend(handled.filter(|(partition, at)| self.stored.get(partition) != Some(at)));
        }
        if places.is_empty() && !looks {
            return Ok(());
        }
        let done = self.store(&places);
        let mut state = lock(&self.pending.state);
        state.under_way = false;
        if done.is_err() {
            // What was given since is newer.
            for (partition, at) in places {
                if self.statistics.is_none() {
                    state.given.entry(partition).or_insert(at);
                }
            }
        } else {
            self.looked = Instant::now();
            self.stored.extend(places);
        }
        self.pending.changed.notify_all();
        done
    }

    fn store(&mut self, places: &Positions) -> Result<(), LedgerError> {
        let mut ledger = match self.ledger.take() {
            Some(ledger) => ledger,
            None => Ledger::open(&self.settings)?,
        };
        if places.is_empty() {
            ledger.mark()?;
        } else {
            let of = |(partition, at): (&Partition, &Position)| {
                ((Arc::clone(&partition.stream), partition.partition), *at)
            };
            ledger.store_handled(self.generation, &places.iter().map(of).collect())?;
        }
        self.ledger = Some(ledger);
        Ok(())
    }
}

impl OffsetStore for LedgerOffsets {
    fn load(&self) -> Result<Offsets, String> {
        let handled = Ledger::open(&self.settings).and_then(|mut ledger| ledger.handled_to());
        let handled = handled.map_err(|error| error.to_string())?;
        Ok(plain(&of_partitions(&handled)))
    }

    fn store(&self, handled: &Offsets) -> Result<(), String> {
        let at = |(partition, next): (&Partition, &u64)| {
            (partition.clone(), Position::new(Incarnation::default(), *next))
        };
        lock(&self.pending.state).given.extend(handled.iter().map(at));
        self.pending.changed.notify_all();
        Ok(())
    }

    fn flush(&self) -> Result<(), String> {
        let waits = |state: &mut State| state.under_way || !state.given.is_empty();
        let state = lock(&self.pending.state);
        let waited = self.pending.changed.wait_timeout_while(state, FLUSH, waits);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(state);
        if timeout.timed_out() {
            return Err("the ledger does not take them".into());
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
