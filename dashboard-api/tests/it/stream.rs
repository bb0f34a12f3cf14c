//! The stream: snapshot, deltas and beats, in order and without a gap; ended when it must end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::{Method, Response, StatusCode};
use schemas::{EventTime, Metric, Micros};
use serde_json::{Value, json};
use store::episodes::State;

use crate::{Site, add_patient, episode, now, patient, problem, reading, soon, until};

pub struct Events {
    response: Response,
    text: String,
}

impl Events {
    pub async fn open(site: &Site, path: &str) -> Self {
        let response = site.get(path).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert!(!response.headers().contains_key("content-encoding"));
        Self { response, text: String::new() }
    }

    /// `None`: the stream ended.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = event.to_owned();
                self.text = rest.to_owned();
                let mut name = None;
                for line in event.lines() {
                    match line.split_once(": ") {
                        Some(("event", text)) => name = Some(text.to_owned()),
                        Some(("data", data)) => return Some((name.unwrap(), serde_json::from_str(data).unwrap())),
                        _ => {}
                    }
                }
                continue;
            }
            match soon("an event or the end", self.response.chunk()).await {
                Ok(Some(chunk)) => self.text += std::str::from_utf8(&chunk).unwrap(),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    pub async fn named(&mut self, wanted: &str) -> Value {
        loop {
            let (name, data) = self.next().await.expect("the stream goes on");
            if name == wanted {
                return data;
            }
        }
    }

    /// The first delta that `what` finds something in.
    pub async fn delta<T>(&mut self, what: impl Fn(&Value) -> Option<T>) -> T {
        loop {
            let delta = self.named("delta").await;
            if let Some(found) = what(&delta) {
                return found;
            }
        }
    }
}

fn of<'a>(list: &'a Value, id: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|one| one["id"] == id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_a_snapshot_then_deltas_and_beats_without_a_gap() {
    let site = Site::start().await;
    site.input(&patient("ada"), reading("ada", Metric::Spo2, 97.0, now())).await;
    until("the first value", async || (!site.json("/api/v1/patients/ada").await["values"]["spo2"].is_null()).then_some(())).await;
    let mut events = Events::open(&site, "/api/v1/events").await;
    let (name, snapshot) = events.next().await.unwrap();
    assert_eq!(name, "snapshot");
    assert_eq!(snapshot["seq"], 1);
    assert_eq!(snapshot["build"], "test");
    assert_eq!(snapshot["patients"].as_array().unwrap().len(), 3);
    assert_eq!(of(&snapshot["patients"], "ada").unwrap()["values"]["spo2"]["text"], "97");
    assert_eq!(snapshot["beat"]["seq"], 1);
    assert_eq!(snapshot["wards"].as_array().unwrap().len(), 2);
    let epoch = snapshot["epoch"].as_str().unwrap().to_owned();

    let mut expected = 1;
    let mut beats = 0;
    let mut value = 97.0;
    while beats < 2 {
        value -= 0.25;
        site.input(&patient("ada"), reading("ada", Metric::Spo2, value, now())).await;
        let (name, data) = events.next().await.unwrap();
        match name.as_str() {
            "delta" => {
                expected += 1;
                assert_eq!(data["seq"], expected);
                let ada = of(&data["patients"], "ada").unwrap();
                assert_eq!(ada["values"].as_object().unwrap().len(), 1, "only what changed");
                assert_eq!(data["patients"].as_array().unwrap().len(), 1, "only who changed");
            }
            "beat" => {
                beats += 1;
                assert_eq!(data["seq"], expected);
                assert!(data["follower_lag_ms"].as_u64().unwrap() < 2000);
                assert_eq!(data["build"], "test");
                assert_eq!(data["canary_at"], Value::Null, "no canary yet");
            }
            other => panic!("{other}"),
        }
    }
    assert!(expected > 1);
    let again = Events::open(&site, "/api/v1/events").await.named("snapshot").await;
    assert_eq!(again["epoch"], epoch.as_str());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reading_becomes_a_delta_with_all_that_a_page_must_say() {
    let site = Site::start().await;
    let mut events = Events::open(&site, "/api/v1/events").await;
    events.named("snapshot").await;
    let at = now() - Micros::seconds(5);
    let started = Instant::now();
    site.input(&patient("uwe"), reading("uwe", Metric::Temperature, 38.25, at)).await;
    let delta = events.delta(|delta| of(&delta["patients"], "uwe").cloned()).await;
    println!("append to delta: {:?}", started.elapsed());
    let value = &delta["values"]["temperature"];
    assert_eq!((&value["value"], &value["text"], &value["unit"]), (&json!(38.25), &json!("38.3"), &json!("°C")));
    assert_eq!(value["observed_at"], at.to_string());
    let time = |key: &str| EventTime::parse(value[key].as_str().unwrap()).unwrap();
    assert_eq!(time("stale_at") - at, Micros::hours(24), "a spot metric: twice 12 h");
    assert_eq!(value["silent_at"], Value::Null);
    assert_eq!(value["device"], "ox-uwe");
    assert_eq!(value["flags"]["clock"], "as_sent");
    assert_eq!(delta["heard_at"], value["received_at"]);
    assert_eq!(delta["silent"], false);
    assert_eq!((&delta["monitored"], &delta["paused"]), (&json!(true), &json!(false)));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_is_on_the_stream_right_after_its_commit() {
    let site = Site::start().await;
    let mut events = Events::open(&site, "/api/v1/events").await;
    events.named("snapshot").await;
    let mut raised = episode("ada", 7);
    let started = Instant::now();
    site.store.upsert_episode(&raised).await.unwrap();
    let committed = Instant::now();
    let id = raised.alert.to_string();
    let delta = events.delta(|delta| of(&delta["alerts"], &id).is_some().then(|| delta.clone())).await;
    println!("commit took {:?}, then to the stream {:?}", committed - started, committed.elapsed());
    let alert = of(&delta["alerts"], &id).unwrap();
    assert_eq!((&alert["state"], &alert["priority"], &alert["acknowledged"]), (&json!("open"), &json!("high"), &Value::Null));
    assert_eq!((&alert["patient"]["name"], &alert["patient"]["ward"]), (&json!("OKAFOR, Ada"), &json!("w7")));
    assert_eq!(alert["evidence"][0]["value"], 84.0);
    let ada = of(&delta["patients"], "ada").unwrap();
    assert_eq!((&ada["open_alerts"], &ada["worst"]), (&json!(1), &json!("high")));
    let ward = of(&delta["wards"], "w7").unwrap();
    assert_eq!((&ward["open"]["high"], &ward["unacknowledged_high"]), (&json!(1), &json!(1)));

    site.store.take_alert(raised.alert, "ito", None, now(), None).await.unwrap();
    let taken = events.delta(|delta| of(&delta["alerts"], &id).cloned()).await;
    assert_eq!(taken["acknowledged"]["by"], "ito");

    raised.state = State::Cleared;
    raised.cleared_at = Some(now());
    raised.cause.ordinal = 1;
    site.store.upsert_episode(&raised).await.unwrap();
    let cleared = events.delta(|delta| of(&delta["alerts"], &id).is_some().then(|| delta.clone())).await;
    assert_eq!(of(&cleared["alerts"], &id).unwrap()["state"], "cleared");
    let ada = of(&cleared["patients"], "ada").unwrap();
    assert_eq!((&ada["open_alerts"], &ada["worst"]), (&json!(0), &Value::Null));
    // a test device's alert is shown, and in no count
    let tested = store::episodes::Episode { test: true, ..episode("ada", 9) };
    site.store.upsert_episode(&tested).await.unwrap();
    let id = tested.alert.to_string();
    let delta = events.delta(|delta| of(&delta["alerts"], &id).is_some().then(|| delta.clone())).await;
    assert_eq!(of(&delta["patients"], "ada").unwrap()["open_alerts"], 0);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_that_another_process_wrote_comes_as_well() {
    let site = Site::start().await;
    let mut events = Events::open(&site, "/api/v1/events").await;
    events.named("snapshot").await;
    let other = store::Store::open(&format!("sqlite://{}", site.folder.path().join("vigil.db").display())).await.unwrap();
    let raised = episode("eva", 3);
    other.upsert_episode(&raised).await.unwrap();
    events.delta(|delta| of(&delta["alerts"], &raised.alert.to_string()).map(|_| ())).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_high_alert_that_nobody_took_stays_until_somebody_does() {
    let site = Site::start().await;
    let mut old = episode("ada", 2);
    old.heard_at = schemas::Arrived((now() - Micros::days(40)).0);
    old.state = State::Cleared;
    site.store.upsert_episode(&old).await.unwrap();
    let low = store::episodes::Episode { priority: schemas::Priority::Low, cause: episode("ada", 4).cause, ..old.clone() };
    let low = store::episodes::Episode { alert: episode("ada", 4).alert, ..low };
    site.store.upsert_episode(&low).await.unwrap();
    let id = old.alert.to_string();
    let snapshot = until("the old alert", async || {
        let snapshot = Events::open(&site, "/api/v1/events").await.named("snapshot").await;
        of(&snapshot["alerts"], &id).is_some().then_some(snapshot)
    })
    .await;
    assert_eq!(snapshot["alerts"].as_array().unwrap().len(), 1, "a low one of that age is history");
    assert_eq!(of(&snapshot["wards"], "w7").unwrap()["unacknowledged_high"], 1);
    let mut events = Events::open(&site, "/api/v1/events").await;
    events.named("snapshot").await;
    site.store.take_alert(old.alert, "ito", None, now(), None).await.unwrap();
    let taken = events.delta(|delta| of(&delta["alerts"], &id).cloned()).await;
    assert_eq!(taken["acknowledged"]["by"], "ito", "it is told once more before it leaves");
    until("its leaving", async || Events::open(&site, "/api/v1/events").await.named("snapshot").await["alerts"].as_array().unwrap().is_empty().then_some(()))
        .await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ward_sees_its_own_and_a_new_patient_begins_it_again() {
    let site = Site::start().await;
    problem(site.get("/api/v1/events?ward=nowhere").await, StatusCode::NOT_FOUND).await;
    let mut events = Events::open(&site, "/api/v1/events?ward=w8").await;
    let snapshot = events.named("snapshot").await;
    let ids = |snapshot: &Value| -> Vec<String> { snapshot["patients"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap().to_owned()).collect() };
    assert_eq!(ids(&snapshot), ["eva"]);
    site.input(&patient("ada"), reading("ada", Metric::HeartRate, 71.0, now())).await;
    site.input(&patient("eva"), reading("eva", Metric::HeartRate, 72.0, now())).await;
    let delta = events.named("delta").await;
    assert_eq!(delta["seq"], 2, "nothing was sent for the other ward");
    assert_eq!(ids(&delta), ["eva"]);
    add_patient(&site.store, "noa", "REIS, Noa", "w8").await;
    let again = events.named("snapshot").await;
    assert_eq!(again["seq"], 3);
    assert_eq!(ids(&again), ["eva", "noa"]);
    assert_eq!(of(&again["patients"], "eva").unwrap()["values"]["heart_rate"]["text"], "72");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_canary_and_the_engines_clock_are_in_the_beat() {
    let site = Site::start().await;
    let (older, newer) = (now() - Micros::seconds(30), now());
    site.store.set_meta("canary_at.0", &newer.0.to_string()).await.unwrap();
    let mut events = Events::open(&site, "/api/v1/events").await;
    soon("the clock", async { while events.named("beat").await["engine_clock"] != newer.to_string().as_str() {} }).await;
    assert_eq!(events.named("beat").await["canary_at"], Value::Null, "the other partition has had none");
    site.store.set_meta("canary_at.1", &older.0.to_string()).await.unwrap();
    soon("the canary", async { while events.named("beat").await["canary_at"] != older.to_string().as_str() {} }).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_ends_with_its_session() {
    let site = Site::start().await;
    let token = site.session_of("ito").await;
    let response = site.ask(Method::GET, "/api/v1/events").header("cookie", format!("vigil_session={token}")).send().await.unwrap();
    let mut events = Events { response, text: String::new() };
    let snapshot = events.named("snapshot").await;
    assert!(snapshot["session_expires_at"].is_string());
    events.named("beat").await;
    site.store.end_session(&token).await.unwrap();
    while let Some((name, _)) = events.next().await {
        assert_ne!(name, "snapshot");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_when_the_server_stops() {
    let site = Site::start().await;
    let mut events = Events::open(&site, "/api/v1/events").await;
    events.named("snapshot").await;
    site.readiness.set_draining();
    assert_eq!(site.ask(Method::GET, "/readyz").send().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(site.get("/api/v1/wards").await.status(), StatusCode::OK, "requests are still answered");
    let started = Instant::now();
    site.stop.cancel();
    while events.next().await.is_some() {}
    soon("the end", site.running).await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "nobody was waited for: {:?}", started.elapsed());
}

/// A reader that takes nothing is cut, so that it cannot make us keep what it does not read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_too_slow_is_cut() {
    const PATIENTS: usize = 100;
    let site = Site::start().await;
    for n in 0..PATIENTS {
        add_patient(&site.store, &format!("p{n}"), "PATIENT, Somebody", "w7").await;
    }
    let mut slow = TcpStream::connect(site.address).unwrap();
    socket2::SockRef::from(&slow).set_recv_buffer_size(16 << 10).unwrap();
    write!(slow, "GET /api/v1/events HTTP/1.1\r\nhost: vigil\r\nauthorization: Bearer {}\r\n\r\n", site.token).unwrap();
    let mut head = [0; 12];
    slow.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");

    let mut quick = Events::open(&site, "/api/v1/events").await;
    let quick = tokio::spawn(async move { while quick.next().await.is_some() {} });
    let cut = async || {
        let text = site.ask(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        text.lines().any(|line| line.strip_prefix("vigil_dashboard_streams_cut_total ").is_some_and(|count| count != "0"))
    };
    let mut steps = 1000.0;
    soon("the cut", async {
        while !cut().await {
            steps += 1.0;
            for n in 0..PATIENTS {
                let id = format!("p{n}");
                site.input(&patient(&id), renamed(reading("ada", Metric::Steps, steps, now()), &id)).await;
            }
        }
    })
    .await;
    let mut got = Vec::new();
    // what was in the socket comes, then the end or a reset
    if slow.read_to_end(&mut got).is_ok() {
        let text = String::from_utf8_lossy(&got);
        assert!(text.contains("\"value\":1001.0"), "it is the stream");
        assert!(!text.contains(&format!("\"value\":{steps:.1}")), "it has the newest value, so nothing was cut");
    }
    assert!(!quick.is_finished(), "who reads is not cut");
    site.stop().await;
    soon("the end of the other stream", quick).await.unwrap();
}

fn renamed(input: schemas::Input, id: &str) -> schemas::Input {
    match input {
        schemas::Input::Reading(reading) => schemas::Input::Reading(schemas::Reading { patient: patient(id), ..reading }),
        other => other,
    }
}
