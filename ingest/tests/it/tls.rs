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
    (cert, Tls { listen: ANY, certificate, key, ca: None })
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

struct Authority(rcgen::Issuer<'static, rcgen::KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self(rcgen::Issuer::new(parameters, key), pem)
    }

    fn issue(&self) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        (rcgen::CertificateParams::new(vec!["ox".to_owned()]).unwrap().signed_by(&key, &self.0).unwrap(), key)
    }
}

/// A certificate is enough, for the device that it is registered of, for as long as it is.
#[tokio::test]
async fn a_registered_certificate_lets_a_device_in_and_its_end_cuts_it() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, tls) = certified(folder.path());
    let (ours, theirs) = (Authority::new(), Authority::new());
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &ours.1).unwrap();
    let journal = MemoryJournal::new(PARTITIONS);
    let served = serve(Config { tls: Some(Tls { ca: Some(ca), ..tls }), ..config() }, Arc::new(journal.clone())).await;
    let (address, store) = (served.tls.unwrap(), served.registered.store.clone());
    let with = |(own, key): &(rcgen::Certificate, rcgen::KeyPair)| {
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_client_auth_cert(vec![own.der().clone()], key).unwrap()))
    };
    let dial = async |connector: TlsConnector| {
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        Raw { stream: soon("a handshake", connector.connect(name, stream)).await.unwrap(), level: 5 }
    };
    let answer = async |connector: TlsConnector, user: Option<&str>, password: Option<&str>| {
        let mut raw = dial(connector).await;
        raw.send(&connect(5, "c", user, password, 60)).await;
        let code = raw.packet().await.map(|(_, body)| body[1]);
        (code, raw)
    };
    let (first, second) = (ours.issue(), ours.issue());
    let device = schemas::DeviceId::parse("ox").unwrap();
    let register = async |certificate: &rcgen::Certificate, alone: bool| {
        let before = store.registry_version().await.unwrap();
        store.new_device_certificate(&device, &store::secrets::fingerprint(certificate.der()), None, alone, schemas::EventTime(1)).await.unwrap();
        assert!(store.registry_version().await.unwrap() > before);
    };
    // signed by our authority, and nobody's yet: also a right password does not help
    assert_eq!(answer(with(&first), Some("ox"), Some(served.password("ox"))).await.0, Some(0x87));
    register(&first.0, false).await;
    let mut ox = soon("the registry", async {
        loop {
            if let (Some(0), raw) = answer(with(&first), None, None).await {
                return raw;
            }
        }
    })
    .await;
    ox.publish(1, 1, VITALS, GOOD).await;
    ox.acked(1).await;
    assert_eq!(inputs(&journal)[0].device, device);
    assert_eq!(answer(with(&first), Some("hub"), None).await.0, Some(0x86), "not as another device");
    // who shows none has a password
    assert_eq!(answer(connector(&cert, &[&rustls::version::TLS13]), Some("ox"), Some(served.password("ox"))).await.0, Some(0));
    // from another authority: TLS itself refuses, after the client believes that it is in
    assert_eq!(answer(with(&theirs.issue()), Some("ox"), None).await.0, None);
    // a new one in place of the old one cuts who came with that
    let mut ox = answer(with(&first), None, None).await.1;
    register(&second.0, true).await;
    ox.closed(0x87).await;
    assert_eq!(answer(with(&first), None, None).await.0, Some(0x87));
    assert_eq!(answer(with(&second), None, None).await.0, Some(0));
    served.stopped().await;
}

#[tokio::test]
async fn a_bad_pem_names_the_key_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let registered = registered().await;
    let absent = folder.path().join("absent.pem");
    let nothing = folder.path().join("nothing.pem");
    std::fs::write(&nothing, "nothing").unwrap();
    for certificate in [absent, nothing] {
        let tls = Tls { listen: ANY, certificate: certificate.clone(), key: certificate, ca: None };
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
