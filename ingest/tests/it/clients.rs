//! The clients that devices are built with, as they are: each publishes over plain TCP and TLS, in MQTT 3.1.1 and 5, at every QoS that there is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use ingest::Config;
use journal::memory::MemoryJournal;
use rustls::ClientConfig;
use schemas::Metric;

use crate::broker::until;
use crate::tls::{certified, trusting};
use crate::{PARTITIONS, VITALS, config, dead_letters, inputs, serve, soon};

/// One run of a client.
struct Run<'a> {
    port: u16,
    /// In PEM; `None`: plain.
    ca: Option<&'a Path>,
    level: u8,
    password: &'a str,
    messages: Vec<(u8, String)>,
}

impl Run<'_> {
    /// The arguments of the scripts in `tests/clients`.
    fn arguments(&self) -> Vec<String> {
        let ca = self.ca.map(|ca| ca.display().to_string()).unwrap_or_default();
        vec!["localhost".into(), self.port.to_string(), ca, self.level.to_string(), "ox".into(), self.password.into(), VITALS.into()]
    }
}

/// Runs it to its end, with these lines on its standard input.
async fn script(mut command: Command, what: String, input: String) {
    let ran = tokio::task::spawn_blocking(move || {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let written = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
        let output = child.wait_with_output()?;
        std::io::Result::Ok((written, output))
    });
    let (written, output) = soon(&what, ran).await.unwrap().unwrap_or_else(|error| panic!("{what}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}: {said}{}", output.status, String::from_utf8_lossy(&output.stdout));
    written.unwrap();
}

fn lines(messages: &[(u8, String)]) -> String {
    messages.iter().map(|(qos, payload)| format!("{qos} {payload}\n")).collect()
}

async fn mosquitto_pub(run: &Run<'_>) {
    for (qos, payload) in &run.messages {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "localhost", "-p", &run.port.to_string(), "-V", if run.level == 5 { "mqttv5" } else { "mqttv311" }]);
        command.args(["-u", "ox", "-P", run.password, "-t", VITALS, "-q", &qos.to_string(), "-m", payload]);
        if let Some(ca) = run.ca {
            command.arg("--cafile").arg(ca);
        }
        script(command, format!("mosquitto_pub, MQTT {}, QoS {qos}", run.level), String::new()).await;
    }
}

async fn paho(run: &Run<'_>, folder: &Path) {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/with_paho.py")).args(run.arguments()).env("PYTHONPATH", folder.join("python"));
    script(command, format!("paho, MQTT {}", run.level), lines(&run.messages)).await;
}

async fn mqttjs(run: &Run<'_>, folder: &Path) {
    let mut command = Command::new("node");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/with_mqttjs.cjs")).args(run.arguments()).env("NODE_PATH", folder.join("node_modules"));
    script(command, format!("MQTT.js, MQTT {}", run.level), lines(&run.messages)).await;
}

/// The two libraries have one shape and no type in common.
macro_rules! rumqttc {
    ($name:ident, $library:ident) => {
        async fn $name(run: &Run<'_>, tls: Option<Arc<ClientConfig>>) {
            let mut options = $library::MqttOptions::new("rumqttc", ("localhost", run.port));
            options.set_credentials("ox", run.password.to_owned());
            if let Some(tls) = tls {
                options.set_transport($library::Transport::Tls($library::TlsConfiguration::Rustls(tls)));
            }
            let (client, mut events) = $library::AsyncClient::builder(options).capacity(8).build();
            let poller = tokio::spawn(async move { while events.poll().await.is_ok() {} });
            for (qos, payload) in &run.messages {
                let qos = match qos {
                    0 => $library::QoS::AtMostOnce,
                    1 => $library::QoS::AtLeastOnce,
                    _ => $library::QoS::ExactlyOnce,
                };
                let sent = client.publish_tracked(VITALS, payload.clone(), $library::PublishOptions::new(qos)).await.unwrap();
                let what = format!("rumqttc, MQTT {}, {qos:?}", run.level);
                soon(&what, sent.wait_async()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            }
            client.disconnect().await.unwrap();
            soon("rumqttc's goodbye", poller).await.unwrap();
        }
    };
}

rumqttc!(rumqttc_v3, rumqttc_v4);
rumqttc!(rumqttc_v5, rumqttc);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_each_client_publishes_is_stored_once() {
    let Some(fetched) = std::env::var_os("VIGIL_TEST_CLIENTS").map(PathBuf::from) else {
        println!("skipped: VIGIL_TEST_CLIENTS is not set; VIGIL_TEST_CLIENTS=\"$(dev/clients up)\" fetches the clients");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (certificate, tls) = certified(folder.path());
    let ca = tls.certificate.clone();
    let trust = Arc::new(trusting(&certificate, &[&rustls::version::TLS13]));
    let journal = MemoryJournal::new(PARTITIONS);
    let served = serve(Config { tls: Some(tls), ..config() }, Arc::new(journal.clone())).await;

    // a heart rate is the message's name
    let mut published = Vec::new();
    for client in ["mosquitto_pub", "paho", "rumqttc", "MQTT.js"] {
        for (address, ca) in [(served.address, None), (served.tls.unwrap(), Some(ca.as_path()))] {
            for level in [4, 5] {
                let mut messages = Vec::new();
                for qos in 0..=if level == 4 { 2 } else { 1 } {
                    let value = 40 + published.len();
                    messages.push((qos, format!(r#"{{"metric":"heart_rate","value":{value}}}"#)));
                    published.push((value, format!("{client}, MQTT {level}, QoS {qos}{}", if ca.is_some() { ", TLS" } else { "" })));
                }
                let run = Run { port: address.port(), ca, level, password: served.password("ox"), messages };
                match (client, level) {
                    ("mosquitto_pub", _) => mosquitto_pub(&run).await,
                    ("paho", _) => paho(&run, &fetched).await,
                    ("MQTT.js", _) => mqttjs(&run, &fetched).await,
                    (_, 4) => rumqttc_v3(&run, ca.map(|_| trust.clone())).await,
                    _ => rumqttc_v5(&run, ca.map(|_| trust.clone())).await,
                }
            }
        }
    }
    // at QoS 0 a client is gone before its message is here
    until("every reading", || inputs(&journal).len() >= published.len()).await;
    let stored = inputs(&journal);
    for (value, what) in &published {
        let times = stored.iter().filter(|reading| reading.metric == Metric::HeartRate && reading.value == *value as f64).count();
        assert_eq!(times, 1, "{what}: stored {times} times");
    }
    assert_eq!(stored.len(), published.len());
    assert!(dead_letters(&journal).is_empty());
    served.stopped().await;
}
