//! Views over HTTP: `GET /api/v1/views` lists them, `GET /api/v1/views/{name}` gives the rows of one.
//!
//! ```text
//!   request --token?--> what is asked --> pin one epoch --> rows on a thread of their own --> body, bit by bit
//! ```
//!
//! In:    requests; `?format=json|ndjson|arrow`, `?limit=`, `?columns=a,b`, and `?column=value` of columns of text.
//! Out:   rows of one epoch, which the headers `dbb-epoch`, `dbb-as-of` and `dbb-offsets` tell; `dbb-missing` where
//!        the source no longer had all records.
//! State: nothing between requests; while one is answered, a batch or two.
//!
//! The thread that answers probes only passes bytes on: making them is the work of others.

mod ask;
mod body;
mod format;

use crate::{
    Metrics, Offered, ServeError,
    secret::{Secret, SecretPlace},
    sql::{Epochs, Limits},
};
use ask::{Ask, BadRequest};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use body::Making;
use dbb_operators::publish::{END, Published};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::Instant};

/// The view that is published only for those who ask.
const REPLICAS: &str = "replicas";
/// The longest value of the header that tells the offsets; longer ones are left out.
const OFFSETS_LENGTH: usize = 4096;

/// Views over HTTP, beside health and metrics. Off loopback they need a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ViewsSettings {
    /// Where the token is that a request must bear: `Authorization: Bearer TOKEN`. On loopback, none is needed when
    /// none is set.
    pub token: Option<SecretPlace>,
    /// Most requests that are answered at once, 1 to 1000; one more is told to come back (status 503).
    #[schemars(range(min = 1, max = 1000))]
    pub max_requests: u16,
    /// Longest a request may take, its rows included, in milliseconds.
    #[schemars(range(min = 1))]
    pub request_timeout_ms: u64,
    /// Most rows of one answer; one with more breaks off there.
    #[schemars(range(min = 1))]
    pub max_rows: u64,
}

impl Default for ViewsSettings {
    fn default() -> Self {
        Self {
            token: None,
            max_requests: 16,
            request_timeout_ms: 30_000,
            max_rows: 10_000_000,
        }
    }
}

/// The views that are served over HTTP.
#[derive(Clone)]
pub struct ViewsApi {
    inner: Arc<Inner>,
}

struct Inner {
    settings: ViewsSettings,
    token: Option<Secret>,
    epochs: Arc<dyn Epochs>,
    offered: Vec<Offered>,
    places: Arc<Semaphore>,
    metrics: Metrics,
}

impl ViewsApi {
    /// These views, as `epochs` gives them.
    ///
    /// # Errors
    ///
    /// The token cannot be read.
    pub fn new(
        settings: &ViewsSettings,
        epochs: Arc<dyn Epochs>,
        offered: Vec<Offered>,
        metrics: Metrics,
    ) -> Result<Self, ServeError> {
        let token = settings.token.as_ref();
        Ok(Self {
            inner: Arc::new(Inner {
                token: token
                    .map(|place| place.read("the token of the views"))
                    .transpose()?,
                places: Arc::new(Semaphore::new(usize::from(settings.max_requests.max(1)))),
                settings: settings.clone(),
                epochs,
                offered,
                metrics,
            }),
        })
    }

    /// True when whoever asks must show a token.
    pub fn is_protected(&self) -> bool {
        self.inner.token.is_some()
    }

    /// Longest that an answer may take.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.inner.settings.request_timeout_ms).min(Limits::NONE.time)
    }

    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/api/v1/views", get(list))
            .route("/api/v1/views/{name}", get(view))
            .route_layer(middleware::from_fn_with_state(self.clone(), with_token))
            .with_state(self.clone())
    }

    fn newest(&self) -> Option<Arc<Published>> {
        self.inner.epochs.newest()
    }
}

/// An answer that is no rows: why, and what to do.
pub(crate) fn refusal(status: StatusCode, error: impl ToString) -> Response {
    (status, Json(json!({ "error": error.to_string() }))).into_response()
}

async fn with_token(State(api): State<ViewsApi>, request: Request, next: Next) -> Response {
    let Some(token) = &api.inner.token else {
        return next.run(request).await;
    };
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.as_bytes().split_at_checked(7));
    match given {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"Bearer ") && token.is(given) => {
            next.run(request).await
        }
        _ => {
            let mut response = refusal(
                StatusCode::UNAUTHORIZED,
                "this needs the header `Authorization: Bearer TOKEN` with the right token",
            );
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            response
        }
    }
}

async fn list(State(api): State<ViewsApi>) -> Response {
    let views: Vec<_> = api
        .inner
        .offered
        .iter()
        .map(|Offered { view, schema }| {
            let columns: Vec<_> = schema
                .fields()
                .iter()
                .map(|field| {
                    json!({
                        "name": field.name(),
                        "type": field.data_type().to_string(),
                        "nullable": field.is_nullable(),
                    })
                })
                .collect();
            json!({ "name": view.name, "meaning": view.meaning, "cost": view.cost, "columns": columns })
        })
        .collect();
    let mut response = Json(json!({ "views": views })).into_response();
    if let Some(published) = api.newest() {
        tell_epoch(response.headers_mut(), &published);
    }
    response
}

async fn view(
    State(api): State<ViewsApi>,
    Path(name): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let mut counted = body::Counted::new(api.inner.metrics.clone());
    let Some(offered) = api.inner.offered.iter().find(|offered| offered.view.name == name) else {
        let known: Vec<_> = api
            .inner
            .offered
            .iter()
            .map(|offered| offered.view.name)
            .collect();
        counted.ended("wrong");
        let error = format!("there is no view `{name}`; there are {}", known.join(", "));
        return refusal(StatusCode::NOT_FOUND, error);
    };
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let ask = match Ask::read(&parameters, accept, &offered.schema) {
        Ok(ask) => ask,
        Err(BadRequest(error)) => {
            counted.ended("wrong");
            return refusal(StatusCode::BAD_REQUEST, error);
        }
    };
    let Ok(place) = Arc::clone(&api.inner.places).try_acquire_owned() else {
        counted.ended("refused");
        let most = api.inner.settings.max_requests;
        let error = format!("{most} requests are being answered already; try again later");
        let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, error);
        let later = HeaderValue::from_static("1");
        response.headers_mut().insert(header::RETRY_AFTER, later);
        return response;
    };
    let patience = api.patience();
    let deadline = Instant::now() + patience;
    let published = if offered.view.name == REPLICAS {
        let epochs = Arc::clone(&api.inner.epochs);
        let waited = tokio::task::spawn_blocking(move || epochs.with_replicas(patience)).await;
        match waited {
            Ok(Ok(published)) => published,
            Ok(Err(unread)) => {
                counted.ended("failed");
                return refusal(StatusCode::SERVICE_UNAVAILABLE, unread);
            }
            Err(_) => None,
        }
    } else {
        api.newest()
    };
    let table = published
        .as_ref()
        .and_then(|published| published.tables.get(offered.view.name));
    let (Some(published), Some(table)) = (&published, table) else {
        counted.ended("not_published");
        let error = format!("view `{name}` is not published yet; ask again in a moment");
        return refusal(StatusCode::SERVICE_UNAVAILABLE, error);
    };
    let format = ask.format;
    let body: Body = Making {
        table: Arc::clone(table),
        ask,
        deadline,
        max_rows: api.inner.settings.max_rows,
        counted,
        place,
    }
    .start();
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static(format.media_type());
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    tell_epoch(response.headers_mut(), published);
    response
}

/// Says of when it is.
fn tell_epoch(headers: &mut HeaderMap, published: &Published) {
    let epoch = match published.epoch {
        END => "end".to_owned(),
        epoch => epoch.to_string(),
    };
    let offsets = published
        .offsets
        .iter()
        .map(|((stream, partition), next)| format!("{stream}:{partition}={next}"))
        .collect::<Vec<_>>()
        .join(",");
    let missing = published
        .missing
        .iter()
        .map(|((stream, partition), missing)| {
            let records = missing.records.map_or("?".into(), |records| records.to_string());
            format!("{stream}:{partition}={records};since={}", missing.since)
        })
        .collect::<Vec<_>>()
        .join(",");
    for (name, value) in [
        ("dbb-epoch", epoch),
        ("dbb-as-of", published.at.to_string()),
        ("dbb-offsets", offsets),
    ]
    .into_iter()
    .chain((!missing.is_empty()).then_some(("dbb-missing", missing)))
    {
        if value.len() <= OFFSETS_LENGTH
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}
