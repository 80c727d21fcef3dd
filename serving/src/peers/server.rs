//! Server: the replicas of this process, for the others of its cluster. A thread for each connection.

use super::{
    REPLICAS, Token,
    wire::{Reply, Request, What},
};
use crate::ServeError;
use arrow::ipc::writer::StreamWriter;
use dbb_operators::{
    Epoch,
    publish::{Published, Publisher},
    views::{Scan, Table},
};
use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Most connections at once.
const MOST: usize = 256;
/// Longest that whoever connects may take to say what it wants, or to take what it is sent.
const SLOWEST: Duration = Duration::from_secs(10);
/// Longest that one epoch is held for somebody: what it shares with the newest is less and less.
const LONGEST: Duration = Duration::from_secs(600);

/// A running server; it takes no more connections once this is dropped.
#[derive(Debug)]
pub struct PeerServer {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PeerServer {
    /// Where it listens; the port is a real one, also where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for PeerServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // It waits for connections: this is the last one.
        let woken = TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

struct Serving {
    publisher: Arc<Publisher>,
    token: Token,
    /// What is held, and by how many.
    held: Mutex<BTreeMap<Epoch, (usize, Arc<Published>)>>,
    connections: AtomicUsize,
}

/// Serves the replicas that `publisher` has, on `listen` (`address:port`), to who knows `token`.
///
/// # Errors
///
/// The address cannot be listened on.
pub fn serve(listen: &str, token: Token, publisher: Arc<Publisher>) -> Result<PeerServer, ServeError> {
    let bind = |source| ServeError::PeerBind {
        listen: listen.to_owned(),
        source,
    };
    let listener = TcpListener::bind(listen).map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    let serving = Arc::new(Serving {
        publisher,
        token,
        held: Mutex::default(),
        connections: AtomicUsize::new(0),
    });
    let stopped = Arc::new(AtomicBool::new(false));
    let stops = Arc::clone(&stopped);
    let thread = std::thread::Builder::new()
        .name("peers".into())
        .spawn(move || {
            for stream in listener.incoming() {
                if stops.load(Ordering::Acquire) {
                    return;
                }
                match stream {
                    Ok(stream) => serving.take(stream),
                    // Out of descriptors, perhaps: others may close theirs.
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            }
        })
        .map_err(ServeError::Thread)?;
    Ok(PeerServer {
        address,
        stopped,
        thread: Some(thread),
    })
}

impl Serving {
    fn take(self: &Arc<Self>, stream: TcpStream) {
        if self.connections.fetch_add(1, Ordering::AcqRel) >= MOST {
            self.connections.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let serving = Arc::clone(self);
        let thread = std::thread::Builder::new().name("peer".into());
        let started = thread.spawn(move || {
            // Whoever asked sees that the connection ends too early.
            if let Err(error) = serving.answer(stream) {
                tracing::debug!(%error, "another process has not got its replicas");
            }
            serving.connections.fetch_sub(1, Ordering::AcqRel);
        });
        if started.is_err() {
            self.connections.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SLOWEST))?;
        stream.set_write_timeout(Some(SLOWEST))?;
        let Some(request) = Request::receive(&self.token, &mut stream)? else {
            tracing::warn!("somebody without the token of the cluster asked for replicas");
            return Reply::No("the token is another".into()).send(&mut stream);
        };
        let patience = Duration::from_millis(request.patience_ms).min(LONGEST);
        let Some(published) = self.find(request.epoch, patience) else {
            let no = format!("it does not have those of epoch {} (any more)", request.epoch);
            return Reply::No(no).send(&mut stream);
        };
        let Some(table) = published.tables.get(REPLICAS) else {
            return Reply::No("it keeps no replicas".into()).send(&mut stream);
        };
        match request.what {
            What::Hold => {
                let _held = Held::new(self, &published);
                Reply::Rows(table.rows()).send(&mut stream)?;
                stream.set_read_timeout(Some(LONGEST))?;
                // Until it is closed.
                let _ = stream.read(&mut [0])?;
                Ok(())
            }
            What::Scan { projection, equal } => {
                if projection
                    .iter()
                    .flatten()
                    .any(|column| *column >= table.schema().fields().len())
                {
                    return Reply::No("it has other columns".into()).send(&mut stream);
                }
                Reply::Rows(table.rows()).send(&mut stream)?;
                send(&**table, &Scan { projection, equal }, stream)
            }
        }
    }

    fn find(&self, epoch: Epoch, patience: Duration) -> Option<Arc<Published>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let found = held.get(&epoch).map(|(_, published)| Arc::clone(published));
        drop(held);
        found.or_else(|| self.publisher.with_replicas_of(epoch, patience))
    }
}

/// Sends the rows, and then how many it were.
fn send(table: &dyn Table, scan: &Scan, stream: TcpStream) -> io::Result<()> {
    let schema = match &scan.projection {
        Some(columns) => table.schema().project(columns).map_err(io::Error::other)?.into(),
        None => table.schema(),
    };
    let writer = BufWriter::with_capacity(1 << 16, stream);
    let mut writer = StreamWriter::try_new(writer, &schema).map_err(io::Error::other)?;
    let mut rows = 0u64;
    for batch in table.scan(scan) {
        let batch = batch.map_err(io::Error::other)?;
        rows += batch.num_rows() as u64;
        writer.write(&batch).map_err(io::Error::other)?;
    }
    let mut writer = writer.into_inner().map_err(io::Error::other)?;
    writer.write_all(&rows.to_be_bytes())?;
    writer.flush()
}

/// One who holds an epoch.
struct Held<'s>(&'s Serving, Epoch);

impl<'s> Held<'s> {
    fn new(serving: &'s Serving, published: &Arc<Published>) -> Self {
        let mut held = serving.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (holders, _) = held
            .entry(published.epoch)
            .or_insert_with(|| (0, Arc::clone(published)));
        *holders += 1;
        Self(serving, published.epoch)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((holders, _)) = held.get_mut(&self.1) {
            *holders -= 1;
            if *holders == 0 {
                held.remove(&self.1);
            }
        }
    }
}
