//! TLS 1.3, and nothing older.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use ingest::{Config, Gateway, GatewayError, Tls};
use journal::memory::MemoryJournal;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{Raw, connect};
use crate::{GOOD, PARTITIONS, VITALS, config, inputs, registered, serve, soon};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A certificate for this machine, and the port that has it.
pub fn certified(folder: &Path) -> (rcgen::Certificate, Tls) {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("c.pem"), folder.join("k.pem"));
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    (cert, Tls { listen: ANY, certificate, key })
}

pub fn trusting(root: &rcgen::Certificate, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    config.with_root_certificates(roots).with_no_client_auth()
}

fn connector(root: &rcgen::Certificate, versions: &[&'static rustls::SupportedProtocolVersion]) -> TlsConnector {
    TlsConnector::from(Arc::new(trusting(root, versions)))
}

#[tokio::test]
async fn devices_come_in_over_tls_1_3() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, tls) = certified(folder.path());
    let journal = MemoryJournal::new(PARTITIONS);
    let served = serve(Config { tls: Some(tls), ..config() }, Arc::new(journal.clone())).await;
    let address = served.tls.unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();

    let stream = TcpStream::connect(address).await.unwrap();
    let stream = soon("a handshake", connector(&cert, &[&rustls::version::TLS13]).connect(name.clone(), stream)).await.unwrap();
    let mut ox = Raw { stream, level: 5 };
    ox.send(&connect(5, "c", Some("ox"), Some(served.password("ox")), 60)).await;
    assert_eq!(ox.packet().await.unwrap().1[1], 0);
    journal.hold();
    for id in 1..=30 {
        ox.publish(1, id, VITALS, GOOD).await;
    }
    ox.silent().await;
    journal.release();
    for id in 1..=30 {
        ox.acked(id).await;
    }
    assert_eq!(inputs(&journal).len(), 30);

    // neither plain bytes nor silence on the TLS port harm anybody
    let mut plain = Raw::dial(address, 5).await;
    plain.send(&connect(5, "c", Some("ox"), Some("x"), 60)).await;
    let _silence = TcpStream::connect(address).await.unwrap();
    ox.silent().await;
    served.stop.cancel();
    ox.closed(0x8b).await;
    soon("the end", served.running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_bad_pem_names_the_key_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let registered = registered().await;
    let absent = folder.path().join("absent.pem");
    let nothing = folder.path().join("nothing.pem");
    std::fs::write(&nothing, "nothing").unwrap();
    for certificate in [absent, nothing] {
        let tls = Tls { listen: ANY, certificate: certificate.clone(), key: certificate };
        let bound = Gateway::bind(Config { tls: Some(tls), ..config() }, Arc::new(MemoryJournal::new(1)), registered.store.clone()).await;
        let Err(error @ GatewayError::Pem { .. }) = bound else { panic!("it was bound") };
        assert!(error.to_string().starts_with("ingest.certificate = "), "{error}");
    }
}

#[tokio::test]
async fn an_address_in_use_names_the_key_of_the_configuration() {
    let registered = registered().await;
    let taken = std::net::TcpListener::bind(ANY).unwrap();
    let config = Config { listen: Some(taken.local_addr().unwrap()), ..config() };
    let Err(error) = Gateway::bind(config, Arc::new(MemoryJournal::new(1)), registered.store.clone()).await else { panic!("it was bound") };
    assert!(error.to_string().contains("set ingest.listen to a free address"), "{error}");
}
