//! The token that every request carries: fetched once for all threads, renewed before it expires or when it is refused.

use super::{client::Client, secret, settings::RucioSettings};
use crate::lookup::LookUpError;
use reqwest::header::{HeaderMap, HeaderValue};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Believed where Rucio does not say how long a token lives.
const UNSAID: Duration = Duration::from_secs(600);
/// How long before its end a token is renewed; at half its life if that is shorter.
const MARGIN: Duration = Duration::from_secs(300);

/// The present token.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    now: Mutex<Option<Token>>,
    /// Held by whoever fetches one, so that the others wait for it instead of fetching their own.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Token {
    value: HeaderValue,
    until: Instant,
}

impl Tokens {
    /// A token to send.
    pub(super) async fn get(&self, client: &Client) -> Result<HeaderValue, LookUpError> {
        if let Some(path) = &client.settings.auth.token_file {
            // Whoever renews it writes the file: it is read each time.
            return secret::from_file(path, "the token");
        }
        if let Some(value) = self.fresh() {
            return Ok(value);
        }
        let _alone = self.fetching.lock().await;
        if let Some(value) = self.fresh() {
            return Ok(value);
        }
        let token = fetch(client).await?;
        let value = token.value.clone();
        *self.lock() = Some(token);
        Ok(value)
    }

    /// Rucio has refused `value`: true if there may be another.
    pub(super) fn forget(&self, value: &HeaderValue, settings: &RucioSettings) -> bool {
        if let Some(path) = &settings.auth.token_file {
            return secret::from_file(path, "the token").is_ok_and(|now| now != value);
        }
        self.lock().take_if(|token| token.value == value);
        true
    }

    fn fresh(&self) -> Option<HeaderValue> {
        let token = self.lock();
        let token = token.as_ref()?;
        (Instant::now() < token.until).then(|| token.value.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Token>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch(client: &Client) -> Result<Token, LookUpError> {
    let settings = &client.settings;
    let mut headers = HeaderMap::new();
    headers.insert("X-Rucio-Account", text(&settings.account, "rucio.account")?);
    headers.insert("X-Rucio-AppID", HeaderValue::from_static("dbb"));
    if let Some(vo) = &settings.vo {
        headers.insert("X-Rucio-VO", text(vo, "rucio.vo")?);
    }
    let way = match &settings.auth.userpass {
        Some(userpass) => {
            let what = "the password for Rucio";
            let password = match (&userpass.password_file, &userpass.password_env) {
                (Some(path), _) => secret::from_file(path, what)?,
                (None, name) => secret::from_environment(name.as_deref().unwrap_or_default(), what)?,
            };
            let username = text(&userpass.username, "rucio.auth.userpass.username")?;
            headers.insert("X-Rucio-Username", username);
            headers.insert("X-Rucio-Password", password);
            "/auth/userpass"
        }
        None => "/auth/x509",
    };
    let answer = client.log_in(way, headers).await?;
    let Some(value) = answer.get("X-Rucio-Auth-Token") else {
        return Err(client.refused("no token came, as if the identity belonged to several accounts".into()));
    };
    let mut value = value.clone();
    value.set_sensitive(true);
    let lives = lifetime(&answer).unwrap_or(UNSAID);
    let until = Instant::now() + lives - MARGIN.min(lives / 2);
    Ok(Token { value, until })
}

fn text(value: &str, field: &'static str) -> Result<HeaderValue, LookUpError> {
    HeaderValue::from_str(value).map_err(|error| LookUpError::Settings {
        field,
        problem: format!("cannot be sent in a header: {error}"),
    })
}

/// How long a token lives, by Rucio's own clock where it tells that.
fn lifetime(answer: &HeaderMap) -> Option<Duration> {
    let time = |name: &str| date(answer.get(name)?.to_str().ok()?);
    let now = time("Date").unwrap_or_else(|| jiff::Timestamp::now().as_second());
    u64::try_from(time("X-Rucio-Auth-Token-Expires")? - now)
        .ok()
        .map(Duration::from_secs)
}

/// Seconds since 1970 of `Fri, 27 Nov 2026 19:39:41 UTC`, as Rucio writes it, or with `GMT`, as HTTP does.
fn date(text: &str) -> Option<i64> {
    let text = text.strip_suffix(" UTC").or_else(|| text.strip_suffix(" GMT"))?;
    let time = jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S", text).ok()?;
    Some(
        time.to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?
            .timestamp()
            .as_second(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lives_s(headers: &[(&'static str, &str)]) -> Option<u64> {
        let mut answer = HeaderMap::new();
        for (name, value) in headers {
            answer.insert(*name, value.parse().unwrap());
        }
        lifetime(&answer).map(|lives| lives.as_secs())
    }

    #[test]
    fn how_long_a_token_lives_is_told_by_rucios_clock() {
        let expires = ("X-Rucio-Auth-Token-Expires", "Fri, 27 Nov 2020 20:39:41 UTC");
        let date = ("Date", "Fri, 27 Nov 2020 19:39:41 GMT");
        assert_eq!(lives_s(&[expires, date]), Some(3600));
        // By our own clock that was long ago.
        assert_eq!(lives_s(&[expires]), None);
        assert_eq!(lives_s(&[date]), None);
        assert_eq!(lives_s(&[("X-Rucio-Auth-Token-Expires", "soon"), date]), None);
    }
}
