//! How fast history is read, and how fast it is judged: `cargo bench --profile dev --bench backtest -- --readings 3000000`.
//!
//! Writes a lake of the ward's usual traffic (each patient's monitor sends six metrics a minute) through the archive's own code, then measures, each in a
//! process of its own for its memory: reading and decoding alone, and with the engine and the default rules. Then ten times the period.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use processor::backtest::{Plan, Progress, Rules, run, write_inputs};
use processor::objects::{LocalObjects, Objects};
use schemas::{Arrived, ClockState, DeviceId, EventTime, Input, Metric, Micros, PatientId, Reading, ReadingId};

#[derive(Debug, Parser)]
struct Arguments {
    /// Of the shorter period
    #[arg(long, default_value_t = 3_000_000)]
    readings: u64,
    #[arg(long, default_value_t = 500)]
    patients: u64,
    #[arg(long)]
    workers: Option<NonZero<usize>>,
    /// A lake that is there, and what is done with it: what a child is told
    #[arg(long, num_args = 2)]
    of: Option<Vec<String>>,
    /// `cargo bench` says so
    #[arg(long)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    assert!(arguments.bench || arguments.of.is_some(), "run it by `cargo bench --profile dev --bench backtest`");
    if let Some([folder, mode]) = arguments.of.as_deref().and_then(|of| of.first_chunk::<2>()) {
        return measure(Path::new(folder), mode, arguments.workers);
    }
    for times in [1, 10] {
        let folder = tempfile::tempdir().unwrap();
        let readings = arguments.readings * times;
        let began = Instant::now();
        let objects: Arc<dyn Objects> = Arc::new(LocalObjects::open(folder.path()).unwrap());
        let written = write_inputs(&objects, 4, ward(arguments.patients, readings)).unwrap();
        let size = size(folder.path());
        let took = began.elapsed().as_secs_f64();
        println!("lake: {written} readings of {} patients, {} bytes each, written in {took:.1} s", arguments.patients, size / written);
        for mode in ["decode", "engine"] {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--of", folder.path().to_str().unwrap(), mode]);
            if let Some(workers) = arguments.workers {
                child.args(["--workers", &workers.to_string()]);
            }
            assert!(child.status().unwrap().success());
        }
    }
}

fn measure(folder: &Path, mode: &str, workers: Option<NonZero<usize>>) {
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::open(folder).unwrap());
    let rules = if mode == "engine" { vec![Rules::Trial(engine::DEFAULT_RULES.to_owned())] } else { Vec::new() };
    let plan = Plan { workers, ..Plan::new(engine::Config::default()) };
    let began = Instant::now();
    let outcome = run(&objects, &plan, &rules, &Progress::default()).unwrap();
    let took = began.elapsed().as_secs_f64();
    let rate = outcome.data.readings as f64 / took;
    let alerts = outcome.trials.first().map_or(0, |trial| trial.alerts.len());
    println!(
        "{mode}: {} readings in {took:.2} s, {rate:.0}/s; {alerts} alerts; at most {} MiB resident, {:.1} s of processor time",
        outcome.data.readings,
        peak(),
        cpu()
    );
}

/// Values that wander slowly, each patient's around a middle of its own; every fiftieth patient is ill.
fn ward(patients: u64, readings: u64) -> impl Iterator<Item = (Arrived, PatientId, Input)> {
    const METRICS: [(Metric, f64, f64); 6] = [
        (Metric::HeartRate, 75.0, 12.0),
        (Metric::Spo2, 96.0, 2.0),
        (Metric::RespiratoryRate, 15.0, 3.0),
        (Metric::SystolicPressure, 125.0, 12.0),
        (Metric::DiastolicPressure, 78.0, 8.0),
        (Metric::Temperature, 36.8, 0.3),
    ];
    let start = EventTime::parse("2026-01-01T00:00:00Z").unwrap();
    let known: Vec<(PatientId, DeviceId)> =
        (0..patients).map(|n| (PatientId::parse(&format!("p{n:05}")).unwrap(), DeviceId::parse(&format!("monitor-{n:05}")).unwrap())).collect();
    (0..readings).map(move |n| {
        let (metric, middle, swing) = METRICS[(n % 6) as usize];
        let of = n / 6 % patients;
        let minute = n / 6 / patients;
        let (patient, device) = &known[of as usize];
        let at = start + Micros::minutes(minute as i64) + Micros(((of * 60_000_000) / patients) as i64);
        let phase = (minute as f64 / 47.0 + of as f64).sin() + 0.3 * (n as f64 * 0.7).sin();
        let ill = if of.is_multiple_of(50) { 1.6 } else { 1.0 };
        let value = ((middle + swing * ill * phase) * 10.0).round() / 10.0;
        let arrived = Arrived(at.0) + Micros(300_000);
        let reading = Reading {
            id: ReadingId::new(device, metric, at, Some(1)),
            patient: patient.clone(),
            device: device.clone(),
            metric,
            value,
            at,
            stamped_at: at,
            received_at: at + Micros(250_000),
            clock: ClockState::AsSent,
            boot: Some(1),
            seq: Some(minute),
            typed: false,
            test: false,
            value_as_sent: value,
            unit_as_sent: metric.codes().ucum.to_owned(),
            author: String::new(),
            format: None,
        };
        (arrived, patient.clone(), Input::Reading(reading))
    })
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| if entry.file_type().unwrap().is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() }).sum()
}

/// MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// User and system, in seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
