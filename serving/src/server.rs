//! `/livez`, `/readyz` and `/metrics`, on a thread of their own so that nothing else can starve them; and the views,
//! of which that thread only passes the bytes on.

use crate::{Health, Metrics, ServeError, http::ViewsApi};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use std::{
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::watch;

/// How long open requests may take once the server is told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(1);
/// The media type of the OpenMetrics text format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
    serve_with_views(listen, metrics, health, None)
}

/// As [`serve`], with `views` under `/api/v1/views`.
///
/// # Errors
///
/// As [`serve`]; and the address is not this host alone and the views have no token.
pub fn serve_with_views(
    listen: &str,
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
        .enable_all()
        .build()
        .map_err(ServeError::Thread)?;
    let (stop, stopped) = watch::channel(false);
    let app = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .with_state(Shown { metrics, health })
        .merge(views.map(|views| views.router()).unwrap_or_default());
    let thread = std::thread::Builder::new()
        .name("http".into())
        .spawn(move || runtime.block_on(run(listener, app, stopped)))
        .map_err(ServeError::Thread)?;
    Ok(Server {
        address,
        stop,
        thread: Some(thread),
    })
}

async fn run(listener: TcpListener, app: Router, stopped: watch::Receiver<bool>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "health and metrics are not served");
            return;
        }
    };
    let told = |mut stopped: watch::Receiver<bool>| async move {
        // An error means that the server's handle has gone, which stops it too.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let serving = axum::serve(listener, app).with_graceful_shutdown(told(stopped.clone()));
    let cut_off = async {
        told(stopped).await;
        tokio::time::sleep(STOP_PATIENCE).await;
    };
    tokio::select! {
        ended = async { serving.await } => if let Err(error) = ended {
            tracing::error!(%error, "health and metrics are no longer served");
        },
        () = cut_off => {}
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
            "GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
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
