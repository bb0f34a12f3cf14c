//! Acknowledged publishes per second, beside mosquitto: `cargo bench --bench publish [-- --seconds 5 --rounds 3 --connections 64 --kafka host:port]`.
//!
//! One load, one machine, in turns: devices speak MQTT 3.1.1 and publish one reading each at QoS 1, at most 32 unacknowledged per
//! connection. Mosquitto stores nothing; the gateway's PUBACK means that the reading is durable. Each server is a process of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use journal::Journal;
use journal::embedded::{EmbeddedConfig, EmbeddedJournal};
use journal::kafka::{KafkaConfig, KafkaJournal};
use schemas::{DeviceId, EventTime, Micros, PatientId, Private};
use store::Store;
use store::registry::{Assignment, Device, Patient, Sex};
use store::wards::Ward;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const WINDOW: usize = 32;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Also into this Kafka (`dev/kafka up`)
    #[arg(long)]
    kafka: Option<String>,
    /// Only the gateway, on this journal, in this folder: what the bench starts of itself
    #[arg(long, hide = true)]
    gateway: Option<String>,
    #[arg(long, hide = true)]
    folder: Option<String>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn now() -> EventTime {
    EventTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64)
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match (&arguments.gateway, &arguments.folder) {
        (Some(kind), Some(folder)) => runtime.block_on(gateway(kind, Path::new(folder), arguments.connections)),
        _ => runtime.block_on(compare(&arguments)),
    }
}

/// Serves until standard input ends.
async fn gateway(kind: &str, folder: &Path, connections: usize) {
    let store = Store::open(&format!("sqlite:{}", folder.join("vigil.db").display())).await.unwrap();
    let since = now() - Micros::hours(24);
    store.put_ward(&Ward { id: "w".to_owned(), name: "w".to_owned(), timezone: "UTC".to_owned() }).await.unwrap();
    for index in 0..connections {
        let (id, patient) = (DeviceId::parse(&format!("d{index}")).unwrap(), PatientId::parse(&format!("p{index}")).unwrap());
        let private = |text: &str| Private::new(text.to_owned());
        let one = Patient {
            id: patient.clone(),
            name: private("n"),
            born: private("1950-01-01"),
            sex: Sex::Unknown,
            identifier: private(""),
            ward: "w".to_owned(),
            created_at: since,
            monitored: true,
        };
        store.add_patient(&one).await.unwrap();
        let device = Device { id: id.clone(), model: String::new(), test: false, hub: None, created_at: since, revoked_at: None, min_time: since };
        store.add_device(&device).await.unwrap();
        store.assign(&Assignment { device: id.clone(), patient, from: since, until: None }).await.unwrap();
        println!("password {}", store.new_device_password(&id, now()).await.unwrap().as_str());
    }
    let installation = store.installation().await.unwrap().id;
    let journal: Arc<dyn Journal> = match kind {
        "embedded" => Arc::new(EmbeddedJournal::open(&EmbeddedConfig::new(folder.join("journal.db"), installation, 4)).unwrap()),
        bootstrap => {
            let config = KafkaConfig { prefix: format!("{installation}."), development: true, ..KafkaConfig::new(bootstrap, installation, 4) };
            Arc::new(KafkaJournal::open(&config).unwrap())
        }
    };
    let mappings = intake::Mappings::shipped().unwrap();
    let config = ingest::Config {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        tls: None,
        max_packet: 256 << 10,
        budget: 64 << 20,
        mappings,
        bridges: Vec::new(),
        onlooker: None,
    };
    let gateway = ingest::Gateway::bind(config, journal.clone(), store).await.unwrap();
    println!("address {}", gateway.address().unwrap());
    let stop = CancellationToken::new();
    let serving = tokio::spawn(gateway.run(stop.clone()));
    let mut line = String::new();
    tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line)).await.unwrap().unwrap();
    stop.cancel();
    serving.await.unwrap().unwrap();
    let mut stored = 0;
    for partition in 0..4 {
        let range = journal.range(journal::Topic::Inputs, schemas::Partition(partition)).await.unwrap();
        stored += range.next.0 - range.earliest.0;
    }
    journal.close().await;
    println!("stored {stored}");
}

struct Server {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    address: String,
    passwords: Vec<String>,
    _folder: tempfile::TempDir,
}

#[expect(clippy::zombie_processes, reason = "`Server::end` waits for it")]
fn vigil(kind: &str, connections: usize) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--gateway", kind, "--folder", folder.path().to_str().unwrap(), "--connections", &connections.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut passwords = Vec::new();
    loop {
        let line = lines.next().expect("the gateway ended").unwrap();
        if let Some(password) = line.strip_prefix("password ") {
            passwords.push(password.to_owned());
        } else if let Some(address) = line.strip_prefix("address ") {
            return Server { child, lines, address: address.to_owned(), passwords, _folder: folder };
        }
    }
}

impl Server {
    /// What it stored, once it has ended.
    fn end(mut self) -> i64 {
        drop(self.child.stdin.take());
        let stored = self.lines.find_map(|line| line.unwrap().strip_prefix("stored ").map(|n| n.parse().unwrap())).unwrap();
        self.child.wait().unwrap();
        stored
    }
}

fn mosquitto() -> Option<(Child, String, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = folder.path().join("mosquitto.conf");
    let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\nmax_inflight_messages 0\nlog_dest none\n");
    std::fs::File::create(&config).unwrap().write_all(text.as_bytes()).unwrap();
    let child = Command::new("mosquitto").arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    let address = format!("127.0.0.1:{port}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(&address).is_err() {
        assert!(Instant::now() < deadline, "mosquitto does not answer");
        std::thread::yield_now();
    }
    Some((child, address, folder))
}

async fn compare(arguments: &Arguments) {
    let mut rates: Vec<(String, Vec<f64>)> = Vec::new();
    let mut note = |name: &str, rate: f64| match rates.iter_mut().find(|(known, _)| known == name) {
        Some((_, all)) => all.push(rate),
        None => rates.push((name.to_owned(), vec![rate])),
    };
    for round in 1..=arguments.rounds {
        match mosquitto() {
            Some((mut child, address, _folder)) => {
                let (acked, took) = load(&address, arguments, &[]).await;
                child.kill().unwrap();
                child.wait().unwrap();
                note("mosquitto, storing nothing", acked as f64 / took);
            }
            None => eprintln!("mosquitto is not installed: apt-get install mosquitto"),
        }
        let kafka = arguments.kafka.iter().map(|bootstrap| ("Kafka", bootstrap.as_str()));
        for (name, kind) in std::iter::once(("embedded", "embedded")).chain(kafka) {
            let server = vigil(kind, arguments.connections);
            let (acked, took) = load(&server.address, arguments, &server.passwords).await;
            let stored = server.end();
            assert!(stored >= acked as i64, "{acked} acknowledged, {stored} stored");
            note(&format!("vigil, durable, {name}"), acked as f64 / took);
        }
        eprintln!("round {round} of {}", arguments.rounds);
    }
    println!("{:<28} {:>10} {:>10} {:>10}   acknowledged publishes a second, {} connections", "", "min", "median", "max", arguments.connections);
    for (name, mut all) in rates {
        all.sort_by(f64::total_cmp);
        println!("{name:<28} {:>10.0} {:>10.0} {:>10.0}", all[0], all[all.len() / 2], all[all.len() - 1]);
    }
}

/// Publishes on every connection for the time asked; how many were acknowledged, in how many seconds.
async fn load(address: &str, arguments: &Arguments, passwords: &[String]) -> (u64, f64) {
    let mut streams = Vec::new();
    for index in 0..arguments.connections {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let id = format!("d{index}");
        let mut body = b"\x00\x04MQTT\x04\x02\x00\x3c".to_vec();
        let text = |body: &mut Vec<u8>, text: &str| {
            body.extend((text.len() as u16).to_be_bytes());
            body.extend(text.as_bytes());
        };
        text(&mut body, &id);
        if let Some(password) = passwords.get(index) {
            body[7] |= 0xc0;
            text(&mut body, &id);
            text(&mut body, password);
        }
        let mut connect = vec![0x10, body.len() as u8];
        connect.append(&mut body);
        stream.write_all(&connect).await.unwrap();
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).await.unwrap();
        assert_eq!(connack[3], 0, "the connection is refused");
        streams.push((stream, id));
    }
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(arguments.seconds);
    let tasks: Vec<_> = streams.into_iter().map(|(stream, id)| tokio::spawn(publish(stream, id, until))).collect();
    let mut acked = 0;
    for task in tasks {
        acked += task.await.unwrap();
    }
    (acked, began.elapsed().as_secs_f64())
}

async fn publish(mut stream: TcpStream, id: String, until: Instant) -> u64 {
    let topic = format!("v1/devices/{id}/vitals");
    let (mut sent, mut acked) = (0u64, 0u64);
    let (mut out, mut buffer) = (Vec::new(), [0; 4096]);
    let mut pending = 0;
    let begin = now().0;
    loop {
        while Instant::now() < until && (sent - acked) < WINDOW as u64 {
            // one reading each, a millisecond apart, none of them a repetition
            let stamp = begin / 1000 - 86_000_000 + sent as i64;
            let payload = format!("{{\"metric\":\"spo2\",\"value\":{},\"unit\":\"%\",\"measured_at\":{stamp}}}", 90 + sent % 10);
            let length = 2 + topic.len() + 2 + payload.len();
            out.push(0x32);
            out.extend([(length % 128) as u8 | 0x80, (length / 128) as u8]);
            out.extend((topic.len() as u16).to_be_bytes());
            out.extend(topic.as_bytes());
            out.extend(((sent % 65_535) as u16 + 1).to_be_bytes());
            out.extend(payload.as_bytes());
            sent += 1;
        }
        if !out.is_empty() {
            stream.write_all(&out).await.unwrap();
            out.clear();
        }
        if sent == acked {
            return acked;
        }
        let read = stream.read(&mut buffer[pending..]).await.unwrap();
        assert!(read > 0, "the connection was closed with {} unacknowledged", sent - acked);
        let have = pending + read;
        acked += (have / 4) as u64;
        pending = have % 4;
        buffer.copy_within(have - pending..have, 0);
    }
}
