//! A region's devices at one `vigil serve` with every role: `cargo bench --bench load [-- --connections 10000 --seconds 60]`. Each device has a connection of its own and
//! publishes three readings a second in one message at QoS 1; how long the PUBACKs took, what was lost, and what it cost.
//!
//! With `--idle 100000` (or `--idle-tls`) connections are opened that say nothing, and the memory that each takes is printed instead.
//! A process holds no more connections than open files are allowed (`ulimit -Hn`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use futures::StreamExt;
use journal::embedded::{EmbeddedConfig, EmbeddedJournal};
use journal::{Event, Journal, Mode, Start, Topic};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use schemas::{DeviceId, EventTime, Input, Micros, Partition, PatientId, Private, Settings};
use store::registry::{Assignment, Credential, CredentialKind, Device, Patient, Sex};
use store::{Store, secrets};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

const PARTITIONS: u32 = 4;
/// Connections of one device, when they only have to be there.
const OF_ONE: usize = 10;
/// Connections from one address of the loopback net.
const OF_ADDRESS: usize = 2000;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Connections that say nothing, instead of the load
    #[arg(long, default_value_t = 0)]
    idle: usize,
    /// The same over TLS
    #[arg(long, default_value_t = 0)]
    idle_tls: usize,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let idle = arguments.idle.max(arguments.idle_tls);
    // what it starts inherits the limit
    let limit = getrlimit(Resource::Nofile);
    let files = limit.maximum.unwrap_or(u64::MAX);
    let wanted = idle.max(arguments.connections) as u64 + 200;
    assert!(files >= wanted, "{files} open files are possible here, {wanted} are needed: raise the hard limit, or ask for fewer connections");
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let devices = if idle > 0 { idle.div_ceil(OF_ONE) } else { arguments.connections };
    let served = Arc::new(Served::start(devices, arguments.idle_tls > 0).await);
    if idle > 0 {
        silent(&served, idle).await;
    } else {
        loaded(&served, &arguments).await;
    }
    let Ok(served) = Arc::try_unwrap(served) else { panic!("something still uses it") };
    let stored = served.end().await;
    if idle == 0 {
        let acknowledged = 3 * arguments.connections as i64 * arguments.seconds as i64;
        assert!(stored >= acknowledged, "{acknowledged} readings acknowledged, {stored} stored");
        println!("{acknowledged} readings acknowledged, {stored} in the journal: 0 lost");
    }
}

struct Served {
    child: Child,
    mqtt: SocketAddr,
    site: String,
    installation: String,
    passwords: Vec<String>,
    tls: Option<TlsConnector>,
    folder: tempfile::TempDir,
}

impl Served {
    async fn start(devices: usize, secure: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("vigil");
        let vigil =
            |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_vigil")).args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        assert!(vigil(&["init", home.to_str().unwrap()]).wait().unwrap().success());
        let config = home.join("vigil.toml");
        let mut text = std::fs::read_to_string(&config).unwrap().replace("127.0.0.1:1883", "127.0.0.1:0").replace("127.0.0.1:8080", "127.0.0.1:0");
        let tls = secure.then(|| {
            text = text.replace("listen_tls = \"\"", "listen_tls = \"127.0.0.1:0\"");
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(home.join("keys/gateway.pem")).unwrap()).unwrap();
            TlsConnector::from(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
        });
        std::fs::write(&config, text).unwrap();
        let (passwords, installation) = register(&home, devices).await;
        let mut child = vigil(&["serve", "--config", config.to_str().unwrap()]);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = lines.find_map(|line| line.ok().filter(|line| line.contains("ready"))).expect("vigil serve did not start");
        std::thread::spawn(move || {
            lines.map_while(Result::ok).filter(|line| line.contains("WARN") || line.contains("ERROR")).for_each(|line| eprintln!("{line}"))
        });
        let field = |name: &str| ready.split_once(&format!("{name}=\"")).unwrap().1.split('"').next().unwrap().to_owned();
        let mqtt = field(if secure { "mqtt_tls" } else { "mqtt" }).parse().unwrap();
        Self { child, mqtt, site: format!("http://{}", field("dashboard")), installation, passwords, tls, folder }
    }

    /// In MiB: now, and at the most.
    fn memory(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0;
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// Seconds of processor time.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let ticks: Vec<f64> = stat.rsplit_once(')').unwrap().1.split(' ').skip(12).take(2).map(|ticks| ticks.parse().unwrap()).collect();
        (ticks[0] + ticks[1]) / 100.0
    }

    /// The sum of a metric over its labels.
    async fn metric(&self, name: &str) -> f64 {
        let text = reqwest::get(format!("{}/metrics", self.site)).await.unwrap().text().await.unwrap();
        text.lines().filter(|line| line.starts_with(name)).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    async fn open(&self, device: usize, client: usize) -> Box<dyn Stream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 1, (client / OF_ADDRESS) as u8), 0))).unwrap();
        let stream = socket.connect(self.mqtt).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut stream: Box<dyn Stream> = match &self.tls {
            Some(tls) => Box::new(tls.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()),
            None => Box::new(stream),
        };
        let mut body = b"\x00\x04MQTT\x04\xc2\x00\x00".to_vec();
        for text in [&format!("c{client}"), &format!("d{device}"), &self.passwords[device]] {
            body.extend((text.len() as u16).to_be_bytes());
            body.extend(text.as_bytes());
        }
        stream.write_all(&[&[0x10, body.len() as u8], &body[..]].concat()).await.unwrap();
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).await.unwrap();
        assert_eq!(connack[3], 0, "the connection is refused");
        stream
    }

    /// Ends it; how many readings its journal holds.
    async fn end(mut self) -> i64 {
        assert!(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success());
        self.child.wait().unwrap();
        let journal =
            EmbeddedJournal::open(&EmbeddedConfig::new(self.folder.path().join("vigil/data/journal.db"), self.installation.clone(), PARTITIONS)).unwrap();
        let mut reader = journal.reader(Topic::Inputs, Mode::Follow).unwrap();
        let (mut readings, mut wanted) = (0, Vec::new());
        for partition in 0..PARTITIONS {
            wanted.push(journal.range(Topic::Inputs, Partition(partition)).await.unwrap().next);
        }
        let mut open = wanted.iter().filter(|next| next.0 > 0).count();
        while open > 0 {
            match reader.next().await.unwrap() {
                Event::Assigned { partition, .. } => reader.start(partition, Start::Earliest),
                Event::Batch { partition, records, .. } => {
                    readings += records.iter().filter(|record| matches!(Input::decode(&record.value), Ok(Input::Reading(_)))).count() as i64;
                    open -= usize::from(records.last().is_some_and(|last| last.offset.next() == wanted[partition.0 as usize]));
                }
                other => panic!("{other:?}"),
            }
        }
        drop(reader);
        journal.close().await;
        readings
    }
}

impl Drop for Served {
    /// Also when something here fails.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl Stream for TcpStream {}
impl Stream for tokio_rustls::client::TlsStream<TcpStream> {}

/// Patients with a device each, as `vigil patient add` and `vigil device add` make them; the devices' passwords, and the installation.
async fn register(home: &Path, devices: usize) -> (Vec<String>, String) {
    let store = Store::open(&format!("sqlite:{}", home.join("data/vigil.db").display())).await.unwrap();
    let since = EventTime(now() * 1000) - Micros::hours(1);
    let ward = store.wards().await.unwrap().remove(0).id;
    let passwords: Vec<String> = (0..devices).map(|_| secrets::random_password().to_string()).collect();
    let (ward, kept) = (&ward, &passwords);
    let made = store.transaction(|tx| {
        Box::pin(async move {
            for (index, password) in kept.iter().enumerate() {
                let private = |text: &str| Private::new(text.to_owned());
                let (device, id) = (DeviceId::parse(&format!("d{index}")).unwrap(), PatientId::parse(&format!("p{index}")).unwrap());
                let patient = Patient {
                    id: id.clone(),
                    name: private("n"),
                    born: private("1950-01-01"),
                    sex: Sex::Unknown,
                    identifier: private(""),
                    ward: ward.clone(),
                    created_at: since,
                    monitored: true,
                };
                tx.add_patient(&patient).await?;
                let settings = Settings {
                    patient: id.clone(),
                    version: 0,
                    monitored: true,
                    limits: BTreeMap::new(),
                    limits_until: BTreeMap::new(),
                    oxygen_l_min: None,
                    news2_scale: 1,
                    pauses: Vec::new(),
                    expected_interval: BTreeMap::new(),
                    enrolled_at: since,
                    author: "load".to_owned(),
                };
                tx.put_settings(&settings, 0, since).await?;
                tx.add_device(&Device {
                    id: device.clone(),
                    model: String::new(),
                    test: false,
                    hub: None,
                    created_at: since,
                    revoked_at: None,
                    min_time: since,
                })
                .await?;
                tx.assign(&Assignment { device: device.clone(), patient: id, from: since, until: None }).await?;
                let value = secrets::device_hash(password.as_bytes());
                tx.add_credential(&Credential { id: format!("c{index}"), device, kind: CredentialKind::Password, value, created_at: since, revoked_at: None })
                    .await?;
            }
            Ok(())
        })
    });
    made.await.unwrap();
    let installation = store.installation().await.unwrap().id;
    store.close().await;
    (passwords, installation)
}

/// So many connections, opened by a few hands at a time.
async fn open(served: &Arc<Served>, count: usize, of_one: usize) -> Vec<(usize, Box<dyn Stream>)> {
    futures::stream::iter(0..count)
        .map(|client| {
            let served = served.clone();
            tokio::spawn(async move { (client, served.open(client / of_one, client).await) })
        })
        .buffer_unordered(64)
        .map(Result::unwrap)
        .collect()
        .await
}

async fn silent(served: &Arc<Served>, count: usize) {
    let (before, began) = (served.memory().0, Instant::now());
    let streams = open(served, count, OF_ONE).await;
    let (took, after) = (began.elapsed(), served.memory().0);
    println!(
        "{count} idle connections{}: {:.0} bytes of resident memory each ({before:.0} MiB before, {after:.0} MiB after), opened in {:.1} s",
        if served.tls.is_some() { " over TLS" } else { "" },
        (after - before) * 1024.0 * 1024.0 / count as f64,
        took.as_secs_f64()
    );
    drop(streams);
}

async fn loaded(served: &Arc<Served>, arguments: &Arguments) {
    let began = Instant::now();
    let streams = open(served, arguments.connections, 1).await;
    println!("{} connections opened in {:.1} s; {:.0} MiB", streams.len(), began.elapsed().as_secs_f64(), served.memory().0);
    let (cpu, count, began) = (served.cpu(), streams.len() as u64, Instant::now());
    let seconds = arguments.seconds;
    let devices: Vec<_> = streams
        .into_iter()
        .map(|(index, mut stream)| {
            tokio::spawn(async move {
                let mut waits = Vec::with_capacity(seconds as usize);
                for second in 0..seconds {
                    let due = began + Duration::from_micros(second * 1_000_000 + index as u64 * 1_000_000 / count);
                    tokio::time::sleep_until(due.into()).await;
                    let sent = Instant::now();
                    stream.write_all(&message(index, now())).await.unwrap();
                    stream.read_exact(&mut [0; 4]).await.unwrap();
                    waits.push(sent.elapsed().as_micros() as u32);
                }
                waits
            })
        })
        .collect();
    let mut waits: Vec<u32> = Vec::new();
    for device in devices {
        waits.extend(device.await.unwrap());
    }
    let (took, cpu, (now, most)) = (began.elapsed().as_secs_f64(), served.cpu() - cpu, served.memory());
    let evaluated = served.metric("vigil_processor_inputs_total").await;
    waits.sort_unstable();
    let at = |share: f64| f64::from(waits[((waits.len() - 1) as f64 * share) as usize]) / 1000.0;
    println!("{} messages of 3 readings acknowledged in {took:.1} s, {:.0} messages/s", waits.len(), waits.len() as f64 / took);
    println!("publish to PUBACK, ms: p50 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}", at(0.5), at(0.99), at(0.999), at(1.0));
    println!("vigil serve: {cpu:.1} s of processor time, {:.0} µs a message; {now:.0} MiB resident, {most:.0} MiB at the most", cpu * 1e6 / waits.len() as f64);
    println!("behind in the engine at the end: {:.0} of {} readings", (3 * waits.len()) as f64 - evaluated, 3 * waits.len());
}

fn message(index: usize, measured_at: i64) -> Vec<u8> {
    let topic = format!("v1/devices/d{index}/vitals");
    let step = measured_at / 1000 % 4;
    let reading =
        |metric: &str, value: i64, unit: &str| format!("{{\"metric\":\"{metric}\",\"value\":{value},\"unit\":\"{unit}\",\"measured_at\":{measured_at}}}");
    let payload =
        format!("[{},{},{}]", reading("spo2", 95 + step, "%"), reading("heart_rate", 70 + step, "/min"), reading("respiratory_rate", 14 + step, "/min"));
    let length = 2 + topic.len() + 2 + payload.len();
    let mut message = vec![0x32, (length % 128) as u8 | 0x80, (length / 128) as u8];
    message.extend((topic.len() as u16).to_be_bytes());
    message.extend(topic.as_bytes());
    message.extend(1_u16.to_be_bytes());
    message.extend(payload.as_bytes());
    message
}
