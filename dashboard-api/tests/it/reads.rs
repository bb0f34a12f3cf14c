//! Wards, patients, values with their age, samples, devices, dead letters; and what is asked wrongly.

use bytes::Bytes;
use journal::{Appender, Topic};
use reqwest::StatusCode;
use schemas::{ClockState, DeadLetter, EventTime, Input, Metric, Micros, Partition, Pause, Reason, Settings, Void};
use serde_json::{Value, json};
use store::registry::Assignment;

use crate::{Site, device, now, patient, problem, reading, until};

const RULES: &str = r#"
[[rule]]
id = "spo2-now"
name = "Low oxygen saturation"
priority = "high"
when = "last(spo2, '10 min') < limit('spo2.low', 90)"
clear = "last(spo2, '10 min') >= limit('spo2.low', 90) + 2"
source = "test"

[[rule]]
id = "oximeter-silent"
name = "Oximeter not heard"
priority = "low"
metric = "spo2"
silent = "30 min"
source = "test"
"#;

async fn values(site: &Site, of: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until("the value", async || Some(site.json(&format!("/api/v1/patients/{of}")).await).filter(|row| wanted(&row["values"]))).await
}

fn settings(of: &str) -> Settings {
    Settings {
        patient: patient(of),
        version: 1,
        monitored: true,
        limits: [("spo2.low".to_owned(), 88.0)].into(),
        limits_until: [].into(),
        oxygen_l_min: None,
        news2_scale: 1,
        pauses: Vec::new(),
        expected_interval: [(Metric::Spo2, Micros::minutes(1))].into(),
        enrolled_at: now() - Micros::days(1),
        author: "ito".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_says_how_old_it_may_get_and_whether_the_engine_minds() {
    let site = Site::start().await;
    site.rules(RULES).await;
    let at = now() - Micros::seconds(30);
    site.input(&patient("ada"), reading("ada", Metric::Spo2, 96.0, at - Micros::minutes(1))).await;
    site.input(&patient("ada"), reading("ada", Metric::Spo2, 89.0, at)).await;
    let row = values(&site, "ada", |values| !values["spo2"]["breach"].is_null()).await;
    let spo2 = &row["values"]["spo2"];
    assert_eq!(spo2["breach"], json!({"rule": "spo2-now", "priority": "high", "limit": 90.0}));
    assert_eq!(spo2["stale_at"], (at + Micros::minutes(10)).to_string(), "worn: twice 5 min");
    assert_eq!(spo2["silent_at"], (at + Micros::minutes(30)).to_string());
    assert_eq!(spo2["previous"]["value"], 96.0);
    // the patient's own interval and limit
    site.input(&patient("ada"), Input::Settings(settings("ada"))).await;
    let row = values(&site, "ada", |values| values["spo2"]["breach"].is_null() || values["spo2"]["breach"]["limit"] == 88.0).await;
    assert_eq!(row["values"]["spo2"]["stale_at"], (at + Micros::minutes(2)).to_string());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_that_was_raised_is_in_the_row() {
    let site = Site::start().await;
    let start = now();
    site.journal.set_clock(schemas::Arrived((start - Micros::hours(2)).0));
    let mut set = settings("ada");
    set.enrolled_at = start - Micros::hours(3);
    site.input(&patient("ada"), Input::Settings(set)).await;
    for partition in 0..crate::PARTITIONS {
        let rules = schemas::RuleSet { version: 1, toml: RULES.to_owned(), activated_at: start - Micros::hours(3), author: "ana".to_owned() };
        site.journal.append(Topic::Inputs, Partition(partition), b"", Input::RuleSet(rules).encode()).unwrap().await.unwrap();
    }
    let at = start - Micros::hours(2);
    site.input(&patient("ada"), reading("ada", Metric::Spo2, 96.0, at)).await;
    let row = values(&site, "ada", |values| !values["spo2"]["silent_at"].is_null()).await;
    assert_eq!((&row["values"]["spo2"]["silent_at"], &row["silent"]), (&json!((at + Micros::minutes(30)).to_string()), &json!(false)));
    site.journal.set_clock(schemas::Arrived(start.0));
    site.input(&patient("ada"), Input::Tick).await;
    let row = until("the silence", async || Some(site.json("/api/v1/patients/ada").await).filter(|row| row["silent"] == true)).await;
    assert_eq!(row["values"]["spo2"]["silent_at"], (at + Micros::minutes(30)).to_string(), "it tells when it was raised");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_corrected_typed_and_voided_readings_say_so() {
    let site = Site::start().await;
    let ada = patient("ada");
    let newest = now() - Micros::minutes(1);
    site.input(&ada, reading("ada", Metric::HeartRate, 70.0, newest)).await;
    let late = reading("ada", Metric::HeartRate, 66.0, newest - Micros::minutes(40));
    site.input(&ada, late.clone()).await;
    let Input::Reading(mut odd) = reading("ada", Metric::Temperature, 37.0, newest) else { unreachable!() };
    odd.clock = ClockState::Corrected;
    odd.stamped_at = newest + Micros::hours(2);
    odd.typed = true;
    site.input(&ada, Input::Reading(odd)).await;
    let row = values(&site, "ada", |values| !values["temperature"].is_null()).await;
    let flags = &row["values"]["temperature"]["flags"];
    assert_eq!((&flags["clock"], &flags["clock_shift_s"], &flags["typed"]), (&json!("corrected"), &json!(-7200), &json!(true)));
    assert_eq!(row["values"]["heart_rate"]["text"], "70", "a late one is not the newest");

    let vitals = site.json("/api/v1/patients/ada/vitals?metric=heart_rate").await;
    let samples = vitals["samples"].as_array().unwrap();
    assert_eq!(samples.iter().map(|s| s["value"].as_f64().unwrap()).collect::<Vec<_>>(), [66.0, 70.0], "by the time measured");
    assert_eq!(samples[0]["flags"]["late"], true);
    assert!(samples[0]["flags"]["late_by_s"].as_i64().unwrap() >= 41 * 60);
    assert_eq!((&vitals["unit"], &vitals["complete_since"]), (&json!("/min"), &Value::Null));

    let Input::Reading(newer) = reading("ada", Metric::HeartRate, 70.0, newest) else { unreachable!() };
    let void = Void {
        reading: newer.id,
        patient: ada.clone(),
        metric: Metric::HeartRate,
        at: newest,
        reason: "wrong patient".to_owned(),
        author: "ito".to_owned(),
        moved_to: None,
    };
    site.input(&ada, Input::Void(void)).await;
    values(&site, "ada", |values| values["heart_rate"]["text"] == "66").await;
    let Input::Reading(older) = late else { unreachable!() };
    let void = Void {
        reading: older.id,
        patient: ada.clone(),
        metric: Metric::HeartRate,
        at: older.at,
        reason: "x".to_owned(),
        author: "ito".to_owned(),
        moved_to: None,
    };
    site.input(&ada, Input::Void(void)).await;
    values(&site, "ada", |values| values["heart_rate"].is_null()).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_are_cut_as_asked_and_say_since_when_they_are_whole() {
    let site = Site::start().await;
    let ada = patient("ada");
    let start = now() - Micros::minutes(50);
    for n in 0..50 {
        site.input(&ada, reading("ada", Metric::Spo2, 50.0 + n as f64, start + Micros::minutes(n))).await;
    }
    values(&site, "ada", |values| values["spo2"]["text"] == "99").await;
    let ask = async |query: &str| site.json(&format!("/api/v1/patients/ada/vitals?metric=spo2{query}")).await;
    let count = |vitals: &Value| vitals["samples"].as_array().unwrap().len();
    assert_eq!(count(&ask("").await), 50);
    let (from, to) = (start + Micros::minutes(10), start + Micros::minutes(19));
    assert_eq!(count(&ask(&format!("&from={from}&to={to}")).await), 10, "both ends are in it");
    let newest = ask("&limit=5").await;
    assert_eq!((count(&newest), &newest["samples"][4]["value"]), (5, &json!(99.0)));
    assert_eq!(newest["complete_since"], newest["samples"][0]["observed_at"]);
    assert_eq!(count(&ask("&limit=0").await), 1, "clamped");
    assert_eq!(count(&ask("&limit=4000000000").await), 50, "clamped");
    for bad in ["", "?metric=blood", "?metric=spo2&from=yesterday", "?metric=spo2&limit=-1", "?metric=spo2&limit=NaN", "?metric=spo2&form=2026-11-22T06:00:00Z"]
    {
        problem(site.get(&format!("/api/v1/patients/ada/vitals{bad}")).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    }
    problem(site.get(&format!("/api/v1/patients/ada/vitals?metric=spo2&from={to}&to={from}")).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    problem(site.get("/api/v1/patients/nobody/vitals?metric=spo2").await, StatusCode::NOT_FOUND).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_those_of_the_registry_also_without_a_value() {
    let site = Site::start().await;
    site.input(&patient("unknown"), reading("unknown", Metric::Spo2, 50.0, now())).await;
    let all = site.json("/api/v1/patients").await;
    assert_eq!(all["patients"].as_array().unwrap().len(), 3);
    let w7 = site.json("/api/v1/wards/w7/patients").await;
    let ada = &w7["patients"][0];
    assert_eq!((w7["patients"].as_array().unwrap().len(), &ada["id"], &ada["name"]), (2, &json!("ada"), &json!("OKAFOR, Ada")));
    assert_eq!((&ada["born"], &ada["sex"], &ada["identifier"]), (&json!("1945-07-14"), &json!("female"), &json!("123 456 7890")));
    assert_eq!((&ada["values"], &ada["heard_at"], &ada["worst"], &ada["silent"]), (&json!({}), &Value::Null, &Value::Null, &json!(false)));
    assert_eq!(site.json("/api/v1/wards").await["wards"][1]["patients"], 1);
    problem(site.get("/api/v1/wards/nowhere/patients").await, StatusCode::NOT_FOUND).await;
    problem(site.get("/api/v1/patients/nobody").await, StatusCode::NOT_FOUND).await;
    let bad = problem(site.get("/api/v1/patients/a%20b").await, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert!(bad["detail"].as_str().unwrap().contains("an id may hold"), "{bad}");
    // a pause of this moment, from the store
    let mut paused = settings("ada");
    paused.pauses = vec![Pause { from: now() - Micros::minutes(1), until: None, reason: "bath".to_owned() }];
    site.store.put_settings(&paused, 0, now()).await.unwrap();
    until("the pause", async || (site.json("/api/v1/patients/ada").await["paused"] == true).then_some(())).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_tell_whose_they_are_and_whether_they_were_heard() {
    let site = Site::start().await;
    let from = now() - Micros::days(2);
    site.store.assign(&Assignment { device: device("ox-ada"), patient: patient("ada"), from, until: None }).await.unwrap();
    site.store.assign(&Assignment { device: device("ox-uwe"), patient: patient("uwe"), from, until: Some(now() - Micros::hours(1)) }).await.unwrap();
    site.store.revoke_device(&device("ox-eva"), now()).await.unwrap();
    site.input(&patient("ada"), reading("ada", Metric::Spo2, 97.0, now())).await;
    let Input::Reading(mut old) = reading("uwe", Metric::Spo2, 97.0, now() - Micros::hours(1)) else { unreachable!() };
    old.received_at = EventTime((now() - Micros::hours(1)).0);
    site.input(&patient("uwe"), Input::Reading(old)).await;
    let found = until("both devices", async || {
        let devices = site.json("/api/v1/devices").await["devices"].clone();
        let heard = devices.as_array().unwrap().iter().filter(|device| device["heard_at"].is_string()).count();
        (heard == 2).then_some(devices)
    })
    .await;
    let of = |id: &str| found.as_array().unwrap().iter().find(|device| device["id"] == id).unwrap().clone();
    assert_eq!((&of("ox-ada")["state"], &of("ox-ada")["patient"]), (&json!("live"), &json!("ada")));
    assert_eq!((&of("ox-uwe")["state"], &of("ox-uwe")["patient"]), (&json!("silent"), &Value::Null));
    assert_eq!(of("ox-eva")["state"], "revoked");
    assert_eq!((&of("ox-test")["state"], &of("ox-test")["test"]), (&json!("never heard"), &json!(true)));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_devices_last_messages_say_what_became_of_them_and_no_value() {
    let site = Site::start().await;
    let Input::Reading(mut shifted) = reading("ada", Metric::Spo2, 93.25, now()) else { unreachable!() };
    shifted.format = Some(schemas::Format::SenmlCbor);
    (shifted.clock, shifted.stamped_at) = (schemas::ClockState::Corrected, shifted.at - Micros::hours(1));
    site.input(&patient("ada"), Input::Reading(shifted)).await;
    let letter = DeadLetter {
        device: "hub-1".to_owned(),
        topic: "v1/devices/ox-ada/vitals".to_owned(),
        payload: Bytes::from_static(b"{\"spo2\": 0.9325}"),
        reason: Reason::UnitMismatch,
        detail: "expected % between 0 and 100".to_owned(),
        received_at: now(),
        content_type: String::new(),
        entry: 0,
        metric: Some(Metric::Spo2),
        stamped_at: None,
        format: Some(schemas::Format::Vigil),
    };
    let stranger = DeadLetter { reason: Reason::UnknownFormat, format: None, topic: "v1/devices/made-up/vitals/zzz".to_owned(), ..letter.clone() };
    site.journal.append(Topic::DeadLetters, Partition(0), b"hub-1", stranger.encode()).unwrap().await.unwrap();
    until("the reading", async || {
        let found = site.json("/api/v1/devices/ox-ada/messages").await["messages"].clone();
        (found.as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    site.journal.append(Topic::DeadLetters, Partition(0), b"hub-1", letter.encode()).unwrap().await.unwrap();
    let found = until("both", async || {
        let found = site.json("/api/v1/devices/ox-ada/messages").await["messages"].clone();
        (found.as_array().unwrap().len() == 2).then_some(found)
    })
    .await;
    let of = |verdict: &str| found.as_array().unwrap().iter().find(|one| one["verdict"] == verdict).unwrap().clone();
    assert_eq!((&of("accepted")["clock"], &of("accepted")["clock_shift_s"]), (&json!("corrected"), &json!(3600)));
    assert_eq!((&of("refused")["reason"], &of("refused")["detail"]), (&json!("unit_mismatch"), &json!("expected % between 0 and 100")));
    assert_eq!((&of("accepted")["format"], &of("refused")["format"]), (&json!("senml-cbor"), &json!("json")));
    assert!(!found.to_string().contains("93.25") && !found.to_string().contains("0.9325"), "no value");
    assert_eq!(site.json("/api/v1/devices/hub-1/messages").await["messages"].as_array().unwrap().len(), 2, "also under the hub");
    problem(site.get("/api/v1/devices/made-up/messages").await, StatusCode::NOT_FOUND).await;
    problem(site.get("/api/v1/devices/nobody/messages").await, StatusCode::NOT_FOUND).await;
    problem(site.get("/api/v1/devices/a%2Fb/messages").await, StatusCode::UNPROCESSABLE_ENTITY).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_counted_by_reason_and_never_shown_whole() {
    let site = Site::start().await;
    for n in 0..1010_u32 {
        let reason = if n % 2 == 0 { Reason::Malformed } else { Reason::Unassigned };
        let letter = DeadLetter {
            device: format!("ox-{}", n % 5),
            topic: "v1/devices/ox/vitals".to_owned(),
            payload: Bytes::from_static(b"{\"secret\": 1}"),
            reason,
            detail: format!("number {n}"),
            received_at: now() + Micros(i64::from(n)),
            content_type: String::new(),
            entry: 0,
            metric: None,
            stamped_at: None,
            format: None,
        };
        site.journal.append(Topic::DeadLetters, Partition(n % 2), b"ox", letter.encode()).unwrap().await.unwrap();
    }
    let newest = until("the last", async || {
        let found = site.json("/api/v1/dead-letters?limit=1").await;
        (found["dead_letters"][0]["detail"] == "number 1009" && found["counts"]["malformed"] == 500).then_some(found)
    })
    .await;
    assert_eq!(newest["counts"], json!({"malformed": 500, "unassigned": 500}), "the last 1,000");
    assert_eq!((newest["dead_letters"].as_array().unwrap().len(), &newest["dead_letters"][0]["bytes"]), (1, &json!(13)));
    assert!(!newest.to_string().contains("secret"));
    let some = site.json("/api/v1/dead-letters?reason=malformed&device=ox-2&limit=9999").await;
    assert_eq!(some["dead_letters"].as_array().unwrap().len(), 100);
    let all = site.json("/api/v1/dead-letters?limit=9999").await;
    assert_eq!(all["dead_letters"][999]["detail"], "number 10", "the oldest that is kept");
    for bad in ["reason=bad", "limit=x", "device=a/b", "reasons=malformed"] {
        problem(site.get(&format!("/api/v1/dead-letters?{bad}")).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    }
    site.stop().await;
}
