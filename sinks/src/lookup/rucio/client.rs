//! Requests to Rucio, and what their status means.
//!
//! A request is tried a second time where the connection broke before an answer, and where its token was refused.
//! Redirections are not followed: the token would go with them.

use super::{
    answer::Lines,
    breaker::Breaker,
    pace::Pace,
    settings::{RucioSettings, X509},
    token::Tokens,
};
use crate::{
    lookup::{LookUpError, LookUpStats},
    tls,
};
use reqwest::{
    Method, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};
use std::{error::Error, fmt, sync::Arc, time::Duration, time::Instant};
use tokio::runtime::Runtime;

/// Most of what Rucio says of an error that is repeated.
const MOST_SAID: usize = 500;
/// Before a request is tried again.
const SOON: Duration = Duration::from_millis(100);

/// Rucio's REST interface; clones share connections, token and pace. Every call blocks its thread.
#[derive(Clone)]
pub struct Rucio(Arc<Shared>);

struct Shared {
    client: Client,
    breaker: Breaker,
    // Its thread moves the bytes of all connections; callers only wait.
    runtime: Runtime,
}

pub(super) struct Client {
    pub(super) settings: RucioSettings,
    pub(super) stats: Arc<LookUpStats>,
    http: reqwest::Client,
    tokens: Tokens,
    pace: Pace,
}

/// What is asked.
pub(super) struct Question {
    pub(super) method: Method,
    /// Path and query, encoded.
    pub(super) path: String,
    pub(super) body: Option<Vec<u8>>,
    /// True where the whole answer must be here in time, not only each part of it.
    pub(super) bounded: bool,
}

impl Rucio {
    /// Prepares to ask; nothing is sent yet.
    ///
    /// # Errors
    /// The settings or the certificates are of no use.
    pub fn open(settings: &RucioSettings, stats: Arc<LookUpStats>) -> Result<Self, LookUpError> {
        settings.validate()?;
        let unstarted = |error: std::io::Error| LookUpError::Client { source: error.into() };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("rucio")
            .enable_all()
            .build()
            .map_err(unstarted)?;
        let plain = |url: &str| url.starts_with("http://");
        if (plain(&settings.url) || plain(settings.auth_url())) && settings.auth.x509.is_none() {
            tracing::warn!(
                url = settings.url,
                "passwords and tokens go to Rucio unencrypted: use https"
            );
        }
        let client = Client {
            http: http(settings, None)?,
            pace: Pace::new(settings.requests_per_second),
            tokens: Tokens::default(),
            settings: settings.clone(),
            stats,
        };
        Ok(Self(Arc::new(Shared {
            client,
            breaker: Breaker::default(),
            runtime,
        })))
    }

    /// Asks, and gives each line of the answer to `each`.
    pub(super) fn ask(&self, question: &Question, each: &mut dyn FnMut(&[u8])) -> Result<(), LookUpError> {
        let start = Instant::now();
        let client = &self.0.client;
        let result = self.0.runtime.block_on(client.ask(question, each));
        let seconds = start.elapsed().as_secs_f64();
        client.stats.update(|stats| stats.seconds += seconds);
        result
    }

    /// The version that Rucio tells, which needs no login.
    ///
    /// # Errors
    /// It cannot be asked, or what answers is no Rucio.
    pub fn ping(&self) -> Result<String, LookUpError> {
        self.0.runtime.block_on(self.0.client.ping())
    }

    pub(super) fn settings(&self) -> &RucioSettings {
        &self.0.client.settings
    }

    pub(super) fn stats(&self) -> &LookUpStats {
        &self.0.client.stats
    }

    pub(super) fn breaker(&self) -> &Breaker {
        &self.0.breaker
    }
}

impl fmt::Debug for Rucio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rucio")
            .field("url", &self.settings().url)
            .finish_non_exhaustive()
    }
}

fn http(settings: &RucioSettings, x509: Option<&X509>) -> Result<reqwest::Client, LookUpError> {
    let identity = x509.map(|x509| tls::Identity {
        certificate: &x509.certificate,
        key: x509.key.as_deref().unwrap_or(&x509.certificate),
    });
    let tls =
        tls::client(settings.ca_file.as_deref(), identity).map_err(|problem| LookUpError::Tls { problem })?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("dbb/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(settings.connect_timeout_s))
        .read_timeout(Duration::from_secs(settings.timeout_s))
        .pool_idle_timeout(Duration::from_secs(30))
        .build()
        .map_err(|error| LookUpError::Client { source: error.into() })
}

impl Client {
    async fn ask(&self, question: &Question, each: &mut dyn FnMut(&[u8])) -> Result<(), LookUpError> {
        let mut answer = self.answer(question).await?;
        let mut lines = Lines::default();
        loop {
            match answer.chunk().await {
                Ok(Some(part)) => lines.push(&part, each),
                Ok(None) => break,
                Err(error) => return Err(self.failed(self.broken(&error))),
            }
        }
        lines.finish(each);
        Ok(())
    }

    async fn answer(&self, question: &Question) -> Result<Response, LookUpError> {
        let url = format!("{}{}", self.settings.url.trim_end_matches('/'), question.path);
        let (mut reconnected, mut renewed) = (false, false);
        loop {
            let token = self.tokens.get(self).await?;
            let mut request = self
                .http
                .request(question.method.clone(), &url)
                .header("X-Rucio-Auth-Token", &token)
                .header(ACCEPT, "application/x-json-stream");
            if let Some(body) = &question.body {
                request = request
                    .header(CONTENT_TYPE, "application/json")
                    .body(body.clone());
            }
            if question.bounded {
                request = request.timeout(Duration::from_secs(self.settings.timeout_s));
            }
            match self.send(request).await {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => {
                    let refused = answer.status() == StatusCode::UNAUTHORIZED;
                    if refused && !renewed && self.tokens.forget(&token, &self.settings) {
                        renewed = true;
                        continue;
                    }
                    return Err(self.failed(self.meaning(answer).await));
                }
                Err(error) if reconnected || error.is_timeout() => {
                    return Err(self.failed(self.broken(&error)));
                }
                // A connection that was kept may have been closed at the other end.
                Err(_) => {
                    reconnected = true;
                    tokio::time::sleep(SOON).await;
                }
            }
        }
    }

    async fn ping(&self) -> Result<String, LookUpError> {
        let url = format!("{}/ping", self.settings.url.trim_end_matches('/'));
        let request = self
            .http
            .get(&url)
            .header(ACCEPT, "application/json")
            .timeout(Duration::from_secs(self.settings.timeout_s));
        let answer = self.send(request).await;
        let answer = answer.map_err(|error| self.failed(self.broken(&error)))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(self.failed(self.meaning(answer).await));
        }
        let said = text(answer).await;
        let version = serde_json::from_str::<serde_json::Value>(&said)
            .ok()
            .and_then(|said| Some(said.get("version")?.as_str()?.to_owned()));
        version.ok_or_else(|| {
            self.failed(LookUpError::Unexpected {
                url,
                status: status.as_u16(),
                detail: format!("no version, but `{said}`"),
            })
        })
    }

    /// Asks for a token at `way` and returns the headers of the answer.
    pub(super) async fn log_in(&self, way: &str, headers: HeaderMap) -> Result<HeaderMap, LookUpError> {
        // The certificate is only shown here, and is read anew.
        let with_certificate = match &self.settings.auth.x509 {
            Some(x509) => Some(http(&self.settings, Some(x509))?),
            None => None,
        };
        let http = with_certificate.as_ref().unwrap_or(&self.http);
        let request = http
            .get(format!("{}{way}", self.settings.auth_url()))
            .header(ACCEPT, "application/octet-stream")
            .timeout(Duration::from_secs(self.settings.timeout_s))
            .headers(headers);
        let answer = self
            .send(request)
            .await
            .map_err(|error| self.failed(self.broken(&error)))?;
        if !answer.status().is_success() {
            return Err(self.failed(self.meaning(answer).await));
        }
        self.stats.update(|stats| stats.logins += 1);
        Ok(answer.headers().clone())
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, reqwest::Error> {
        tokio::time::sleep(self.pace.wait(Instant::now())).await;
        self.stats.update(|stats| stats.requests += 1);
        request.send().await
    }

    fn failed(&self, error: LookUpError) -> LookUpError {
        self.stats.update(|stats| stats.requests_failed += 1);
        error
    }

    fn broken(&self, error: &reqwest::Error) -> LookUpError {
        let url = self.settings.url.clone();
        let mut cause: &dyn Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let why = cause.to_string();
        match () {
            () if error.is_connect() => LookUpError::Unreachable { url, why },
            () if error.is_timeout() => LookUpError::Silent {
                url,
                seconds: self.settings.timeout_s,
            },
            () if error.is_body() || error.is_decode() => LookUpError::Broken { url, why },
            () => LookUpError::Unreachable { url, why },
        }
    }

    /// What an answer that is no success means.
    async fn meaning(&self, answer: Response) -> LookUpError {
        let url = self.settings.url.clone();
        let status = answer.status();
        let said = |name: &str| {
            answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let class = said("ExceptionClass").unwrap_or_default();
        let retry_after_s = said(RETRY_AFTER.as_str()).and_then(|seconds| seconds.parse().ok());
        let message = said("ExceptionMessage");
        let detail = match message {
            Some(message) => format!("{class}: {message}"),
            None => text(answer).await,
        };
        let status_number = status.as_u16();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.refused(detail),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => LookUpError::Busy {
                url,
                status: status_number,
                detail,
                retry_after_s,
            },
            _ if class == "InvalidObject" => LookUpError::Name { url, detail },
            _ if class == "UnsupportedMetadataPlugin" => LookUpError::Unexpected {
                url,
                status: status_number,
                detail,
            },
            _ if status.is_server_error() || class == "DataIdentifierNotFound" || status_number == 400 => {
                LookUpError::Failed {
                    url,
                    status: status_number,
                    detail,
                }
            }
            _ => LookUpError::Unexpected {
                url,
                status: status_number,
                detail,
            },
        }
    }

    pub(super) fn refused(&self, detail: String) -> LookUpError {
        let auth = &self.settings.auth;
        let how = match (&auth.userpass, &auth.x509, &auth.token_file) {
            (Some(userpass), _, _) => format!("user name `{}` and its password", userpass.username),
            (_, Some(x509), _) => format!("certificate `{}`", x509.certificate.display()),
            (_, _, Some(path)) => format!("token of file `{}`", path.display()),
            _ => "no credentials".into(),
        };
        LookUpError::Credentials {
            url: self.settings.url.clone(),
            account: self.settings.account.clone(),
            how,
            detail,
        }
    }
}

/// The start of an answer that is none of Rucio's own.
async fn text(mut answer: Response) -> String {
    let mut text = Vec::new();
    while text.len() < MOST_SAID
        && let Ok(Some(part)) = answer.chunk().await
    {
        text.extend_from_slice(&part);
    }
    text.truncate(MOST_SAID);
    let text = String::from_utf8_lossy(&text);
    let words: Vec<_> = text.split_whitespace().collect();
    match words.is_empty() {
        true => "it says nothing more".into(),
        false => words.join(" "),
    }
}
