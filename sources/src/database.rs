//! How sources reach Rucio's database: the URL, the password file, TLS.

use crate::{SourceError, tls};
use dbb_database::{Kept, NotKept};
use postgres::{
    Client, Config, NoTls,
    config::{Host, SslMode},
};
use std::{error::Error, net::IpAddr, path::Path, time::Duration};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Longest that it may take to see how sessions are kept.
const LIMIT: Duration = Duration::from_secs(20);

/// A database, as a section of the configuration has it.
pub(crate) struct Database<'a> {
    /// The section, `source.catalogue`.
    pub(crate) section: &'static str,
    /// What it is to people: `the catalogue's database`.
    pub(crate) what: &'static str,
    pub(crate) url: &'a str,
    pub(crate) password_file: Option<&'a Path>,
    pub(crate) ca_file: Option<&'a Path>,
}

impl Database<'_> {
    /// A session with it, which is kept.
    pub(crate) fn connect(&self) -> Result<Client, SourceError> {
        let (config, tls) = self.target()?;
        self.kept()?;
        let config = Config::from(config);
        let connected = match tls {
            Some(tls) => config.connect(tls),
            None => config.connect(NoTls),
        };
        connected.map_err(|e| self.unreachable(&e))
    }

    /// How sessions with it are kept.
    pub(crate) fn kept(&self) -> Result<Kept, SourceError> {
        let (config, tls) = self.target()?;
        dbb_database::check(&config, tls.as_ref(), LIMIT).map_err(|error| match error {
            NotKept::Lost(_) => self.wrong(&error.to_string()),
            NotKept::Database(error) => self.unreachable(&error),
            NotKept::Silent(_) | NotKept::Here(_) => SourceError::Unreachable {
                what: self.what.into(),
                detail: error.to_string(),
            },
        })
    }

    /// Where it is, and the TLS by which it is reached, if any.
    fn target(&self) -> Result<(tokio_postgres::Config, Option<MakeRustlsConnect>), SourceError> {
        let mut config = self.config()?;
        if let Some(path) = self.password_file {
            let password = std::fs::read_to_string(path).map_err(|e| {
                self.wrong(&format!("password_file `{}` cannot be read: {e}", path.display()))
            })?;
            config.password(password.trim_end_matches(['\r', '\n']));
        }
        config.connect_timeout(Duration::from_secs(10));
        config.keepalives_idle(Duration::from_secs(30));
        config.tcp_user_timeout(Duration::from_secs(60));
        config.application_name("dbb");
        let asked = self.url.contains("sslmode=");
        let tls = if config.get_ssl_mode() == SslMode::Disable || (!asked && is_local(&config)) {
            config.ssl_mode(SslMode::Disable);
            None
        } else {
            // `prefer` would let anyone in between turn TLS off.
            config.ssl_mode(SslMode::Require);
            let tls = tls::client(self.ca_file, None).map_err(|why| self.wrong(&why))?;
            Some(MakeRustlsConnect::new(tls))
        };
        Ok((config, tls))
    }

    /// Host and name, for people.
    pub(crate) fn place(&self) -> Result<String, SourceError> {
        let config = self.config()?;
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(_)) | None => "localhost".into(),
        };
        let name = config.get_dbname().or(config.get_user()).unwrap_or_default();
        Ok(format!("{host}/{name}"))
    }

    fn config(&self) -> Result<tokio_postgres::Config, SourceError> {
        self.url
            .parse()
            .map_err(|e: postgres::Error| self.wrong(&format!("url: {}", cause(&e))))
    }

    /// An error of the database, as one of a source.
    pub(crate) fn unreachable(&self, error: &postgres::Error) -> SourceError {
        SourceError::Unreachable {
            what: self.what.into(),
            detail: cause(error),
        }
    }

    /// Settings that cannot work.
    pub(crate) fn wrong(&self, why: &str) -> SourceError {
        SourceError::Configuration(format!("{}: {why}", self.section))
    }
}

/// A schema's name, quoted; `None` if it is none.
pub(crate) fn identifier(name: &str) -> Option<String> {
    let named = !name.is_empty() && !name.contains('\0');
    named.then(|| format!("\"{}\"", name.replace('"', "\"\"")))
}

fn cause(error: &postgres::Error) -> String {
    match error.source() {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

/// True if every host is this machine.
fn is_local(config: &tokio_postgres::Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
    })
}
