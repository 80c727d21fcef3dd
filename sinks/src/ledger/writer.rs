//! The writer: the thread that owns all writing to the ledger, and sends out what is due.
//!
//! ```text
//!   batches of entries --> joined --> one transaction --> each batch answered
//!                                         |
//!   due events <-- bounded, none twice <--/
//! ```
//!
//! In:    `(batch id, entries)` from a bounded channel; it ends when all senders are gone.
//! Out:   the id of each batch, once it is durable; events that are due.
//! State: the events that are due and in flight: each until its next outcome is written.
//! An answered batch survives a loss of power. While the ledger cannot be written nothing is answered,
//! the channel fills, and reading stops. A batch is given up only when nobody waits for its answer any more: its
//! events were never acked, and are read again.

use crate::ledger::{
    Generation, Ledger, LedgerError,
    health::Health,
    write::{Written, was_unrouted},
};
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use dbb_events::{Due, Entry, EventId, Micros, TOPICS};
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{debug, error, info, warn};

/// Most entries in one transaction: what waits beyond them goes into the next.
const MAX_JOINED: usize = 20_000;
/// The first and the longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Between two rounds of pruning.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Called with what a write changed and how long it took.
pub type OnWritten = Box<dyn Fn(&Written, Duration) + Send>;

/// How the writer is tied to the rest. All closures are called on the writer's thread.
pub struct LedgerPorts {
    /// Batches to write: an id of the caller's choice, and entries.
    pub entries: Receiver<(u64, Vec<Entry>)>,
    /// Called for each batch when it is durable.
    pub answer: Box<dyn Fn(u64) + Send>,
    /// Offers an event that is due; gives it back if there is no room now. Must not block.
    pub due: Box<dyn Fn(Due) -> Option<Due> + Send>,
    /// Called after each write with the time its transaction took, for metrics.
    pub written: OnWritten,
    /// Called once, before the thread ends, when the ledger can't be written any more and never will.
    pub on_fatal: Box<dyn Fn(&LedgerError) + Send>,
    /// The time.
    pub now: Box<dyn Fn() -> Micros + Send>,
    /// How the writer is doing.
    pub health: Health,
}

/// Runs the writer until all senders of entries are gone, or the ledger fails for good.
///
/// # Errors
/// What was passed to `on_fatal`.
pub fn run(ledger: Ledger, generation: Generation, ports: LedgerPorts) -> Result<(), LedgerError> {
    let health = ports.health.clone();
    let mut writer = Writer {
        generation,
        in_flight: HashSet::new(),
        offered: VecDeque::new(),
        next_due_look: Instant::now(),
        next_prune: Instant::now(),
        ledger,
        ports,
    };
    let done = writer.run();
    if let Err(e) = &done {
        error!(error = %e, "the ledger cannot be written any more");
        health.fatal(e.to_string());
        (writer.ports.on_fatal)(e);
    }
    done
}

struct Writer {
    ledger: Ledger,
    generation: Generation,
    ports: LedgerPorts,
    in_flight: HashSet<(EventId, Arc<str>)>,
    /// Due events that found no room yet; they are among those in flight.
    offered: VecDeque<Due>,
    next_due_look: Instant,
    next_prune: Instant,
}

impl Writer {
    fn run(&mut self) -> Result<(), LedgerError> {
        loop {
            let wait = self.next_due_look.saturating_duration_since(Instant::now());
            match self.ports.entries.recv_timeout(wait) {
                Ok(first) => self.write_with(first)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if Instant::now() >= self.next_due_look {
                self.look_for_due()?;
            }
            if self.ports.entries.is_empty() && Instant::now() >= self.next_prune {
                self.prune()?;
            }
        }
    }

    /// Writes this batch and all that wait behind it in one transaction, for as long as it takes.
    fn write_with(&mut self, first: (u64, Vec<Entry>)) -> Result<(), LedgerError> {
        let (id, mut entries) = first;
        let mut ids = vec![id];
        while entries.len() < MAX_JOINED
            && let Ok((id, more)) = self.ports.entries.try_recv()
        {
            ids.push(id);
            entries.extend(more);
        }
        let mut pause = PAUSES.0;
        let (written, took) = loop {
            let begun = Instant::now();
            match self.ledger.write(self.generation, &entries) {
                Ok(written) => break (written, begun.elapsed()),
                Err(e) if e.is_transient() && self.is_left(&mut ids, &mut entries) => {
                    warn!(error = %e, entries = entries.len(), "the ledger is not there for the last outcomes: their events will be read again");
                    return Ok(());
                }
                Err(e) if e.is_transient() => {
                    warn!(error = %e, batches = ids.len(), "the ledger cannot be written, trying again");
                    self.ports.health.failing(e.to_string());
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(PAUSES.1);
                    if matches!(e, LedgerError::Full { .. }) {
                        self.next_prune = Instant::now();
                        self.prune()?;
                    }
                }
                Err(e) => return Err(e),
            }
        };
        self.ports.health.ok();
        for entry in &entries {
            let landed = match entry {
                Entry::Settled(settled) => {
                    let request = &settled.request;
                    if request.was_unrouted {
                        self.in_flight.remove(&(request.event, Arc::from("")));
                    }
                    (request.event, request.target.clone())
                }
                Entry::Sent(sent) => {
                    if was_unrouted(sent) {
                        self.in_flight.remove(&(sent.outgoing.event, Arc::from("")));
                    }
                    (sent.outgoing.event, Arc::from(TOPICS))
                }
                Entry::DeadLetter(letter) => (letter.event, letter.target.clone()),
                Entry::Counted(_) | Entry::Numbers(_) => continue,
            };
            self.in_flight.remove(&landed);
        }
        (self.ports.written)(&written, took);
        for id in ids {
            (self.ports.answer)(id);
        }
        if written.woken > 0 {
            self.next_due_look = Instant::now();
        }
        Ok(())
    }

    /// True if whoever waited for answers has gone; what still came is added.
    fn is_left(&self, ids: &mut Vec<u64>, entries: &mut Vec<Entry>) -> bool {
        loop {
            match self.ports.entries.try_recv() {
                Ok((id, more)) => {
                    ids.push(id);
                    entries.extend(more);
                }
                Err(end) => return end == TryRecvError::Disconnected,
            }
        }
    }

    /// Offers what is due, each event once until its next outcome.
    fn look_for_due(&mut self) -> Result<(), LedgerError> {
        let settings = self.ledger.settings();
        let (most, every) = (settings.due_batch, settings.due_poll_ms);
        self.next_due_look = Instant::now() + Duration::from_millis(every.max(1));
        let room = most.saturating_sub(self.in_flight.len());
        if self.offered.is_empty() && room > 0 {
            let now = (self.ports.now)();
            match self.ledger.due(now, room, &self.in_flight) {
                Ok(due) => {
                    self.ports.health.ok();
                    for due in due {
                        self.in_flight.insert((due.event, due.target.clone()));
                        self.offered.push_back(due);
                    }
                }
                Err(e) if e.is_transient() => {
                    self.ports.health.failing(e.to_string());
                    debug!(error = %e, "could not look for what is due");
                    self.next_due_look += PAUSES.0 * 10;
                }
                Err(e) => return Err(e),
            }
        }
        while let Some(due) = self.offered.pop_front() {
            if let Some(due) = (self.ports.due)(due) {
                self.offered.push_front(due);
                break;
            }
        }
        Ok(())
    }

    /// One small step of pruning; the next one comes when there is nothing to write.
    fn prune(&mut self) -> Result<(), LedgerError> {
        let settings = self.ledger.settings();
        let (days, batch) = (settings.retention_days, settings.prune_batch.max(1));
        self.next_prune = Instant::now() + PRUNE_EVERY;
        if days == 0 {
            return Ok(());
        }
        let before = (self.ports.now)().plus_seconds(-86_400 * i64::from(days));
        match self.ledger.prune(self.generation, before, batch) {
            Ok(pruned) => {
                if pruned.rows > 0 {
                    info!(rows = pruned.rows, "old rows left the ledger");
                }
                if !pruned.finished {
                    self.next_prune = Instant::now();
                }
                Ok(())
            }
            Err(e) if e.is_transient() => {
                debug!(error = %e, "could not prune");
                Ok(())
            }
            Err(e) => Err(e),
        }
    }
}
