//! Members: the other processes of a cluster, once all have met.
//!
//! ```text
//!   beats  --> heard of lately?  --no--> this process ends, with 75
//!   words  --> begin, ready, stop, finish: what the main thread looks at
//!   links  --> broken?           --yes-> this process ends, with 75
//! ```
//!
//! State: for each process when it was heard of last, and what it said.
//!
//! Beats are sent by a thread of their own, so that a worker that is busy for long, and a repository or a ledger that
//! is slow, keep nobody from being heard. Nothing is repaired: what is durable stays so, and all start again.

use super::{ClusterError, Place, words::Word};
use std::{
    collections::BTreeMap,
    io,
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Between two beats.
const BEAT: Duration = Duration::from_millis(250);
/// A link may break before the reason arrives on the other connection: it is waited for this long.
const REASON: Duration = Duration::from_millis(300);
/// Longest that all may take to leave once the work is done.
const LEAVING: Duration = Duration::from_secs(60);

/// How a process is lost, and with it this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// What there is to say, beginning with which process it is.
    pub message: String,
    /// Another cluster has taken the ledger over: starting again helps nobody.
    pub taken_over: bool,
}

/// See the module.
pub struct Members {
    place: Place,
    /// How long a process that has met all others may be silent, and one that has not.
    patience: Duration,
    connect: Duration,
    others: BTreeMap<usize, Other>,
    state: Mutex<State>,
    changed: Condvar,
    /// This process has nothing left to do.
    drained: AtomicBool,
    /// Somebody is on the way to end this process.
    ending: AtomicBool,
    on_lost: Box<dyn Fn(&Lost) + Send + Sync>,
    /// The links, until the workers take them.
    links: Mutex<BTreeMap<usize, TcpStream>>,
}

struct Other {
    address: String,
    words: Mutex<TcpStream>,
    /// The same connection, to shut it down while somebody writes.
    closer: TcpStream,
}

#[derive(Default)]
struct State {
    heard: BTreeMap<usize, Heard>,
    generation: Option<i64>,
    stop: Option<usize>,
    /// When all were told to leave.
    finish: Option<Instant>,
    phase: Phase,
}

struct Heard {
    last: Instant,
    /// Since when it beats: it has met all others.
    beats: Option<Instant>,
    ready: bool,
    drained: bool,
    said_bye: bool,
    failed: Option<Lost>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Going,
    /// This process has failed and is about to end with its own status.
    Failed,
    /// All is done.
    Left,
}

impl Members {
    pub(super) fn new(
        place: Place,
        (patience, connect): (Duration, Duration),
        addresses: &[String],
        met: super::meet::Met,
        on_lost: Box<dyn Fn(&Lost) + Send + Sync>,
    ) -> Result<Arc<Self>, ClusterError> {
        let system = |source| ClusterError::System {
            what: "use a connection twice",
            source,
        };
        let mut others = BTreeMap::new();
        let mut readers = Vec::new();
        let mut state = State::default();
        for (process, words) in met.words {
            words.set_write_timeout(Some(patience)).map_err(system)?;
            readers.push((process, words.try_clone().map_err(system)?));
            let other = Other {
                address: addresses.get(process).cloned().unwrap_or_default(),
                closer: words.try_clone().map_err(system)?,
                words: Mutex::new(words),
            };
            others.insert(process, other);
            let heard = Heard {
                last: Instant::now(),
                beats: None,
                ready: false,
                drained: false,
                said_bye: false,
                failed: None,
            };
            state.heard.insert(process, heard);
        }
        let members = Arc::new(Self {
            place,
            patience,
            connect: connect.max(patience),
            others,
            state: Mutex::new(state),
            changed: Condvar::new(),
            drained: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            on_lost,
            links: Mutex::new(met.data),
        });
        for (process, words) in readers {
            let members = Arc::downgrade(&members);
            spawn(&format!("words of {process}"), move || {
                listen(&members, process, &words)
            })?;
        }
        let weak = Arc::downgrade(&members);
        spawn("cluster pulse", move || pulse(&weak))?;
        Ok(members)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_links(&self) -> BTreeMap<usize, TcpStream> {
        std::mem::take(&mut *self.links.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Which workers of all are those of this process.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Tells all others, on the first process, under which generation of the ledger they work.
    pub fn begin(&self, generation: i64) {
        self.lock().generation = Some(generation);
        self.tell(&Word::Begin { generation });
    }

    /// Waits, on all but the first, for the generation. The first is heard of meanwhile, or this process ends.
    pub fn generation(&self) -> i64 {
        let mut state = self.lock();
        loop {
            if let Some(generation) = state.generation {
                return generation;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says that this process can work, and waits until all can. What the workers send before others read is
    /// in the way of those others' kernels, and looks like a process that hangs.
    pub fn ready(&self) {
        self.tell(&Word::Ready);
        let mut state = self.lock();
        while !state.heard.values().all(|heard| heard.ready) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tells all others that they are to stop.
    pub fn stop(&self) {
        self.tell(&Word::Stop);
    }

    /// The process that was asked to stop, if one was.
    pub fn stopped_by(&self) -> Option<usize> {
        self.lock().stop
    }

    /// Records whether the workers of this process have nothing left to do, and tells the others so.
    pub fn set_drained(&self, drained: bool) {
        if self.drained.swap(drained, Ordering::AcqRel) != drained {
            self.tell(&Word::Beat { drained });
        }
    }

    /// True when no other process has anything left to do.
    pub fn others_are_drained(&self) -> bool {
        self.lock().heard.values().all(|heard| heard.drained)
    }

    /// Tells all others, on the first process, that the work is done.
    pub fn finish(&self) {
        self.lock().finish.get_or_insert_with(Instant::now);
        self.tell(&Word::Finish);
    }

    /// True once the first process has said that the work is done.
    pub fn is_finished(&self) -> bool {
        self.lock().finish.is_some()
    }

    /// Tells all others that this process cannot go on; from now on nothing they do ends it.
    pub fn fail(&self, reason: &str, taken_over: bool) {
        self.lock().phase = Phase::Failed;
        self.tell(&Word::Failed {
            reason: reason.to_owned(),
            taken_over,
        });
    }

    /// Says goodbye to all, at the end.
    pub fn leave(&self) {
        self.lock().phase = Phase::Left;
        self.tell(&Word::Bye);
        for other in self.others.values() {
            // It may have gone already, which is its right by now.
            let _ = other.closer.shutdown(Shutdown::Write);
        }
    }

    fn tell(&self, word: &Word) {
        for (process, other) in &self.others {
            let stream = other.words.lock().unwrap_or_else(PoisonError::into_inner);
            let sent = word.send(&stream);
            drop(stream);
            if let Err(error) = sent {
                self.broke(*process, &error);
            }
        }
    }

    /// What there is to say of a process that is lost.
    fn name(&self, process: usize) -> String {
        let address = self.others.get(&process).map_or("", |other| &other.address);
        format!("process {process} ({address})")
    }

    /// A connection for words broke: no loss after a goodbye.
    fn broke(&self, process: usize, error: &io::Error) {
        let state = self.lock();
        let bye = state.heard.get(&process).is_some_and(|heard| heard.said_bye);
        if bye || state.phase != Phase::Going {
            return;
        }
        drop(state);
        self.lost(process, told(error));
    }

    /// A link broke. Comes back only in tests.
    pub(super) fn lost_link(&self, process: usize, error: &io::Error) {
        self.lost(process, told(error));
    }

    /// Stops the calling thread for good if this process has failed: it ends with its own status.
    pub(super) fn park_if_failed(&self) {
        if self.lock().phase == Phase::Failed {
            loop {
                thread::park();
            }
        }
    }

    fn lost(&self, process: usize, why: String) {
        self.park_if_failed();
        thread::sleep(REASON);
        let failed = self
            .lock()
            .heard
            .get(&process)
            .and_then(|heard| heard.failed.clone());
        self.end(failed.unwrap_or_else(|| Lost {
            message: format!("{} has gone: {why}", self.name(process)),
            taken_over: false,
        }));
    }

    /// Ends this process, once; other threads that find the same wait for that.
    fn end(&self, lost: Lost) {
        self.park_if_failed();
        if self.ending.swap(true, Ordering::AcqRel) {
            loop {
                thread::park();
            }
        }
        (self.on_lost)(&lost);
    }

    fn hear(&self, process: usize, word: Word) {
        let mut state = self.lock();
        let now = Instant::now();
        match word {
            Word::Begin { generation } => state.generation = Some(generation),
            Word::Stop => {
                state.stop.get_or_insert(process);
            }
            Word::Finish => {
                state.finish.get_or_insert(now);
            }
            _ => {}
        }
        let Some(heard) = state.heard.get_mut(&process) else {
            return;
        };
        heard.last = now;
        heard.beats.get_or_insert(now);
        match word {
            Word::Beat { drained } => heard.drained = drained,
            Word::Ready => heard.ready = true,
            Word::Bye => heard.said_bye = true,
            Word::Failed { reason, taken_over } => {
                let message = format!("{} has ended: {reason}", self.name(process));
                let lost = Lost { message, taken_over };
                heard.failed = Some(lost.clone());
                drop(state);
                return self.end(lost);
            }
            _ => {}
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Ends this process if another has not been heard of for too long.
    fn look(&self) {
        let state = self.lock();
        if state.phase != Phase::Going {
            return;
        }
        let silent: Vec<(usize, Duration)> = state
            .heard
            .iter()
            .filter(|(process, heard)| {
                // Before its first beat it may wait for another, which has the time of a start; not once all others beat.
                let mut others = state.heard.iter().filter(|(other, _)| other != process);
                let all_beat = others.try_fold(heard.last, |since, (_, other)| Some(since.max(other.beats?)));
                let (since, patience) = match (heard.beats, all_beat) {
                    (Some(_), _) => (heard.last, self.patience),
                    (None, Some(since)) => (since, self.patience),
                    (None, None) => (heard.last, self.connect),
                };
                !heard.said_bye && since.elapsed() > patience
            })
            .map(|(process, heard)| (*process, heard.last.elapsed()))
            .collect();
        let stays = state.finish.is_some_and(|since| since.elapsed() > LEAVING);
        drop(state);
        if let Some(seconds) = silent.iter().map(|(_, since)| since.as_secs()).min() {
            let names: Vec<String> = silent.iter().map(|(process, _)| self.name(*process)).collect();
            let names = names.join(", ");
            self.end(Lost {
                message: format!(
                    "nothing was heard of {names} for {seconds} s: it is stopped or overloaded, or the link is cut"
                ),
                taken_over: false,
            });
        } else if stays {
            let seconds = LEAVING.as_secs();
            self.end(Lost {
                message: format!("the work is done, and not all processes have left within {seconds} s"),
                taken_over: false,
            });
        }
    }
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Members({:?})", self.place)
    }
}

/// Why a connection broke, in words.
fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "it closed the connection without a goodbye".into()
        }
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "it can no longer be reached".into(),
        _ => error.to_string(),
    }
}

/// Hears one process until it says goodbye or breaks off.
fn listen(members: &Weak<Members>, process: usize, words: &TcpStream) {
    loop {
        let word = Word::receive(words);
        let Some(members) = members.upgrade() else { return };
        match word {
            Ok(word) => members.hear(process, word),
            Err(error) => return members.broke(process, &error),
        }
    }
}

/// Beats, and looks for who has been silent.
fn pulse(members: &Weak<Members>) {
    let mut last = Instant::now();
    loop {
        thread::sleep(BEAT);
        let Some(members) = members.upgrade() else { return };
        if members.lock().phase != Phase::Going {
            return;
        }
        if last.elapsed() > members.patience {
            tracing::warn!(
                seconds = last.elapsed().as_secs(),
                "this process was stopped, or had no processor, for long: the others may have given it up"
            );
        }
        last = Instant::now();
        members.tell(&Word::Beat {
            drained: members.drained.load(Ordering::Acquire),
        });
        members.look();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), ClusterError> {
    let spawned = thread::Builder::new().name(name.into()).spawn(run);
    spawned.map(drop).map_err(|source| ClusterError::System {
        what: "start a thread",
        source,
    })
}
