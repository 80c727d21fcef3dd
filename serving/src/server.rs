//! `/livez`, `/readyz` and `/metrics`, on a thread of their own so that nothing else can starve them; and the views,
//! of which that thread only passes the bytes on.
//!
//! ```text
//!   accept --> place (`places`) --> head, in time and not too long --> known name (`hosts`) --> answer, taken in time (`wire`)
//! ```

mod hosts;
mod places;
mod wire;

use crate::{Health, Metrics, ServeError, http::ViewsApi, panics};
use axum::{
    Json, Router,
    body::{Body, Bytes, HttpBody},
    extract::State,
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use hosts::{Hosts, by_a_known_name};
use hyper::{body::Frame, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use places::{Busy, Places};
use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread::JoinHandle,
    time::Duration,
};
use tokio::{net::TcpStream, sync::watch, task::JoinSet, time::sleep};
use wire::Wire;

/// How long open requests may take once the server is told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(1);
/// How long the client may take for an answer beyond what making it may take.
const TAKE: Duration = Duration::from_secs(10);
/// Longest head of a request, its URI included, in bytes, and most headers in it.
const HEAD: usize = 16 * 1024;
const HEADERS: usize = 64;
/// Pause after a connection that could not be accepted: mostly files have run out, and some of them are freed.
const PAUSE: Duration = Duration::from_millis(100);
/// What this door is called in metrics and logs.
const DOOR: &str = "http";
/// The media type of the OpenMetrics text format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What is said to a connection for which there is no place.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";

/// Places that are kept beyond [`Limits::max_connections`], for connections from this host.
pub const RESERVED_CONNECTIONS: u32 = places::RESERVED as u32;

/// What is taken of those who connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at once.
    pub max_connections: u32,
    /// Longest a connection may take for the head of a request, or be silent between two.
    pub idle: Duration,
    /// Names of this host, beside the one that is listened on and `localhost`.
    pub hosts: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 256,
            idle: Duration::from_secs(10),
            hosts: Vec::new(),
        }
    }
}

/// A running server; it stops when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// The address it listens on; the port is a real one, also where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The thread may have gone already; then there is nothing to tell it.
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
struct Shown {
    metrics: Metrics,
    health: Arc<Health>,
}

/// Serves `metrics` and `health` on `listen` (`address:port`, also `[::]:port` or a host name).
///
/// # Errors
///
/// The address cannot be listened on: wrong, not this host's, or another program's.
pub fn serve(listen: &str, metrics: Metrics, health: Arc<Health>) -> Result<Server, ServeError> {
    serve_with_views(listen, &Limits::default(), metrics, health, None)
}

/// As [`serve`], within `limits`, with `views` under `/api/v1/views`.
///
/// # Errors
///
/// As [`serve`]; and the address is not this host alone and the views have no token.
pub fn serve_with_views(
    listen: &str,
    limits: &Limits,
    metrics: Metrics,
    health: Arc<Health>,
    views: Option<ViewsApi>,
) -> Result<Server, ServeError> {
    let wrong = |source| ServeError::Address {
        listen: listen.to_owned(),
        source,
    };
    let bind = |source| ServeError::Bind {
        listen: listen.to_owned(),
        source,
    };
    let addresses: Vec<_> = listen.to_socket_addrs().map_err(wrong)?.collect();
    let is_loopback = addresses.iter().all(|address| address.ip().is_loopback());
    if !is_loopback && views.as_ref().is_some_and(|views| !views.is_protected()) {
        return Err(ServeError::Unprotected {
            listen: listen.to_owned(),
            what: "a token is",
            next: "set `http.views.token`",
        });
    }
    let listener = TcpListener::bind(addresses.as_slice()).map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    listener.set_nonblocking(true).map_err(bind)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .on_thread_start(|| panics::mark_thread(DOOR))
        .enable_all()
        .build()
        .map_err(ServeError::Thread)?;
    let (stop, stopped) = watch::channel(false);
    let door = Door {
        app: app(listen, is_loopback, limits, &metrics, health, views.as_ref()),
        places: Places::of(limits.max_connections as usize, metrics),
        idle: limits.idle,
        answer: views.map_or(Duration::ZERO, |views| views.patience()) + TAKE,
        stopped,
    };
    let thread = std::thread::Builder::new()
        .name("http".into())
        .spawn(move || panics::keeping(DOOR, || runtime.block_on(door.run(listener))))
        .map_err(ServeError::Thread)?;
    Ok(Server {
        address,
        stop,
        thread: Some(thread),
    })
}

/// What is served. Where no token protects the views, and where only this host can ask for metrics, only names of this host
/// count; elsewhere metrics are for the whole network, under whatever name.
fn app(
    listen: &str,
    is_loopback: bool,
    limits: &Limits,
    metrics: &Metrics,
    health: Arc<Health>,
    views: Option<&ViewsApi>,
) -> Router {
    let shown = Shown {
        metrics: metrics.clone(),
        health,
    };
    let hosts = Hosts::of(listen, &limits.hosts);
    let named = |router: Router, is_open: bool| match is_open {
        true => router.layer(middleware::from_fn_with_state(
            Arc::clone(&hosts),
            by_a_known_name,
        )),
        false => router,
    };
    let probes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(shown.clone());
    let metrics = Router::new()
        .route("/metrics", get(show_metrics))
        .with_state(shown);
    let api = views.map(|views| named(views.router(), !views.is_protected()));
    probes
        .merge(named(metrics, is_loopback))
        .merge(api.unwrap_or_default())
}

struct Door {
    app: Router,
    places: Arc<Places>,
    idle: Duration,
    /// Longest from a request to the end of its answer.
    answer: Duration,
    stopped: watch::Receiver<bool>,
}

impl Door {
    async fn run(self, listener: TcpListener) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "health and metrics are not served");
                return;
            }
        };
        let mut open = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = open.join_next(), if !open.is_empty() => continue,
                () = told(self.stopped.clone()) => break,
            };
            match accepted {
                Ok((stream, peer)) => self.take(stream, peer, &mut open),
                Err(error) => {
                    tracing::warn!(%error, "a connection to health and metrics could not be accepted");
                    sleep(PAUSE).await;
                }
            }
            // Who has to go goes now: what is accepted next may need the file.
            tokio::task::yield_now().await;
        }
        drop(listener);
        let all = async { while open.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(STOP_PATIENCE, all).await;
    }

    /// Serves one connection, or closes it where there is no place.
    fn take(&self, stream: TcpStream, peer: SocketAddr, open: &mut JoinSet<()>) {
        let Some(place) = self.places.take(peer.ip()) else {
            // Into the buffer of the system, if it goes; nobody waits for it.
            let _ = stream.try_write(FULL);
            return;
        };
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.idle)
            .max_buf_size(HEAD)
            .max_headers(HEADERS);
        let (answer, stopped) = (self.answer, self.stopped.clone());
        let app = TowerToHyperService::new(self.app.clone());
        let place = Arc::new(place);
        open.spawn(async move {
            let asked = Arc::clone(&place);
            let service = hyper::service::service_fn(move |request| {
                let busy = asked.busy();
                let answer = app.call(request);
                async move {
                    // One a turn: however many a client has asked for at once, all others have theirs between.
                    tokio::task::yield_now().await;
                    let response: Response = answer.await?;
                    Ok::<_, Infallible>(response.map(|body| Answering { body, _busy: busy }))
                }
            });
            let wire = TokioIo::new(Wire::of(stream, answer));
            let serving = http.serve_connection(wire, service);
            tokio::pin!(serving);
            tokio::select! {
                // What goes wrong with a connection is its client's concern.
                _ = serving.as_mut() => {}
                () = place.given_away() => {}
                () = told(stopped) => {
                    serving.as_mut().graceful_shutdown();
                    let _ = serving.await;
                }
            }
        });
    }
}

async fn told(mut stopped: watch::Receiver<bool>) {
    // An error means that the server's handle has gone, which stops it too.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// The body of an answer; its connection is busy until it has been handed over.
struct Answering {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

async fn livez(State(shown): State<Shown>) -> Response {
    let liveness = shown.health.liveness();
    (status(liveness.live), Json(liveness)).into_response()
}

async fn readyz(State(shown): State<Shown>) -> Response {
    let readiness = shown.health.readiness();
    (status(readiness.ready), Json(readiness)).into_response()
}

async fn show_metrics(State(shown): State<Shown>) -> Response {
    ([(header::CONTENT_TYPE, OPENMETRICS)], shown.metrics.encode()).into_response()
}

fn status(good: bool) -> StatusCode {
    if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };

    fn start() -> (Server, Arc<Health>) {
        let health = Arc::new(Health::new(Duration::MAX));
        (
            serve("127.0.0.1:0", Metrics::default(), Arc::clone(&health)).unwrap(),
            health,
        )
    }

    fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn readiness_follows_the_conditions_and_names_them() {
        let (server, health) = start();
        health.beat();
        assert!(ask(server.address(), "/readyz").starts_with("HTTP/1.1 200"));
        health.fail("repository main", "database is down");
        let answer = ask(server.address(), "/readyz");
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.ends_with(r#"{"ready":false,"reasons":{"repository main":"database is down"}}"#),
            "{answer}"
        );
        assert!(ask(server.address(), "/livez").starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn metrics_are_openmetrics_text() {
        let (server, _health) = start();
        let answer = ask(server.address(), "/metrics");
        assert!(
            answer.contains("content-type: application/openmetrics-text; version=1.0.0"),
            "{answer}"
        );
        assert!(answer.trim_end().ends_with("# EOF"), "{answer}");
    }

    #[test]
    fn what_is_not_there_is_404() {
        let (server, _health) = start();
        assert!(ask(server.address(), "/").starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn an_address_in_use_is_named() {
        let (server, _health) = start();
        let listen = server.address().to_string();
        let error = serve(&listen, Metrics::default(), Arc::new(Health::new(Duration::MAX))).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("could not listen on `{listen}` for health and metrics")
        );
        assert!(matches!(&error, ServeError::Bind { source, .. }
            if source.kind() == std::io::ErrorKind::AddrInUse));
        assert!(error.is_transient());
    }

    #[test]
    fn an_address_that_means_nothing_is_named() {
        let error = serve(
            "nowhere",
            Metrics::default(),
            Arc::new(Health::new(Duration::MAX)),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`nowhere` is no address that can be listened on"
        );
    }

    fn bounded(limits: &Limits) -> Server {
        let health = Arc::new(Health::new(Duration::MAX));
        health.beat();
        serve_with_views("127.0.0.1:0", limits, Metrics::default(), health, None).unwrap()
    }

    /// Reads until the other side has closed the connection, which may break it.
    fn rest(mut stream: TcpStream) -> String {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut answer = Vec::new();
        let mut block = [0; 4096];
        loop {
            match stream.read(&mut block) {
                Ok(0) => break,
                Ok(read) => answer.extend_from_slice(&block[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it is still open"),
                Err(_) => break,
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn who_does_not_ask_in_time_is_let_go() {
        let server = bounded(&Limits {
            idle: Duration::from_millis(300),
            ..Limits::default()
        });
        let begun = |bytes: &[u8]| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(bytes).unwrap();
            stream
        };
        for bytes in [
            &b""[..],
            b"GET",
            b"GET /livez HTTP/1.1\r\nhost: x\r\n",
            b"\r\n\r\n",
        ] {
            assert!(!rest(begun(bytes)).starts_with("HTTP/1.1 200"));
        }
        // Between two requests too.
        let asked = begun(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n");
        assert!(rest(asked).starts_with("HTTP/1.1 200"));
        // And who sends its head bit by bit.
        let mut slow = begun(b"GET /livez HTTP/1.1\r\n");
        let dripped = (0..100).take_while(|_| {
            std::thread::sleep(Duration::from_millis(50));
            slow.write_all(b"a: b\r\n").is_ok()
        });
        assert!(dripped.count() < 100);
    }

    #[test]
    fn a_head_that_is_too_long_is_refused() {
        let server = bounded(&Limits::default());
        for head in [
            format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(100_000)),
            format!("GET /livez HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(100_000)),
            format!("GET /livez HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100)),
        ] {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            let _ = stream.write_all(head.as_bytes());
            let answer = rest(stream);
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
                "{answer}"
            );
        }
    }

    #[test]
    fn half_requests_keep_nobody_out() {
        let server = bounded(&Limits {
            max_connections: 10,
            ..Limits::default()
        });
        let half: Vec<TcpStream> = (0..200)
            .map(|_| {
                let mut stream = TcpStream::connect(server.address()).unwrap();
                let _ = stream.write_all(b"GET /livez HTTP/1.1\r\n");
                stream
            })
            .collect();
        for _ in 0..20 {
            let answer = ask(server.address(), "/livez");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        // Those that made room have been closed, long before their time was over.
        assert_eq!(rest(half.into_iter().next().unwrap()), "");
    }

    #[test]
    fn who_asks_by_a_name_of_another_gets_no_metrics_and_probes_answer_to_any() {
        let server = bounded(&Limits {
            hosts: vec!["dbb.example.org".into()],
            ..Limits::default()
        });
        let by = |path: &str, host: &str| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\n{host}connection: close\r\n\r\n").unwrap();
            rest(stream)
        };
        let evil = by("/metrics", "host: evil.example.org\r\n");
        assert!(
            evil.starts_with("HTTP/1.1 421") && evil.contains("http.hosts"),
            "{evil}"
        );
        assert!(by("/metrics", "host: localhost\r\nhost: evil.example.org\r\n").starts_with("HTTP/1.1 421"));
        assert!(by("http://evil.example.org/metrics", "host: localhost\r\n").starts_with("HTTP/1.1 421"));
        for host in [
            "host: localhost:80\r\n",
            "host: dbb.example.org\r\n",
            "host: [::1]\r\n",
        ] {
            assert!(by("/metrics", host).starts_with("HTTP/1.1 200"), "{host}");
        }
        for path in ["/livez", "/readyz"] {
            assert!(by(path, "host: 10.1.2.3:9327\r\n").starts_with("HTTP/1.1 200"));
        }
    }

    #[test]
    fn a_request_that_never_ends_does_not_keep_the_server() {
        let (server, _health) = start();
        let address = server.address();
        let _half_asked = TcpStream::connect(address)
            .and_then(|mut s| s.write_all(b"GET /livez").map(|()| s))
            .unwrap();
        assert!(ask(address, "/livez").starts_with("HTTP/1.1 200"));
        drop(server);
        assert!(TcpStream::connect(address).is_err());
    }
}
