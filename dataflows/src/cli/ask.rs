//! Asking a running `dbb` in SQL, as any client of PostgreSQL would.

use super::{Exit, exit::Told};
use crate::config::Config;
use anyhow::{Context, anyhow};
use postgres::{Client, NoTls, SimpleQueryMessage, config::SslMode, types::Type};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{net::ToSocketAddrs, sync::Arc, time::Duration};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Longest that a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a password is looked for that the configuration does not tell.
const PASSWORD: &str = "DBB_SQL_PASSWORD";

/// The answer to a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    /// The columns, by name.
    pub(super) columns: Vec<Column>,
    /// The rows; nothing where there is no value.
    pub(super) rows: Vec<Vec<Option<String>>>,
}

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: String,
    /// What is in it.
    pub(super) kind: Kind,
}

/// What values are, as far as their form in JSON goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Truth,
    Text,
}

/// Asks the instance that runs on `config`.
///
/// # Errors
///
/// No address is configured, nobody listens there, it lets us not in, or it refuses the statement.
pub(super) fn ask(config: &Config, user: Option<&str>, sql: &str) -> anyhow::Result<Answered> {
    let mut client = connect(config, user)?;
    let refused = |error: postgres::Error| {
        let told = error.as_db_error().map(|said| {
            let hint = said.hint().map(str::to_owned);
            let state = said.code().code();
            let hint = hint.unwrap_or_else(|| {
                format!("SQLSTATE {state}; `dbb sql CONFIG 'show tables'` lists the views")
            });
            Told::new(Exit::Problems, said.message().to_owned(), hint)
        });
        told.map_or_else(
            || anyhow::Error::new(error).context("the answer broke off"),
            Into::into,
        )
    };
    let prepared = client.prepare(sql).map_err(refused)?;
    let kinds: Vec<Kind> = prepared
        .columns()
        .iter()
        .map(|column| kind(column.type_()))
        .collect();
    let mut answered = Answered {
        columns: Vec::new(),
        rows: Vec::new(),
    };
    for message in client.simple_query(sql).map_err(refused)? {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                let kinds = kinds.iter().copied().chain(std::iter::repeat(Kind::Text));
                answered.columns = columns
                    .iter()
                    .zip(kinds)
                    .map(|(column, kind)| Column {
                        name: column.name().to_owned(),
                        kind,
                    })
                    .collect();
            }
            SimpleQueryMessage::Row(row) => {
                let cells = (0..row.len()).map(|at| row.get(at).map(str::to_owned));
                answered.rows.push(cells.collect());
            }
            _ => {}
        }
    }
    Ok(answered)
}

fn kind(type_: &Type) -> Kind {
    match *type_ {
        Type::BOOL => Kind::Truth,
        Type::INT2 | Type::INT4 | Type::INT8 | Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC | Type::OID => {
            Kind::Number
        }
        _ => Kind::Text,
    }
}

/// True when `config` serves SQL at all.
pub(super) fn is_served(config: &Config) -> bool {
    config.sql.listen.is_some()
}

fn connect(config: &Config, user: Option<&str>) -> anyhow::Result<Client> {
    let Some(listen) = &config.sql.listen else {
        let message = "this configuration serves no SQL";
        let hint = "set views.keep and sql.listen, as in `views: {keep: [all]}` and `sql: {listen: \"127.0.0.1:5433\"}`, and restart dbb";
        return Err(Told::new(Exit::Configuration, message, hint).into());
    };
    let (host, port) = reachable(listen)?;
    let mut settings = postgres::Config::new();
    settings
        .host(&host)
        .port(port)
        .dbname("dbb")
        .application_name("dbb sql");
    settings.connect_timeout(PATIENCE);
    let user = user.or_else(|| config.sql.users.keys().next().map(String::as_str));
    settings.user(user.unwrap_or("dbb"));
    if let Some(place) = user.and_then(|user| config.sql.users.get(user)) {
        let password = match std::env::var(PASSWORD) {
            Ok(password) => password,
            Err(_) => place.read("the password")?.expose().to_owned(),
        };
        settings.password(password);
    }
    let connected = match &config.sql.tls {
        None => {
            settings.ssl_mode(SslMode::Disable);
            settings.connect(NoTls)
        }
        Some(files) => {
            settings.ssl_mode(SslMode::Require);
            settings.connect(tls(&files.certificate_file)?)
        }
    };
    connected.map_err(|error| {
        if let Some(said) = error.as_db_error() {
            let hint = format!("name another user with --user; its password may be in {PASSWORD}");
            return Told::new(Exit::Problems, said.message().to_owned(), hint).into();
        }
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        let message = format!("no dbb answers SQL at {listen}: {cause}");
        Told::new(
            Exit::Unreachable,
            message,
            "is it running, with this configuration?",
        )
        .into()
    })
}

/// Host and port to reach what listens on `listen`: everywhere is also here.
fn reachable(listen: &str) -> anyhow::Result<(String, u16)> {
    let address = listen
        .to_socket_addrs()
        .with_context(|| format!("in sql.listen, `{listen}`"))?
        .next();
    let address = address.ok_or_else(|| anyhow!("`{listen}` in sql.listen is no address"))?;
    let ip = address.ip();
    let host = match listen.rsplit_once(':') {
        Some((name, _)) if name.parse::<std::net::IpAddr>().is_err() && !name.starts_with('[') => {
            name.to_owned()
        }
        _ if ip.is_unspecified() && ip.is_ipv6() => "::1".into(),
        _ if ip.is_unspecified() => "127.0.0.1".into(),
        _ => ip.to_string(),
    };
    Ok((host, address.port()))
}

/// Trusts the certificate that the configuration gives the server, and nothing else: who asks has that file too.
fn tls(certificate: &std::path::Path) -> anyhow::Result<MakeRustlsConnect> {
    let mut roots = RootCertStore::empty();
    let read = || format!("in sql.tls.certificate_file, `{}`", certificate.display());
    for one in CertificateDer::pem_file_iter(certificate).with_context(read)? {
        roots.add(one.with_context(read)?).with_context(read)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        assert_eq!(reachable("0.0.0.0:5433").unwrap(), ("127.0.0.1".into(), 5433));
        assert_eq!(reachable("[::]:5433").unwrap(), ("::1".into(), 5433));
        assert_eq!(reachable("127.0.0.1:9").unwrap(), ("127.0.0.1".into(), 9));
        assert_eq!(reachable("localhost:9").unwrap(), ("localhost".into(), 9));
    }

    #[test]
    fn without_an_address_the_hint_says_what_to_configure() {
        let error = ask(&Config::default(), None, "select 1").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Configuration);
        assert!(super::super::exit::message(&error).contains("sql.listen"));
    }
}
