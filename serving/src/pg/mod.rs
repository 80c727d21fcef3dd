//! SQL over the PostgreSQL protocol: for psql, drivers and dashboards.
//!
//! ```text
//!   psql, psycopg, JDBC, Grafana --TLS, SCRAM--> connection --statements--> engine --> one published epoch
//! ```
//!
//! In:    connections; most of the protocol is the library's.
//! Out:   rows, as they are made; errors with their SQLSTATE.
//! State: what each connection has prepared, and how it wants its rows.
//!
//! It runs on threads of its own, and shares nothing with the dataflow but what is published.

mod connection;
mod frames;
mod handler;
mod negotiate;
mod parameters;
mod reader;
mod saturation;
mod settings;
mod startup;
mod tls;
mod words;

pub use settings::{SqlSettings, TlsFiles};

use crate::{
    Health, Metrics, Offered, ServeError,
    lobby::Lobby,
    panics,
    sql::{Engine, Epochs},
};
use connection::Cancels;
use handler::Types;
use pgwire::api::RandomPidSecretKeyGenerator;
use startup::Users;
use std::{
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};
use tokio::{runtime::Runtime, sync::Semaphore};
use tokio_rustls::TlsAcceptor;

/// How long statements may take once the server is told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(1);
/// Connections that have not logged in. Of more the oldest are let go, so that whoever calls a statement off gets in.
const SEATS: usize = 128;
/// What this door is called in metrics and logs.
const DOOR: &str = "sql";
/// Threads that take connections, say who is there, carry rows and keep the time: none of them does what a statement asks.
const DOOR_THREADS: usize = 2;
/// Their stacks, in bytes.
const DOOR_STACK: usize = 16 << 20;
/// Threads that wait for replicas, at most.
const BLOCKING_THREADS: usize = 64;

/// What all connections share.
struct Door {
    settings: SqlSettings,
    engine: Engine,
    tls: Option<TlsAcceptor>,
    tls_required: bool,
    users: Option<Arc<Users>>,
    keys: Arc<RandomPidSecretKeyGenerator>,
    cancels: Arc<Cancels>,
    types: Arc<Types>,
    /// Of those that have logged in.
    places: Arc<Semaphore>,
    metrics: Metrics,
}

/// A running SQL server; it stops when this is dropped.
pub struct SqlServer {
    address: SocketAddr,
    door: Arc<Door>,
    runtime: Option<Runtime>,
}

impl SqlServer {
    /// Says in `health`, from now on, when there is no room for anybody.
    pub fn tell(&self, health: &Arc<Health>) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(saturation::tell(Arc::clone(&self.door), Arc::clone(health)));
        }
    }

    /// The address it listens on; the port is a real one, also where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for SqlServer {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        if tokio::runtime::Handle::try_current().is_ok() {
            // Waiting would stop whoever drops it.
            runtime.shutdown_background();
        } else {
            runtime.shutdown_timeout(STOP_PATIENCE);
        }
    }
}

/// Serves these views, as `epochs` gives them, as `settings` say; not at all, when they name no address.
///
/// # Errors
///
/// The address cannot be listened on; it is not this host alone and there is no TLS or no user; a password, a
/// certificate or a key cannot be read.
pub fn serve(
    settings: &SqlSettings,
    epochs: Arc<dyn Epochs>,
    offered: Vec<Offered>,
    metrics: Metrics,
) -> Result<Option<SqlServer>, ServeError> {
    let Some(listen) = &settings.listen else {
        return Ok(None);
    };
    let wrong = |source| ServeError::Address {
        listen: listen.clone(),
        source,
    };
    let bind = |source| ServeError::SqlBind {
        listen: listen.clone(),
        source,
    };
    let addresses: Vec<SocketAddr> = listen.to_socket_addrs().map_err(wrong)?.collect();
    let is_loopback = addresses.iter().all(|address| address.ip().is_loopback());
    let door = door(settings, listen, is_loopback, epochs, offered, metrics)?;
    let listener = TcpListener::bind(addresses.as_slice()).map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    listener.set_nonblocking(true).map_err(bind)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(DOOR_THREADS)
        .thread_stack_size(DOOR_STACK)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("sql")
        .on_thread_start(|| panics::mark_thread(DOOR))
        .enable_all()
        .build()
        .map_err(ServeError::Thread)?;
    let door = Arc::new(door);
    let accepting = runtime.spawn(accept(listener, Arc::clone(&door)));
    runtime.spawn(async {
        if let Err(error) = accepting.await
            && error.is_panic()
        {
            // On a thread that is not marked: it ends the process.
            std::thread::spawn(|| panics::keeping(DOOR, || std::panic::resume_unwind(error.into_panic())));
        }
    });
    Ok(Some(SqlServer {
        address,
        door,
        runtime: Some(runtime),
    }))
}

fn door(
    settings: &SqlSettings,
    listen: &str,
    is_loopback: bool,
    epochs: Arc<dyn Epochs>,
    offered: Vec<Offered>,
    metrics: Metrics,
) -> Result<Door, ServeError> {
    let unprotected = |what, next| ServeError::Unprotected {
        listen: listen.to_owned(),
        what,
        next,
    };
    if !is_loopback && settings.tls.is_none() {
        let next = "set `sql.tls.certificate_file` and `sql.tls.key_file`";
        return Err(unprotected("TLS is", next));
    }
    if !is_loopback && settings.users.is_empty() {
        return Err(unprotected("passwords are", "name who may ask under `sql.users`"));
    }
    let secrets = settings
        .users
        .iter()
        .map(|(user, place)| {
            Ok((
                user.clone(),
                place.read(&format!("the password of SQL user `{user}`"))?,
            ))
        })
        .collect::<Result<_, ServeError>>()?;
    Ok(Door {
        tls: settings.tls.as_ref().map(tls::acceptor).transpose()?,
        tls_required: !is_loopback,
        users: (!settings.users.is_empty()).then(|| Arc::new(Users::new(&secrets))),
        keys: startup::keys(),
        cancels: Arc::default(),
        types: Arc::new(Types::new()),
        engine: Engine::new(settings.limits(), epochs, offered, metrics.clone())?,
        places: Arc::new(Semaphore::new(settings.max_connections.max(1) as usize)),
        settings: settings.clone(),
        metrics,
    })
}

async fn accept(listener: TcpListener, door: Arc<Door>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "SQL is not served");
            return;
        }
    };
    let lobby = Lobby::new(SEATS);
    loop {
        let (stream, from) = match listener.accept().await {
            Ok((stream, from)) => (stream, from.ip()),
            Err(error) => {
                // Out of file descriptors, say: they come back when connections end.
                tracing::warn!(%error, "a SQL connection could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (door, seat) = (Arc::clone(&door), lobby.seat(from));
        tokio::spawn(async move {
            if let Err(error) = connection::serve(stream, from, door, seat).await {
                tracing::debug!(%from, %error, "a SQL connection broke");
            }
        });
    }
}
