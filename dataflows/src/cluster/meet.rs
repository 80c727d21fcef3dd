//! Meeting: every process connects to those before it and is connected to by those after it.
//!
//! ```text
//!   listener --> who is it? --\
//!                              +--> two connections with each process: data, words
//!   connector to each before -/
//! ```
//!
//! In:    the hosts; how long to wait.
//! Out:   the connections, once there are two with each other process and both sides know each other.
//! State: the connections so far. One whose other side goes meanwhile is made again.
//!
//! Whoever else connects, with garbage, with silence or with another token, is left alone after a few seconds.

use super::{
    ClusterError, Hosts,
    handshake::{self, Failed, Hello, Kind},
    socket,
};
use crossbeam_channel::Sender;
use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Between two looks at who has come, and two attempts to connect.
const LOOK: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_millis(200);
/// Longest that one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(3);
/// Connections that may be in a handshake at once; of more, who belongs to us comes again.
const AT_ONCE: usize = 64;

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

enum Event {
    Linked(usize, Kind, TcpStream),
    /// What kept a process we connect to from answering.
    Trouble(usize, String),
    Fatal(ClusterError),
}

/// Known to all threads of a meeting.
struct Table {
    hosts: Hosts,
    hello: Hello,
    token: Vec<u8>,
    patience: Duration,
    over: AtomicBool,
    guests: AtomicUsize,
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
        guests: AtomicUsize::new(0),
        events,
    });
    let _over = Over(Arc::clone(&table));
    let own = meeting.hosts.process;
    let listener = listen(meeting.listen.unwrap_or(&meeting.hosts.addresses[own])).map_err(|source| {
        let address = meeting.listen.unwrap_or(&meeting.hosts.addresses[own]).to_owned();
        ClusterError::Listen {
            process: own,
            address,
            source,
        }
    })?;
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
        while let Some((stream, from)) = accepted(&listener) {
            guest(&table, stream, from)?;
        }
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

fn listen(address: &str) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accepted(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept() {
        Ok(accepted) => Some(accepted),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => {
            tracing::warn!(%error, "a connection could not be taken");
            None
        }
    }
}

/// Finds out, in a thread of its own, who has connected.
fn guest(table: &Arc<Table>, stream: TcpStream, from: SocketAddr) -> Result<(), ClusterError> {
    if table.guests.fetch_add(1, Ordering::AcqRel) >= AT_ONCE {
        table.guests.fetch_sub(1, Ordering::AcqRel);
        tracing::warn!(%from, "too many connections at once: this one is dropped");
        return Ok(());
    }
    let table = Arc::clone(table);
    spawn("cluster guest", move || {
        let greeted = stream.set_nonblocking(false).map_err(Failed::from);
        let greeted = greeted
            .and_then(|()| handshake::listening(&stream, &table.hello, &table.token, &table.hosts.addresses));
        table.guests.fetch_sub(1, Ordering::AcqRel);
        match greeted {
            Ok(hello) => table.linked(hello.process, hello.kind, stream),
            Err(Failed::Misfit(error)) => table.tell(Event::Fatal(error)),
            Err(other) => {
                tracing::warn!(%from, reason = %other, "a connection that is none of the cluster's is dropped");
            }
        }
    })
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
            let stream = connected(address);
            let greeted = stream.map_err(Failed::from).and_then(|stream| {
                handshake::connecting(&stream, &hello, &table.token, process, address)?;
                Ok(stream)
            });
            match greeted {
                Ok(stream) => return table.linked(process, kind, stream),
                Err(Failed::Misfit(error)) => return table.tell(Event::Fatal(error)),
                Err(Failed::Token) => {
                    let address = address.clone();
                    return table.tell(Event::Fatal(ClusterError::Token { process, address }));
                }
                // It may not have started yet.
                Err(Failed::Stray(error)) => table.tell(Event::Trouble(process, error.to_string())),
            }
            thread::sleep(RETRY);
        }
    })
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
    fn linked(&self, process: usize, kind: Kind, stream: TcpStream) {
        let tuned = socket::tune(&stream, self.patience)
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

    fn tell(&self, event: Event) {
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
