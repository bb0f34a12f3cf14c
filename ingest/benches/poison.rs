//! What good traffic notices of bad traffic: `cargo bench --profile dev -p ingest --bench poison
//! [-- --seconds 5 --rounds 3 --devices 32 --rate 20]`.
//!
//! Good devices publish one reading each at QoS 1, at a fixed rate, to the gateway on the embedded journal, which is a process of its own. They do so
//! alone; while one message in ten of all is poison; and while others send malformed packets, dribble CONNECTs, leave packets half sent and read no
//! answers. Latency is from when a publish was due to its PUBACK. Every round is a gateway of its own, and ends with the exact number of inputs and dead letters.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

#[path = "../tests/it/poison/messages.rs"]
#[expect(dead_code, reason = "the test says what a message is")]
mod messages;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use journal::embedded::{EmbeddedConfig, EmbeddedJournal};
use journal::{Journal, Topic};
use schemas::{DeviceId, EventTime, Micros, Partition, PatientId, Private};
use store::Store;
use store::registry::{Assignment, Device, Patient, Sex};
use store::wards::Ward;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const PARTITIONS: u32 = 4;
/// Devices that send poison, and as many that break the protocol.
const BAD: usize = 4;
/// Connections that dribble a CONNECT.
const DRIBBLING: usize = 1000;
/// Malformed packets a second, each on a connection of its own.
const MALFORMED: u64 = 200;
const GOOD: &str = r#"{"metric":"spo2","value":97,"unit":"%"}"#;

struct Arguments {
    seconds: f64,
    rounds: usize,
    devices: usize,
    /// Publishes a second of each good device.
    rate: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    Poison,
    Hostile,
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str, default: f64| {
        let at = given.iter().position(|argument| argument == name);
        at.map_or(default, |at| given.get(at + 1).and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} wants a number")))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Some(at) = given.iter().position(|argument| argument == "--gateway") {
        return runtime.block_on(gateway(Path::new(&given[at + 1]), value("--devices", 0.0) as usize));
    }
    let arguments = Arguments {
        seconds: value("--seconds", 5.0),
        rounds: value("--rounds", 3.0) as usize,
        devices: value("--devices", 32.0) as usize,
        rate: value("--rate", 20.0),
    };
    runtime.block_on(compare(&arguments));
}

/// Serves until standard input ends.
async fn gateway(folder: &Path, devices: usize) {
    let store = Store::open(&format!("sqlite:{}", folder.join("vigil.db").display())).await.unwrap();
    let since = EventTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64) - Micros::hours(24);
    store.put_ward(&Ward { id: "w".to_owned(), name: "w".to_owned(), timezone: "UTC".to_owned() }).await.unwrap();
    for index in 0..devices {
        let (id, patient) = (DeviceId::parse(&format!("d{index}")).unwrap(), PatientId::parse(&format!("p{index}")).unwrap());
        let private = |text: &str| Private::new(text.to_owned());
        let (name, born, identifier) = (private("n"), private("1950-01-01"), private(""));
        store
            .add_patient(&Patient { id: patient.clone(), name, born, sex: Sex::Unknown, identifier, ward: "w".to_owned(), created_at: since, monitored: true })
            .await
            .unwrap();
        let device = Device { id: id.clone(), model: String::new(), test: false, hub: None, created_at: since, revoked_at: None, min_time: since };
        store.add_device(&device).await.unwrap();
        store.assign(&Assignment { device: id.clone(), patient, from: since, until: None }).await.unwrap();
        println!("password {}", store.new_device_password(&id, since).await.unwrap().as_str());
    }
    let installation = store.installation().await.unwrap().id;
    let journal: Arc<dyn Journal> = Arc::new(EmbeddedJournal::open(&EmbeddedConfig::new(folder.join("journal.db"), installation, PARTITIONS)).unwrap());
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
    println!("address {}", gateway.address().unwrap());
    let stop = CancellationToken::new();
    let serving = tokio::spawn(gateway.run(stop.clone()));
    let mut line = String::new();
    tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line)).await.unwrap().unwrap();
    stop.cancel();
    serving.await.unwrap().unwrap();
    for (name, topic) in [("inputs", Topic::Inputs), ("dead_letters", Topic::DeadLetters)] {
        let mut stored = 0;
        for partition in 0..PARTITIONS {
            let range = journal.range(topic, Partition(partition)).await.unwrap();
            stored += range.next.0 - range.earliest.0;
        }
        println!("{name} {stored}");
    }
    journal.close().await;
}

struct Server {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
    passwords: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(devices: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--gateway", folder.path().to_str().unwrap(), "--devices", &devices.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut passwords = Vec::new();
        loop {
            let line = lines.next().expect("the gateway ended").unwrap();
            match line.split_once(' ') {
                Some(("password", password)) => passwords.push(password.to_owned()),
                Some(("address", address)) => return Self { child, lines, address: address.parse().unwrap(), passwords, _folder: folder },
                _ => panic!("{line}"),
            }
        }
    }

    /// Inputs and dead letters, once it has ended in order: a panic of the gateway is no order.
    fn end(mut self) -> [u64; 2] {
        drop(self.child.stdin.take());
        let mut number = |name: &str| self.lines.next().unwrap().unwrap().strip_prefix(name).unwrap().trim().parse().unwrap();
        let counted = [number("inputs"), number("dead_letters")];
        assert!(self.child.wait().unwrap().success());
        counted
    }
}

fn text(packet: &mut Vec<u8>, text: &str) {
    packet.extend((text.len() as u16).to_be_bytes());
    packet.extend(text.as_bytes());
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    while length > 127 {
        packet.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
    packet.extend(body);
    packet
}

fn connect(client: &str, device: &str, password: &str) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x04\xc2\x00\x00".to_vec();
    [client, device, password].into_iter().for_each(|part| text(&mut body, part));
    framed(0x10, &body)
}

fn publish(packet_id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic);
    body.extend(packet_id.to_be_bytes());
    body.extend(payload);
    framed(0x32, &body)
}

async fn open(server: &(SocketAddr, Vec<String>), client: &str, index: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.0).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&connect(client, &format!("d{index}"), &server.1[index])).await.unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await.unwrap();
    assert_eq!(connack[3], 0, "the connection is refused");
    stream
}

/// Publishes when it is due, and answers how long each took from then to its ack.
async fn paced(mut stream: TcpStream, every: Duration, count: usize, offset: Duration, packet: impl Fn(usize, u16) -> Vec<u8>) -> Vec<Duration> {
    let began = Instant::now() + offset;
    let due = |number: usize| began + every * number as u32;
    let (mut reading, mut writing) = stream.split();
    let send = async {
        for number in 0..count {
            tokio::time::sleep_until(due(number).into()).await;
            writing.write_all(&packet(number, number as u16 + 1)).await.unwrap();
        }
    };
    let receive = async {
        let mut took = Vec::with_capacity(count);
        let mut ack = [0; 4];
        for number in 0..count {
            reading.read_exact(&mut ack).await.unwrap();
            assert_eq!((ack[0], u16::from_be_bytes([ack[2], ack[3]])), (0x40, number as u16 + 1));
            took.push(due(number).elapsed());
        }
        took
    };
    tokio::join!(send, receive).1
}

/// One round: percentiles of the good, after inputs and dead letters were counted.
async fn round(arguments: &Arguments, beside: Beside) -> ([f64; 2], String) {
    let server = Server::start(arguments.devices + 2 * BAD);
    let access = Arc::new((server.address, server.passwords.clone()));
    let count = (arguments.seconds * arguments.rate) as usize;
    assert!(count < 65_000, "fewer seconds, or a lower rate");
    let every = Duration::from_secs_f64(1.0 / arguments.rate);
    let (mut inputs, mut dead_letters) = ((count * arguments.devices) as u64, 0);
    let mut streams = Vec::new();
    for index in 0..arguments.devices {
        streams.push(open(&access, "good", index).await);
    }
    let mut poisoning = Vec::new();
    let mut note = String::new();
    let stop = Arc::new(AtomicBool::new(false));
    let mut hostile = Vec::new();
    let done = Arc::new([const { AtomicU64::new(0) }; 2]);
    match beside {
        Beside::Nothing => {}
        Beside::Poison => {
            // nine good ones for each
            let each = count * arguments.devices / 9 / BAD;
            let poison = Arc::new(messages::all());
            for bad in 0..BAD {
                let index = arguments.devices + bad;
                for number in 0..each {
                    let one = &poison[(number + bad) % poison.len()];
                    inputs += one.inputs as u64;
                    dead_letters += one.dead_letters as u64;
                }
                let (stream, poison) = (open(&access, "bad", index).await, poison.clone());
                let every = Duration::from_secs_f64(arguments.seconds / each as f64);
                poisoning.push(tokio::spawn(async move {
                    let packet = move |number: usize, id| {
                        let one = &poison[(number + bad) % poison.len()];
                        publish(id, &one.topic.replace("{}", &format!("d{index}")), &one.payload)
                    };
                    paced(stream, every, each, Duration::ZERO, packet).await
                }));
            }
            note = format!("{} poisoned messages", each * BAD);
        }
        Beside::Hostile => {
            for bad in 0..BAD {
                let (access, stop, done) = (access.clone(), stop.clone(), done.clone());
                hostile.push(tokio::spawn(hammer(access, arguments.devices + bad, stop, done)));
            }
            let mut dribbling = Vec::new();
            for _ in 0..DRIBBLING {
                dribbling.push(TcpStream::connect(access.0).await.unwrap());
            }
            let half = publish(1, "v1/devices/d0/vitals", &vec![b' '; 200 << 10]);
            let mut halves = Vec::new();
            for bad in 0..BAD {
                for client in 0..16 {
                    let mut stream = open(&access, &format!("half{client}"), arguments.devices + BAD + bad).await;
                    // none of these is ever whole
                    stream.write_all(&half[..100 << 10]).await.unwrap();
                    halves.push(stream);
                }
            }
            let (stop, done) = (stop.clone(), done.clone());
            hostile.push(tokio::spawn(async move {
                // never to its end
                for byte in framed(0x10, &[0; 8000]) {
                    for (number, stream) in dribbling.iter().enumerate() {
                        if number % 50 == 0 {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        // after 10 s the gateway has closed it
                        done[1].fetch_add(u64::from(stream.try_write(&[byte]).is_ok()), Ordering::Relaxed);
                    }
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
                drop(halves);
            }));
        }
    }
    let tasks: Vec<_> = streams
        .into_iter()
        .enumerate()
        .map(|(index, stream)| {
            let topic = format!("v1/devices/d{index}/vitals");
            let offset = every * index as u32 / arguments.devices as u32;
            tokio::spawn(paced(stream, every, count, offset, move |_, id| publish(id, &topic, GOOD.as_bytes())))
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.unwrap());
    }
    for task in poisoning {
        task.await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for task in hostile {
        task.await.unwrap();
    }
    if beside == Beside::Hostile {
        note = format!("{} malformed packets, {} dribbled bytes, {} half packets", done[0].load(Ordering::Relaxed), done[1].load(Ordering::Relaxed), BAD * 16);
    }
    let counted = tokio::task::spawn_blocking(|| server.end()).await.unwrap();
    assert_eq!(counted, [inputs, dead_letters], "inputs and dead letters");
    took.sort_unstable();
    let percentile = |of: usize| took[(took.len() * of / 100).min(took.len() - 1)].as_secs_f64() * 1e3;
    ([percentile(50), percentile(99)], format!("{note}{}{inputs} inputs, {dead_letters} dead letters: exact", if note.is_empty() { "" } else { "; " }))
}

/// One malformed packet after the other, before the door and behind it; each must be answered by the end of its connection.
async fn hammer(access: Arc<(SocketAddr, Vec<String>)>, index: usize, stop: Arc<AtomicBool>, done: Arc<[AtomicU64; 2]>) {
    let malformed: [&[u8]; 8] = [
        b"\x30\xff\xff\xff\xff",
        b"\x36\x07\x00\x01a\x00\x01\x00x",
        b"\x32\x05\x00\x01\xff\x00\x01",
        b"\x32\x04\x00\x09v1",
        b"\x82\x02\x00\x01",
        b"\xc1\x00",
        b"\x32\xff\xff\xff\x7f",
        b"\x00\x00",
    ];
    let every = Duration::from_secs_f64(BAD as f64 / MALFORMED as f64);
    let mut due = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        due += every;
        tokio::time::sleep_until(due.into()).await;
        let mut stream = if number % 2 == 0 { TcpStream::connect(access.0).await.unwrap() } else { open(&access, "broken", index).await };
        let packet = malformed[number / 2 % malformed.len()];
        stream.write_all(packet).await.unwrap();
        let mut said = Vec::new();
        // a reset is an end as well
        if stream.read_to_end(&mut said).await.is_ok() {
            assert!(said.is_empty(), "MQTT 3.1.1 is closed without a word: {said:x?}");
        }
        done[0].fetch_add(1, Ordering::Relaxed);
        number += 1;
    }
}

async fn compare(arguments: &Arguments) {
    let kinds = [("good alone", Beside::Nothing), ("with 10 % poison", Beside::Poison), ("beside hostile peers", Beside::Hostile)];
    let mut all: [Vec<[f64; 2]>; 3] = Default::default();
    for number in 1..=arguments.rounds {
        for (index, (name, beside)) in kinds.iter().enumerate() {
            let (percentiles, note) = round(arguments, *beside).await;
            eprintln!("round {number} of {}, {name}: {note}", arguments.rounds);
            all[index].push(percentiles);
        }
    }
    let (devices, rate) = (arguments.devices, arguments.rate);
    println!(
        "publish to PUBACK of good traffic, ms: {devices} devices, {rate} a second each, embedded journal; min / median / max of {} rounds",
        arguments.rounds
    );
    let median = |index: usize, which: usize| {
        let mut sorted: Vec<f64> = all[index].iter().map(|percentiles| percentiles[which]).collect();
        sorted.sort_by(f64::total_cmp);
        [sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]]
    };
    for (index, (name, _)) in kinds.iter().enumerate() {
        let [p50, p99] = [median(index, 0), median(index, 1)];
        let times = p99[1] / median(0, 1)[1];
        println!(
            "{name:<22} p50 {:>6.2} / {:>6.2} / {:>6.2}   p99 {:>6.2} / {:>6.2} / {:>6.2}   p99 x {times:.2}",
            p50[0], p50[1], p50[2], p99[0], p99[1], p99[2]
        );
    }
}
