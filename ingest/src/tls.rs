//! TLS 1.3 on ring, from a certificate chain and a key in PEM; devices may show a certificate of their own.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
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
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable("ingest.certificate", &tls.certificate, &error))?
        .with_client_cert_verifier(clients(tls, provider)?)
        .with_single_cert(chain, key)
        .map_err(|error| unusable("ingest.key", &tls.key, &error))?;
    if tls.ca.is_some() {
        // a session that is taken up again would not look at when the certificate ends
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A device may show a certificate of this authority; which device it is of, the registry says.
fn clients(tls: &Tls, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, GatewayError> {
    let Some(ca) = &tls.ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let roots = Arc::new(roots(ca).map_err(|reason| unusable("ingest.device_ca", ca, &reason))?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).allow_unauthenticated().build();
    verifier.map_err(|error| unusable("ingest.device_ca", ca, &error))
}

/// The authorities of a PEM file.
pub(crate) fn roots(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())? {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("no certificate is in it".to_owned()) } else { Ok(roots) }
}

/// How the registry names a certificate.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    store::secrets::fingerprint(certificate)
}

fn unusable(name: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> GatewayError {
    GatewayError::Pem { name, path: path.to_owned(), reason: reason.to_string() }
}
