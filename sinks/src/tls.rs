//! TLS of a client: whom it trusts, and who it says it is.

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where a system keeps the certificates it trusts, by distribution.
const SYSTEM_CERTIFICATES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The certificate of a client, with those that signed it, and its key.
pub(crate) struct Identity<'a> {
    pub(crate) certificate: &'a Path,
    /// A proxy certificate has both in one file.
    pub(crate) key: &'a Path,
}

/// TLS that trusts the authorities of `ca_file`, of `SSL_CERT_FILE`, or of the system: the first that is given.
///
/// # Errors
/// Says which file cannot be used, and why.
pub(crate) fn client(ca_file: Option<&Path>, identity: Option<Identity<'_>>) -> Result<ClientConfig, String> {
    let path = ca_file
        .map(Path::to_owned)
        .or_else(|| std::env::var_os("SSL_CERT_FILE").map(PathBuf::from))
        .or_else(|| {
            let mut known = SYSTEM_CERTIFICATES.iter().map(PathBuf::from);
            known.find(|path| path.exists())
        })
        .ok_or("no certificates found on this system, set `ca_file`")?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&path)?);
    if roots.is_empty() {
        return Err(wrong(&path, &"no certificate in it"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some(Identity { certificate, key }) = identity else {
        return Ok(config.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    config
        .with_client_auth_cert(chain, secret)
        .map_err(|error| wrong(certificate, &error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(path, &error))
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("`{}`: {error}", path.display())
}
