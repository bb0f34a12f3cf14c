//! Live = history: real patients played through MQTT, a limit changed on the way, and a back-test over the lake that this left. The alerts are
//! the same, by id and by time.
//!
//! `dev/live-is-history` plays all of them; a run of the tests the first twenty.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use journal::Topic;
use processor::lake;
use processor::objects::{LocalObjects, Objects};
use schemas::{Arrived, CANARY_RULE, Input, Partition, PatientId, TransitionKind, partition_of};
use serde_json::Value;

use crate::driven::{PATIENCE, done};
use crate::evidence::Topics;
use crate::mimic::recording;
use crate::run::{Plan, play};

/// The patients of the short run, in the order of the file.
const FEW: usize = 20;
/// Higher than the rule's own: after it is set, other pressures raise.
const LIMIT: &str = "105";

/// The rows of the first patients, or all; and who they are.
fn cut(recording: &Path, into: &Path, patients: usize) -> BTreeSet<String> {
    let mut lines = BufReader::new(GzDecoder::new(std::fs::File::open(recording).unwrap())).lines();
    let mut out = BufWriter::new(std::fs::File::create(into).unwrap());
    writeln!(out, "{}", lines.next().unwrap().unwrap()).unwrap();
    let mut kept = BTreeSet::new();
    for line in lines {
        let line = line.unwrap();
        let subject = line.split(',').nth(1).unwrap();
        if kept.len() < patients {
            kept.insert(subject.to_owned());
        }
        if kept.contains(subject) {
            writeln!(out, "{line}").unwrap();
        }
    }
    kept.into_iter().map(|subject| format!("mimic-{subject}")).collect()
}

fn lines(path: &Path) -> usize {
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut text));
    if read.is_err() { 0 } else { text.iter().filter(|byte| **byte == b'\n').count() }
}

/// Until when both sides have seen everything: the processor by its snapshot, the lake by its files.
fn seen(topics: &Topics, folder: &Path) -> BTreeMap<Partition, Arrived> {
    let objects = LocalObjects::open(folder).unwrap();
    let snapshots = crate::evidence::evaluated(folder);
    let until = |partition: &Partition| {
        let last = lake::files(&objects, Topic::Inputs, *partition).unwrap().pop().unwrap();
        let objects: std::sync::Arc<dyn Objects> = std::sync::Arc::new(LocalObjects::open(folder).unwrap());
        let next = lake::read_footer(&objects, &last).unwrap().next.0.min(snapshots[partition]);
        topics.inputs[partition].iter().filter(|arrival| arrival.offset.0 < next).map(|arrival| arrival.arrived_at).max().unwrap()
    };
    topics.inputs.keys().map(|partition| (*partition, until(partition))).collect()
}

type Told = BTreeSet<(String, String, String, String, String)>;

#[tokio::test(flavor = "multi_thread")]
async fn a_back_test_over_the_lake_tells_what_was_told_live() {
    let Some(recording) = recording() else { return };
    let patients = if std::env::var_os("VIGIL_TEST_WHOLE").is_some() { usize::MAX } else { FEW };
    let folder = tempfile::tempdir().unwrap();
    let cut_to = folder.path().join("recording.csv");
    let patients = cut(&recording, &cut_to, patients);
    let values = lines(&cut_to) - 1;
    let site = folder.path().join("site");
    let (config, ledger) = (site.join("vigil.toml"), site.join("ledger.ndjson"));
    let config = config.to_str().unwrap();
    let began = Instant::now();
    let run = play(&site, &Plan { recording: &cut_to, speed: 0.0, kafka: None, pager: None }, |_| {
        // a line for each publish and one for each PUBACK
        if lines(&ledger) < values {
            assert!(began.elapsed() < 10 * PATIENCE, "half of the recording was not played");
            std::thread::sleep(Duration::from_millis(50));
            return true;
        }
        for patient in patients.iter().step_by(3) {
            done(&["patient", "limit", patient, "systolic_pressure.low", LIMIT, "--config", config]);
        }
        false
    })
    .await;

    let changed: Vec<_> = run.topics.inputs.values().flatten().filter(|arrival| matches!(&arrival.input, Input::Settings(s) if s.limits.len() == 1)).collect();
    let middle = changed.first().map(|arrival| arrival.arrived_at).unwrap();
    let is_reading = |arrival: &&engine::Arrival| matches!(&arrival.input, Input::Reading(r) if patients.contains(r.patient.as_str()));
    let (before, after): (Vec<_>, Vec<_>) = run.topics.inputs.values().flatten().filter(is_reading).partition(|arrival| arrival.arrived_at < middle);
    assert!(before.len() > values / 4 && after.len() > values / 20, "the limits were changed on the way: {} before, {} after", before.len(), after.len());

    let csv = folder.path().join("alerts.csv");
    let report = done(&["rule", "backtest", "--json", "--alerts", csv.to_str().unwrap(), "--config", config]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let mut history = Told::new();
    for row in csv::Reader::from_path(&csv).unwrap().deserialize::<BTreeMap<String, String>>() {
        let row = row.unwrap();
        let of = |name: &str| row[name].clone();
        history.insert((of("patient"), of("rule"), of("alert"), of("raised_at"), of("heard_at")));
    }
    let raised: Vec<_> = run.topics.transitions.values().filter(|t| t.kind == TransitionKind::Raised && t.rule.as_str() != CANARY_RULE).collect();
    let mut live: Told =
        raised.iter().map(|t| (t.patient.to_string(), t.rule.to_string(), t.alert.to_string(), t.at.to_string(), t.heard_at.to_string())).collect();
    let seen = seen(&run.topics, &site.join("data/lake"));
    let both_saw = |(patient, _, _, _, heard): &(String, String, String, String, String)| {
        let partition = partition_of(PatientId::parse(patient).unwrap().as_bytes(), 4);
        Arrived::parse(heard).unwrap() < seen[&partition]
    };
    live.retain(both_saw);
    history.retain(both_saw);

    let own =
        raised.iter().filter(|t| t.rule.as_str() == "systolic-low" && t.evidence.iter().any(|e| e.value.is_some_and(|value| value > 90.0 && value < 105.0)));
    let own = own.count();
    assert!(own > 0, "an alert came of a limit that was changed");
    let only_live: Vec<_> = live.difference(&history).collect();
    let only_history: Vec<_> = history.difference(&live).collect();
    eprintln!(
        "{values} values of {} patients through MQTT: {} before and {} after the first of {} limits changed; late {}, beyond the horizon {}",
        patients.len(),
        before.len(),
        after.len(),
        changed.len(),
        report["trial"]["late_readings"],
        report["trial"]["beyond_horizon"]
    );
    eprintln!(
        "alerts live {}, of them {own} by a changed limit; in history {}; only live {only_live:?}, only in history {only_history:?}",
        live.len(),
        history.len()
    );
    assert!(only_live.is_empty() && only_history.is_empty());
    assert!(live.len() > 20, "{} alerts show nothing", live.len());
}
