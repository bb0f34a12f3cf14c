//! A device under test: its verdicts and its readings are shown, and it pages nobody until it is taken out.

use std::path::Path;
use std::time::Instant;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, PublishOptions, QoS};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::driven::{ONE, PATIENCE, Serving, done, edit, install, now, vigil};

/// Far below every limit.
const ALARMING: f64 = 51.5;
const RULE: &str = "[[rule]]\nid = \"low\"\nname = \"Low\"\npriority = \"high\"\nwhen = \"last(spo2, '5 min') < 90\"\n";

fn one(arguments: &[&str]) -> Value {
    serde_json::from_str(&done(arguments)).unwrap()
}

/// Whoever is paged: takes every page, and says which.
async fn pager() -> (String, UnboundedReceiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let (tell, pages) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).await.unwrap();
                    match line.trim().to_ascii_lowercase().split_once(": ") {
                        Some(("content-length", value)) => length = value.parse().unwrap(),
                        None if line.trim().is_empty() => break,
                        _ => {}
                    }
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
                // the test may be over
                drop(tell.send(serde_json::from_slice(&body).unwrap()));
            });
        }
    });
    (address, pages)
}

pub struct Device {
    id: &'static str,
    client: AsyncClient,
    events: EventLoop,
}

impl Device {
    pub fn connect(id: &'static str, added: &Value, gateway: &str) -> Self {
        let (host, port) = gateway.rsplit_once(':').unwrap();
        let mut options = MqttOptions::new(id, (host.to_owned(), port.parse().unwrap()));
        options.set_credentials(id, added["password"].as_str().unwrap().to_owned()).set_keep_alive(30);
        let (client, events) = AsyncClient::builder(options).capacity(8).build();
        Self { id, client, events }
    }

    /// Until `wanted` has what it waits for.
    async fn until<T>(&mut self, wanted: impl Fn(&Packet) -> Option<T>) -> T {
        let waiting = async {
            loop {
                if let Event::Incoming(packet) = self.events.poll().await.unwrap()
                    && let Some(found) = wanted(&packet)
                {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("it did not come")
    }

    /// The values as SpO₂, measured now; acknowledged when it returns.
    pub async fn publish(&mut self, values: &[f64]) {
        self.send(values).await;
        self.until(|packet| matches!(packet, Packet::PubAck(_)).then_some(())).await;
    }

    async fn send(&self, values: &[f64]) {
        let readings: Vec<Value> = values.iter().map(|value| json!({"metric": "spo2", "value": value, "unit": "%", "measured_at": now()})).collect();
        let message = json!({"sent_at": now(), "readings": readings}).to_string();
        self.client.publish(format!("v1/devices/{}/vitals", self.id), message, PublishOptions::new(QoS::AtLeastOnce)).await.unwrap();
    }
}

struct Site {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Site {
    async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}/api/v1/{path}", self.base)).bearer_auth(&self.token).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    }

    async fn until(&self, path: &str, found: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let answer = self.get(path).await;
            if found(&answer) {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "{path}: {answer:#}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_under_test_shows_its_verdicts_and_pages_nobody() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let folder = tempfile::tempdir().unwrap();
    let (address, mut pages) = pager().await;
    // one partition: what was published before another patient's page has been through the rules
    let config = install(&folder.path().join("vigil"), &["--partitions", "1"]);
    let webhook = [("enabled = false\nname = \"pager\"", "enabled = true\nname = \"pager\""), ("https://pager.example/hooks/vigil", &address)];
    edit(Path::new(&config), &webhook);
    let rules = folder.path().join("rules.toml");
    std::fs::write(&rules, RULE).unwrap();
    done(&["rule", "load", rules.to_str().unwrap(), "--reason", "a test of the test mode", "--config", &config]);
    for patient in ["p1", "p2"] {
        done(&["patient", "add", patient, "--name", "N", "--born", "1950-01-01", "--config", &config]);
    }
    let tried = one(&["device", "add", "tried", "--patient", "p1", "--test", "--config", &config]);
    let proven = one(&["device", "add", "proven", "--patient", "p2", "--test", "--config", &config]);
    let out = one(&["device", "test", "proven", "off", "--config", &config]);
    assert_eq!((&out["test"], &out["patient"]), (&false.into(), &"p2".into()));
    let warned = done(&["device", "test", "tried", "on", "--format", "table", "--config", &config]);
    assert!(warned.contains("under test already; p1, who wears it, is not watched by it"), "{warned}");
    let token = one(&["user", "token", "admin", "--label", "test", "--config", &config])["token"].as_str().unwrap().to_owned();

    let serving = Serving::start(&config, ONE);
    let site = Site { client: reqwest::Client::builder().build().unwrap(), base: serving.dashboard.clone(), token: token.clone() };
    let (mut tried, mut proven) = (Device::connect("tried", &tried, &serving.mqtt), Device::connect("proven", &proven, &serving.mqtt));
    tried.client.subscribe("v1/devices/tried/verdicts", QoS::AtMostOnce).await.unwrap();
    tried.until(|packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;

    tried.send(&[ALARMING, 0.97]).await;
    let verdict = tried
        .until(|packet| match packet {
            Packet::Publish(publish) => serde_json::from_slice::<Value>(&publish.payload).ok().filter(|verdict| verdict.get("accepted").is_some()),
            _ => None,
        })
        .await;
    assert_eq!((&verdict["accepted"], &verdict["refused"][0]["reason"]), (&1.into(), &"unit_mismatch".into()), "{verdict}");
    let messages = site.until("devices/tried/messages", |answer| answer["messages"].as_array().unwrap().len() == 2).await;
    assert_eq!(messages["test"], true);
    let of = |verdict: &str| messages["messages"].as_array().unwrap().iter().find(|message| message["verdict"] == verdict).unwrap().clone();
    assert_eq!(of("accepted")["test"], true);
    assert!(of("refused")["detail"].as_str().unwrap().contains("expected %"), "{messages:#}");
    let shown = site.until("patients/p1", |answer| answer["values"]["spo2"]["value"] == ALARMING).await;
    assert_eq!(shown["values"]["spo2"]["flags"]["test"], true);
    let watched = vigil(&["device", "watch", "tried", "--once", "--url", &serving.dashboard, "--format", "table"]).env("VIGIL_TOKEN", &token).output().unwrap();
    assert!(String::from_utf8_lossy(&watched.stdout).contains(", under test"), "{watched:?}");

    let mut page = async |patient: &str| {
        let page = tokio::time::timeout(PATIENCE, pages.recv()).await.expect("nobody was paged").unwrap();
        let alerts = site.get(&format!("alerts?patient={patient}")).await;
        assert_eq!((&page["type"], &page["data"]["alert"]), (&"alert.page".into(), &alerts["alerts"][0]["id"]), "{alerts:#}");
    };
    proven.publish(&[ALARMING]).await;
    page("p2").await;
    let alerts = site.get("alerts?patient=p1").await;
    assert_eq!(alerts["alerts"], json!([]), "a device under test raised an alert");

    done(&["device", "test", "tried", "off", "--config", &config]);
    let began = Instant::now();
    // the gateway hears of it within a second
    while site.get("devices/tried/messages").await["messages"].as_array().unwrap().iter().all(|m| m["verdict"] == "refused" || m["test"] == true) {
        assert!(began.elapsed() < PATIENCE, "it is still under test");
        tried.publish(&[ALARMING]).await;
    }
    page("p1").await;
    serving.stop();

    let store = store::Store::open(&format!("sqlite:{}", folder.path().join("vigil/data/vigil.db").display())).await.unwrap();
    let entries = store.audit_entries(&store::audit::AuditFilter::default(), 1000).await.unwrap();
    let switched: Vec<_> = entries.iter().filter(|one| one.entry.action == "device.test").map(|one| one.entry.detail.as_str()).collect();
    assert_eq!(switched, ["tried off", "tried on", "proven off"], "newest first");
}
