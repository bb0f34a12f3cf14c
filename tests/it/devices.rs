//! A device's life at the console: it is assigned, certified, watched and exchanged.

use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::driven::{ONE, PATIENCE, Serving, done, edit, install, vigil};

fn one(arguments: &[&str]) -> Value {
    serde_json::from_str(&done(arguments)).unwrap()
}

#[test]
fn whoever_connects_a_device_sees_what_becomes_of_its_messages() {
    let folder = tempfile::tempdir().unwrap();
    let config = install(&folder.path().join("vigil"), &[]);
    done(&["patient", "add", "p1", "--name", "N", "--born", "1950-01-01", "--config", &config]);
    let old = one(&["device", "add", "old", "--patient", "p1", "--config", &config]);
    let new = one(&["device", "add", "new", "--config", &config]);
    let swapped = one(&["device", "swap", "old", "new", "--config", &config]);
    assert_eq!((&swapped["device"], &swapped["patient"]), (&"new".into(), &"p1".into()));
    let again = vigil(&["device", "swap", "old", "new", "--config", &config]).output().unwrap();
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(again.status.code() == Some(1) && said.contains("nobody's now") && said.contains("vigil device assign new"), "{said}");

    let taken = vigil(&["device", "swap", "new", "old", "--config", &config]).output().unwrap();
    assert!(taken.status.success(), "nobody wears it: {}", String::from_utf8_lossy(&taken.stderr));
    done(&["device", "swap", "old", "new", "--config", &config]);
    done(&["patient", "add", "p2", "--name", "N", "--born", "1950-01-01", "--config", &config]);
    done(&["device", "assign", "old", "--patient", "p2", "--config", &config]);
    let worn = vigil(&["device", "swap", "old", "new", "--config", &config]).output().unwrap();
    let said = String::from_utf8(worn.stderr).unwrap();
    assert!(worn.status.code() == Some(1) && said.contains("worn by p1"), "{said}");
    done(&["device", "assign", "old", "--config", &config]);
    // a correction takes back what was said of the time since, when it is told to
    let correct = ["device", "assign", "new", "--patient", "p1", "--from", "2026-01-01T00:00:00Z", "--config", &config];
    let refused = vigil(&correct).output().unwrap();
    assert!(refused.status.code() == Some(2) && String::from_utf8_lossy(&refused.stderr).contains("--correct takes that back"));
    let corrected = one(&[&correct[..], &["--correct"]].concat());
    assert_eq!((&corrected["from"], &corrected["taken_back"][0]["patient"]), (&"2026-01-01T00:00:00Z".into(), &"p1".into()));
    let ahead = vigil(&["device", "assign", "new", "--patient", "p1", "--from", "2099-01-01T00:00:00Z", "--config", &config]).output().unwrap();
    assert_eq!(ahead.status.code(), Some(2));

    let serving = Serving::start(&config, ONE);
    let devices = folder.path().join("devices");
    std::fs::write(&devices, format!("{old}\n{new}\n")).unwrap();
    done(&["simulate", "--to", &serving.mqtt, "--devices", devices.to_str().unwrap(), "--speed", "20", "--seconds", "2"]);
    let token = one(&["user", "token", "admin", "--label", "watch", "--config", &config]);
    let watch = |device: &str| {
        let mut command = vigil(&["device", "watch", device, "--once", "--url", &serving.dashboard]);
        let output = command.env("VIGIL_TOKEN", token["token"].as_str().unwrap()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let begun = Instant::now();
    let (mut refused, mut accepted) = (String::new(), String::new());
    while refused.is_empty() || accepted.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "nothing was heard of them");
        (refused, accepted) = (watch("old"), watch("new"));
    }
    for line in refused.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        assert_eq!((&line["verdict"], &line["reason"]), (&"refused".into(), &"unassigned".into()));
    }
    for line in accepted.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        assert_eq!((&line["verdict"], &line["clock"], &line["format"]), (&"accepted".into(), &"as_sent".into(), &"json".into()));
        assert!(line.get("value").is_none(), "no value is shown");
    }
    let nobody = vigil(&["device", "watch", "new", "--once", "--url", &serving.dashboard]).env_remove("VIGIL_TOKEN").output().unwrap();
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("vigil user token"));
    serving.stop();
}

/// The certificate that the console makes is all that a device needs; a new one in its place ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_comes_in_with_the_certificate_that_was_made_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("vigil");
    let config = install(&home, &[]);
    let tls = [("listen_tls = \"\" ", "listen_tls = \"127.0.0.1:0\" "), ("device_ca = \"\"", "device_ca = \"keys/device-ca.pem\"")];
    edit(std::path::Path::new(&config), &tls);
    done(&["patient", "add", "p1", "--name", "N", "--born", "1950-01-01", "--config", &config]);
    done(&["device", "add", "ox", "--patient", "p1", "--config", &config]);
    let make = |folder_name: &str, more: &[&str]| {
        let out = folder.path().join(folder_name);
        let made = one(&[&["device", "certificate", "ox", "--out", out.to_str().unwrap(), "--config", &config], more].concat());
        let read = |key: &str| std::fs::read(made[key].as_str().unwrap()).unwrap();
        (read("certificate"), read("key"))
    };
    let first = make("first", &[]);
    let out = folder.path().join("first");
    let again = vigil(&["device", "certificate", "ox", "--out", out.to_str().unwrap(), "--config", &config]).output().unwrap();
    assert!(!again.status.success() && std::fs::read(out.join("ox.key")).unwrap() == first.1, "a key that is in use is not written over");

    let serving = Serving::start(&config, ONE);
    let ca = std::fs::read(home.join("keys/gateway.pem")).unwrap();
    let second = make("second", &["--replace"]);
    let begun = Instant::now();
    while !publish(&serving.mqtt_tls, &ca, &second).await {
        assert!(begun.elapsed() < PATIENCE, "it is in force within a moment, without a name or a password");
    }
    assert!(!publish(&serving.mqtt_tls, &ca, &first).await, "it was replaced");
    serving.stop();
}

/// What others who trust this installation's authority are told of a device that was lost.
#[test]
fn a_revoked_certificate_is_on_the_list_that_the_authority_signs() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: openssl is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let config = install(&folder.path().join("vigil"), &[]);
    let none = vigil(&["device", "crl", "--config", &config]).output().unwrap();
    assert!(none.status.code() == Some(1) && String::from_utf8_lossy(&none.stderr).contains("no authority yet"), "{none:?}");
    for device in ["ox", "scale"] {
        done(&["device", "add", device, "--config", &config]);
    }
    let make = |device: &str, name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        one(&[&["device", "certificate", device, "--out", out.to_str().unwrap(), "--config", &config], more].concat())
    };
    let list = folder.path().join("list.pem");
    let file = list.to_str().unwrap();
    let write = || one(&["device", "crl", "--out", file, "--days", "2", "--config", &config]);
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (first, scale) = (make("ox", "first", &[]), make("scale", "scale", &[]));
    let authority = first["authority"].as_str().unwrap();
    let verify = |made: &Value| openssl(&["verify", "-crl_check", "-CAfile", authority, "-CRLfile", file, made["certificate"].as_str().unwrap()]);

    assert_eq!(write()["revoked"], 0);
    assert!(verify(&first).0 && verify(&scale).0, "{}", verify(&first).1);
    let second = make("ox", "second", &["--replace"]);
    assert_eq!(write()["revoked"], 1);
    let (good, said) = verify(&first);
    assert!(!good && said.contains("certificate revoked"), "{said}");
    assert!(verify(&second).0 && verify(&scale).0, "{}", verify(&second).1);
    done(&["device", "revoke", "ox", "--config", &config]);
    assert_eq!(write()["revoked"], 2);
    assert!(!verify(&second).0 && verify(&scale).0, "{}", verify(&scale).1);

    let (good, said) = openssl(&["crl", "-in", file, "-CAfile", authority, "-noout", "-text"]);
    assert!(good && said.contains("verify OK"), "{said}");
    for words in ["Superseded", "Cessation Of Operation", "X509v3 CRL Number"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // without --out it is the PEM itself
    assert!(done(&["device", "crl", "--config", &config]).starts_with("-----BEGIN X509 CRL-----"));
    // the list of another authority is nobody's word
    let other = install(&folder.path().join("other"), &[]);
    done(&["device", "add", "ox", "--config", &other]);
    let out = folder.path().join("others");
    done(&["device", "certificate", "ox", "--out", out.to_str().unwrap(), "--config", &other]);
    done(&["device", "crl", "--out", file, "--config", &other]);
    assert!(!verify(&scale).0);
}

/// Whether a reading is acknowledged; no: the connection was refused.
async fn publish(address: &str, ca: &[u8], own: &(Vec<u8>, Vec<u8>)) -> bool {
    use rumqttc::{AsyncClient, ConnectionError, Event, MqttOptions, Packet, PublishOptions, QoS, TlsConfiguration, Transport};
    let (_, port) = address.rsplit_once(':').unwrap();
    let mut options = MqttOptions::new("ox", ("localhost".to_owned(), port.parse().unwrap()));
    options.set_transport(Transport::Tls(TlsConfiguration::Simple { ca: ca.to_vec(), alpn: None, client_auth: Some(own.clone()) }));
    let (client, mut events) = AsyncClient::builder(options).capacity(4).build();
    let reading = r#"{"metric": "spo2", "value": 96, "unit": "%"}"#;
    client.publish("v1/devices/ox/vitals", reading, PublishOptions::new(QoS::AtLeastOnce)).await.unwrap();
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::PubAck(_))) => return true,
            Ok(_) => {}
            Err(ConnectionError::ConnectionRefused(_)) => return false,
            Err(error) => panic!("{error}"),
        }
    }
}
