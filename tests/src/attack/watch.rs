//! Watch: another client that asks `select 1` all the while, on a connection of its own and on new ones.

use anyhow::{Context, Result};
use postgres::{Client, Config, NoTls};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest that a question may take, to be answered at all.
const LIMIT: Duration = Duration::from_secs(60);

/// How long each answer took, and during which case.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) case: &'static str,
    pub(super) took: Duration,
    /// On a new connection, with the time of the login.
    pub(super) anew: bool,
    /// What went wrong.
    pub(super) failed: Option<String>,
}

/// What is going on.
#[derive(Debug, Clone, Default)]
pub(super) struct Now(Arc<Mutex<&'static str>>);

impl Now {
    pub(super) fn set(&self, case: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = case;
    }

    pub(super) fn get(&self) -> &'static str {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two clients, until they are told to stop.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Asked>>>,
}

impl Watch {
    pub(super) fn start(sql: SocketAddr, now: &Now) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = [false, true]
            .map(|anew| {
                let (stop, now) = (Arc::clone(&stop), now.clone());
                thread::spawn(move || ask(sql, anew, &now, &stop))
            })
            .into();
        Self { stop, clients }
    }

    pub(super) fn stop(self) -> Result<Vec<Asked>> {
        self.stop.store(true, Relaxed);
        let mut all = Vec::new();
        for client in self.clients {
            all.extend(client.join().ok().context("a client panicked")?);
        }
        Ok(all)
    }
}

fn ask(sql: SocketAddr, anew: bool, now: &Now, stop: &AtomicBool) -> Vec<Asked> {
    let (mut asked, mut client) = (Vec::new(), None);
    while !stop.load(Relaxed) {
        let (case, begun) = (now.get(), Instant::now());
        let answer = one(sql, &mut client);
        if anew || answer.is_err() {
            client = None;
        }
        asked.push(Asked {
            case,
            took: begun.elapsed(),
            anew,
            failed: answer.err().map(|error| format!("{error:#}")),
        });
        thread::sleep(PAUSE);
    }
    asked
}

fn one(sql: SocketAddr, client: &mut Option<Client>) -> Result<()> {
    let client = match client {
        Some(client) => client,
        None => client.insert(
            Config::new()
                .host(&sql.ip().to_string())
                .port(sql.port())
                .user("watch")
                .dbname("dbb")
                .connect_timeout(LIMIT)
                .tcp_user_timeout(LIMIT)
                .connect(NoTls)?,
        ),
    };
    client.simple_query("select 1")?;
    Ok(())
}
