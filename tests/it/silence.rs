//! Devices are unplugged while the process that watches them is killed and started again: each is told of once, a replay tells of them under the same
//! ids, and when all of them fall silent that is one incident.
//!
//! `dev/silence` runs the long one: a thousand devices, fifty of them unplugged.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use schemas::{DeviceId, EventTime, Micros, PatientId, Private, TransitionKind};
use store::Store;
use store::episodes::{Episode, EpisodeFilter, State};
use store::registry::{Assignment, Device, Patient, Sex};

use crate::driven::{ONE, PATIENCE, Process, Serving, done, install, now};
use crate::evidence;
use crate::kill::number;
use crate::run::open;

/// A device measures every five seconds; three that are missing make it silent.
const EVERY: Micros = Micros::seconds(5);
const SILENT: Micros = Micros(3 * EVERY.0);
const RULES: &str = "[[rule]]\nid = \"quiet\"\nname = \"Oximeter not heard\"\npriority = \"low\"\nmetric = \"spo2\"\nsilent = \"15 s\"\n";

/// Patients with a device each; two lists of who they are and their passwords.
async fn register(store: &Store, folder: &Path, devices: usize, unplugged: usize) -> [String; 2] {
    let text = |text: &str| Private::new(text.to_owned());
    let files = ["plugged", "unplugged"].map(|name| folder.join(format!("{name}.ndjson")));
    let [mut plugged, mut others] = [0, 1].map(|n: usize| std::fs::File::create(&files[n]).unwrap());
    for place in 0..devices {
        let (patient, device) = (PatientId::parse(&format!("p{place:04}")).unwrap(), DeviceId::parse(&format!("ox{place:04}")).unwrap());
        let created_at = now() - Micros::seconds(1);
        let (name, born, identifier, ward) = (text("NAME"), text("1940-01-01"), text(""), "ward-1".to_owned());
        store.add_patient(&Patient { id: patient.clone(), name, born, sex: Sex::Female, identifier, ward, created_at, monitored: true }).await.unwrap();
        let new = Device { id: device.clone(), model: "oximeter".to_owned(), test: false, hub: None, created_at, revoked_at: None, min_time: created_at };
        store.add_device(&new).await.unwrap();
        store.assign(&Assignment { device: device.clone(), patient, from: created_at, until: None }).await.unwrap();
        let password = store.new_device_password(&device, now()).await.unwrap();
        let file = if place < unplugged { &mut others } else { &mut plugged };
        writeln!(file, "{{\"device\": \"{device}\", \"password\": \"{}\"}}", *password).unwrap();
    }
    files.map(|file| file.to_str().unwrap().to_owned())
}

fn simulate(serving: &Serving, devices: &str) -> Process {
    Process::start(&["simulate", "--to", &serving.mqtt, "--devices", devices, "--deteriorating", "0", "--speed", "2", "--seconds", "3600"])
}

async fn open_alerts(store: &Store) -> BTreeMap<String, Episode> {
    let (mut found, mut after) = (BTreeMap::new(), None);
    loop {
        let filter = EpisodeFilter { state: Some(State::Open), ..EpisodeFilter::default() };
        let (page, next) = store.episodes(&filter, after, 500).await.unwrap();
        found.extend(page.into_iter().filter(|one| one.rule.as_str() == "quiet").map(|one| (one.patient.to_string(), one)));
        after = next;
        if after.is_none() {
            return found;
        }
    }
}

/// Until it is so; everything here must come.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(began.elapsed() < 3 * PATIENCE, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn quantile(sorted: &[i64], part: f64) -> f64 {
    sorted.get(((sorted.len() - 1) as f64 * part) as usize).map_or(0.0, |micros| *micros as f64 / 1e6)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_unplugged_is_told_of_once_and_a_ward_that_falls_silent_is_one_incident() {
    let seed = number("VIGIL_SEED", rand::random::<u32>().into());
    let (devices, unplugged, kills) = (number("VIGIL_DEVICES", 24) as usize, number("VIGIL_UNPLUGGED", 4) as usize, number("VIGIL_KILLS", 1) as usize);
    eprintln!("VIGIL_SEED={seed} VIGIL_DEVICES={devices} VIGIL_UNPLUGGED={unplugged} VIGIL_KILLS={kills}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    let config = install(&site, &[]);
    let rules = folder.path().join("rules.toml");
    std::fs::write(&rules, RULES).unwrap();
    done(&["rule", "load", rules.to_str().unwrap(), "--reason", "silence of seconds, for a test", "--config", &config]);
    let store = Store::open(&format!("sqlite:{}", site.join("data/vigil.db").display())).await.unwrap();
    let [plugged, others] = register(&store, folder.path(), devices, unplugged).await;
    let mut serving = Serving::start(&config, ONE);
    let (stay, mut go) = (simulate(&serving, &plugged), simulate(&serving, &others));
    // who was enrolled and never heard of is silent as well: each of those alerts is over once all are heard
    let token = store.new_api_token("admin", "tests", &["read"], now(), None).await.unwrap().1.to_string();
    let client = {
        drop(rustls::crypto::ring::default_provider().install_default());
        reqwest::Client::new()
    };
    until("everybody's first reading", async || {
        let url = format!("{}/api/v1/patients", serving.dashboard);
        let rows: serde_json::Value = client.get(url).bearer_auth(&token).send().await.ok()?.json().await.ok()?;
        let heard = rows["patients"].as_array()?.iter().filter(|row| !row["heard_at"].is_null()).count();
        assert!(go.failed().is_none(), "{:?}", go.rest());
        (heard == devices && open_alerts(&store).await.is_empty()).then_some(())
    })
    .await;

    go.kill();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.random_range(1000..12_000))).await;
        serving.kill_and_start(0);
    }
    let gone = |patient: &str| patient[1..].parse::<usize>().unwrap() < unplugged;
    let told = until("an alert of each that was unplugged", async || {
        let open = open_alerts(&store).await;
        (open.keys().filter(|patient| gone(patient)).count() == unplugged).then_some(open)
    })
    .await;
    let mut late = Vec::new();
    for episode in told.values().filter(|episode| gone(episode.patient.as_str())) {
        let stored = store.hops(episode.alert).await.unwrap().stored.unwrap();
        late.push((stored - (episode.since + SILENT)).0);
    }
    late.sort_unstable();
    eprintln!(
        "{unplugged} of {devices} unplugged, {kills} kills: told {:.2} s after three intervals (p50), {:.2} s at most; 5 s were aimed at",
        quantile(&late, 0.5),
        quantile(&late, 1.0)
    );
    assert!(store.troubles().await.unwrap().iter().all(|trouble| trouble.name != "silence"), "some are no incident");

    // the gateway's network: all at once
    stay.kill();
    until("everybody's silence", async || (open_alerts(&store).await.len() == devices).then_some(())).await;
    let incidents = until("an incident", async || {
        let all = store.troubles().await.unwrap();
        let found: Vec<_> = all.into_iter().filter(|trouble| trouble.name.starts_with("silence") || trouble.name.starts_with("hub:")).collect();
        (!found.is_empty()).then_some(found)
    })
    .await;
    assert_eq!(incidents.len(), 1, "one incident, not {devices}: {incidents:?}");
    serving.stop();

    let journal = open(&site, &config, None, "");
    let topics = evidence::topics(&journal, &site.join("data/lake")).await;
    journal.close().await;
    let (_, transitions) = topics.equal_one_uninterrupted_run();
    // as the devices were last heard, each has one alert, and it stands
    let mut last: BTreeMap<&str, EventTime> = BTreeMap::new();
    for reading in topics.readings().filter(|reading| reading.patient.as_str().starts_with('p')) {
        let at = last.entry(reading.patient.as_str()).or_insert(reading.at);
        *at = (*at).max(reading.at);
    }
    assert_eq!(last.len(), devices);
    for (patient, last) in last {
        let of = |kind| topics.transitions.values().filter(move |t| t.patient.as_str() == patient && t.rule.as_str() == "quiet" && t.kind == kind);
        let raised = of(TransitionKind::Raised).filter(|raised| raised.at - SILENT >= last).count();
        assert_eq!(raised, 1, "{patient} was last heard at {last}");
        assert!(of(TransitionKind::Cleared).all(|cleared| cleared.at <= last + Micros::seconds(2)), "{patient} is silent");
    }
    eprintln!("{transitions} transitions, the same ids as one uninterrupted run gives");
}
