//! Real patients: every vital of the MIMIC-III demo, as it was charted and stored, through the whole of Vigil.
//!
//! `dev/real-patients` runs it on both journals and prints what came of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use journal::Topic;
use processor::lake;
use processor::objects::{LocalObjects, Objects};
use schemas::{Input, Metric};
use serde_json::Value;

use crate::driven::{Broker, done};
use crate::run::{Plan, Run, play};

/// The recording, when it is there.
pub fn recording() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/vitals/mimic-iii-demo/vitals_chartevents.csv.gz");
    let path = std::env::var_os("VIGIL_TEST_MIMIC").map_or(beside, PathBuf::from);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: no recording of MIMIC-III; VIGIL_TEST_MIMIC names its CHARTEVENTS as CSV");
    None
}

/// What must hold of any run.
async fn hold(name: &str, run: &Run) {
    let (accepted, refused) = run.topics.hold_what_was_acknowledged(&run.ledger);
    assert_eq!(accepted + refused, run.ledger.len(), "every value has its PUBACK");
    let ids: HashSet<_> = run.topics.readings().map(|reading| reading.id).collect();
    assert_eq!(run.topics.readings_of_the_engine(), ids.len(), "each reading once in the engine");
    let (windows, transitions) = run.topics.equal_one_uninterrupted_run();
    let episodes = run.topics.equal_the_episodes(&run.store).await;
    assert_eq!(run.topics.readings().count() + run.topics.dead.len(), run.ledger.len(), "acknowledged = in inputs + in dead-letters");
    let rate = run.ledger.len() as f64 / run.took.as_secs_f64();
    eprintln!(
        "{name}: {} values in {:.1} s ({rate:.0}/s): {accepted} in inputs ({} readings), {refused} in dead-letters",
        run.ledger.len(),
        run.took.as_secs_f64(),
        ids.len()
    );
    eprintln!("{name}: {windows} windows, {transitions} transitions, {episodes} episodes, {} alerts on readings", run.topics.alerts().len());
}

/// The curated layer has each reading of what was archived once, by patient and metric; and says of itself that it is sound.
pub fn hold_the_lake(folder: &Path, run: &Run) {
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::open(folder.join("data/lake")).unwrap());
    let mut once = BTreeSet::new();
    for (partition, arrivals) in &run.topics.inputs {
        let last = lake::files(&*objects, Topic::Inputs, *partition).unwrap().pop().unwrap();
        let next = lake::read_footer(&objects, &last).unwrap().next;
        for arrival in arrivals.iter().filter(|arrival| arrival.offset < next) {
            if let Input::Reading(reading) = &arrival.input
                && reading.metric != Metric::Canary
            {
                once.insert((reading.patient.to_string(), reading.metric.name().to_owned(), reading.id));
            }
        }
    }
    let mut expected = BTreeMap::new();
    for (patient, metric, _) in once {
        *expected.entry((patient, metric)).or_insert(0) += 1;
    }
    let config = folder.join("vigil.toml");
    let with = |arguments: &[&str]| done(&[arguments, &["--config", config.to_str().unwrap()]].concat());
    with(&["lake", "compact"]);
    let verified: Value = serde_json::from_str(&with(&["lake", "verify"])).unwrap();
    assert_eq!(verified["findings"], serde_json::json!([]));
    let counted = with(&["sql", "SELECT patient, metric, count(*) AS n FROM readings GROUP BY 1, 2"]);
    let counted: BTreeMap<_, _> = counted
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| {
            let of = |name: &str| row[name].as_str().unwrap().to_owned();
            ((of("patient"), of("metric")), row["n"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(counted, expected);
    eprintln!("lake: {} readings of {} patients and metrics", expected.values().sum::<u64>(), expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_vital_of_real_patients_is_in_inputs_or_in_dead_letters() {
    let Some(recording) = recording() else { return };
    let folder = tempfile::tempdir().unwrap();
    let embedded = play(&folder.path().join("embedded"), &Plan { recording: &recording, speed: 0.0, kafka: None, pager: None }, |_| false).await;
    hold("embedded", &embedded).await;
    hold_the_lake(&folder.path().join("embedded"), &embedded);
    let Some(broker) = Broker::start() else { return };
    let kafka = play(&folder.path().join("kafka"), &Plan { recording: &recording, speed: 0.0, kafka: Some(&broker.address), pager: None }, |_| false).await;
    hold("Kafka", &kafka).await;
    assert_eq!(embedded.topics.alerts(), kafka.topics.alerts(), "the same alerts, by id and time, on both journals");
}
