//! Outbox: Rucio's own table of messages, for sites without a message broker.
//!
//! ```text
//!   messages --rows of our service--> thread --> worker 0
//!       ^                               |            |
//!       +------------- DELETE ----------+ <-- acks --+
//! ```
//!
//! In:    rows of `messages` whose `services` is ours, the oldest first.
//! Out:   each as the body that Hermes would have sent, with the message's id.
//! State: the ids of at most `prefetch` rows that are not removed yet.
//!
//! The stream is `outbox:HOST/DATABASE/SERVICE`. Offsets number what was read in this session, from the time at which it
//! began in microseconds, or from what an earlier one came to. Exactly the rows whose events have a durable outcome are
//! removed, by id. What the next session reads again is recognised by the identity of its event.

mod envelope;
mod hermes;
mod session;
mod settings;

pub use hermes::doubt;
pub use settings::OutboxSettings;

use crate::{Extent, Offsets, Partition, Polled, Source, SourceError, Waker};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use dbb_database::Kept;
use dbb_events::{Place, Received};
use session::{Claim, Order, Standing, Told};
use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long another dbb, which is about to end, is waited for.
const CLAIM: Duration = Duration::from_secs(20);

/// Longest that the last rows may take to be removed.
const GOODBYE: Duration = Duration::from_secs(20);

/// Shortest and longest time between two attempts to reach the database.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// How the outbox is doing.
#[derive(Debug, Clone, Default)]
pub struct OutboxStatistics(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    /// What keeps it from being read.
    trouble: Option<String>,
    rows: Option<u64>,
    /// The last look found nothing new.
    empty: bool,
    ended: bool,
}

impl OutboxStatistics {
    /// What keeps it from being read, if anything does.
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Rows of our service in the table, counted not long ago; `None` where this process does not read it.
    pub fn rows(&self) -> Option<u64> {
        self.lock().rows
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.0.1.notify_all();
    }
}

/// One source for each of `workers`, of which worker 0 reads, and how it is doing. Offsets begin above those that
/// `known` has of the stream.
///
/// # Errors
///
/// [`SourceError::Configuration`] for settings that cannot work, or a role that may not read and remove messages;
/// [`SourceError::Unreachable`] if the database does not answer, or another dbb reads the same rows.
pub fn open(
    settings: &OutboxSettings,
    workers: Range<usize>,
    extent: &Extent,
    known: &Offsets,
) -> Result<(Vec<Box<dyn Source>>, OutboxStatistics), SourceError> {
    let statistics = OutboxStatistics::default();
    let mut sources = Vec::<Box<dyn Source>>::new();
    for worker in workers {
        let reader = (worker == 0)
            .then(|| Reader::start(settings, known, &statistics))
            .transpose()?;
        let once = extent.once;
        sources.push(Box::new(OutboxSource { reader, once }));
    }
    Ok((sources, statistics))
}

/// What a start would find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxReport {
    /// Rows of our service.
    pub rows: u64,
    /// The services that have rows now, ours too.
    pub services: Vec<String>,
    /// How the session is kept.
    pub kept: Kept,
}

/// Connects, looks whether the role may do what it has to, whether the session is kept, and which rows are there; reads
/// none.
///
/// # Errors
///
/// As for [`open`].
pub fn check(settings: &OutboxSettings) -> Result<OutboxReport, SourceError> {
    if let Some((key, problem)) = settings.problems().into_iter().next() {
        return Err(settings.database().wrong(&format!("{key} {problem}")));
    }
    let mut client = session::connect(settings)?;
    Ok(OutboxReport {
        rows: session::count(settings, &mut client)?,
        services: session::services(settings, &mut client)?,
        kept: settings.database().kept()?,
    })
}

struct OutboxSource {
    reader: Option<Reader>,
    once: bool,
}

struct Reader {
    stream: Arc<str>,
    rows: Receiver<(String, Bytes)>,
    orders: Sender<Order>,
    waker: Arc<Mutex<Option<Waker>>>,
    statistics: OutboxStatistics,
    next: u64,
    /// Emitted and not handled.
    emitted: VecDeque<(u64, String)>,
}

impl Reader {
    fn start(
        settings: &OutboxSettings,
        known: &Offsets,
        statistics: &OutboxStatistics,
    ) -> Result<Self, SourceError> {
        check(settings)?;
        let begun = Instant::now();
        let mut client = session::connect(settings)?;
        let claim = loop {
            match session::claim(settings, &mut client) {
                Ok(claim) => break claim,
                Err(error) if begun.elapsed() > CLAIM => return Err(error),
                Err(_) => thread::sleep(PAUSES.0),
            }
        };
        let stream: Arc<str> = settings.stream().into();
        let partition = Partition {
            stream: Arc::clone(&stream),
            partition: 0,
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let (given, rows) = crossbeam_channel::unbounded();
        let (orders, ordered) = crossbeam_channel::unbounded();
        let waker = Arc::new(Mutex::new(None));
        let mut desk = Desk {
            given,
            waker: Arc::clone(&waker),
            statistics: statistics.clone(),
        };
        let settings = settings.clone();
        let spawned = thread::Builder::new().name("outbox".into()).spawn(move || {
            keep(&settings, (client, claim), &ordered, &mut desk);
            desk.statistics.change(|state| state.ended = true);
        });
        spawned.map_err(|error| SourceError::Configuration(format!("could not start a thread: {error}")))?;
        Ok(Self {
            stream,
            rows,
            orders,
            waker,
            statistics: statistics.clone(),
            next: now.max(known.get(&partition).copied().unwrap_or(0)),
            emitted: VecDeque::new(),
        })
    }
}

/// Sessions, one after the other, until told to leave.
fn keep(
    settings: &OutboxSettings,
    claimed: (postgres::Client, Claim),
    orders: &Receiver<Order>,
    desk: &mut Desk,
) {
    let mut standing = Standing::default();
    let (mut claimed, mut pause) = (Some(claimed), PAUSES.0);
    loop {
        let connected = match claimed.take() {
            Some(claimed) => Ok(claimed),
            None => session::connect(settings).and_then(|mut client| {
                let claim = session::claim(settings, &mut client)?;
                Ok((client, claim))
            }),
        };
        let ended = connected.and_then(|(mut client, claim)| {
            desk.statistics.change(|state| state.trouble = None);
            pause = PAUSES.0;
            session::run(settings, &mut client, &claim, orders, &mut standing, desk)
        });
        let Err(error) = ended else { return };
        tracing::warn!(%error, again_in_seconds = pause.as_secs_f32(), "the outbox is not read");
        desk.statistics
            .change(|state| state.trouble = Some(error.to_string()));
        let until = Instant::now() + pause;
        pause = (pause * 2).min(PAUSES.1);
        loop {
            match orders.recv_deadline(until) {
                Ok(order) => standing.take(order),
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => break,
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

struct Desk {
    given: Sender<(String, Bytes)>,
    waker: Arc<Mutex<Option<Waker>>>,
    statistics: OutboxStatistics,
}

impl Told for Desk {
    fn row(&mut self, id: String, body: Bytes) -> bool {
        let wanted = self.given.send((id, body)).is_ok();
        if self.given.len() <= 1 {
            let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(waker) = &*waker {
                waker();
            }
        }
        wanted
    }

    fn empty(&mut self, empty: bool) {
        self.statistics.change(|state| state.empty = empty);
    }

    fn count(&mut self, rows: u64) {
        self.statistics.change(|state| state.rows = Some(rows));
    }
}

impl Source for OutboxSource {
    fn poll(&mut self, batch: &mut Vec<Received>, max: usize) -> Result<Polled, SourceError> {
        let Some(reader) = &mut self.reader else {
            return Ok(if self.once { Polled::Finished } else { Polled::Idle });
        };
        for (id, body) in reader.rows.try_iter().take(max) {
            let offset = reader.next;
            reader.next += 1;
            reader.emitted.push_back((offset, id));
            batch.push(Received {
                place: Place {
                    stream: Arc::clone(&reader.stream),
                    partition: 0,
                    offset,
                    line: None,
                },
                topic: None,
                appended_at: None,
                marks: None,
                body,
            });
        }
        if !reader.rows.is_empty() {
            return Ok(Polled::More);
        }
        let all = self.once && reader.emitted.is_empty() && reader.statistics.lock().empty;
        Ok(if all { Polled::Finished } else { Polled::Idle })
    }

    fn ack(&mut self, handled: &Offsets) -> Result<(), SourceError> {
        let Some(reader) = &mut self.reader else {
            return Ok(());
        };
        let partition = Partition {
            stream: Arc::clone(&reader.stream),
            partition: 0,
        };
        let Some(below) = handled.get(&partition) else {
            return Ok(());
        };
        let count = reader.emitted.partition_point(|(offset, _)| offset < below);
        let ids: Vec<String> = reader.emitted.drain(..count).map(|(_, id)| id).collect();
        if !ids.is_empty() {
            // Without a receiver the thread has ended, and what is not removed is read again.
            let _ = reader.orders.send(Order::Remove(ids));
        }
        Ok(())
    }

    /// Waits until all that was acked is removed.
    fn flush(&mut self) -> Result<(), SourceError> {
        let Some(reader) = &mut self.reader else {
            return Ok(());
        };
        let _ = reader.orders.send(Order::Leave);
        let until = Instant::now() + GOODBYE;
        let mut state = reader.statistics.lock();
        while !state.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let detail = "the last rows of the outbox are not removed: their events will be read again";
                return Err(SourceError::Commit(detail.into()));
            }
            let waited = reader.statistics.0.1.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    fn set_waker(&mut self, waker: Waker) {
        if let Some(reader) = &self.reader {
            *reader.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
        }
    }
}
