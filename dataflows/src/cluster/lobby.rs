//! Lobby: who connects while the processes meet, and has not yet proven to be one of them.
//!
//! ```text
//!   connections --> seats --> handshake, within its limit --> linked, or a misfit
//!                                \--> anybody else: refused, counted, told once for many; never the end of a start
//! ```
//!
//! State: a thread for all of them, for as long as the processes meet.

use super::{
    ClusterError,
    handshake::{self, Failed},
    meet::{Event, Table},
};
use dbb_serving::{
    doors::{self, Reason},
    lobby::{Left, Lobby, Seat},
    panics,
};
use std::{
    io,
    net::{IpAddr, TcpListener},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};
use tokio::{net::TcpStream, sync::oneshot};

/// What this door is called in metrics and logs.
pub(super) const DOOR: &str = "cluster";
/// Most that may be in a handshake at once; of more the oldest has to leave.
const SEATS: usize = 256;

/// Takes connections until it is dropped.
pub(super) struct Listening {
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Once it has ended nobody listens there any more.
            let _ = thread.join();
        }
    }
}

/// Takes connections from `listener`, and tells `table` who they are.
pub(super) fn take(listener: TcpListener, table: Arc<Table>) -> Result<Listening, ClusterError> {
    let system = |source| ClusterError::System {
        what: "take connections",
        source,
    };
    listener.set_nonblocking(true).map_err(system)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system)?;
    let (stop, stopped) = oneshot::channel();
    let taking = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = stopped => {}
                Err(source) = accept(listener, &table) => table.tell(Event::Fatal(system(source))),
            }
        });
    };
    let thread = std::thread::Builder::new()
        .name("cluster lobby".into())
        .spawn(|| panics::keeping(DOOR, taking))
        .map_err(system)?;
    Ok(Listening {
        stop: Some(stop),
        thread: Some(thread),
    })
}

async fn accept(listener: TcpListener, table: &Arc<Table>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let lobby = Lobby::new(SEATS);
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let (seat, table) = (lobby.seat(from.ip()), Arc::clone(table));
                tokio::spawn(guest(stream, from.ip(), seat, table));
            }
            Err(error) => {
                // Out of file descriptors, perhaps: others may close theirs.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Finds out who has connected.
async fn guest(mut stream: TcpStream, from: IpAddr, seat: Seat, table: Arc<Table>) {
    let shaken = handshake::listening(&mut stream, &table.hello, &table.token, &table.hosts.addresses);
    let (reason, why) = match seat.within(handshake::LIMIT, shaken).await {
        Ok(Ok(hello)) => {
            return match stream.into_std() {
                Ok(stream) => table.linked(hello.process, hello.kind, stream),
                Err(error) => tracing::warn!(%error, "a connection could not be kept"),
            };
        }
        Ok(Err(Failed::Misfit(error))) => return table.tell(Event::Fatal(error)),
        Ok(Err(failed)) => (reason(&failed), failed.to_string()),
        Err(left @ Left::TooSlow) => (Reason::Silent, left.to_string()),
        Err(left @ Left::Crowded) => (Reason::Crowded, left.to_string()),
    };
    doors::refuse(DOOR, reason, from, &why);
}

/// How somebody is counted whose handshake has failed.
pub(super) fn reason(failed: &Failed) -> Reason {
    match failed {
        Failed::Stray(error) if error.kind() == io::ErrorKind::InvalidData => Reason::Malformed,
        Failed::Stray(_) => Reason::Silent,
        Failed::Token | Failed::Misfit(_) => Reason::Unproven,
    }
}
