//! The statements that run, for those who look at them, call them off, or want to know which were slow.
//!
//! ```text
//!   asked --> listed: statements() shows it, pg_cancel_backend(pid) calls it off --> ended: logged, if it was slow
//! ```

use super::{answer::Asked, watch::Watch};
use crate::Metrics;
use std::{
    collections::BTreeMap,
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

/// Most letters of a statement that are kept to be shown.
const SHOWN: usize = 500;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The number of the connection.
    pub pid: i32,
    /// The name it was opened with.
    pub user: Arc<str>,
}

/// Nobody, by no connection.
impl Default for Who {
    fn default() -> Self {
        Self {
            pid: 0,
            user: "".into(),
        }
    }
}

/// A statement, as it is shown.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) who: Who,
    pub(super) since: SystemTime,
    pub(super) state: &'static str,
    pub(super) text: Arc<str>,
}

#[derive(Debug)]
struct Entry {
    shown: Shown,
    watch: Arc<Watch>,
    working: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Lists {
    statements: BTreeMap<u64, Entry>,
    connections: BTreeMap<i32, TcpStream>,
    next: u64,
}

/// All statements that run, and the connections that can be told to end.
#[derive(Debug, Default)]
pub struct Running {
    lists: Mutex<Lists>,
    /// A statement that took longer is logged; never, when there is none.
    slow: Option<Duration>,
    metrics: Metrics,
}

impl Running {
    pub(super) fn new(slow: Option<Duration>, metrics: Metrics) -> Self {
        Self {
            lists: Mutex::default(),
            slow,
            metrics,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a statement until what is returned is dropped.
    pub(super) fn list(self: &Arc<Self>, asked: &Asked, watch: Arc<Watch>) -> Listed {
        let working = Arc::new(AtomicBool::new(true));
        let mut lists = self.lock();
        let id = lists.next;
        lists.next += 1;
        let shown = Shown {
            who: asked.who.clone(),
            since: SystemTime::now(),
            state: "working",
            text: Arc::clone(&asked.text),
        };
        lists.statements.insert(
            id,
            Entry {
                shown,
                watch,
                working: Arc::clone(&working),
            },
        );
        self.metrics.statements_running(1);
        Listed {
            running: Arc::clone(self),
            id,
            since: Instant::now(),
            working,
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().statements.len()
    }

    /// How many of them are worked on, and do not wait for their client.
    pub fn working(&self) -> usize {
        let lists = self.lock();
        let working = lists
            .statements
            .values()
            .filter(|entry| entry.working.load(Relaxed));
        working.count()
    }

    pub(super) fn all(&self) -> Vec<Shown> {
        let lists = self.lock();
        let all = lists.statements.values().map(|entry| Shown {
            state: if entry.working.load(Relaxed) {
                "working"
            } else {
                "waiting for its client"
            },
            ..entry.shown.clone()
        });
        all.collect()
    }

    /// Calls off what the connection `pid` asks; whether there is such a connection.
    pub(super) fn cancel(&self, pid: i32) -> bool {
        let lists = self.lock();
        let of = lists
            .statements
            .values()
            .filter(|entry| entry.shown.who.pid == pid);
        let mut found = lists.connections.contains_key(&pid);
        for entry in of {
            found = true;
            entry.watch.call_off();
        }
        found
    }

    /// Ends the connection `pid`, and what it asks; whether there is one.
    pub(super) fn terminate(&self, pid: i32) -> bool {
        self.cancel(pid);
        let lists = self.lock();
        // Whoever serves it reads its end, as if the client had gone.
        let ended = lists
            .connections
            .get(&pid)
            .map(|end| end.shutdown(Shutdown::Both));
        ended.is_some()
    }

    /// The connection `pid` can be told to end, by `its_socket`, until what is returned is dropped.
    pub fn connect(self: &Arc<Self>, pid: i32, its_socket: TcpStream) -> Connected {
        self.lock().connections.insert(pid, its_socket);
        Connected {
            running: Arc::clone(self),
            pid,
        }
    }
}

/// A connection in the list.
#[derive(Debug)]
pub struct Connected {
    running: Arc<Running>,
    pid: i32,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.running.lock().connections.remove(&self.pid);
    }
}

/// A statement in the list.
#[derive(Debug)]
pub(super) struct Listed {
    running: Arc<Running>,
    id: u64,
    since: Instant,
    working: Arc<AtomicBool>,
}

impl Listed {
    /// Whether it is computed, or waits until its client takes the rows.
    pub(super) fn works(&self, works: bool) {
        self.working.store(works, Relaxed);
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.running.metrics.statements_running(-1);
        let Some(entry) = self.running.lock().statements.remove(&self.id) else {
            return;
        };
        let took = self.since.elapsed();
        if self.running.slow.is_some_and(|slow| took >= slow) {
            let Shown { who, text, .. } = entry.shown;
            let (pid, user) = (who.pid, &*who.user);
            tracing::warn!(
                pid,
                user,
                took_ms = took.as_millis(),
                statement = &*text,
                "a slow statement"
            );
        }
    }
}

/// The beginning of a statement, on one line.
pub(super) fn beginning(sql: &str) -> Arc<str> {
    // Not more than is looked at: it may be very long.
    let letters = sql.chars().take(SHOWN * 2).collect::<String>();
    let words: Vec<&str> = letters.split_whitespace().collect();
    words.join(" ").chars().take(SHOWN).collect::<String>().into()
}
