//! The certificate that the server shows.

use super::settings::TlsFiles;
use crate::ServeError;
use rustls::{
    ServerConfig,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use std::{path::Path, sync::Arc};
use tokio_rustls::TlsAcceptor;

/// What a client names that greets in TLS at once, without asking.
pub(super) const PROTOCOL: &[u8] = b"postgresql";

pub(super) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ServeError> {
    let certificates = CertificateDer::pem_file_iter(&files.certificate_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable("the certificate", &files.certificate_file, error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key_file)
        .map_err(|error| unreadable("the key", &files.key_file, error))?;
    let wrong = |source| ServeError::Tls {
        certificate: files.certificate_file.clone(),
        key: files.key_file.clone(),
        source,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(wrong)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn unreadable(what: &str, path: &Path, error: pem::Error) -> ServeError {
    let source = match error {
        pem::Error::Io(error) => error,
        other => std::io::Error::new(std::io::ErrorKind::InvalidData, other.to_string()),
    };
    ServeError::Secret {
        what: what.to_owned(),
        place: format!("file `{}`", path.display()),
        source,
    }
}
