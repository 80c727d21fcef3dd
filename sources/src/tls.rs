//! TLS of sources: whom to trust, and who we are.

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

/// TLS that trusts the authorities in `ca_file`, the system's without it, and shows the certificate and key of `identity`.
///
/// # Errors
///
/// A sentence that names the file.
pub(crate) fn client(
    ca_file: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<ClientConfig, String> {
    let authorities = match ca_file {
        Some(path) => path.to_owned(),
        None => SYSTEM_CERTIFICATES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
            .ok_or("no certificates found on this system, set `ca_file`")?,
    };
    let mut roots = RootCertStore::empty();
    // Of a system's hundred there may be one that nobody can read.
    roots.add_parsable_certificates(certificates(&authorities)?);
    if roots.is_empty() {
        return Err(format!("no certificate in `{}`", authorities.display()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = identity else {
        return Ok(config.with_no_client_auth());
    };
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("the key in `{}`: {error}", key.display()))?;
    config
        .with_client_auth_cert(certificates(certificate)?, private)
        .map_err(|error| format!("the certificate in `{}`: {error}", certificate.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = |error: &dyn std::fmt::Display| format!("certificates of `{}`: {error}", path.display());
    CertificateDer::pem_file_iter(path)
        .map_err(|error| read(&error))?
        .map(|certificate| certificate.map_err(|error| read(&error)))
        .collect()
}
