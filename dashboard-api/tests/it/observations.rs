//! What people type: in the log like any other reading, marked, once however often it is sent, and taken back when it was wrong.

use journal::{Event, Journal, Mode, Start, Topic};
use reqwest::{Method, Response, StatusCode};
use schemas::{EventTime, Input, Metric, Micros, Offset, Reading, Settings, Void, partition_of};
use serde_json::{Value, json};
use store::audit::AuditFilter;

use crate::{PARTITIONS, Site, now, patient, problem, reading, soon, until};

const ADA: &str = "/api/v1/patients/ada/observations";

async fn post(site: &Site, path: &str, key: Option<&str>, body: &Value) -> Response {
    let mut request = site.ask(Method::POST, path).bearer_auth(&site.token).json(body);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.send().await.unwrap()
}

async fn enter(site: &Site, key: &str, at: EventTime, values: Value) -> Value {
    let response = post(site, ADA, Some(key), &json!({"measured_at": at.to_string(), "values": values})).await;
    let status = response.status();
    let body: Value = response.json().await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{body}");
    body
}

/// Everything in the log of a patient's partition, so far.
async fn log(site: &Site, of: &str) -> Vec<Input> {
    let partition = partition_of(of.as_bytes(), PARTITIONS);
    let end = site.journal.range(Topic::Inputs, partition).await.unwrap().next;
    let mut reader = site.journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    let mut found = Vec::new();
    let mut next = Offset(0);
    soon("the log", async {
        while next < end {
            match reader.next().await.unwrap() {
                Event::Assigned { partition, .. } => reader.start(partition, Start::At(Offset(0))),
                Event::Batch { partition: of, records, .. } if of == partition => {
                    next = records.last().map_or(next, |last| last.offset.next());
                    found.extend(records.iter().map(|record| Input::decode(&record.value).unwrap()));
                }
                _ => {}
            }
        }
    })
    .await;
    found
}

async fn readings(site: &Site) -> Vec<Reading> {
    log(site, "ada").await.into_iter().filter_map(|input| if let Input::Reading(reading) = input { Some(reading) } else { None }).collect()
}

async fn samples(site: &Site, metric: &str) -> Vec<Value> {
    site.json(&format!("/api/v1/patients/ada/vitals?metric={metric}")).await["samples"].as_array().unwrap().clone()
}

fn ago(minutes: i64) -> EventTime {
    EventTime((now() - Micros::minutes(minutes)).0 / 1_000_000 * 1_000_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_typed_is_a_reading_that_says_who_typed_it() {
    let site = Site::start().await;
    let at = ago(10);
    let values = json!([
        {"metric": "consciousness", "value": "c"},
        {"metric": "systolic_pressure", "value": 16, "unit": "kPa"},
        {"metric": "oxygen_flow", "value": "air"},
        {"metric": "temperature", "value": 98.6, "unit": "[degF]"},
    ]);
    let entered = enter(&site, "visit-1", at, values).await;
    let shown: Vec<(&str, &str)> =
        entered["observations"].as_array().unwrap().iter().map(|one| (one["metric"].as_str().unwrap(), one["text"].as_str().unwrap())).collect();
    assert_eq!(shown, [("consciousness", "C"), ("systolic_pressure", "120"), ("oxygen_flow", "0.0"), ("temperature", "37.0")]);
    assert_eq!((&entered["observations"][1]["author"], &entered["observations"][1]["beyond_horizon"]), (&json!("ito"), &json!(false)));

    let stored = readings(&site).await;
    assert_eq!(stored.len(), 4);
    for reading in &stored {
        assert!(reading.typed && !reading.test, "{reading:?}");
        assert_eq!((reading.author.as_str(), reading.at, reading.stamped_at, reading.device.as_str()), ("ito", at, at, "typed"));
    }
    assert_eq!((stored[1].value_as_sent, stored[1].unit_as_sent.as_str()), (16.0, "kPa"));

    // it is on the page when the answer is there
    let values = &site.json("/api/v1/patients/ada").await["values"];
    assert_eq!((&values["consciousness"]["text"], &values["consciousness"]["flags"]["typed"]), (&json!("C"), &json!(true)));
    assert_eq!(samples(&site, "systolic_pressure").await[0]["id"], entered["observations"][1]["id"]);

    let entries = site.store.audit_entries(&AuditFilter { patient: Some(patient("ada")), ..AuditFilter::default() }, 100).await.unwrap();
    let entry = entries.iter().find(|found| found.entry.action == "observation.enter").unwrap();
    assert_eq!(
        (entry.entry.person.as_str(), entry.entry.detail.as_str()),
        ("ito", &*format!("consciousness, systolic_pressure, oxygen_flow, temperature of {at}"))
    );
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_is_the_same_thing_that_was_seen() {
    let site = Site::start().await;
    let (at, pressure) = (ago(5), |value: f64| json!([{"metric": "systolic_pressure", "value": value}]));
    let body = json!({"measured_at": at.to_string(), "values": pressure(128.0)});
    let first = enter(&site, "call-1", at, pressure(128.0)).await;
    let again = enter(&site, "call-1", at, pressure(128.0)).await;
    assert_eq!(first["observations"][0]["id"], again["observations"][0]["id"]);
    assert_eq!(samples(&site, "systolic_pressure").await.len(), 1);
    // another key is another look
    enter(&site, "call-2", at, pressure(128.0)).await;
    assert_eq!(samples(&site, "systolic_pressure").await.len(), 2);

    let other = json!({"measured_at": at.to_string(), "values": pressure(182.0)});
    let refused = problem(post(&site, ADA, Some("call-1"), &other).await, StatusCode::CONFLICT).await;
    assert!(refused["detail"].as_str().unwrap().contains("another value"), "{refused}");
    assert_eq!(samples(&site, "systolic_pressure").await.iter().filter(|one| one["value"] == 128.0).count(), 2);

    problem(post(&site, ADA, None, &body).await, StatusCode::PRECONDITION_REQUIRED).await;
    for key in ["", "a b", &"x".repeat(65), "ä"] {
        problem(post(&site, ADA, Some(key), &body).await, StatusCode::BAD_REQUEST).await;
    }
    problem(post(&site, "/api/v1/patients/nobody/observations", Some("call-3"), &body).await, StatusCode::NOT_FOUND).await;
    // of another patient, the same key at the same time is another reading
    let uwe = post(&site, "/api/v1/patients/uwe/observations", Some("call-1"), &body).await;
    assert_eq!(uwe.status(), StatusCode::CREATED);
    assert_ne!(uwe.json::<Value>().await.unwrap()["observations"][0]["id"], first["observations"][0]["id"]);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_whole_with_what_to_change() {
    let site = Site::start().await;
    let one = |metric: &str, value: Value, unit: Option<&str>| json!({"metric": metric, "value": value, "unit": unit});
    let good = || one("heart_rate", json!(72), None);
    for (at, values, says) in [
        (ago(1), json!([good(), one("pulse", json!(72), None)]), "values[1]: `pulse` is not a metric"),
        (ago(1), json!([one("spo", json!(97), None)]), "did you mean spo2?"),
        (ago(1), json!([one("canary", json!(1), None)]), "`canary` is not a metric"),
        (ago(1), json!([one("spo2", json!(104), None)]), "expected % between 0 and 100"),
        (ago(1), json!([one("spo2", json!(0.96), None)]), "expected % between 0 and 100"),
        (
            ago(1),
            json!([good(), one("systolic_pressure", json!(120), Some("Torr"))]),
            "values[1]: systolic_pressure 120 Torr; expected one of mm[Hg], mmHg, kPa, Pa",
        ),
        (ago(1), json!([one("temperature", json!(98.6), None)]), "temperature 98.6 Cel"),
        (ago(1), json!([one("temperature", json!("warm"), None)]), "temperature is no word"),
        (ago(1), json!([one("consciousness", json!(0), None)]), "consciousness is no number"),
        (ago(1), json!([one("consciousness", json!("drowsy"), None)]), "`drowsy` is not one of A (alert)"),
        (ago(1), json!([one("oxygen_flow", json!("yes"), None)]), "oxygen_flow is a number or `air`"),
        (ago(1), json!([good(), good()]), "heart_rate is there twice"),
        (ago(1), json!([]), "values: 0 of them"),
        (ago(-3), json!([good()]), "is in the future"),
        (ago(31 * 24 * 60), json!([good()]), "more than 30 days ago"),
    ] {
        let refused =
            problem(post(&site, ADA, Some("k"), &json!({"measured_at": at.to_string(), "values": values})).await, StatusCode::UNPROCESSABLE_ENTITY).await;
        assert!(refused["detail"].as_str().unwrap().contains(says), "{says}: {refused}");
    }
    for body in [
        json!({"values": [good()]}),
        json!({"measured_at": "noon", "values": [good()]}),
        json!({"measured_at": ago(1).to_string(), "values": [good()], "note": "x"}),
    ] {
        problem(post(&site, ADA, Some("k"), &body).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    }
    assert_eq!(readings(&site).await, []);
    // a minute ahead is a clock that is a little fast
    enter(&site, "k", ago(-1), json!([good()])).await;
    // and what is long over is stored, and said to be in no rule
    let late = enter(&site, "k", ago(180), json!([good()])).await;
    assert_eq!(late["observations"][0]["beyond_horizon"], true);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reading_is_taken_back_for_good() {
    let site = Site::start().await;
    let at = ago(3);
    let value = json!([{"metric": "heart_rate", "value": 172}]);
    let entered = enter(&site, "k1", at, value.clone()).await;
    let id = entered["observations"][0]["id"].as_str().unwrap().to_owned();
    let void = |id: &str| format!("{ADA}/{id}/void");
    for reason in ["", "  ", &"x".repeat(501)] {
        problem(post(&site, &void(&id), None, &json!({"reason": reason})).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    }
    problem(post(&site, &void("nonsense"), None, &json!({"reason": "x"})).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    problem(post(&site, &void(&"0".repeat(32)), None, &json!({"reason": "x"})).await, StatusCode::NOT_FOUND).await;
    // not through another patient
    let elsewhere = format!("/api/v1/patients/uwe/observations/{id}/void");
    problem(post(&site, &elsewhere, None, &json!({"reason": "x"})).await, StatusCode::NOT_FOUND).await;
    assert_eq!(samples(&site, "heart_rate").await.len(), 1);

    let voided = post(&site, &void(&id), None, &json!({"reason": " typed 172 for 72 "})).await;
    assert_eq!(voided.status(), StatusCode::OK);
    let voided: Value = voided.json().await.unwrap();
    assert_eq!((&voided["metric"], &voided["reason"], &voided["author"]), (&json!("heart_rate"), &json!("typed 172 for 72"), &json!("ito")));
    let Some(Input::Void(Void { reading: of, author, reason, moved_to: None, .. })) = log(&site, "ada").await.pop() else { panic!("a void") };
    assert_eq!((of.to_string(), author.as_str(), reason.as_str()), (id.clone(), "ito", "typed 172 for 72"));
    assert_eq!(samples(&site, "heart_rate").await, [] as [Value; 0]);
    assert!(site.json("/api/v1/patients/ada").await["values"]["heart_rate"].is_null());

    // neither a second void nor a resend brings anything back
    problem(post(&site, &void(&id), None, &json!({"reason": "x"})).await, StatusCode::NOT_FOUND).await;
    let resent = post(&site, ADA, Some("k1"), &json!({"measured_at": at.to_string(), "values": value})).await;
    assert!(problem(resent, StatusCode::CONFLICT).await["detail"].as_str().unwrap().contains("voided"));
    assert_eq!(samples(&site, "heart_rate").await, [] as [Value; 0]);
    enter(&site, "k2", at, json!([{"metric": "heart_rate", "value": 72}])).await;
    assert_eq!(samples(&site, "heart_rate").await.len(), 1);

    // what a device sent, too
    site.input(&patient("ada"), reading("ada", Metric::Spo2, 51.0, ago(2))).await;
    let of_device = until("the reading", async || samples(&site, "spo2").await.pop()).await;
    let voided = post(&site, &void(of_device["id"].as_str().unwrap()), None, &json!({"reason": "cold finger"})).await;
    assert_eq!(voided.status(), StatusCode::OK);
    assert_eq!(samples(&site, "spo2").await, [] as [Value; 0]);
    let entries = site.store.audit_entries(&AuditFilter { patient: Some(patient("ada")), ..AuditFilter::default() }, 100).await.unwrap();
    assert_eq!(entries.iter().filter(|found| found.entry.action == "observation.void").count(), 2);
    site.stop().await;
}

fn settings(version: u64, news2_scale: u8, oxygen_l_min: Option<f64>) -> Input {
    Input::Settings(Settings {
        patient: patient("ada"),
        version,
        monitored: true,
        limits: [].into(),
        limits_until: [].into(),
        oxygen_l_min,
        news2_scale,
        pauses: Vec::new(),
        expected_interval: [].into(),
        enrolled_at: now() - Micros::days(1),
        author: "ito".to_owned(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news2_names_its_parts_and_what_is_missing() {
    let site = Site::start().await;
    let path = "/api/v1/patients/ada/news2";
    let nothing = site.json(path).await;
    assert_eq!((&nothing["score"], &nothing["lower_bound"], &nothing["upper_bound"], &nothing["scale"]), (&Value::Null, &json!(0), &json!(20), &json!(1)));
    assert_eq!(nothing["missing"].as_array().unwrap().len(), 7);
    assert_eq!(nothing["caution"], Value::Null, "born in 1945");

    for (metric, value, minutes) in
        [(Metric::RespiratoryRate, 26.0, 5), (Metric::Spo2, 92.5, 10), (Metric::HeartRate, 115.0, 10), (Metric::Temperature, 38.05, 300)]
    {
        site.input(&patient("ada"), reading("ada", metric, value, ago(minutes))).await;
    }
    site.input(&patient("ada"), settings(1, 1, Some(0.0))).await;
    enter(&site, "k", ago(1), json!([{"metric": "systolic_pressure", "value": 104}])).await;
    let found = site.json(path).await;
    assert_eq!(found["summary"], "NEWS2 at least 8: RR 3, SpO₂ 2, systolic BP 1, pulse 2; consciousness, temperature not known");
    assert_eq!((&found["score"], &found["lower_bound"], &found["upper_bound"], &found["risk"]), (&Value::Null, &json!(8), &json!(14), &json!("high")));
    assert_eq!((&found["red"], &found["missing"]), (&json!(["respiratory_rate"]), &json!(["consciousness", "temperature"])));
    let part = |name: &str| found["parts"].as_array().unwrap().iter().find(|part| part["part"] == name).unwrap().clone();
    assert_eq!((&part("spo2")["text"], &part("spo2")["points"], &part("spo2")["from"]), (&json!("93"), &json!(2), &json!("measured")));
    assert!((600..=603).contains(&part("spo2")["age_s"].as_i64().unwrap()), "{found}");
    assert_eq!((&part("oxygen")["from"], &part("oxygen")["value"], &part("oxygen")["observed_at"]), (&json!("settings"), &json!(0.0), &Value::Null));
    assert_eq!((&part("systolic_pressure")["from"], &part("temperature")["from"]), (&json!("typed"), &json!("nothing")));

    // an older temperature, if that is wanted; and the moment before the pressure was typed
    let older = site.json(&format!("{path}?age_s=28800")).await;
    assert_eq!(older["summary"], "NEWS2 at least 9: RR 3, SpO₂ 2, systolic BP 1, pulse 2, temperature 1; consciousness not known");
    let before = site.json(&format!("{path}?at={}", ago(2))).await;
    assert_eq!(before["missing"], json!(["systolic_pressure", "consciousness", "temperature"]));

    enter(
        &site,
        "k",
        ago(0),
        json!([{"metric": "consciousness", "value": "A"}, {"metric": "temperature", "value": 37}, {"metric": "oxygen_flow", "value": 2}]),
    )
    .await;
    let whole = site.json(path).await;
    assert_eq!(
        (&whole["score"], &whole["missing"], &whole["summary"]),
        (&json!(10), &json!([]), &json!("NEWS2 10: RR 3, SpO₂ 2, oxygen 2, systolic BP 1, pulse 2"))
    );
    // scale 2, on oxygen
    site.input(&patient("ada"), settings(2, 2, None)).await;
    until("the settings", async || (site.json(path).await["scale"] == 2).then_some(())).await;
    assert_eq!(site.json(path).await["summary"], "NEWS2 9: RR 3, SpO₂ 1, oxygen 2, systolic BP 1, pulse 2");

    for wrong in ["?age_s=59", "?age_s=86401", "?at=2026-01-01T00:00:00Z", "?at=noon", "?since=1"] {
        problem(site.get(&format!("{path}{wrong}")).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    }
    problem(site.get("/api/v1/patients/nobody/news2").await, StatusCode::NOT_FOUND).await;
    site.stop().await;
}
