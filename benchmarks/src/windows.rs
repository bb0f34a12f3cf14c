//! Kafka → one-minute windows and alerts → Kafka: by the processor alone, in a process of its own, and by Kafka Streams. The readings lie in Kafka as a gateway
//! writes them, over as much time as they were measured in; they are written once, and evaluated in each round from the first on.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use engine::DEFAULT_RULES;
use journal::kafka::{KafkaConfig, KafkaJournal};
use journal::{Event, Journal, Mode, Receipt, Start, Topic};
use processor::objects::LocalObjects;
use processor::{Config, Processor};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord};
use schemas::{
    ClockState, DeviceId, EventTime, Input, Metric, Micros, Offset, Partition, PatientId, Reading, ReadingId, RuleSet, Settings, Transition, Window,
    partition_of,
};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::landed::Topic as KafkaTopic;
use crate::process::{Cost, Process, peak_mb, round};
use crate::systems::{PARTITIONS, Places};

/// A reading of each metric of each patient in every so much time.
const STEP: Duration = Duration::from_secs(20);
const WINDOW: Micros = Micros::minutes(1);
/// From the measurement to the gateway.
const TRAVEL: Micros = Micros(30_000);
const ENDS_WITHIN: Duration = Duration::from_secs(300);
const METRICS: [(Metric, f64); 6] = [
    (Metric::HeartRate, 72.0),
    (Metric::Spo2, 97.0),
    (Metric::RespiratoryRate, 16.0),
    (Metric::SystolicPressure, 121.0),
    (Metric::DiastolicPressure, 78.0),
    (Metric::Temperature, 36.8),
];

/// One reading, one alert.
const AT_ONCE: &str = r#"
[[rule]]
id = "heart-rate-high"
name = "High heart rate"
priority = "high"
when = "last(heart_rate, '1 min') > 130"
clear = "last(heart_rate, '1 min') < 120"
"#;

/// What evaluates the readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Evaluator {
    /// The processor with the rules that Vigil starts with: windows, eight rules, snapshots
    Vigil,
    /// Kafka Streams: windows, one limit a metric; the state in memory, lost in a crash
    StreamsMemory,
    /// The same with RocksDB and a changelog, at least once
    StreamsRocksdb,
}

impl Evaluator {
    fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Shape {
    #[arg(long, default_value_t = 100_000)]
    patients: usize,
    /// Readings of each metric of each patient; three make a window
    #[arg(long, default_value_t = 6)]
    readings: usize,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Where the processor under measurement reads and writes.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    #[arg(long)]
    installation: String,
    /// Of its snapshots
    #[arg(long)]
    folder: PathBuf,
}

fn journal_of(kafka: &str, installation: &str) -> Result<Arc<dyn Journal>> {
    let config = KafkaConfig { development: true, prefix: format!("{installation}."), ..KafkaConfig::new(kafka, installation, PARTITIONS) };
    Ok(Arc::new(KafkaJournal::open(&config)?))
}

/// The process that is measured: until it is killed.
pub async fn process(place: Place, places: &Places) -> Result<()> {
    let journal = journal_of(&places.kafka, &place.installation)?;
    let config = Config { engine: engine::Config { window: WINDOW, ..engine::Config::default() }, ..Config::default() };
    let stop = CancellationToken::new();
    Ok(Processor::new(config, journal, Arc::new(LocalObjects::open(place.folder)?)).run(stop).await?)
}

fn wall() -> Result<i64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as i64)
}

fn patient_of(number: usize) -> Result<PatientId> {
    Ok(PatientId::parse(&format!("p{number:06}"))?)
}

fn reading(patient: PatientId, device: DeviceId, metric: Metric, value: f64, at: EventTime) -> Reading {
    Reading {
        id: ReadingId::new(&device, metric, at, None),
        patient,
        device,
        metric,
        value,
        at,
        stamped_at: at,
        received_at: at + TRAVEL,
        clock: ClockState::AsSent,
        boot: None,
        seq: None,
        typed: false,
        test: false,
        value_as_sent: value,
        unit_as_sent: "1".to_owned(),
        author: String::new(),
        format: None,
    }
}

/// A log with the writer's end of it.
struct Log {
    journal: Arc<dyn Journal>,
    receipts: Vec<Receipt>,
}

impl Log {
    async fn new(installation: &str, patients: usize, rules: &str, places: &Places) -> Result<Self> {
        let (kafka, name) = (places.kafka.clone(), installation.to_owned());
        let mut log = Self { journal: tokio::task::spawn_blocking(move || journal_of(&kafka, &name)).await??, receipts: Vec::new() };
        let at = EventTime(wall()?);
        for partition in 0..PARTITIONS {
            let rules = RuleSet { version: 1, toml: rules.to_owned(), activated_at: at, author: "benchmark".to_owned() };
            log.append(Partition(partition), b"", Input::RuleSet(rules).encode()).await?;
        }
        for number in 0..patients {
            let patient = patient_of(number)?;
            let settings = Settings {
                patient: patient.clone(),
                version: 1,
                monitored: true,
                limits: [].into(),
                limits_until: [].into(),
                oxygen_l_min: None,
                news2_scale: 1,
                pauses: Vec::new(),
                expected_interval: [].into(),
                enrolled_at: at,
                author: "benchmark".to_owned(),
            };
            log.append(partition_of(patient.as_bytes(), PARTITIONS), patient.as_bytes(), Input::Settings(settings).encode()).await?;
        }
        log.durable().await?;
        Ok(log)
    }

    async fn append(&mut self, partition: Partition, key: &[u8], value: Bytes) -> Result<()> {
        loop {
            match self.journal.append(Topic::Inputs, partition, key, value.clone()) {
                Ok(receipt) => break self.receipts.push(receipt),
                Err(journal::Full) => self.journal.ready().await,
            }
        }
        if self.receipts.len() > 50_000 {
            self.durable().await?;
        }
        Ok(())
    }

    async fn durable(&mut self) -> Result<()> {
        for receipt in self.receipts.drain(..) {
            receipt.await?;
        }
        Ok(())
    }

    async fn reading(&mut self, number: usize, metric: Metric, value: f64) -> Result<()> {
        let patient = patient_of(number)?;
        let device = DeviceId::parse(&format!("d{number:06}"))?;
        let input = Input::Reading(reading(patient.clone(), device, metric, value, EventTime(wall()? - TRAVEL.0)));
        self.append(partition_of(patient.as_bytes(), PARTITIONS), patient.as_bytes(), input.encode()).await
    }

    async fn ends(&self, topic: Topic) -> Result<Vec<Offset>> {
        let mut ends = Vec::new();
        for partition in 0..PARTITIONS {
            ends.push(self.journal.range(topic, Partition(partition)).await?.next);
        }
        Ok(ends)
    }

    /// Everything in `topic` behind `from`, up to now.
    async fn behind(&self, topic: Topic, from: &[Offset], mut take: impl FnMut(&[u8], i64) -> Result<()>) -> Result<()> {
        let mut left: i64 = self.ends(topic).await?.iter().zip(from).map(|(end, from)| end.0 - from.0).sum();
        let mut reader = self.journal.reader(topic, Mode::Follow)?;
        while left > 0 {
            match reader.next().await? {
                Event::Assigned { partition, .. } => reader.start(partition, Start::At(from[partition.0 as usize])),
                Event::Batch { records, .. } => {
                    for record in records {
                        left -= 1;
                        take(&record.value, record.arrived_at.0)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// Writes the readings as time passes; answers how many windows they fill.
async fn fill(log: &mut Log, shape: Shape) -> Result<usize> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut windows: HashMap<(usize, usize), (i64, usize)> = HashMap::new();
    // a window begins with the minute
    let minute = WINDOW.0;
    let wait = minute - wall()? % minute + 1_000_000;
    tokio::time::sleep(Duration::from_micros(wait as u64)).await;
    let began = Instant::now();
    for step in 0..shape.readings {
        for number in 0..shape.patients {
            if number % 100 == 0 {
                let due = STEP * step as u32 + STEP.mul_f64(0.9 * number as f64 / shape.patients as f64);
                tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            }
            for (which, (metric, usual)) in METRICS.into_iter().enumerate() {
                // one in a hundred is far above the usual
                let share = if dice.roll(100) == 0 { 1.5 } else { 0.95 + dice.roll(1000) as f64 / 10_000.0 };
                let value = if metric == Metric::Spo2 { (usual * share).min(100.0) } else { usual * share };
                log.reading(number, metric, (value * 10.0).round() / 10.0).await?;
                let window = (wall()? - TRAVEL.0) / minute;
                let known = windows.entry((number, which)).or_default();
                if known.0 != window {
                    *known = (window, known.1 + 1);
                }
            }
        }
        eprintln!("{} of {} readings are written", (step + 1) * shape.patients * METRICS.len(), shape.readings * shape.patients * METRICS.len());
    }
    log.durable().await?;
    Ok(windows.values().map(|(_, count)| count).sum())
}

fn start(installation: &str, folder: &Path, places: &Places) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["processor", "--kafka", &places.kafka, "--installation", installation, "--folder"]).arg(folder);
    Process::start("processor", &mut command, &folder.with_extension("out"))
}

/// Kafka Streams reads the same records; `marks` is where its time is told to have passed.
fn start_streams(store: &str, inputs: &str, [marks, windows, alerts]: &[String; 3], folder: &Path, places: &Places) -> Result<Process> {
    let classes = places.streams.display();
    let path = std::fs::read_to_string(places.streams.join("classpath")).with_context(|| format!("{classes}/classpath; benchmarks/run makes it"))?;
    let limits: Vec<String> = METRICS.iter().map(|(metric, usual)| format!("{}={}", metric.number(), usual * 1.2)).collect();
    let mut command = Command::new("java");
    command.env("LIMITS", limits.join(",")).args(["-Xms2g", "-Xmx2g", "-XX:+UseG1GC", "-cp", &format!("{classes}:{path}"), "Windows"]);
    command.args([&places.kafka, inputs, marks, windows, alerts, store]).arg(folder);
    Process::start("streams", &mut command, &folder.with_extension("out"))
}

async fn until(what: &str, mut met: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + ENDS_WITHIN;
    while !met().await? {
        ensure!(Instant::now() < deadline, "{what} did not come within {ENDS_WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// What is behind the last window of an evaluator, and what it took.
struct Found {
    windows: usize,
    /// More than the windows when they were said again, with a later revision.
    records: usize,
    readings: u64,
    alerts: usize,
    last_us: i64,
    cost: Cost,
    peak_mb: u64,
}

async fn vigil(log: &Log, installation: &str, folder: &Path, expected: i64, places: &Places) -> Result<Found> {
    let (from, alerts_from) = (log.ends(Topic::Windows).await?, log.ends(Topic::Alerts).await?);
    let nothing = Cost::nothing(places.kafka_pid)?;
    let running = [start(installation, folder, places)?];
    let written = async || anyhow::Ok(log.ends(Topic::Windows).await?.iter().zip(&from).map(|(end, from)| end.0 - from.0).sum::<i64>());
    until("the last window", async || Ok(written().await? >= expected)).await?;
    let (cost, peak_mb) = (Cost::now(&running, places.kafka_pid)?.since(&nothing), peak_mb(running[0].pid())?);
    drop(running);
    // the last revision of each window counts
    let mut found: HashMap<(PatientId, Metric, EventTime), (u32, u64)> = HashMap::new();
    let (mut records, mut last_us, mut alerts) = (0, 0, 0);
    log.behind(Topic::Windows, &from, |value, at| {
        let window = Window::decode(value)?;
        records += 1;
        last_us = last_us.max(at);
        let known = found.entry((window.patient, window.metric, window.start)).or_default();
        *known = (*known).max((window.revision, window.count));
        Ok(())
    })
    .await?;
    log.behind(Topic::Alerts, &alerts_from, |value, _| {
        Transition::decode(value)?;
        alerts += 1;
        Ok(())
    })
    .await?;
    Ok(Found { windows: found.len(), records, readings: found.values().map(|(_, count)| count).sum(), alerts, last_us, cost, peak_mb })
}

async fn streams(store: &str, installation: &str, folder: &Path, expected: i64, places: &Places) -> Result<Found> {
    let name = folder.file_name().context("a folder")?.to_string_lossy();
    let topics = ["marks", "windows", "alerts"].map(|what| format!("{installation}.{name}.{what}"));
    for topic in &topics {
        KafkaTopic::make(&places.kafka, topic).await?;
    }
    let (windows, alerts) = (KafkaTopic::open(&places.kafka, &topics[1])?, KafkaTopic::open(&places.kafka, &topics[2])?);
    let nothing = Cost::nothing(places.kafka_pid)?;
    let running = [start_streams(store, &format!("{installation}.{}", Topic::Inputs.name()), &topics, folder, places)?];
    // a window ends when readings of a later time come: one of an hour from now in each partition, again until the last window is there
    let marks: BaseProducer = ClientConfig::new().set("bootstrap.servers", &places.kafka).create()?;
    let mut number = 0;
    until("the last window", async || {
        for partition in 0..PARTITIONS {
            let ahead = mark(partition, number)?;
            let record = BaseRecord::<[u8], [u8]>::to(&topics[0]).partition(partition as i32).key(b"mark").payload(&ahead);
            marks.send(record).map_err(|(error, _)| error)?;
        }
        number += 1;
        marks.poll(Duration::from_millis(500));
        Ok(windows.count()? >= expected)
    })
    .await?;
    let (cost, peak_mb) = (Cost::now(&running, places.kafka_pid)?.since(&nothing), peak_mb(running[0].pid())?);
    drop(running);
    let (mut keys, mut records, mut readings, mut last_us, mut raised) = (HashSet::new(), 0, 0, 0, 0);
    windows.each(|key, value, at_ms| {
        if !key.starts_with(b"mark") {
            records += 1;
            keys.insert(key.to_vec());
            readings += value.first_chunk().map_or(0.0, |count| f64::from_be_bytes(*count)) as u64;
            last_us = last_us.max(at_ms * 1000);
        }
    })?;
    alerts.each(|_, _, _| raised += 1)?;
    Ok(Found { windows: keys.len(), records, readings, alerts: raised, last_us, cost, peak_mb })
}

/// A reading of an hour from now.
fn mark(partition: u32, number: i64) -> Result<Vec<u8>> {
    let device = DeviceId::parse(&format!("mark-{partition}"))?;
    let at = EventTime(wall()? + 3_600_000_000 + number);
    Ok(Input::Reading(reading(PatientId::parse("mark")?, device, Metric::HeartRate, 72.0, at)).encode().to_vec())
}

/// One line for each evaluator and round.
pub async fn throughput(evaluators: &[Evaluator], shape: Shape, places: &Places) -> Result<()> {
    let home = tempfile::Builder::new().prefix("vigil-windows-").tempdir()?;
    let installation = home.path().file_name().context("a folder")?.to_string_lossy().into_owned();
    let mut log = Log::new(&installation, shape.patients, DEFAULT_RULES, places).await?;
    let readings = shape.patients * shape.readings * METRICS.len();
    let expected = fill(&mut log, shape).await?;
    // the last window is over
    tokio::time::sleep(Duration::from_micros(WINDOW.0 as u64)).await;
    for number in 0..shape.rounds {
        for evaluator in evaluators {
            let name = evaluator.name();
            let folder = home.path().join(format!("{name}-{number}"));
            let began_us = wall()?;
            let found = match evaluator {
                Evaluator::Vigil => vigil(&log, &installation, &folder, expected as i64, places).await?,
                Evaluator::StreamsMemory => streams("memory", &installation, &folder, expected as i64, places).await?,
                Evaluator::StreamsRocksdb => streams("rocksdb", &installation, &folder, expected as i64, places).await?,
            };
            ensure!(found.readings == readings as u64, "the windows of {name} hold {} readings, {readings} were written", found.readings);
            let wall_s = (found.last_us - began_us) as f64 / 1e6;
            let line = json!({
                "what": "windows", "system": name, "patients": shape.patients, "readings": readings, "windows": found.windows,
                "window_records": found.records, "alerts": found.alerts, "wall_s": round(wall_s, 2), "readings_per_s": (readings as f64 / wall_s).round(),
                "cpu_s": found.cost.to_json(), "readings_per_cpu_s": (readings as f64 / found.cost.path_s()).round(), "peak_mb": found.peak_mb,
            });
            println!("{line}");
        }
    }
    Ok(())
}

/// From before a reading is handed to Kafka until a consumer has its alert.
pub async fn latency(evaluator: Evaluator, rate: u32, count: usize, places: &Places) -> Result<Value> {
    let home = tempfile::Builder::new().prefix("vigil-windows-").tempdir()?;
    let installation = home.path().file_name().context("a folder")?.to_string_lossy().into_owned();
    let mut log = Log::new(&installation, count + 1, AT_ONCE, places).await?;
    let topics = ["marks", "windows", "alerts"].map(|what| format!("{installation}.streams.{what}"));
    let folder = home.path().join("state");
    let (running, alerts) = match evaluator {
        Evaluator::Vigil => (start(&installation, &folder, places)?, format!("{installation}.{}", Topic::Alerts.name())),
        Evaluator::StreamsMemory | Evaluator::StreamsRocksdb => {
            for topic in &topics {
                KafkaTopic::make(&places.kafka, topic).await?;
            }
            let store = if evaluator == Evaluator::StreamsMemory { "memory" } else { "rocksdb" };
            (start_streams(store, &format!("{installation}.{}", Topic::Inputs.name()), &topics, &folder, places)?, topics[2].clone())
        }
    };
    let running = [running];
    let topic = KafkaTopic::open(&places.kafka, &alerts)?;
    topic.assign(rdkafka::Offset::Beginning)?;
    let warm = Arc::new(Notify::new());
    let first = warm.clone();
    let follow = std::thread::spawn(move || -> Result<HashMap<String, Instant>> {
        let mut seen: HashMap<String, Instant> = HashMap::new();
        while seen.len() <= count {
            let patient = topic.one(ENDS_WITHIN, |value| patient_in(evaluator, value))??;
            seen.entry(patient).or_insert_with(Instant::now);
            first.notify_one();
        }
        Ok(seen)
    });
    // warm when this alert is there; its patient is none of those that count
    log.reading(count, Metric::HeartRate, 150.0).await?;
    tokio::time::timeout(ENDS_WITHIN, warm.notified()).await.context("no alert came")?;
    let before = Cost::now(&running, places.kafka_pid)?;
    let (began, mut sent) = (Instant::now(), Vec::with_capacity(count));
    for number in 0..count {
        let due = Duration::from_secs_f64(number as f64 / f64::from(rate));
        tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        sent.push(Instant::now());
        log.reading(number, Metric::HeartRate, 150.0).await?;
    }
    let heard = tokio::task::spawn_blocking(move || follow.join()).await?.map_err(|_| anyhow::anyhow!("the consumer panicked"))??;
    let cost = Cost::now(&running, places.kafka_pid)?.since(&before);
    let mut delays: Vec<f64> = Vec::new();
    // the first tenth warms everything up
    for (number, sent) in sent.iter().enumerate().skip(count / 10) {
        let heard = heard.get(patient_of(number)?.as_str()).with_context(|| format!("no alert of patient {number}"))?;
        delays.push((*heard - *sent).as_secs_f64() * 1000.0);
    }
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| round(delays[((delays.len() - 1) as f64 * share) as usize], 2);
    Ok(json!({
        "what": "alerts", "system": evaluator.name(), "rate": rate, "readings": count, "p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999),
        "max_ms": at(1.0), "cpu_s": cost.to_json(),
    }))
}

/// Whose alert it is: Kafka Streams hands on the input.
fn patient_in(evaluator: Evaluator, value: &[u8]) -> Result<String> {
    let patient = match evaluator {
        Evaluator::Vigil => Transition::decode(value)?.patient,
        Evaluator::StreamsMemory | Evaluator::StreamsRocksdb => match Input::decode(value)? {
            Input::Reading(reading) => reading.patient,
            other => anyhow::bail!("not a reading: {other:?}"),
        },
    };
    Ok(patient.as_str().to_owned())
}
