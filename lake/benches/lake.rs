//! What a month of readings costs: `cargo bench -p lake -- --folder /somewhere [--patients 10000] [--days 30]`. The lake stays in the folder, for
//! `dev/lake-speed`, which asks DuckDB and polars the same questions of the same files.
//!
//! Each patient: SpO₂ and heart rate every ten minutes, respiratory rate and temperature every hour, 336 readings a day.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lake::export::{Cohort, Form, Profile, ProjectKey, Request, Through, prepare};
use lake::rows::{AssignmentRow, PatientRow};
use lake::{AsOf, FromStore, Lake, Limits, Progress, Shape, Table, Wanted, compact, manifest, query, verify};
use processor::backtest::write_inputs;
use processor::objects::{LocalObjects, Objects};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use schemas::{Arrived, ClockState, DeviceId, EventTime, Input, Metric, Micros, PatientId, Reading, ReadingId};

const ROUNDS: usize = 5;
/// Patients of a ward.
const WARD: usize = 100;

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next()
}

fn number(name: &str, otherwise: usize) -> usize {
    argument(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} {text}: it is a number")))
}

struct Person {
    patient: PatientId,
    monitor: DeviceId,
    thermometer: DeviceId,
    /// Seconds that the monitor's minute begins late.
    phase: i64,
    values: [f64; 4],
}

const METRICS: [(Metric, f64, f64, f64); 4] = [
    (Metric::Spo2, 96.0, 85.0, 100.0),
    (Metric::HeartRate, 74.0, 40.0, 160.0),
    (Metric::RespiratoryRate, 16.0, 8.0, 35.0),
    (Metric::Temperature, 36.7, 35.0, 40.0),
];

fn people(count: usize, random: &mut StdRng) -> Vec<Person> {
    let person = |n: usize| Person {
        patient: PatientId::parse(&format!("patient-{n:05}")).unwrap(),
        monitor: DeviceId::parse(&format!("monitor-{n:05}")).unwrap(),
        thermometer: DeviceId::parse(&format!("thermometer-{n:05}")).unwrap(),
        phase: random.random_range(0..600),
        values: METRICS.map(|metric| metric.1),
    };
    (0..count).map(person).collect()
}

/// A day of everybody, in the order in which it arrives.
fn day(people: &mut [Person], midnight: EventTime, random: &mut StdRng) -> Vec<(Arrived, PatientId, Input)> {
    let mut inputs = Vec::with_capacity(people.len() * 336);
    for minute in (0..1440).step_by(10) {
        for person in people.iter_mut() {
            let metrics = if minute % 60 == 0 { 4 } else { 2 };
            for (place, (metric, _, least, most)) in METRICS.into_iter().enumerate().take(metrics) {
                let step = if metric == Metric::Temperature { 0.1 } else { 1.0 };
                let value = &mut person.values[place];
                *value = ((*value / step + f64::from(random.random_range(-1..=1))).round() * step).clamp(least, most);
                *value = (*value * 10.0).round() / 10.0;
                let at = midnight + Micros::minutes(minute) + Micros(person.phase * 1_000_000);
                let received = at + Micros(random.random_range(80_000..900_000));
                let device = if metric == Metric::Temperature { &person.thermometer } else { &person.monitor };
                let reading = Reading {
                    id: ReadingId::new(device, metric, at, None),
                    patient: person.patient.clone(),
                    device: device.clone(),
                    metric,
                    value: *value,
                    at,
                    stamped_at: at,
                    received_at: received,
                    clock: ClockState::AsSent,
                    boot: None,
                    seq: None,
                    typed: false,
                    test: false,
                    value_as_sent: *value,
                    unit_as_sent: String::new(),
                    author: String::new(),
                    format: None,
                };
                inputs.push((Arrived(received.0), person.patient.clone(), Input::Reading(reading)));
            }
        }
    }
    inputs.sort_by_key(|input| input.0);
    inputs
}

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// MiB that the process held at most since it was last asked.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let peak = line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024;
    // the next one begins at what is held now
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    peak
}

fn told<T>(what: &str, readings: u64, work: impl FnOnce() -> T) -> T {
    peak();
    let (began, worked) = (Instant::now(), cpu());
    let done = work();
    let (took, worked) = (began.elapsed().as_secs_f64(), (cpu() - worked).as_secs_f64());
    println!(
        "{what}: {took:.1} s, {worked:.1} CPU-s, {:.2} M readings/s, {:.2} M/CPU-s, peak {} MiB",
        readings as f64 / took / 1e6,
        readings as f64 / worked / 1e6,
        peak()
    );
    done
}

fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .map(|entry| entry.unwrap())
        .map(|entry| if entry.file_type().unwrap().is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() })
        .sum()
}

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let (patients, days) = (number("--patients", 1_000), number("--days", 10));
    let kept = argument("--folder").map(PathBuf::from);
    let scratch = tempfile::tempdir().unwrap();
    let folder = kept.unwrap_or_else(|| scratch.path().join("lake"));
    let out = scratch.path().join("export");
    std::fs::create_dir_all(&folder).unwrap();
    let start = EventTime::parse("2026-01-01T00:00:00Z").unwrap();
    let readings = (patients * days * 336) as u64;
    println!("{patients} patients, {days} days, {readings} readings in {}", folder.display());
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::open(&folder).unwrap());
    let random = &mut StdRng::seed_from_u64(1);
    let mut everybody = people(patients, random);
    if !folder.join("raw").exists() {
        let (mut made, began) = (Duration::ZERO, cpu());
        told("archive, simulation included", readings, || {
            let all = (0..days).flat_map(|n| {
                let before = cpu();
                let inputs = day(&mut everybody, start + Micros::days(i64::try_from(n).unwrap()), random);
                made += cpu() - before;
                inputs
            });
            write_inputs(&objects, 16, all).unwrap();
        });
        let alone = (cpu() - began - made).as_secs_f64();
        println!(
            "archive alone: {alone:.1} CPU-s, {:.2} M readings/CPU-s, {:.1} bytes a reading",
            readings as f64 / alone / 1e6,
            size(&folder.join("raw")) as f64 / readings as f64
        );
    }
    let lake = Lake::open(&folder).unwrap();
    let row = |(n, person): (usize, &Person)| PatientRow {
        patient: person.patient.to_string(),
        ward: format!("ward-{}", n / WARD),
        sex: if n % 2 == 0 { "female" } else { "male" }.to_owned(),
        born: Some(-9000 - i32::try_from(n % 9000).unwrap()),
        enrolled_at: start,
    };
    let assigned = |person: &Person| AssignmentRow {
        device: person.monitor.to_string(),
        patient: person.patient.to_string(),
        from: start,
        until: None,
        model: String::new(),
        test: false,
    };
    let store =
        FromStore { patients: everybody.iter().enumerate().map(row).collect(), assignments: everybody.iter().map(assigned).collect(), episodes: Vec::new() };
    let wanted = Wanted { installation: "bench".to_owned(), now: start, horizon: Micros::hours(2), anew: false, store: Some(store) };
    let manifest = match manifest::open(&lake, &AsOf::Newest, None) {
        Ok(manifest) => manifest,
        Err(_) => told("compaction", readings, || compact(&lake, &wanted, &Progress::default()).unwrap().manifest),
    };
    assert_eq!(manifest.rows(Table::Readings), readings);
    for table in [Table::Readings, Table::Wear] {
        let bytes: u64 = manifest.table(table).iter().map(|file| file.bytes).sum();
        println!(
            "{}: {} files, {} rows, {bytes} bytes: {:.2} a reading",
            table.name(),
            manifest.table(table).len(),
            manifest.rows(table),
            bytes as f64 / readings as f64
        );
    }
    told("verify", readings, || assert_eq!(verify(&lake, None, &Progress::default()).unwrap().findings, []));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let day_of_one = "SELECT at, metric, value FROM readings WHERE patient = 'patient-00042' AND date = DATE '2026-01-05' ORDER BY at";
    let ward = "SELECT date_trunc('hour', r.at) AS hour, avg(r.value) AS mean FROM readings r JOIN patients p ON p.patient = r.patient
                WHERE p.ward = 'ward-3' AND r.metric = 'spo2' GROUP BY 1 ORDER BY 1";
    let all = "SELECT metric, count(*) AS n, avg(value) AS mean, max(value) AS most FROM readings GROUP BY metric ORDER BY metric";
    for (what, sql) in [("one patient, one day", day_of_one), ("hourly mean of a ward", ward), ("mean of everything", all)] {
        let mut times: Vec<Duration> = Vec::new();
        let mut rows = 0;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            rows = runtime.block_on(async {
                let mut answer = query(&lake, &manifest, sql, None, Limits::default()).await.unwrap();
                let mut rows = 0;
                while let Some(piece) = answer.next().await.unwrap() {
                    rows += piece.num_rows();
                }
                rows
            });
            times.push(began.elapsed());
        }
        times.sort();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!("{what}: {rows} rows, min/median/max {:.1}/{:.1}/{:.1} ms", ms(times[0]), ms(times[ROUNDS / 2]), ms(times[ROUNDS - 1]));
    }
    let request = Request {
        project: "bench".to_owned(),
        purpose: "figures".to_owned(),
        requester: "one".to_owned(),
        approver: "another".to_owned(),
        through: Through::new(Profile::SafeHarbor, ProjectKey::new("a key that is long enough for a bench")),
        cohort: Cohort::All,
        tables: vec![Table::Readings, Table::Patients],
        form: Form::Long,
        every: None,
        shape: Shape::Parquet,
        memory: 512 << 20,
        now: start,
    };
    told("export, safe-harbor, Parquet", readings, || {
        runtime.block_on(async {
            let prepared = prepare(&lake, manifest.clone(), request).await.unwrap();
            prepared.write(&out, &Progress::default()).await.unwrap();
        });
    });
}
