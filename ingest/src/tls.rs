//! TLS 1.3 on ring, from a certificate chain and a key in PEM.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::gateway::{GatewayError, Tls};

pub(crate) fn acceptor(tls: &Tls) -> Result<TlsAcceptor, GatewayError> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unusable("ingest.certificate", &tls.certificate, &error))?;
    if chain.is_empty() {
        return Err(unusable("ingest.certificate", &tls.certificate, &"no certificate is in it"));
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| unusable("ingest.key", &tls.key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable("ingest.certificate", &tls.certificate, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| unusable("ingest.key", &tls.key, &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn unusable(name: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> GatewayError {
    GatewayError::Pem { name, path: path.to_owned(), reason: reason.to_string() }
}
