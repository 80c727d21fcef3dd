//! One connection, from its first byte to its last.
//!
//! ```text
//!   connection --> seat in the lobby --> encryption, login: one limit of time --> place --> messages
//!                                          \--> a call to cancel: needs no place
//! ```
//!
//! It ends when the client says so or goes away, says what is not the protocol, is silent for too long, or takes its rows
//! too slowly; whatever it was asking ends with it.

use super::{
    DOOR, Door,
    handler::{Extended, Handler, Prepared},
    negotiate::negotiate,
    reader::{Reader, Unreadable},
    startup::{Startup, fatal},
};
use crate::{
    doors::{self, Reason},
    lobby::{Left, Seat},
    sql::Connected,
};
use async_trait::async_trait;
use futures::SinkExt;
use pgwire::{
    api::{
        ClientInfo, ClientPortalStore, NoopHandler, PgWireConnectionState, cancel::CancelHandler,
        store::PortalStore,
    },
    error::{ErrorInfo, PgWireError, PgWireResult},
    messages::{PgWireBackendMessage, PgWireFrontendMessage, cancel::CancelRequest, startup::SecretKey},
    tokio::server::{MaybeTls, PgWireMessageServerCodec, process_error, process_message},
};
use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, Interest},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_util::codec::Framed;

/// How long a client may take to say who it is, encryption and all.
const LOGIN: Duration = Duration::from_secs(10);
/// How long it may say nothing at all meanwhile.
const SILENCE: Duration = Duration::from_secs(5);
/// How long after its time a statement whose rows nobody takes is left alone.
const STALLED: Duration = Duration::from_secs(2);
/// How long a client is heard out that has said what is not the protocol.
const HEAR_OUT: Duration = Duration::from_secs(1);
/// How often a running statement's client is looked for.
const LOOK: Duration = Duration::from_millis(250);

pub(super) type Socket = Framed<MaybeTls, PgWireMessageServerCodec<Prepared>>;

/// Running connections, by the number and key that call their statements off.
#[derive(Default)]
pub(super) struct Cancels(Mutex<HashMap<i32, (SecretKey, watch::Sender<u64>)>>);

impl Cancels {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, (SecretKey, watch::Sender<u64>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl CancelHandler for Cancels {
    async fn on_cancel_request(&self, request: CancelRequest) {
        if let Some((key, cancel)) = self.lock().get(&request.pid)
            && key.eq_value(&request.secret_key)
        {
            cancel.send_modify(|times| *times += 1);
        }
    }
}

/// Takes the connection out of the list when it ends.
struct Listed {
    door: Arc<Door>,
    pid: i32,
    _connected: Connected,
}

impl Listed {
    fn new(
        door: &Arc<Door>,
        socket: &Socket,
        its_end: std::net::TcpStream,
        cancel: watch::Sender<u64>,
    ) -> Self {
        let (pid, key) = socket.pid_and_secret_key();
        door.cancels.lock().insert(pid, (key, cancel));
        door.metrics.connections(DOOR, 1);
        Self {
            door: Arc::clone(door),
            pid,
            _connected: door.engine.running().connect(pid, its_end),
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.door.cancels.lock().remove(&self.pid);
        self.door.metrics.connections(DOOR, -1);
    }
}

/// What becomes of messages.
struct Handlers {
    startup: Arc<Startup>,
    statements: Arc<Handler>,
    extended: Arc<Extended>,
    copy: Arc<NoopHandler>,
    cancels: Arc<Cancels>,
}

impl Handlers {
    fn new(door: &Arc<Door>, cancelled: watch::Receiver<u64>) -> Self {
        let statements = Handler::new(door.engine.clone(), cancelled, Arc::clone(&door.types));
        let statements = Arc::new(statements);
        Self {
            startup: Arc::new(Startup::new(Arc::clone(door))),
            extended: Arc::new(Extended::new(Arc::clone(&statements))),
            statements,
            copy: Arc::new(NoopHandler),
            cancels: Arc::clone(&door.cancels),
        }
    }

    async fn process(&self, message: PgWireFrontendMessage, socket: &mut Socket) -> PgWireResult<()> {
        process_message(
            message,
            socket,
            Arc::clone(&self.startup),
            Arc::clone(&self.statements),
            Arc::clone(&self.extended),
            Arc::clone(&self.copy),
            Arc::clone(&self.cancels),
        )
        .await
    }
}

/// Serves one connection from `from`, which has a `seat` until it has said who it is.
pub(super) async fn serve(stream: TcpStream, from: IpAddr, door: Arc<Door>, seat: Seat) -> io::Result<()> {
    let stream = stream.into_std()?;
    let twin = TcpStream::from_std(stream.try_clone()?)?;
    let stream = TcpStream::from_std(stream)?;
    let (cancel, cancelled) = watch::channel(0);
    let handlers = Handlers::new(&door, cancelled);
    let mut reader = Reader::new(door.settings.max_message_bytes as usize);
    let logged_in = log_in(stream, from, &mut reader, &door, &handlers);
    let socket = match seat.within(LOGIN, logged_in).await {
        Ok(socket) => socket?,
        Err(left) => {
            doors::refuse(DOOR, reason(left), from, &left);
            None
        }
    };
    drop(seat);
    let Some(mut socket) = socket else {
        return Ok(());
    };
    let its_end = std::net::TcpStream::from(twin.as_fd().try_clone_to_owned()?);
    let _listed = Listed::new(&door, &socket, its_end, cancel);
    lower_case_names(&mut socket);
    loop {
        let Some(message) = next_of_idle(&mut reader, &mut socket, &door).await else {
            return say(&mut socket, fatal("57P05", "nothing was asked for too long")).await;
        };
        let message = match message {
            Ok(Some(PgWireFrontendMessage::Terminate(_)) | None) => return Ok(()),
            Ok(Some(message)) => message,
            // What is not the protocol cannot be followed any further.
            Err(unreadable) => return unreadable.told(&mut socket, from).await,
        };
        let is_extended = message.is_extended_query();
        let processed = tokio::select! {
            processed = handlers.process(message, &mut socket) => processed,
            // Who calls a statement off has often gone before that is heard.
            () = gone(&twin) => return Ok(()),
            () = tokio::time::sleep(door.engine.time_limit() + STALLED) => return Ok(()),
        };
        if let Err(error) = processed {
            process_error(&mut socket, error, is_extended).await?;
        }
    }
}

/// The connection of a client that has said who it is; `None` if it has not, or has only called a statement off.
async fn log_in(
    stream: TcpStream,
    from: IpAddr,
    reader: &mut Reader,
    door: &Door,
    handlers: &Handlers,
) -> io::Result<Option<Socket>> {
    let negotiated = match timeout(SILENCE, negotiate(stream, reader, door.tls.as_ref())).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(unreadable)) => {
            unreadable.counted(from);
            return Ok(None);
        }
        Err(_) => return Ok(silent(from)),
    };
    let Some(mut socket) = negotiated else {
        return Ok(None);
    };
    loop {
        let message = match timeout(SILENCE, reader.next(&mut socket)).await {
            Ok(Ok(Some(PgWireFrontendMessage::Terminate(_)) | None)) => return Ok(None),
            Ok(Ok(Some(message))) => message,
            Ok(Err(unreadable)) => {
                unreadable.told(&mut socket, from).await?;
                return Ok(None);
            }
            Err(_) => return Ok(silent(from)),
        };
        let is_cancel = matches!(message, PgWireFrontendMessage::CancelRequest(_));
        if let Err(error) = handlers.process(message, &mut socket).await {
            // Whoever has not said who it is gets no second try.
            say(&mut socket, error).await?;
            return Ok(None);
        }
        if is_cancel {
            return Ok(None);
        }
        if matches!(socket.state(), PgWireConnectionState::ReadyForQuery) {
            return Ok(Some(socket));
        }
    }
}

fn silent<T>(from: IpAddr) -> Option<T> {
    doors::refuse(DOOR, Reason::Silent, from, &Left::TooSlow);
    None
}

fn reason(left: Left) -> Reason {
    match left {
        Left::TooSlow => Reason::Silent,
        Left::Crowded => Reason::Crowded,
    }
}

impl Unreadable {
    /// Counts what a client has said that is not the protocol.
    fn counted(&self, from: IpAddr) {
        if !matches!(self, Self::Broken(_)) {
            doors::refuse(DOOR, Reason::Malformed, from, self);
        }
    }

    /// The same, and tells the client.
    async fn told(self, socket: &mut Socket, from: IpAddr) -> io::Result<()> {
        self.counted(from);
        match self {
            Self::Broken(error) => Err(error),
            Self::Fault(fault) => {
                say(socket, fatal("08P01", fault.to_string())).await?;
                hear_out(socket).await
            }
            Self::Decoded(error) => say(socket, error).await,
        }
    }
}

/// The next message; none, when nothing comes for too long. An answer of which no more rows are fetched in its time
/// is let go, and its epoch with it.
async fn next_of_idle(
    reader: &mut Reader,
    socket: &mut Socket,
    door: &Door,
) -> Option<Result<Option<PgWireFrontendMessage>, Unreadable>> {
    let idle = Duration::from_millis(door.settings.idle_timeout_ms);
    let first = idle.min(door.engine.time_limit());
    if let Ok(message) = timeout(first, reader.next(socket)).await {
        return Some(message);
    }
    socket.portal_store().clear_portals();
    timeout(idle - first, reader.next(socket)).await.ok()
}

/// Clients write `DateStyle` as they like.
fn lower_case_names(socket: &mut Socket) {
    let given = std::mem::take(socket.metadata_mut());
    let lower = given
        .into_iter()
        .map(|(name, value)| (name.to_lowercase(), value));
    socket.metadata_mut().extend(lower);
}

/// Tells why, and ends.
async fn say(socket: &mut Socket, error: PgWireError) -> io::Result<()> {
    let mut info = ErrorInfo::from(error);
    info.severity = "FATAL".into();
    let last = async {
        socket
            .send(PgWireBackendMessage::ErrorResponse(info.into()))
            .await?;
        socket.close().await
    };
    timeout(STALLED, last).await?
}

/// Takes what a client is about to send, for a moment: one that is still sending when the connection is closed never sees
/// why.
async fn hear_out(socket: &mut Socket) -> io::Result<()> {
    let mut heard = [0; 8 << 10];
    let stream = socket.get_mut();
    let all = async {
        while stream.read(&mut heard).await? > 0 {}
        Ok(())
    };
    timeout(HEAR_OUT, all).await.unwrap_or(Ok(()))
}

/// Resolves when the client has closed its end, even while nothing is read.
async fn gone(twin: &TcpStream) {
    loop {
        match twin.ready(Interest::READABLE).await {
            Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(LOOK).await,
            _ => return,
        }
    }
}
