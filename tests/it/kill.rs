//! The kill ledger: devices publish and remember every PUBACK, while what serves them is killed with SIGKILL at random points.
//!
//! `dev/kill-ledger` runs the long one: 20,000 readings, 10 kills and more, on both journals.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use schemas::{EventTime, Micros};

use crate::driven::Broker;
use crate::evidence;
use crate::run::{Plan, Run, play};

const PATIENTS: usize = 20;
const EVERY: Micros = Micros(15_000_000);
/// No reading is stored later than this.
const LATE: Micros = Micros::minutes(20);

pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Readings of a ward, of half of the patients a tenth of them late, and some patients in a bad way, as `vigil replay` reads them; and whose device is whose.
pub fn record(path: &Path, readings: usize, random: &mut StdRng) -> BTreeMap<String, String> {
    let mut csv = "patient,device,metric,value,unit,measured_at,stored_at\n".to_owned();
    let mut patient_of = BTreeMap::new();
    let begin = EventTime::parse("2026-01-01T00:00:00Z").unwrap();
    for number in 0..readings {
        let (patient, step) = ((number / 2) % PATIENTS, number / 2 / PATIENTS);
        let ill = patient % 5 == 0 && (step / 20) % 3 == 1;
        let (device, metric, unit, value) = match number % 2 {
            0 => ("oximeter", "spo2", "%", if ill { random.random_range(80..88) } else { random.random_range(94..100) }),
            _ => ("strap", "heart_rate", "/min", if ill { random.random_range(135..150) } else { random.random_range(60..90) }),
        };
        let measured = begin + Micros(EVERY.0 * step as i64 + 1000 * patient as i64);
        let late = if !never_late(patient) && random.random_range(0..10) == 0 { Micros(random.random_range(0..LATE.0)) } else { Micros::ZERO };
        patient_of.insert(format!("p{patient:02}-{device}"), format!("p{patient:02}"));
        writeln!(csv, "p{patient:02},p{patient:02}-{device},{metric},{value},{unit},{measured},{}", measured + late).unwrap();
    }
    std::fs::write(path, csv).unwrap();
    patient_of
}

/// Everything that must hold of a run that was disturbed, beside one that was not.
async fn hold(run: &Run, calm: &Run, readings: usize, patient_of: &BTreeMap<String, String>) {
    assert_eq!(run.ledger.len(), readings);
    assert!(run.ledger.iter().all(|one| one.accepted == Some(true)), "every reading has its PUBACK in the end");
    let (accepted, _) = run.topics.hold_what_was_acknowledged(&run.ledger);
    let (windows, transitions) = run.topics.equal_one_uninterrupted_run();
    let table = evidence::table(&run.ledger, patient_of);
    let in_sql = run.topics.equal_batch_sql(&table).await;
    let in_order = (0..PATIENTS).filter(|patient| never_late(*patient)).map(|patient| format!("p{patient:02}")).collect();
    let alerts_in_sql = run.topics.alerts_equal_batch_sql(&table, &in_order).await;
    assert!(alerts_in_sql > 0, "the recording raises alerts of patients who are never heard late");
    let episodes = run.topics.equal_the_episodes(&run.store).await;
    // the devices send again in their order, and what was durable before a kill is the beginning of what they sent
    assert_eq!(run.topics.order_heard(), calm.topics.order_heard(), "a kill changes nothing of who was heard when");
    assert_eq!(run.topics.alerts(), calm.topics.alerts(), "the same alerts under the same ids");
    eprintln!("{accepted} acknowledged, 0 lost; {windows} windows ({in_sql} equal batch SQL), {transitions} transitions, {episodes} episodes");
    eprintln!("{} alerts as in the undisturbed run, {alerts_in_sql} of them equal batch SQL", run.topics.alerts().len());
}

/// A patient whose readings are all stored at once.
const fn never_late(patient: usize) -> bool {
    patient % 2 == 1
}

/// How many seconds such a recording lasts.
pub fn lasts(readings: usize) -> f64 {
    EVERY.0 as f64 / 1e6 * (readings / 2 / PATIENTS) as f64 + 1200.0
}

struct Ledger {
    random: StdRng,
    readings: usize,
    kills: usize,
    seconds: f64,
    folder: tempfile::TempDir,
}

fn begin() -> Ledger {
    let seed = number("VIGIL_SEED", rand::random::<u32>().into());
    let (readings, kills, seconds) = (number("VIGIL_READINGS", 2_000) as usize, number("VIGIL_KILLS", 3) as usize, number("VIGIL_SECONDS", 8) as f64);
    eprintln!("VIGIL_SEED={seed} VIGIL_READINGS={readings} VIGIL_KILLS={kills} VIGIL_SECONDS={seconds}");
    Ledger { random: StdRng::seed_from_u64(seed), readings, kills, seconds, folder: tempfile::tempdir().unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn j1_nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let Ledger { mut random, readings, kills, seconds, folder } = begin();
    let recording = folder.path().join("recording.csv");
    let patient_of = record(&recording, readings, &mut random);
    let plan = |seconds: f64| Plan { recording: &recording, speed: lasts(readings) / seconds, kafka: None, pager: None };
    let mut killed = 0;
    let disturbed = play(&folder.path().join("killed"), &plan(seconds), |serving| {
        std::thread::sleep(Duration::from_secs_f64(random.random_range(0.1..1.0) * seconds / (kills + 1) as f64));
        serving.kill_and_start(0);
        killed += 1;
        eprintln!("SIGKILL {killed} of {kills}");
        killed < kills
    })
    .await;
    let calm = play(&folder.path().join("calm"), &plan(seconds / 4.0), |_| false).await;
    hold(&disturbed, &calm, readings, &patient_of).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn j1_nothing_acknowledged_is_lost_when_roles_and_the_broker_are_killed() {
    let Some(broker) = Broker::start() else { return };
    let Ledger { mut random, readings, kills, seconds, folder } = begin();
    let recording = folder.path().join("recording.csv");
    let patient_of = record(&recording, readings, &mut random);
    let plan = |seconds: f64| Plan { recording: &recording, speed: lasts(readings) / seconds, kafka: Some(&broker.address), pager: None };
    let mut killed = 0;
    let disturbed = play(&folder.path().join("killed"), &plan(seconds), |serving| {
        std::thread::sleep(Duration::from_secs_f64(random.random_range(0.1..1.0) * seconds / (kills + 1) as f64));
        // each role and the broker in turn, at a random time
        let victim = match killed % 5 {
            4 => {
                broker.kafka("kill9");
                broker.kafka("start");
                "the broker"
            }
            // the one that was started longest ago
            _ => serving.kill_and_start(0),
        };
        killed += 1;
        eprintln!("SIGKILL {killed} of {kills}: {victim}");
        killed < kills.max(5)
    })
    .await;
    let calm = play(&folder.path().join("calm"), &plan(seconds / 4.0), |_| false).await;
    hold(&disturbed, &calm, readings, &patient_of).await;
}
