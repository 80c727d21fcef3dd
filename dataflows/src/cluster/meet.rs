//! Meeting: every process connects to those before it and is connected to by those after it.
//!
//! ```text
//!   lobby: who is it? --------\
//!                              +--> two connections with each process: data, words
//!   connector to each before -/
//! ```
//!
//! In:    the hosts; how long to wait.
//! Out:   the connections, once there are two with each other process and both sides know each other.
//! State: the connections so far. One whose other side goes meanwhile is made again.
//!
//! Whoever else connects, with garbage, with silence or with another token, is turned away, and so is whoever else answers
//! where another process is to listen: it is tried again until the time of a start is over. Only a process that proves the
//! token and does not fit ends it at once.

use super::{
    ClusterError, Hosts,
    handshake::{self, Failed, Hello, Kind},
    lobby::{self, DOOR},
    socket,
};
use crossbeam_channel::Sender;
use dbb_serving::doors::{self, Reason};
use std::{
    collections::BTreeMap,
    io,
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Between two looks at who has come, and two attempts to connect.
const LOOK: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_millis(200);
/// Longest that one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(3);

/// What a process brings to a meeting.
pub(super) struct Meeting<'h> {
    pub(super) hosts: &'h Hosts,
    /// Where to listen, if that is not what the hosts file says.
    pub(super) listen: Option<&'h str>,
    pub(super) hello: Hello,
    pub(super) token: Vec<u8>,
    /// How long to wait for all.
    pub(super) connect: Duration,
    /// How long a connection may be silent.
    pub(super) patience: Duration,
}

/// The connections with all other processes, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Met {
    pub(super) data: BTreeMap<usize, TcpStream>,
    pub(super) words: BTreeMap<usize, TcpStream>,
}

pub(super) enum Event {
    Linked(usize, Kind, TcpStream),
    /// What kept a process we connect to from answering.
    Trouble(usize, String),
    Fatal(ClusterError),
}

/// Known to all threads of a meeting.
pub(super) struct Table {
    pub(super) hosts: Hosts,
    pub(super) hello: Hello,
    pub(super) token: Vec<u8>,
    patience: Duration,
    over: AtomicBool,
    events: Sender<Event>,
}

/// Meets all others; `waiting` is told, at first and whenever it changes, which have not come.
///
/// # Errors
///
/// Not all come in time, or one that comes does not fit.
pub(super) fn meet(meeting: Meeting<'_>, waiting: impl Fn(&str)) -> Result<Met, ClusterError> {
    let (events, happened) = crossbeam_channel::unbounded();
    let table = Arc::new(Table {
        hosts: meeting.hosts.clone(),
        hello: meeting.hello,
        token: meeting.token,
        patience: meeting.patience,
        over: AtomicBool::new(false),
        events,
    });
    let _over = Over(Arc::clone(&table));
    let own = meeting.hosts.process;
    let address = meeting.listen.unwrap_or(&meeting.hosts.addresses[own]);
    let listener = TcpListener::bind(address).map_err(|source| ClusterError::Listen {
        process: own,
        address: address.to_owned(),
        source,
    })?;
    let _lobby = lobby::take(listener, Arc::clone(&table))?;
    for before in 0..own {
        for kind in [Kind::Data, Kind::Words] {
            connector(&table, before, kind)?;
        }
    }
    let deadline = Instant::now() + meeting.connect;
    let mut met = Met::default();
    let mut troubles: BTreeMap<usize, String> = BTreeMap::new();
    let mut told = String::new();
    loop {
        for event in happened.try_iter() {
            match event {
                Event::Linked(process, kind, stream) => {
                    met.of(kind).insert(process, stream);
                }
                Event::Trouble(process, trouble) => {
                    troubles.insert(process, trouble);
                }
                Event::Fatal(error) => return Err(error),
            }
        }
        for (process, kind) in met.drop_closed() {
            tracing::warn!(process, "a process has gone again before all had met");
            if process < own {
                connector(&table, process, kind)?;
            }
        }
        let missing = missing(meeting.hosts, &met, &troubles);
        if missing.is_empty() {
            return Ok(met);
        }
        if missing != told {
            waiting(&missing);
            told = missing;
        }
        if Instant::now() >= deadline {
            return Err(ClusterError::NotWhole {
                seconds: meeting.connect.as_secs(),
                missing: told,
            });
        }
        thread::sleep(LOOK);
    }
}

/// Tells the threads of a meeting, when dropped, that it is over.
struct Over(Arc<Table>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

impl Met {
    fn of(&mut self, kind: Kind) -> &mut BTreeMap<usize, TcpStream> {
        match kind {
            Kind::Data => &mut self.data,
            Kind::Words => &mut self.words,
        }
    }

    fn drop_closed(&mut self) -> Vec<(usize, Kind)> {
        let mut closed = Vec::new();
        for kind in [Kind::Data, Kind::Words] {
            self.of(kind).retain(|process, stream| {
                let open = socket::is_open(stream);
                if !open {
                    closed.push((*process, kind));
                }
                open
            });
        }
        closed
    }
}

/// Who has not come, in words; empty if all have.
fn missing(hosts: &Hosts, met: &Met, troubles: &BTreeMap<usize, String>) -> String {
    let others = hosts.addresses.iter().enumerate().filter(|(process, _)| {
        let there = met.data.contains_key(process) && met.words.contains_key(process);
        *process != hosts.process && !there
    });
    let named: Vec<String> = others
        .map(|(process, address)| {
            // What was wrong at the last attempt; those after us come by themselves.
            let trouble = match troubles.get(&process) {
                Some(trouble) if process < hosts.process => format!(": {trouble}"),
                _ => String::new(),
            };
            format!("process {process} ({address}) has not been met{trouble}")
        })
        .collect();
    named.join("; ")
}

/// Connects, in a thread of its own, until it succeeds or the meeting is over.
fn connector(table: &Arc<Table>, process: usize, kind: Kind) -> Result<(), ClusterError> {
    let table = Arc::clone(table);
    spawn("cluster connector", move || {
        let address = &table.hosts.addresses[process];
        let hello = Hello {
            kind,
            ..table.hello.clone()
        };
        while !table.over.load(Ordering::Acquire) {
            let stream = match connected(address) {
                Ok(stream) => stream,
                // It may not have started yet.
                Err(error) => {
                    table.tell(Event::Trouble(process, error.to_string()));
                    thread::sleep(RETRY);
                    continue;
                }
            };
            match handshake::connecting(&stream, &hello, &table.token, process, address) {
                Ok(()) => return table.linked(process, kind, stream),
                Err(Failed::Misfit(error)) => return table.tell(Event::Fatal(error)),
                // Anybody may have come to this port before it.
                Err(failed) => {
                    if let (Failed::Token, Ok(there)) = (&failed, stream.peer_addr()) {
                        doors::refuse(DOOR, Reason::Unproven, there.ip(), &failed);
                    }
                    table.tell(Event::Trouble(process, whoever(&failed)));
                }
            }
            thread::sleep(RETRY);
        }
    })
}

/// What there is to say of who answers where a process is to listen.
fn whoever(failed: &Failed) -> String {
    match failed {
        Failed::Token => {
            "whoever answers there does not prove the token: it is a stranger, or its `cluster.token` is \
                          another"
                .into()
        }
        other => other.to_string(),
    }
}

fn connected(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Table {
    pub(super) fn linked(&self, process: usize, kind: Kind, stream: TcpStream) {
        let tuned = socket::tune(&stream, self.patience)
            .and_then(|()| stream.set_nonblocking(false))
            .and_then(|()| stream.set_read_timeout(None))
            .and_then(|()| stream.set_write_timeout(None));
        match tuned {
            Ok(()) => self.tell(Event::Linked(process, kind, stream)),
            Err(source) => self.tell(Event::Fatal(ClusterError::System {
                what: "set how long a connection may be silent",
                source,
            })),
        }
    }

    pub(super) fn tell(&self, event: Event) {
        // A meeting that is over wants to know nothing more.
        let _ = self.events.send(event);
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), ClusterError> {
    let spawned = thread::Builder::new().name(name.into()).spawn(run);
    spawned.map(drop).map_err(|source| ClusterError::System {
        what: "start a thread",
        source,
    })
}

#[cfg(test)]
#[path = "meet/tests.rs"]
mod tests;
