//! What is shown is what the engine has: from a snapshot and the log behind it, also when a part of the log is gone.

use engine::{Arrival, Engine};
use journal::{Appender, Topic};
use processor::objects::{LocalObjects, Objects};
use reqwest::{Method, StatusCode};
use schemas::{Arrived, EventTime, Input, Metric, Micros, Offset, PatientId, partition_of};
use serde_json::{Value, json};

use crate::{PARTITIONS, Plan, Site, input_to, now, patient, reading, until};

fn config(of: &PatientId) -> engine::Config {
    engine::Config { partition: partition_of(of.as_bytes(), PARTITIONS), ..engine::Config::default() }
}

/// A snapshot as the processor keeps it, of everything in the patient's partition so far.
fn snapshot(plan: &Plan, of: &PatientId) -> Offset {
    let config = config(of);
    let mut engine = Engine::new(config);
    let records = plan.journal.records(Topic::Inputs, config.partition);
    let arrivals: Vec<Arrival> =
        records.iter().map(|r| Arrival { offset: r.offset, arrived_at: r.arrived_at, input: Input::decode(&r.value).unwrap() }).collect();
    engine.apply(&arrivals);
    let objects = LocalObjects::open(plan.objects()).unwrap();
    let name = format!("snapshots/{}/{:020}", config.partition, engine.next().0);
    assert!(objects.create(&name, &engine.snapshot().unwrap()).unwrap());
    engine.next()
}

async fn value(site: &Site, of: &str, metric: &str) -> Value {
    site.json(&format!("/api/v1/patients/{of}")).await["values"][metric].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_and_what_came_after_it_are_shown() {
    let plan = Plan::new().await;
    let ada = patient("ada");
    let start = now() - Micros::minutes(60);
    for n in 0..40 {
        input_to(&plan.journal, &ada, reading("ada", Metric::Spo2, 95.0, start + Micros::minutes(n))).await;
    }
    let next = snapshot(&plan, &ada);
    input_to(&plan.journal, &ada, reading("ada", Metric::HeartRate, 71.0, now())).await;
    // only the snapshot has them now
    plan.journal.truncate(Topic::Inputs, config(&ada).partition, next);
    let site = plan.start().await;
    assert_eq!(value(&site, "ada", "spo2").await["text"], "95");
    assert_eq!(value(&site, "ada", "heart_rate").await["text"], "71", "ready means that the log was read to its end");
    let vitals = site.json("/api/v1/patients/ada/vitals?metric=spo2").await;
    assert_eq!(vitals["samples"].as_array().unwrap().len(), 40);
    assert_eq!(vitals["complete_since"], start.to_string());
    let devices = site.json("/api/v1/devices").await;
    let oximeter = devices["devices"].as_array().unwrap().iter().find(|device| device["id"] == "ox-ada").unwrap().clone();
    assert_eq!(oximeter["state"], "live");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_gives_way_to_the_log() {
    let plan = Plan::new().await;
    let ada = patient("ada");
    input_to(&plan.journal, &ada, reading("ada", Metric::Spo2, 95.0, now())).await;
    let objects = LocalObjects::open(plan.objects()).unwrap();
    objects.create(&format!("snapshots/{}/{:020}", config(&ada).partition, 99), b"VIGILSNP but not really").unwrap();
    let site = plan.start().await;
    assert_eq!(value(&site, "ada", "spo2").await["text"], "95");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_the_log_is_told() {
    let plan = Plan::new().await;
    let ada = patient("ada");
    let partition = config(&ada).partition;
    for n in 0..3 {
        plan.journal.set_clock(Arrived(now().0));
        input_to(&plan.journal, &ada, reading("ada", Metric::Spo2, 90.0 + f64::from(n), now() - Micros::minutes(3 - i64::from(n)))).await;
    }
    plan.journal.truncate(Topic::Inputs, partition, Offset(2));
    let kept = plan.journal.records(Topic::Inputs, partition)[0].arrived_at;
    let site = plan.start().await;
    assert_eq!(value(&site, "ada", "spo2").await["text"], "92");
    let vitals = site.json("/api/v1/patients/ada/vitals?metric=spo2").await;
    assert_eq!(vitals["complete_since"], EventTime(kept.0).to_string(), "what was measured before is not here");
    // and the stream goes on
    input_to(&site.journal, &ada, reading("ada", Metric::Spo2, 88.0, now())).await;
    until("the next value", async || (value(&site, "ada", "spo2").await["text"] == "88").then_some(())).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_log_that_begins_later_is_no_reason_to_wait() {
    let plan = Plan::new().await;
    let ada = patient("ada");
    input_to(&plan.journal, &ada, reading("ada", Metric::Spo2, 95.0, now())).await;
    plan.journal.truncate(Topic::Inputs, config(&ada).partition, Offset(1));
    let site = plan.start().await;
    assert_eq!(value(&site, "ada", "spo2").await, Value::Null);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_input_is_passed_over() {
    let site = Site::start().await;
    let ada = patient("ada");
    site.journal.append(Topic::Inputs, config(&ada).partition, b"ada", bytes::Bytes::from_static(b"\xff\xff")).unwrap().await.unwrap();
    site.input(&ada, reading("ada", Metric::Spo2, 95.0, now())).await;
    until("the value behind it", async || (value(&site, "ada", "spo2").await["text"] == "95").then_some(())).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_of_another_number_of_partitions_is_refused() {
    let mut plan = Plan::new().await;
    let found = journal::memory::MemoryJournal::new(5);
    let objects = std::sync::Arc::new(LocalObjects::open(plan.objects()).unwrap());
    let error = dashboard_api::Dashboard::bind(plan.config.clone(), std::sync::Arc::new(found), plan.store.clone(), objects, None).await.unwrap_err();
    assert!(error.to_string().contains("journal.partitions = 5"), "{error}");
    plan.config.build = "other".to_owned();
    let site = plan.start().await;
    let ready: Value = site.ask(Method::GET, "/readyz").send().await.unwrap().json().await.unwrap();
    assert_eq!(ready["checks"]["follower"], json!(true));
    assert_eq!(site.ask(Method::GET, "/livez").send().await.unwrap().status(), StatusCode::OK);
    site.stop().await;
}
