//! How the catalogue is reached: the URL, the password file, TLS.

use super::CatalogueSettings;
use crate::SourceError;
use postgres::{
    Client, Config, NoTls,
    config::{Host, SslMode},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{error::Error, net::IpAddr, sync::Arc, time::Duration};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Where Debian and its kin keep the certificates they trust.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A session with the catalogue's database.
pub(super) fn connect(settings: &CatalogueSettings) -> Result<Client, SourceError> {
    let mut config: Config = settings
        .url
        .parse()
        .map_err(|e: postgres::Error| wrong(&format!("url: {}", cause(&e))))?;
    if let Some(path) = &settings.password_file {
        let password = std::fs::read_to_string(path)
            .map_err(|e| wrong(&format!("password_file `{}` cannot be read: {e}", path.display())))?;
        config.password(password.trim_end_matches(['\r', '\n']));
    }
    config.connect_timeout(Duration::from_secs(10));
    config.keepalives_idle(Duration::from_secs(30));
    config.tcp_user_timeout(Duration::from_secs(60));
    config.application_name("dbb");
    let asked = settings.url.contains("sslmode=");
    let connected = if config.get_ssl_mode() == SslMode::Disable || (!asked && is_local(&config)) {
        config.ssl_mode(SslMode::Disable);
        config.connect(NoTls)
    } else {
        // `prefer` would let anyone in between turn TLS off.
        config.ssl_mode(SslMode::Require);
        config.connect(tls(settings)?)
    };
    connected.map_err(|e| unreachable(&e))
}

/// An error of the database, as one of a source.
pub(super) fn unreachable(error: &postgres::Error) -> SourceError {
    SourceError::Unreachable {
        what: "the catalogue's database".into(),
        detail: cause(error),
    }
}

/// Settings that cannot work.
pub(super) fn wrong(why: &str) -> SourceError {
    SourceError::Configuration(format!("source.catalogue: {why}"))
}

fn cause(error: &postgres::Error) -> String {
    match error.source() {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

/// True if every host is this machine.
fn is_local(config: &Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
    })
}

fn tls(settings: &CatalogueSettings) -> Result<MakeRustlsConnect, SourceError> {
    let path = settings
        .ca_file
        .clone()
        .unwrap_or_else(|| SYSTEM_CERTIFICATES.into());
    let read = |e: &dyn std::fmt::Display| wrong(&format!("certificates of `{}`: {e}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&path).map_err(|e| read(&e))? {
        roots
            .add(certificate.map_err(|e| read(&e))?)
            .map_err(|e| read(&e))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(&format!("TLS: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
