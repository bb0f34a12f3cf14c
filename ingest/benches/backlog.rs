//! What live readings wait for while a fleet uploads its backlog: `cargo bench -p ingest --bench backlog [-- --devices 1000 --live 100 --seconds 10 --rounds 3]`.
//!
//! Devices with a live reading each second, at QoS 1, and the time from publish to PUBACK: alone, and while other devices upload what they measured in a day, each as
//! fast as it is acknowledged, at most 32 messages in flight. The gateway writes to the embedded journal in a process of its own; so does the
//! backlog's load, with the lowest priority, for its devices are not on the gateway's machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use journal::Journal;
use journal::embedded::{EmbeddedConfig, EmbeddedJournal};
use schemas::{DeviceId, EventTime, Micros, PatientId, Private};
use store::Store;
use store::registry::{Assignment, Device, Patient, Sex};
use store::wards::Ward;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const WINDOW: usize = 32;
/// A reading a minute.
const DAY: u64 = 24 * 60;

#[derive(Parser)]
struct Arguments {
    /// Devices that upload a backlog
    #[arg(long, default_value_t = 1000)]
    devices: usize,
    /// Devices with a live reading each second
    #[arg(long, default_value_t = 100)]
    live: usize,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// What this bench starts of itself: `gateway`, `backlog`
    #[arg(long, hide = true)]
    role: Option<String>,
    #[arg(long, hide = true)]
    folder: Option<String>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn main() {
    let arguments = Arguments::parse();
    assert!(arguments.live > 0 && arguments.rounds > 0, "--live and --rounds are at least 1");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match (arguments.role.as_deref(), &arguments.folder) {
        (Some("gateway"), Some(folder)) => runtime.block_on(gateway(Path::new(folder), arguments.devices + arguments.live)),
        (Some(_), _) => runtime.block_on(backlog(&arguments)),
        (None, _) => runtime.block_on(compare(&arguments)),
    }
}

/// Serves until standard input ends.
async fn gateway(folder: &Path, devices: usize) {
    let store = Store::open(&format!("sqlite:{}", folder.join("vigil.db").display())).await.unwrap();
    let since = EventTime(now() * 1000) - Micros::hours(48);
    store.put_ward(&Ward { id: "w".to_owned(), name: "w".to_owned(), timezone: "UTC".to_owned() }).await.unwrap();
    let mut passwords = String::new();
    for index in 0..devices {
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
        passwords += store.new_device_password(&id, since).await.unwrap().as_str();
        passwords.push('\n');
    }
    std::fs::write(folder.join("passwords"), passwords).unwrap();
    let installation = store.installation().await.unwrap().id;
    let journal: Arc<dyn Journal> = Arc::new(EmbeddedJournal::open(&EmbeddedConfig::new(folder.join("journal.db"), installation, 4)).unwrap());
    let config = ingest::Config {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        tls: None,
        max_packet: 256 << 10,
        budget: 64 << 20,
        mappings: intake::Mappings::shipped().unwrap(),
        bridges: Vec::new(),
        onlooker: None,
    };
    let gateway = ingest::Gateway::bind(config, journal.clone(), store).await.unwrap();
    std::fs::write(folder.join("address"), gateway.address().unwrap().to_string()).unwrap();
    println!("ready");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(gateway.run(stop.clone()));
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
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

struct Role {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

fn role(role: &str, arguments: &Arguments, folder: &Path) -> Role {
    let mut command = if role == "backlog" { Command::new("nice") } else { Command::new(std::env::current_exe().unwrap()) };
    if role == "backlog" {
        command.args(["-n", "19"]).arg(std::env::current_exe().unwrap());
    }
    let (devices, live) = (arguments.devices.to_string(), arguments.live.to_string());
    command.args(["--role", role, "--folder", folder.to_str().unwrap(), "--devices", &devices, "--live", &live]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    Role { child, lines }
}

impl Role {
    fn begin(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }
    /// The number it says in the end.
    fn end(mut self) -> u64 {
        drop(self.child.stdin.take());
        let said = self.lines.next().unwrap().unwrap();
        self.child.wait().unwrap();
        said.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

async fn compare(arguments: &Arguments) {
    let folder = tempfile::tempdir().unwrap();
    let gateway = role("gateway", arguments, folder.path());
    let mut live: Vec<_> = connections(folder.path(), arguments.devices, arguments.live).await;
    let (mut acked, mut table) = (0, [Vec::new(), Vec::new()]);
    let mut rates = Vec::new();
    for round in 1..=arguments.rounds {
        table[0].push(probe(&mut live, arguments.seconds).await);
        let mut load = role("backlog", arguments, folder.path());
        load.begin();
        let began = Instant::now();
        table[1].push(probe(&mut live, arguments.seconds).await);
        let sent = load.end();
        rates.push(sent as f64 / began.elapsed().as_secs_f64());
        acked += sent + 2 * arguments.live as u64 * arguments.seconds;
        eprintln!("round {round} of {}", arguments.rounds);
    }
    drop(live);
    let stored = gateway.end();
    assert!(stored >= acked, "{acked} acknowledged, {stored} stored");
    rates.sort_by(f64::total_cmp);
    println!("{} live readings/s from publish to PUBACK, ms: min median max of {} rounds of {} s", arguments.live, arguments.rounds, arguments.seconds);
    for (name, rounds) in [("idle", &table[0]), ("beside the backlog", &table[1])] {
        for (quantile, label) in [(0.5, "p50"), (0.99, "p99"), (1.0, "max")] {
            let mut of: Vec<_> = rounds.iter().map(|waits: &Vec<Duration>| waits[((waits.len() - 1) as f64 * quantile) as usize].as_secs_f64() * 1e3).collect();
            of.sort_by(f64::total_cmp);
            println!("{name:<20} {label}  {:>8.2} {:>8.2} {:>8.2}", of[0], of[of.len() / 2], of[of.len() - 1]);
        }
    }
    let min_max = (rates[0], rates[rates.len() / 2], rates[rates.len() - 1]);
    println!(
        "backlog of {} devices, acknowledged messages/s  {:.0} {:.0} {:.0}; {acked} acknowledged, {stored} stored",
        arguments.devices, min_max.0, min_max.1, min_max.2
    );
}

/// Connections of the devices from `first` on.
async fn connections(folder: &Path, first: usize, count: usize) -> Vec<(TcpStream, String)> {
    let address = std::fs::read_to_string(folder.join("address")).unwrap();
    let passwords = std::fs::read_to_string(folder.join("passwords")).unwrap();
    let mut streams = Vec::new();
    for (index, password) in passwords.lines().enumerate().skip(first).take(count) {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let id = format!("d{index}");
        let mut body = b"\x00\x04MQTT\x04\xc2\x00\x00".to_vec();
        for text in [&id, &id, password] {
            body.extend((text.len() as u16).to_be_bytes());
            body.extend(text.as_bytes());
        }
        stream.write_all(&[&[0x10, body.len() as u8], &body[..]].concat()).await.unwrap();
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).await.unwrap();
        assert_eq!(connack[3], 0, "the connection is refused");
        streams.push((stream, id));
    }
    streams
}

fn message(id: &str, packet_id: u16, measured_at: i64) -> Vec<u8> {
    let topic = format!("v1/devices/{id}/vitals");
    let payload = format!("{{\"metric\":\"spo2\",\"value\":{},\"unit\":\"%\",\"measured_at\":{measured_at}}}", 90 + measured_at % 10);
    let length = 2 + topic.len() + 2 + payload.len();
    let mut message = vec![0x32, (length % 128) as u8 | 0x80, (length / 128) as u8];
    message.extend((topic.len() as u16).to_be_bytes());
    message.extend(topic.as_bytes());
    message.extend(packet_id.to_be_bytes());
    message.extend(payload.as_bytes());
    message
}

/// A reading of each device each second, spread over the second; how long each waited for its PUBACK, sorted.
async fn probe(streams: &mut Vec<(TcpStream, String)>, seconds: u64) -> Vec<Duration> {
    let (count, began) = (streams.len() as u64, Instant::now());
    let tasks: Vec<_> = std::mem::take(streams)
        .into_iter()
        .enumerate()
        .map(|(index, (mut stream, id))| {
            tokio::spawn(async move {
                let mut waits = Vec::new();
                for second in 0..seconds {
                    let due = began + Duration::from_micros(second * 1_000_000 + index as u64 * 1_000_000 / count);
                    tokio::time::sleep_until(due.into()).await;
                    let sent = Instant::now();
                    stream.write_all(&message(&id, 1, now())).await.unwrap();
                    stream.read_exact(&mut [0; 4]).await.unwrap();
                    waits.push(sent.elapsed());
                }
                (stream, id, waits)
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        let (stream, id, waits) = task.await.unwrap();
        streams.push((stream, id));
        all.extend(waits);
    }
    all.sort();
    all
}

/// Once told to begin, uploads until standard input ends; says how many messages were acknowledged.
async fn backlog(arguments: &Arguments) {
    let streams = connections(Path::new(arguments.folder.as_ref().unwrap()), 0, arguments.devices).await;
    println!("ready");
    std::io::stdin().lines().next().unwrap().unwrap();
    let acked = Arc::new(AtomicU64::new(0));
    for (stream, id) in streams {
        tokio::spawn(upload(stream, id, acked.clone()));
    }
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    println!("acknowledged {}", acked.load(Ordering::Relaxed));
    std::process::exit(0);
}

/// A day, and when that is through, another.
async fn upload(mut stream: TcpStream, id: String, acked: Arc<AtomicU64>) {
    let (mut sent, mut here, mut pending) = (0u64, 0u64, 0);
    let (mut out, mut buffer) = (Vec::new(), [0; 4096]);
    let begin = now() - 86_400_000 - i64::from(std::process::id() % 50_000);
    loop {
        while sent - here < WINDOW as u64 {
            let (minute, day) = (sent % DAY, sent / DAY);
            out.extend(message(&id, (sent % 65_535) as u16 + 1, begin + minute as i64 * 59_000 + day as i64));
            sent += 1;
        }
        stream.write_all(&out).await.unwrap();
        out.clear();
        let read = stream.read(&mut buffer[pending..]).await.unwrap();
        assert!(read > 0, "the connection was closed");
        let have = pending + read;
        here += (have / 4) as u64;
        acked.fetch_add((have / 4) as u64, Ordering::Relaxed);
        pending = have % 4;
        buffer.copy_within(have - pending..have, 0);
    }
}
