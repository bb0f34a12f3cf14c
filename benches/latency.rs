//! From a device's publish to the event on the page's stream, with every role in one process on the embedded journal:
//! `cargo bench --bench latency [-- --rate 1000 --seconds 20]`.
//!
//! A hundred patients behind one hub; each publish is one reading at QoS 1; the clock starts before the bytes are written to the
//! socket and stops when the event with that reading's time has been parsed. Both ends are this process: one clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Parser)]
struct Arguments {
    /// Publishes a second
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

const PATIENTS: u64 = 100;

fn vigil(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vigil"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn done(arguments: &[&str]) -> String {
    let output = vigil(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    rustls::crypto::ring::default_provider().install_default().unwrap();
    println!(
        "{:>6} {:>8} {:>9} {:>9} {:>9} {:>9}   publish → event, ms, at {} publishes a second",
        "round", "events", "p50", "p99", "p99.9", "max", arguments.rate
    );
    for round in 1..=arguments.rounds {
        let mut seen = run(&arguments).await;
        seen.sort_by(f64::total_cmp);
        let at = |share: f64| seen[((seen.len() - 1) as f64 * share) as usize];
        println!("{round:>6} {:>8} {:>9.1} {:>9.1} {:>9.1} {:>9.1}", seen.len(), at(0.5), at(0.99), at(0.999), at(1.0));
    }
}

async fn run(arguments: &Arguments) -> Vec<f64> {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("vigil");
    let config = home.join("vigil.toml").to_str().unwrap().to_owned();
    let mut csv = "patient,device,metric,value,unit,measured_at,stored_at\n".to_owned();
    for patient in 0..PATIENTS {
        writeln!(csv, "p{patient},d{patient},spo2,97,%,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z").unwrap();
    }
    let recording = folder.path().join("ward.csv");
    std::fs::write(&recording, csv).unwrap();
    done(&["init", home.to_str().unwrap()]);
    let text = std::fs::read_to_string(&config).unwrap().replace("127.0.0.1:1883", "127.0.0.1:0").replace("127.0.0.1:8080", "127.0.0.1:0");
    std::fs::write(&config, text).unwrap();
    let hub: Value = serde_json::from_str(&done(&["device", "import", recording.to_str().unwrap(), "--config", &config, "--format", "ndjson"])).unwrap();
    let link: Value = serde_json::from_str(&done(&["user", "link", "admin", "--config", &config])).unwrap();
    let token = link["sign_in"].as_str().unwrap().split_once("token=").unwrap().1.to_owned();

    let mut serving = vigil(&["serve", "--config", &config]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(serving.stderr.take().unwrap()).lines();
    let ready = lines.find_map(|line| line.ok().filter(|line| line.contains("ready"))).unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    let field = |name: &str| ready.split_once(&format!("{name}=\"")).unwrap().1.split('"').next().unwrap().to_owned();
    let (mqtt, site) = (field("mqtt"), format!("http://{}", field("dashboard")));

    let client = reqwest::Client::new();
    let signed_in = client.post(format!("{site}/api/v1/session/link")).json(&json!({"token": token})).send().await.unwrap();
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let stream = client.get(format!("{site}/api/v1/events")).header("cookie", cookie).send().await.unwrap();
    assert!(stream.status().is_success());

    let sent: Arc<Mutex<HashMap<(String, String), Instant>>> = Arc::default();
    let watching = tokio::spawn(watch(stream, sent.clone()));
    publish(&mqtt, hub["password"].as_str().unwrap(), arguments, &sent).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pid = serving.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    serving.wait().unwrap();
    watching.await.unwrap()
}

/// Until the stream ends: how long each event took, in ms.
async fn watch(stream: reqwest::Response, sent: Arc<Mutex<HashMap<(String, String), Instant>>>) -> Vec<f64> {
    let mut took = Vec::new();
    let mut text = String::new();
    let mut bytes = stream.bytes_stream();
    while let Some(Ok(piece)) = bytes.next().await {
        text.push_str(std::str::from_utf8(&piece).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let data = event.lines().find_map(|line| line.strip_prefix("data:")).unwrap_or("null").to_owned();
            let delta = event.contains("event: delta") || event.contains("event:delta");
            text = rest.to_owned();
            if !delta {
                continue;
            }
            let data: Value = serde_json::from_str(&data).unwrap();
            let arrived = Instant::now();
            let mut sent = sent.lock().unwrap();
            for patient in data["patients"].as_array().into_iter().flatten() {
                let key = (patient["id"].as_str().unwrap().to_owned(), patient["values"]["spo2"]["observed_at"].as_str().unwrap_or_default().to_owned());
                if let Some(at) = sent.remove(&key) {
                    took.push((arrived - at).as_secs_f64() * 1000.0);
                }
            }
        }
    }
    took
}

async fn publish(mqtt: &str, password: &str, arguments: &Arguments, sent: &Mutex<HashMap<(String, String), Instant>>) {
    let mut stream = TcpStream::connect(mqtt).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut body = b"\x00\x04MQTT\x04\xc2\x00\x3c".to_vec();
    for text in ["replay-hub", "replay-hub", password] {
        body.extend((text.len() as u16).to_be_bytes());
        body.extend(text.as_bytes());
    }
    let mut connect = vec![0x10, body.len() as u8];
    connect.append(&mut body);
    stream.write_all(&connect).await.unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await.unwrap();
    assert_eq!(connack[3], 0);
    let (mut from, mut to) = stream.into_split();
    let acknowledged = tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while from.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    });
    let began = Instant::now();
    for number in 0..arguments.rate * arguments.seconds {
        tokio::time::sleep_until((began + Duration::from_secs_f64(number as f64 / arguments.rate as f64)).into()).await;
        let patient = number % PATIENTS;
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64 * 1000;
        let at = schemas::EventTime(micros).to_string();
        let topic = format!("v1/devices/d{patient}/vitals");
        let payload = json!({"metric": "spo2", "value": 94 + number % 5, "unit": "%", "measured_at": at}).to_string();
        let length = 2 + topic.len() + 2 + payload.len();
        let mut packet = vec![0x32, (length % 128) as u8 | 0x80, (length / 128) as u8];
        packet.extend((topic.len() as u16).to_be_bytes());
        packet.extend(topic.as_bytes());
        packet.extend(((number % 65_535) as u16 + 1).to_be_bytes());
        packet.extend(payload.as_bytes());
        sent.lock().unwrap().insert((format!("p{patient}"), at), Instant::now());
        to.write_all(&packet).await.unwrap();
    }
    to.write_all(&[0xe0, 0]).await.unwrap();
    acknowledged.await.unwrap();
}
