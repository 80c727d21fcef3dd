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
    holder::BEAT,
    rounds::Rounds,
    write::{Written, was_unrouted},
};
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use dbb_events::{Due, Entry, EventId, Micros, Outcome, TOPICS};
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{debug, error, info, warn};

/// Most entries in one transaction: what waits beyond them goes into the next.
const MAX_JOINED: usize = 20_000;
/// The first and the longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Between two looks for rows that are parked beyond any wait.
const UNPARK_EVERY: Duration = Duration::from_secs(5);
/// Between two rounds of pruning.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Between two sentences about rows that go round.
const TOLD_EVERY: Duration = Duration::from_secs(60);

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
    /// Called after each look at what is due with how many rows go round: tried again and again, and getting
    /// nowhere. They are tried less and less often.
    pub going_round: Box<dyn Fn(u64) + Send>,
    /// Called once, before the thread ends, when the ledger can't be written any more and never will.
    pub on_fatal: Box<dyn Fn(&LedgerError) + Send>,
    /// The longest that the configuration makes anything wait, in seconds: what would not be due by then is due.
    pub longest_wait_s: u64,
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
        rounds: Rounds::default(),
        next_beat: Instant::now(),
        next_unpark: Instant::now(),
        next_told: Instant::now(),
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
    rounds: Rounds,
    next_beat: Instant,
    next_unpark: Instant,
    /// When rows that go round are spoken of next.
    next_told: Instant,
    next_due_look: Instant,
    next_prune: Instant,
}

impl Writer {
    fn run(&mut self) -> Result<(), LedgerError> {
        loop {
            let next = self.next_due_look.min(self.next_beat);
            let wait = next.saturating_duration_since(Instant::now());
            match self.ports.entries.recv_timeout(wait) {
                Ok(first) => self.write_with(first)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    if let Err(error) = self.ledger.let_go(self.generation) {
                        debug!(%error, "the ledger does not know that this process has ended");
                    }
                    return Ok(());
                }
            }
            if Instant::now() >= self.next_beat {
                self.beat()?;
            }
            if Instant::now() >= self.next_due_look {
                self.look_for_due()?;
            }
            if self.ports.entries.is_empty() && Instant::now() >= self.next_prune {
                self.prune()?;
            }
        }
    }

    /// Says that this process lives, and learns whether the ledger is still its own.
    fn beat(&mut self) -> Result<(), LedgerError> {
        self.next_beat = Instant::now() + BEAT;
        let asking = self.ports.health.asking();
        let beat = self.ledger.beat(self.generation);
        drop(asking);
        match beat {
            Err(e) if e.is_transient() => {
                self.ports.health.failing(e.to_string());
                debug!(error = %e, "could not say that this process lives");
                Ok(())
            }
            done => done,
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
        let (mut tries, mut told) = (0u32, None::<Instant>);
        let (written, took) = loop {
            let begun = Instant::now();
            let asking = self.ports.health.asking();
            let written = self.ledger.write(self.generation, &entries);
            drop(asking);
            match written {
                Ok(written) => break (written, begun.elapsed()),
                Err(e) if e.is_transient() && self.is_left(&mut ids, &mut entries) => {
                    warn!(error = %e, entries = entries.len(), "the ledger is not there for the last outcomes: their events will be read again");
                    return Ok(());
                }
                Err(e) if e.is_transient() => {
                    tries += 1;
                    if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                        told = Some(Instant::now());
                        warn!(error = %e, batches = ids.len(), tries, "the ledger cannot be written, trying again");
                    }
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
        if tries > 0 {
            info!(tries, "the ledger is written again");
        }
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
            if is_end(entry) {
                self.rounds.ended(&landed);
            }
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
            self.unpark(now)?;
            let asking = self.ports.health.asking();
            let due = self.ledger.due_rows(now, room, &self.in_flight);
            drop(asking);
            match due {
                Ok(due) => {
                    self.ports.health.ok();
                    self.offer(due, now)?;
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

    /// Rows that a wrong clock has parked are due.
    fn unpark(&mut self, now: Micros) -> Result<(), LedgerError> {
        if Instant::now() < self.next_unpark {
            return Ok(());
        }
        self.next_unpark = Instant::now() + UNPARK_EVERY;
        let wait = i64::try_from(self.ports.longest_wait_s).unwrap_or(i64::MAX);
        let asking = self.ports.health.asking();
        let unparked = self.ledger.unpark(self.generation, now, now.plus_seconds(wait));
        drop(asking);
        match unparked {
            Ok(0) => Ok(()),
            Ok(rows) => {
                warn!(
                    rows,
                    "rows were to wait for longer than anything does, as after a jump of the clock: they are due"
                );
                Ok(())
            }
            Err(e) if e.is_transient() => {
                debug!(error = %e, "could not look for what is parked");
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Queues what may go now; what goes round is held back.
    fn offer(&mut self, due: Vec<(Due, bool)>, now: Micros) -> Result<(), LedgerError> {
        let at = Instant::now();
        let mut held = Vec::new();
        for (due, is_woken) in due {
            let key = (due.event, due.target.clone());
            match self.rounds.due(&key, is_woken, at) {
                None => {
                    self.in_flight.insert(key);
                    self.offered.push_back(due);
                }
                Some(pause) => {
                    let pause = pause.min(Duration::from_secs(self.ports.longest_wait_s));
                    let micros = i64::try_from(pause.as_micros()).unwrap_or(i64::MAX);
                    held.push((key, Micros(now.0.saturating_add(micros))));
                }
            }
        }
        let going_round = self.rounds.going_round(at);
        (self.ports.going_round)(going_round);
        let Some(((event, target), _)) = held.first() else {
            return Ok(());
        };
        if at >= self.next_told {
            self.next_told = at + TOLD_EVERY;
            warn!(
                rows = going_round,
                %event,
                %target,
                "events come back from the ledger again and again and get nowhere: they are tried less often; \
                 `dbb explain` tells of the file"
            );
        }
        match self.ledger.postpone(self.generation, &held) {
            // They are due again at the next look, and held back again.
            Err(e) if e.is_transient() => {
                debug!(error = %e, "could not hold back what goes round");
                Ok(())
            }
            done => done,
        }
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

/// True if nothing more is to come of its event, unless an operator asks.
fn is_end(entry: &Entry) -> bool {
    match entry {
        Entry::Settled(settled) => !matches!(settled.outcome, Outcome::Waiting { .. }),
        Entry::Sent(sent) => !matches!(sent.outcome, Outcome::Waiting { .. }),
        Entry::DeadLetter(_) => true,
        Entry::Counted(_) | Entry::Numbers(_) => false,
    }
}
