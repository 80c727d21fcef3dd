//! What a configuration says about Rucio's REST interface.

use super::super::LookUpError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Most DIDs that Rucio takes in one request.
const MOST_BULK: usize = 1000;

/// Rucio's REST interface, and as whom to ask it. It is only ever read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RucioSettings {
    /// Where it is: `https://rucio.example.org:443`.
    pub url: String,
    /// Where tokens are given out, if that is another place.
    pub auth_url: Option<String>,
    /// The account.
    pub account: String,
    /// The virtual organisation, for a Rucio that serves several.
    pub vo: Option<String>,
    /// How to prove to be that account: exactly one of these.
    pub auth: Auth,
    /// Certificates of the authorities to trust, in PEM; those of the system if absent.
    pub ca_file: Option<PathBuf>,
    /// Which of Rucio's metadata plugins to ask: `ALL`, `JSON`, `DID_COLUMN`. `JSON` costs Rucio's database half, and
    /// has the labels that `rucio-register` sets.
    pub plugin: String,
    /// Most DIDs in one request, 1 to 1000. Fewer are asked for while Rucio is too slow for that many.
    pub bulk: usize,
    /// Most requests a second, by all threads together; no limit if absent.
    pub requests_per_second: Option<f64>,
    /// Longest to wait for a connection, in seconds.
    pub connect_timeout_s: u64,
    /// Longest to wait for an answer, and of a long one for its next part, in seconds.
    pub timeout_s: u64,
}

impl Default for RucioSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            auth_url: None,
            account: String::new(),
            vo: None,
            auth: Auth::default(),
            ca_file: None,
            plugin: "ALL".into(),
            bulk: 500,
            requests_per_second: Some(50.0),
            connect_timeout_s: 10,
            timeout_s: 60,
        }
    }
}

/// How to prove to be an account: exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// With a name and a password.
    pub userpass: Option<Userpass>,
    /// With a certificate.
    pub x509: Option<X509>,
    /// With a token that somebody else puts into this file and renews there, as is done with OIDC: its first line.
    pub token_file: Option<PathBuf>,
}

/// A name and a password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Userpass {
    /// The name.
    pub username: String,
    /// The file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// The variable of the environment that holds the password.
    pub password_env: Option<String>,
}

/// A certificate; its files are read again for each token, so that a short-lived one can be renewed in place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct X509 {
    /// The certificate, with those that signed it, in PEM.
    pub certificate: PathBuf,
    /// Its key; the same file if absent, as with a proxy certificate.
    pub key: Option<PathBuf>,
}

impl RucioSettings {
    /// Says what no schema can.
    ///
    /// # Errors
    /// [`LookUpError::Settings`] names the key.
    pub fn validate(&self) -> Result<(), LookUpError> {
        let bad = |field, problem: &str| {
            Err(LookUpError::Settings {
                field,
                problem: problem.into(),
            })
        };
        if let Err(problem) = address(&self.url) {
            return bad("rucio.url", problem);
        }
        if let Some(Err(problem)) = self.auth_url.as_deref().map(address) {
            return bad("rucio.auth_url", problem);
        }
        if self.account.is_empty() {
            return bad("rucio.account", "is empty");
        }
        let Auth {
            userpass,
            x509,
            token_file,
        } = &self.auth;
        if [userpass.is_some(), x509.is_some(), token_file.is_some()]
            .iter()
            .filter(|&&is| is)
            .count()
            != 1
        {
            return bad(
                "rucio.auth",
                "is not exactly one of `userpass`, `x509`, `token_file`",
            );
        }
        if let Some(userpass) = userpass {
            if userpass.username.is_empty() {
                return bad("rucio.auth.userpass.username", "is empty");
            }
            if userpass.password_file.is_some() == userpass.password_env.is_some() {
                return bad(
                    "rucio.auth.userpass",
                    "has not exactly one of `password_file` and `password_env`",
                );
            }
        }
        if x509
            .as_ref()
            .is_some_and(|x509| x509.certificate.as_os_str().is_empty())
        {
            return bad("rucio.auth.x509.certificate", "is empty");
        }
        if self.plugin.is_empty() {
            return bad("rucio.plugin", "is empty");
        }
        if !(1..=MOST_BULK).contains(&self.bulk) {
            return bad("rucio.bulk", "is not from 1 to 1000");
        }
        if self
            .requests_per_second
            .is_some_and(|rate| !(0.01..=100_000.0).contains(&rate))
        {
            return bad("rucio.requests_per_second", "is not from 0.01 to 100000");
        }
        if !(1..=3600).contains(&self.timeout_s) || !(1..=3600).contains(&self.connect_timeout_s) {
            return bad(
                "rucio.timeout_s",
                "is not from 1 to 3600, or `connect_timeout_s` is not",
            );
        }
        Ok(())
    }

    /// Where tokens are given out.
    pub(super) fn auth_url(&self) -> &str {
        self.auth_url
            .as_deref()
            .unwrap_or(&self.url)
            .trim_end_matches('/')
    }
}

fn address(url: &str) -> Result<(), &'static str> {
    let Ok(parsed) = reqwest::Url::parse(url) else {
        return Err("is no URL");
    };
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err("is not `https://HOST`");
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("has a user or a password in it, which belong into `auth`");
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err("has a `?` or a `#` in it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str = r#"{"url": "https://rucio.example.org", "account": "dbb",
        "auth": {"userpass": {"username": "dbb", "password_file": "/etc/dbb/rucio"}}}"#;

    fn validated(json: &str) -> String {
        let settings: RucioSettings = serde_json::from_str(json).unwrap();
        settings
            .validate()
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn an_address_an_account_and_a_password_are_enough() {
        assert_eq!(validated(GOOD), "");
    }

    #[test]
    fn what_cannot_work_names_its_key() {
        for (from, to, wanted) in [
            ("https:", "ftp:", "rucio.url: "),
            ("https://", "https://me:secret@", "rucio.url: has a user"),
            (r#""dbb","#, r#""","#, "rucio.account: "),
            (
                r#""userpass": {"#,
                r#""token_file": "/t", "userpass": {"#,
                "rucio.auth: ",
            ),
            (
                r#""password_file": "/etc/dbb/rucio""#,
                "",
                "rucio.auth.userpass: ",
            ),
            (r#""account""#, r#""bulk": 1001, "account""#, "rucio.bulk: "),
            (
                r#""account""#,
                r#""requests_per_second": 0, "account""#,
                "rucio.requests_per_second: ",
            ),
        ] {
            let json = GOOD.replacen(from, to, 1).replace(r#""dbb", }"#, r#""dbb"}"#);
            let problem = validated(&json);
            assert!(problem.starts_with(wanted), "{json}: {problem}");
            assert!(!problem.contains("secret"));
        }
    }
}
