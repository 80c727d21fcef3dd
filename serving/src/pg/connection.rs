//! One connection, from its first byte to its last.
//!
//! It ends when the client says so or goes away, is silent for too long, or takes its rows too slowly; whatever it
//! was asking ends with it.

use super::{
    Door,
    handler::{Extended, Handler, Prepared},
    startup::{Startup, fatal},
};
use async_trait::async_trait;
use futures::{SinkExt, StreamExt};
use pgwire::{
    api::{
        ClientInfo, ClientPortalStore, NoopHandler, PgWireConnectionState, cancel::CancelHandler,
        store::PortalStore,
    },
    error::{ErrorInfo, PgWireError},
    messages::{PgWireBackendMessage, PgWireFrontendMessage, cancel::CancelRequest, startup::SecretKey},
    tokio::server::{MaybeTls, PgWireMessageServerCodec, negotiate_tls, process_error, process_message},
};
use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::Interest,
    net::TcpStream,
    sync::{OwnedSemaphorePermit, watch},
    time::timeout,
};
use tokio_util::codec::Framed;

/// How long a client may take to say who it is.
const STARTUP: Duration = Duration::from_secs(20);
/// How long after its time a statement whose rows nobody takes is left alone.
const STALLED: Duration = Duration::from_secs(2);
/// How often a running statement's client is looked for.
const LOOK: Duration = Duration::from_millis(250);

type Socket = Framed<MaybeTls, PgWireMessageServerCodec<Prepared>>;

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
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.door.cancels.lock().remove(&self.pid);
        self.door.metrics.connections("sql", -1);
    }
}

/// Serves one connection; without a `place`, only to say that there is none.
pub(super) async fn serve(
    stream: TcpStream,
    door: Arc<Door>,
    place: Option<OwnedSemaphorePermit>,
) -> io::Result<()> {
    let stream = stream.into_std()?;
    let twin = TcpStream::from_std(stream.try_clone()?)?;
    let stream = TcpStream::from_std(stream)?;
    let negotiated = timeout(STARTUP, negotiate_tls::<Prepared>(stream, door.tls.clone())).await;
    let Ok(Some(mut socket)) = negotiated.map_err(|_| io::ErrorKind::TimedOut)? else {
        return Ok(());
    };
    let (cancel, cancelled) = watch::channel(0);
    let handler = Arc::new(Handler::new(
        door.engine.clone(),
        cancelled,
        Arc::clone(&door.types),
    ));
    let extended = Arc::new(Extended::new(Arc::clone(&handler)));
    let startup = Arc::new(Startup::new(Arc::clone(&door), place.is_none()));
    let copy = Arc::new(NoopHandler);

    let mut listed = None;
    let starting = tokio::time::sleep(STARTUP);
    tokio::pin!(starting);
    loop {
        let is_starting = listed.is_none();
        let message = if is_starting {
            tokio::select! {
                message = socket.next() => message,
                () = &mut starting => return Ok(()),
            }
        } else {
            match next_of_idle(&mut socket, &door).await {
                Some(message) => message,
                None => return say(&mut socket, fatal("57P05", "nothing was asked for too long")).await,
            }
        };
        let message = match message {
            Some(Ok(PgWireFrontendMessage::Terminate(_))) | None => return Ok(()),
            Some(Ok(message)) => message,
            // What is not the protocol cannot be followed any further.
            Some(Err(error)) => return say(&mut socket, error).await,
        };
        let is_extended = message.is_extended_query();
        let is_cancel = matches!(message, PgWireFrontendMessage::CancelRequest(_));
        let processed = tokio::select! {
            processed = process_message(
                message,
                &mut socket,
                Arc::clone(&startup),
                Arc::clone(&handler),
                Arc::clone(&extended),
                Arc::clone(&copy),
                Arc::clone(&door.cancels),
            ) => processed,
            // Who calls a statement off has often gone before that is heard.
            () = gone(&twin), if !is_cancel => return Ok(()),
            () = tokio::time::sleep(door.engine.time_limit() + STALLED), if !is_starting => return Ok(()),
            () = &mut starting, if is_starting => return Ok(()),
        };
        match processed {
            Ok(()) if is_cancel => return Ok(()),
            Ok(()) => {}
            // Whoever has not said who it is gets no second try.
            Err(error) if is_starting => return say(&mut socket, error).await,
            Err(error) => process_error(&mut socket, error, is_extended).await?,
        }
        if is_starting && matches!(socket.state(), PgWireConnectionState::ReadyForQuery) {
            let (pid, key) = socket.pid_and_secret_key();
            door.cancels.lock().insert(pid, (key, cancel.clone()));
            door.metrics.connections("sql", 1);
            listed = Some(Listed {
                door: Arc::clone(&door),
                pid,
            });
            lower_case_names(&mut socket);
        }
    }
}

/// The next message; none, when nothing comes for too long. An answer of which no more rows are fetched in its time
/// is let go, and its epoch with it.
async fn next_of_idle(
    socket: &mut Socket,
    door: &Door,
) -> Option<Option<Result<PgWireFrontendMessage, PgWireError>>> {
    let idle = Duration::from_millis(door.settings.idle_timeout_ms);
    let first = idle.min(door.engine.time_limit());
    if let Ok(message) = timeout(first, socket.next()).await {
        return Some(message);
    }
    socket.portal_store().clear_portals();
    timeout(idle - first, socket.next()).await.ok()
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

/// Resolves when the client has closed its end, even while nothing is read.
async fn gone(twin: &TcpStream) {
    loop {
        match twin.ready(Interest::READABLE).await {
            Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(LOOK).await,
            _ => return,
        }
    }
}
