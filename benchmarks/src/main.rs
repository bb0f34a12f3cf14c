//! Vigil beside its peers: the same load, the same Kafka, the same machine, one after the other. Each call is one measurement of one
//! system, and prints one JSON line; `benchmarks/run` makes the rounds. What is measured, and what is not, says `benchmarks/README.md`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is its result")]

mod landed;
mod load;
mod process;
mod systems;
mod table;
mod windows;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use rdkafka::Offset;
use serde_json::{Value, json};

use landed::{Part, Tally, Topic};
use load::{Load, Sent, Shape};
use process::{Cost, peak_mb, round};
use systems::{Places, Running, System, Tuned};

/// Nothing more is coming.
const SILENCE: Duration = Duration::from_secs(10);
/// Connections are up, and the processes at rest, before the account begins.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    places: Places,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What landed for a second of processor time
    Throughput {
        system: System,
        #[command(flatten)]
        shape: Shape,
    },
    /// From a device's publish to a consumer of the topic
    Latency {
        system: System,
        #[command(flatten)]
        shape: Shape,
    },
    /// What was acknowledged and never landed, when a process is ended with SIGKILL under load
    Loss {
        system: System,
        /// vigil, mosquitto, telegraf, benthos, or kafka (that of `dev/kafka`)
        victim: String,
        /// Seconds from the first message to the kill
        #[arg(long, default_value_t = 2.0)]
        after: f64,
        #[command(flatten)]
        shape: Shape,
    },
    /// Readings in Kafka that become windows and alerts in Kafka, for a second of the processor's time
    Windows {
        #[arg(required = true)]
        evaluators: Vec<windows::Evaluator>,
        #[command(flatten)]
        shape: windows::Shape,
    },
    /// From a reading in Kafka to its alert in Kafka
    Alerts {
        evaluator: windows::Evaluator,
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        #[arg(long, default_value_t = 20_000)]
        count: usize,
    },
    /// The processor that those two measure
    #[command(hide = true)]
    Processor {
        #[command(flatten)]
        place: windows::Place,
    },
    /// The JSON lines of a file, as tables
    Table { file: PathBuf },
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { places, what } = Arguments::parse();
    let line = match what {
        What::Throughput { system, shape } => throughput(system, shape, &places).await?,
        What::Latency { system, shape } => latency(system, shape, &places).await?,
        What::Loss { system, victim, after, shape } => loss(system, &victim, Duration::from_secs_f64(after), shape, &places).await?,
        What::Windows { evaluators, shape } => {
            windows::throughput(&evaluators, shape, &places).await?;
            return Ok(());
        }
        What::Alerts { evaluator, rate, count } => windows::latency(evaluator, rate, count, &places).await?,
        What::Processor { place } => return windows::process(place, &places).await,
        What::Table { file } => {
            print!("{}", table::of(&std::fs::read_to_string(file)?)?);
            return Ok(());
        }
    };
    println!("{line}");
    Ok(())
}

async fn start(system: System, tuned: Tuned, shape: Shape, places: &Places) -> Result<(Running, Option<Topic>)> {
    ensure!(!system.on_kafka() || !places.kafka.is_empty(), "--kafka is missing: BENCH_KAFKA=\"$(dev/kafka up)\"");
    let mut running = Running::prepare()?;
    if system.on_kafka() && !system.is_vigil() {
        Topic::make(&places.kafka, &running.topic).await?;
    }
    running.start(system, tuned, places, shape.connections)?;
    let topic = if system.on_kafka() { Some(Topic::open(&places.kafka, &running.topic)?) } else { None };
    Ok((running, topic))
}

fn parts(system: System) -> fn(&[u8], &[u8]) -> Option<Part> {
    if system.is_vigil() { |_, value| landed::vigil(value) } else { landed::peer }
}

/// How many records a message is: Vigil's are readings.
fn records(system: System, shape: Shape) -> usize {
    if system.is_vigil() { usize::from(shape.readings) } else { 1 }
}

async fn throughput(system: System, shape: Shape, places: &Places) -> Result<Value> {
    let (mut running, topic) = start(system, Tuned::Throughput, shape, places).await?;
    let load = Load::connect(shape, &running.address, &running.passwords).await?;
    tokio::time::sleep(SETTLE).await;
    let before = Cost::now(&running.processes, places.kafka_pid)?;
    let sent = load.publish().await?;
    if let Some(topic) = &topic {
        topic.wait((shape.messages() * records(system, shape)) as i64, SILENCE);
    }
    let cost = Cost::now(&running.processes, places.kafka_pid)?.since(&before);
    let peak: u64 = running.processes.iter().map(|process| peak_mb(process.pid())).sum::<Result<u64>>()?;

    let mut tally = Tally::new(shape);
    match &topic {
        Some(topic) => topic.read(parts(system), &mut tally)?,
        None if system == System::VigilEmbedded => {
            running.processes.pop().context("no process")?.terminate()?;
            landed::read_embedded(&running.folder().join("vigil"), &mut tally).await?;
        }
        None => {}
    }
    let began_ms = sent.began.duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let acked = sent.all_acked();
    let mut line = json!({
        "what": "throughput", "system": system.name(), "connections": shape.connections, "readings": shape.readings, "messages": shape.messages(),
        "acked": acked, "acked_per_s": (acked as f64 / sent.seconds).round(), "cpu_s": cost.to_json(), "peak_mb": peak,
    });
    // mosquitto alone keeps nothing: it is counted by its PUBACKs
    let counted = if system == System::Mosquitto { acked } else { tally.messages() };
    line["messages_per_cpu_s"] = json!((counted as f64 / cost.path_s()).round());
    line["readings_per_cpu_s"] = json!((counted as f64 * f64::from(shape.readings) / cost.path_s()).round());
    if system != System::Mosquitto {
        let wall_s = (tally.last_ms - began_ms) as f64 / 1000.0;
        line["landed"] = json!(tally.messages());
        line["missing"] = json!(shape.messages() - tally.messages());
        line["records"] = json!(tally.records);
        line["duplicates"] = json!(tally.duplicates);
        line["wall_s"] = json!(round(wall_s, 2));
        line["landed_per_s"] = json!((tally.messages() as f64 / wall_s).round());
        line["records_per_s"] = json!((tally.records as f64 / wall_s).round());
        line["records_per_cpu_s"] = json!((tally.records as f64 / cost.path_s()).round());
    }
    Ok(line)
}

async fn latency(system: System, shape: Shape, places: &Places) -> Result<Value> {
    let (running, topic) = start(system, Tuned::Latency, shape, places).await?;
    let topic = topic.context("the embedded journal has no consumer outside its process; see `cargo bench --bench latency`")?;
    let load = Load::connect(shape, &running.address, &running.passwords).await?;
    let sent_at = load.sent_at();
    topic.assign(Offset::Beginning)?;
    let follow = std::thread::spawn(move || -> Result<Vec<f64>> {
        let (mut delays, mut tally, mut heard) = (Vec::new(), Tally::new(shape), Instant::now());
        // a message has arrived when its last reading has
        while delays.len() < shape.messages() && heard.elapsed() < SILENCE {
            if let Some((Some(part), _)) = topic.next(Duration::from_millis(100), parts(system))? {
                tally.add(&part, 0);
                heard = Instant::now();
                if tally.has(part.device, part.seq) {
                    delays.push(sent_at.since(part.device, part.seq).as_secs_f64() * 1000.0);
                }
            }
        }
        Ok(delays)
    });
    tokio::time::sleep(SETTLE).await;
    let before = Cost::now(&running.processes, places.kafka_pid)?;
    load.publish().await?;
    let cost = Cost::now(&running.processes, places.kafka_pid)?.since(&before);
    let delays = follow.join().map_err(|_| anyhow::anyhow!("the consumer panicked"))??;
    // the first tenth warms everything up
    let mut kept = delays[delays.len() / 10..].to_vec();
    ensure!(!kept.is_empty(), "nothing arrived");
    kept.sort_by(f64::total_cmp);
    let at = |share: f64| round(kept[((kept.len() - 1) as f64 * share) as usize], 2);
    Ok(json!({
        "what": "latency", "system": system.name(), "rate": shape.rate, "readings": shape.readings, "messages": shape.messages(), "arrived": delays.len(),
        "p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999), "max_ms": at(1.0), "cpu_s": cost.to_json(),
    }))
}

async fn loss(system: System, victim: &str, after: Duration, shape: Shape, places: &Places) -> Result<Value> {
    let (mut running, topic) = start(system, Tuned::Loss, shape, places).await?;
    let topic = topic.context("for the embedded journal see `dev/kill-ledger`")?;
    let load = Load::connect(shape, &running.address, &running.passwords).await?;
    tokio::time::sleep(SETTLE).await;
    let publishing = tokio::spawn(load.publish());
    tokio::time::sleep(after).await;
    ensure!(!publishing.is_finished(), "everything was acknowledged before the kill: more --each, or a lower --after");
    if victim == "kafka" {
        dev_kafka("kill9")?;
        dev_kafka("start")?;
    } else {
        running.kill9(victim)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        running.restart(victim)?;
    }
    let sent: Sent = publishing.await??;
    // what is delivered twice makes any count wrong: only silence tells the end
    topic.wait(i64::MAX, SILENCE);
    let mut tally = Tally::new(shape);
    topic.read(parts(system), &mut tally)?;
    let acked_messages = sent.acked.iter().enumerate().flat_map(|(device, acked)| (0..*acked).map(move |seq| (device, seq)));
    let lost = acked_messages.filter(|(device, seq)| !tally.has(*device, *seq)).count();
    Ok(json!({
        "what": "loss", "system": system.name(), "killed": victim, "readings": shape.readings, "rate": shape.rate, "acked": sent.all_acked(), "lost": lost,
        "landed": tally.messages(), "duplicates": tally.duplicates,
    }))
}

fn dev_kafka(command: &str) -> Result<()> {
    let status = Command::new("dev/kafka").arg(command).stdout(Stdio::null()).status().context("dev/kafka; run this from the checkout's root")?;
    ensure!(status.success(), "dev/kafka {command} failed");
    Ok(())
}
