//! Offsets of sources that have no memory of their own: kept in the ledger.
//!
//! ```text
//!   worker --handled--> thread --one transaction for all that came--> ledger
//! ```
//!
//! No worker waits for the ledger: what is not stored yet when the process dies is read again, and known.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use dbb_sinks::ledger::{self, Generation, Ledger, LedgerError, LedgerSettings};
use dbb_sources::{OffsetStore, Offsets, Partition};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The first and the longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Offsets of the ledger, in a source's words.
pub(super) fn of_partitions(offsets: &ledger::Offsets) -> Offsets {
    let of = |((stream, partition), offset): (&(Arc<str>, i32), &u64)| {
        let (stream, partition) = (Arc::clone(stream), *partition);
        (Partition { stream, partition }, *offset)
    };
    offsets.iter().map(of).collect()
}

/// The ledger as a store of offsets; it writes under this process's generation.
pub(super) struct LedgerOffsets {
    settings: LedgerSettings,
    generation: Generation,
    thread: Mutex<Option<Thread>>,
}

/// The thread that stores: it ends when nothing more can come, and then what it holds goes.
struct Thread {
    handled: Sender<ledger::Offsets>,
    ended: Receiver<()>,
}

impl LedgerOffsets {
    pub(super) fn new(settings: LedgerSettings, generation: Generation) -> Self {
        Self {
            settings,
            generation,
            thread: Mutex::new(None),
        }
    }

    /// Waits until the last offsets are stored, for as long as `patience`.
    pub(super) fn finish(&self, patience: Duration) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Thread { handled, ended }) = thread else {
            return;
        };
        drop(handled);
        if ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the last offsets are not stored: their events will be read again, and known");
        }
    }

    fn start(&self) -> Result<Thread, String> {
        let (sender, handled) = crossbeam_channel::unbounded();
        let (ends, ended) = crossbeam_channel::bounded(0);
        let (settings, generation) = (self.settings.clone(), self.generation);
        std::thread::Builder::new()
            .name("offsets".into())
            .spawn(move || {
                store(&settings, generation, &handled);
                drop::<Sender<()>>(ends);
            })
            .map_err(|error| format!("no thread for them: {error}"))?;
        Ok(Thread {
            handled: sender,
            ended,
        })
    }
}

/// Stores what comes until nothing more can, or another process has the ledger.
fn store(settings: &LedgerSettings, generation: Generation, handled: &Receiver<ledger::Offsets>) {
    let mut ledger = None;
    let mut waiting = ledger::Offsets::new();
    let (mut tries, mut pause) = (0u64, PAUSES.0);
    while let Ok(more) = handled.recv() {
        waiting.extend(more);
        while !waiting.is_empty() {
            waiting.extend(handled.try_iter().flatten());
            match try_store(settings, generation, &mut ledger, &waiting) {
                Ok(()) => {
                    waiting.clear();
                    if tries > 0 {
                        tracing::info!(tries, "offsets are stored again");
                    }
                    (tries, pause) = (0, PAUSES.0);
                }
                Err(LedgerError::Fenced { .. }) => return,
                Err(error) => {
                    ledger = None;
                    if tries == 0 {
                        tracing::warn!(%error, "offsets are not stored yet");
                    }
                    tries += 1;
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }
}

fn try_store(
    settings: &LedgerSettings,
    generation: Generation,
    ledger: &mut Option<Ledger>,
    handled: &ledger::Offsets,
) -> Result<(), LedgerError> {
    let open = match ledger {
        Some(open) => open,
        None => ledger.insert(Ledger::open(settings)?),
    };
    open.store_handled(generation, handled)
}

impl OffsetStore for LedgerOffsets {
    fn load(&self) -> Result<Offsets, String> {
        let mut ledger = Ledger::open(&self.settings).map_err(|error| error.to_string())?;
        let handled = ledger.handled_to().map_err(|error| error.to_string())?;
        Ok(of_partitions(&handled))
    }

    /// Returns at once; [`LedgerOffsets::finish`] waits.
    fn store(&self, handled: &Offsets) -> Result<(), String> {
        let handled = handled
            .iter()
            .map(|(p, offset)| ((p.stream.clone(), p.partition), *offset))
            .collect();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = match &mut *thread {
            Some(thread) => thread,
            none => none.insert(self.start()?),
        };
        // It ends before only if another process has the ledger: then nothing more of this one counts.
        let _ = thread.handled.send(handled);
        Ok(())
    }
}
