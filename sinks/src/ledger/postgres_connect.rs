//! How the ledger reaches PostgreSQL: the URL, the password file, TLS.

use crate::ledger::{LedgerError, settings::LedgerSettings};
use std::{net::IpAddr, time::Duration};
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A database and how to get to it.
pub(crate) struct Target {
    pub(super) config: Config,
    pub(super) tls: Option<MakeRustlsConnect>,
}

impl Target {
    pub(crate) fn new(settings: &LedgerSettings, url: &str) -> Result<Self, LedgerError> {
        let wrong = |why: String| LedgerError::Configuration(format!("ledger.url: {why}"));
        let mut config: Config = url.parse().map_err(|e: tokio_postgres::Error| {
            let cause = std::error::Error::source(&e).map(ToString::to_string);
            wrong(cause.unwrap_or_else(|| e.to_string()))
        })?;
        if let Some(path) = &settings.password_file {
            let password = std::fs::read_to_string(path).map_err(|e| {
                LedgerError::Configuration(format!(
                    "ledger.password_file `{}` cannot be read: {e}",
                    path.display()
                ))
            })?;
            config.password(password.trim_end_matches(['\r', '\n']));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(10));
        }
        config.keepalives_idle(Duration::from_secs(30));
        config.tcp_user_timeout(Duration::from_secs(60));
        if config.get_application_name().is_none() {
            config.application_name("dbb");
        }
        let asked = url.contains("sslmode=");
        let tls = if config.get_ssl_mode() == SslMode::Disable || (!asked && is_local(&config)) {
            config.ssl_mode(SslMode::Disable);
            None
        } else {
            // `prefer` would let anyone in between turn TLS off.
            config.ssl_mode(SslMode::Require);
            Some(tls(settings)?)
        };
        Ok(Self { config, tls })
    }
}

/// True if every host is this machine.
fn is_local(config: &Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
    })
}

fn tls(settings: &LedgerSettings) -> Result<MakeRustlsConnect, LedgerError> {
    let config = crate::tls::client(settings.ca_file.as_deref(), None)
        .map_err(|why| LedgerError::Configuration(format!("TLS for the ledger: {why}")))?;
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn target(url: &str) -> Target {
        Target::new(&LedgerSettings::default(), url).unwrap()
    }

    #[test]
    fn another_host_means_tls_unless_told_otherwise() {
        assert!(target("postgresql://me@localhost/x").tls.is_none());
        assert!(target("postgresql://me@127.0.0.1/x").tls.is_none());
        assert!(
            target("postgresql://me@db.example.org/x?sslmode=disable")
                .tls
                .is_none()
        );
    }

    #[test]
    fn a_password_file_that_is_not_there_is_named() {
        let settings = LedgerSettings {
            password_file: Some("/no/such/secret".into()),
            ..Default::default()
        };
        let error = Target::new(&settings, "postgresql://me@localhost/x")
            .err()
            .unwrap();
        assert!(error.to_string().contains("/no/such/secret"), "{error}");
    }
}
