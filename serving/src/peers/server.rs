//! Server: the replicas of this process, for the others of its cluster.
//!
//! ```text
//!   connection --> seat in the lobby --> proof of the token, 64 bytes --> place --> a thread: request, answer
//! ```
//!
//! State: who has connected and not proven the token: some hundred bytes each; a thread for each that has, and what it holds.

use super::{
    DOOR, REPLICAS, Token,
    proof::{Introduction, Nonce, Proof},
    wire::{Reply, Request, What},
};
use crate::{
    ServeError,
    doors::{self, Reason},
    lobby::{Left, Lobby, Seat},
    panics,
};
use arrow::ipc::writer::StreamWriter;
use dbb_operators::{
    Epoch,
    publish::{Published, Publisher},
    views::{Scan, Table},
};
use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};

/// Most connections at once of those that have proven the token.
const MOST: usize = 256;
/// Most of those that have not; of more the oldest have to leave.
const SEATS: usize = 128;
/// Longest that whoever connects may take to prove the token.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// Longest that whoever has proven it may take to say what it wants, or to take what it is sent.
const SLOWEST: Duration = Duration::from_secs(10);
/// Longest that one epoch is held for somebody: what it shares with the newest is less and less.
const LONGEST: Duration = Duration::from_secs(600);

/// A running server; it takes no more connections once this is dropped.
#[derive(Debug)]
pub struct PeerServer {
    address: SocketAddr,
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
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
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Once it has ended nobody listens there any more.
            let _ = thread.join();
        }
    }
}

struct Serving {
    publisher: Arc<Publisher>,
    token: Token,
    /// What is held, and by how many.
    held: Mutex<BTreeMap<Epoch, (usize, Arc<Published>)>>,
    places: Arc<Semaphore>,
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
    listener.set_nonblocking(true).map_err(bind)?;
    let serving = Arc::new(Serving {
        publisher,
        token,
        held: Mutex::default(),
        places: Arc::new(Semaphore::new(MOST)),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServeError::Thread)?;
    let (stop, stopped) = oneshot::channel();
    let taking = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = stopped => {}
                Err(error) = accept(listener, &serving) => {
                    tracing::error!(%error, "other processes are not given the replicas of this one");
                }
            }
        });
    };
    let thread = std::thread::Builder::new()
        .name("peers".into())
        .spawn(|| panics::keeping(DOOR, taking))
        .map_err(ServeError::Thread)?;
    Ok(PeerServer {
        address,
        stop: Some(stop),
        thread: Some(thread),
    })
}

async fn accept(listener: TcpListener, serving: &Arc<Serving>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let lobby = Lobby::new(SEATS);
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let (seat, serving) = (lobby.seat(from.ip()), Arc::clone(serving));
                tokio::spawn(serving.take(stream, from.ip(), seat));
            }
            // Out of descriptors, perhaps: others may close theirs.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// What whoever has connected has come to.
enum Introduced {
    Proven(Nonce, Introduction),
    Unproven,
}

impl Serving {
    async fn take(self: Arc<Self>, mut stream: tokio::net::TcpStream, from: IpAddr, seat: Seat) {
        let refuse = |reason, why: &str| doors::refuse(DOOR, reason, from, &why);
        let (nonce, introduction) = match seat.within(INTRODUCTION, self.introduced(&mut stream)).await {
            Ok(Ok(Introduced::Proven(nonce, introduction))) => (nonce, introduction),
            Ok(Ok(Introduced::Unproven)) => return refuse(Reason::Unproven, "its token is another"),
            Ok(Err(error)) => return refuse(Reason::Silent, &error.to_string()),
            Err(left @ Left::TooSlow) => return refuse(Reason::Silent, &left.to_string()),
            Err(left @ Left::Crowded) => return refuse(Reason::Crowded, &left.to_string()),
        };
        drop(seat);
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return refuse(Reason::Full, "too many statements ask for replicas at once");
        };
        if let Err(error) = self.start(stream, nonce, introduction, place) {
            tracing::warn!(%error, "another process cannot be answered");
        }
    }

    /// Says a nonce, hears an introduction, and proves itself.
    async fn introduced(&self, stream: &mut tokio::net::TcpStream) -> io::Result<Introduced> {
        let nonce: Nonce = rand::random();
        stream.write_all(&nonce).await?;
        let mut introduction: Introduction = [0; 64];
        stream.read_exact(&mut introduction).await?;
        let (proof, is_proven) = Proof::introduced(&self.token, nonce, &introduction)?;
        // Also to who has another token: it sees by this that it has.
        stream.write_all(&proof.answer()?).await?;
        Ok(match is_proven {
            true => Introduced::Proven(nonce, introduction),
            false => Introduced::Unproven,
        })
    }

    /// Answers in a thread, which has `place` until it ends.
    fn start(
        self: Arc<Self>,
        stream: tokio::net::TcpStream,
        nonce: Nonce,
        introduction: Introduction,
        place: OwnedSemaphorePermit,
    ) -> io::Result<()> {
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        let thread = std::thread::Builder::new().name("peer".into());
        thread.spawn(move || {
            let answered = panics::guarded(DOOR, || {
                let (proof, _) = Proof::introduced(&self.token, nonce, &introduction)?;
                self.answer(&proof, stream)
            });
            // Whoever asked sees that the connection ends too early.
            if let Ok(Err(error)) = answered {
                tracing::debug!(%error, "another process has not got its replicas");
            }
            drop(place);
        })?;
        Ok(())
    }

    fn answer(&self, proof: &Proof<'_>, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SLOWEST))?;
        stream.set_write_timeout(Some(SLOWEST))?;
        let request = Request::receive(proof, &mut stream)?;
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
