//! What people do about an alert, over the API and by the link of a page.

use reqwest::{Method, Response, StatusCode};
use schemas::{EventTime, Micros};
use serde_json::{Value, json};
use store::episodes::{Episode, Hop};
use store::links::Link;
use store::notifications::Notification;
use store::timers::{REPAGE, Timer};

use crate::{Site, episode, now, problem};

async fn act(site: &Site, alert: &Episode, if_match: Option<u64>, key: Option<&str>, body: Value) -> Response {
    act_as(site, &site.token, alert, if_match, key, body).await
}

async fn act_as(site: &Site, token: &str, alert: &Episode, if_match: Option<u64>, key: Option<&str>, body: Value) -> Response {
    let mut request = site.ask(Method::POST, &format!("/api/v1/alerts/{}/actions", alert.alert)).bearer_auth(token).json(&body);
    if let Some(version) = if_match {
        request = request.header("if-match", format!("\"{version}\""));
    }
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_replaces_needs_the_version_that_was_seen_and_is_done_once_for_each_key() {
    let site = Site::start().await;
    let raised = episode("ada", 1);
    site.store.upsert_episode(&raised).await.unwrap();
    problem(act(&site, &raised, None, None, json!({"action": "claim"})).await, StatusCode::PRECONDITION_REQUIRED).await;
    let claimed = act(&site, &raised, Some(1), Some("k-1"), json!({"action": "claim", "minutes": 30})).await;
    assert_eq!(claimed.status(), StatusCode::OK);
    let claimed: Value = claimed.json().await.unwrap();
    assert_eq!(claimed["owner"], "ito");
    assert!(claimed["acknowledged"]["until"].is_string());
    let version = claimed["version"].as_u64().unwrap();

    let again = act(&site, &raised, Some(1), Some("k-1"), json!({"action": "claim", "minutes": 30})).await;
    assert_eq!(again.status(), StatusCode::OK, "the same request is answered again");
    assert_eq!(again.json::<Value>().await.unwrap()["version"], version, "and done once");
    problem(act(&site, &raised, Some(version), Some("k-1"), json!({"action": "release"})).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    for key in ["", &"x".repeat(65)] {
        problem(act(&site, &raised, Some(version), Some(key), json!({"action": "release"})).await, StatusCode::BAD_REQUEST).await;
    }
    problem(act(&site, &raised, Some(1), None, json!({"action": "release"})).await, StatusCode::PRECONDITION_FAILED).await;

    let noted = act(&site, &raised, None, None, json!({"action": "note", "note": "sleeps"})).await;
    assert_eq!(noted.status(), StatusCode::OK, "a note overwrites nothing");
    let called = act(&site, &raised, None, None, json!({"action": "contact", "with": "daughter", "reached": false})).await;
    assert_eq!(called.status(), StatusCode::OK);
    let version = called.json::<Value>().await.unwrap()["version"].as_u64().unwrap();
    let judged: Value =
        act(&site, &raised, Some(version), None, json!({"action": "judge", "verdict": "artefact", "note": "probe off"})).await.json().await.unwrap();
    assert_eq!((&judged["verdict"]["verdict"], &judged["verdict"]["by"]), (&json!("artefact"), &json!("ito")));

    let detail = site.json(&format!("/api/v1/alerts/{}", raised.alert)).await;
    let what: Vec<&str> =
        detail["history"].as_array().unwrap().iter().filter(|entry| entry["by"] == "ito").map(|entry| entry["what"].as_str().unwrap()).collect();
    assert!(what.len() >= 4, "{what:?}");
    assert!(detail["hops"]["measured"].is_string());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snooze_has_a_reason_and_a_longest_time() {
    let site = Site::start().await;
    let raised = episode("ada", 1);
    site.store.upsert_episode(&raised).await.unwrap();
    for (minutes, note) in [(10_000, "asleep"), (5, " ")] {
        let refused = act(&site, &raised, Some(1), None, json!({"action": "snooze", "minutes": minutes, "note": note})).await;
        assert!(refused.status().is_client_error(), "{minutes} {note:?}: {}", refused.status());
    }
    assert_eq!(site.store.episode(raised.alert).await.unwrap().version, 1, "a refusal changes nothing");
    let snoozed = act(&site, &raised, Some(1), None, json!({"action": "snooze", "minutes": 5, "note": "being turned"})).await;
    assert_eq!(snoozed.status(), StatusCode::OK);
    let snoozed: Value = snoozed.json().await.unwrap();
    assert_eq!((&snoozed["snoozed"]["by"], &snoozed["snoozed"]["reason"]), (&json!("ito"), &json!("being turned")));
    assert!(snoozed["snoozed"]["until"].is_string());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_looks_at_the_link_of_a_page_takes_nothing_and_the_button_works_once() {
    let site = Site::start().await;
    let raised = episode("ada", 1);
    site.store.upsert_episode(&raised).await.unwrap();
    let page = Notification::due("page sms".to_owned(), raised.alert, "page", "sms", "key".to_owned(), now(), now());
    site.store.add_notification(&page).await.unwrap();
    let key = site.store.link_key().await.unwrap();
    let token = Link::new(raised.alert, &page.id, now() + Micros::hours(1)).sign(&key);
    let path = format!("/take/{token}");
    for _ in 0..3 {
        let shown = site.ask(Method::GET, &path).send().await.unwrap();
        assert_eq!(shown.status(), StatusCode::OK);
        let text = shown.text().await.unwrap();
        assert!(text.contains(&raised.alert.code()) && text.contains("<form method=\"post\">"), "{text}");
        assert!(!text.contains("ada"), "the page names no patient: {text}");
    }
    assert_eq!(site.store.episode(raised.alert).await.unwrap().acknowledged, None, "a scanner takes nothing");
    assert_eq!(site.ask(Method::POST, &path).send().await.unwrap().status(), StatusCode::OK);
    assert!(site.store.episode(raised.alert).await.unwrap().acknowledged.is_some());
    assert_eq!(site.ask(Method::POST, &path).send().await.unwrap().status(), StatusCode::GONE, "once");
    assert_eq!(site.ask(Method::GET, &path).send().await.unwrap().status(), StatusCode::GONE);

    let over = Link::new(raised.alert, &page.id, now() - Micros::seconds(1)).sign(&key);
    assert_eq!(site.ask(Method::POST, &format!("/take/{over}")).send().await.unwrap().status(), StatusCode::GONE);
    let other = Link::new(raised.alert, "another page", now() + Micros::hours(1)).sign(&key);
    assert_eq!(site.ask(Method::POST, &format!("/take/{other}")).send().await.unwrap().status(), StatusCode::GONE);
    site.stop().await;
}

/// Raised a moment ago, with the timer that pages again.
async fn raised(site: &Site, of: &str, offset: i64) -> Episode {
    let raised = episode(of, offset);
    site.store.upsert_episode(&raised).await.unwrap();
    site.store.add_timer(&Timer::new(Timer::id_of(raised.alert), raised.alert, REPAGE, now() + Micros::minutes(5))).await.unwrap();
    raised
}

async fn due(site: &Site, alert: &Episode) -> Option<EventTime> {
    site.store.timers(alert.alert).await.unwrap().iter().find(|timer| !timer.done).map(|timer| timer.due)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_act_on_what_they_both_saw_one_is_told_what_the_other_did() {
    let site = Site::start().await;
    let ana = site.token_of("ana", &["write"]).await;
    for offset in 1..=10 {
        let raised = raised(&site, "ada", offset).await;
        let claim = |token: &str| {
            let token = token.to_owned();
            let (site, raised) = (&site, &raised);
            async move { act_as(site, &token, raised, Some(1), None, json!({"action": "claim"})).await }
        };
        let (one, other) = tokio::join!(claim(&site.token), claim(&ana));
        let (done, refused) = if one.status() == StatusCode::OK { (one, other) } else { (other, one) };
        assert_eq!(done.status(), StatusCode::OK);
        assert_eq!(done.headers()["etag"], "\"2\"");
        let done: Value = done.json().await.unwrap();
        let refused = problem(refused, StatusCode::PRECONDITION_FAILED).await;
        assert_eq!((&refused["current"], &refused["acknowledged"]["by"]), (&json!(2), &done["owner"]));
        assert_eq!(site.store.history(raised.alert).await.unwrap().len(), 1, "what was refused leaves nothing");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_sent_twice_at_once_is_done_once() {
    let site = Site::start().await;
    let raised = raised(&site, "ada", 1).await;
    let send = || act(&site, &raised, None, Some("k-1"), json!({"action": "note", "note": "asleep"}));
    let (one, other) = tokio::join!(send(), send());
    assert_eq!((one.status(), other.status()), (StatusCode::OK, StatusCode::OK));
    assert_eq!(site.store.history(raised.alert).await.unwrap().len(), 1);
    // a key is of the person who made it
    let ana = site.token_of("ana", &["write"]).await;
    assert_eq!(act_as(&site, &ana, &raised, None, Some("k-1"), json!({"action": "note", "note": "awake"})).await.status(), StatusCode::OK);
    assert_eq!(site.store.history(raised.alert).await.unwrap().len(), 2);
    // what was refused did not use its key up
    let version = site.store.episode(raised.alert).await.unwrap().version;
    problem(act(&site, &raised, Some(version), Some("k-2"), json!({"action": "release"})).await, StatusCode::CONFLICT).await;
    act(&site, &raised, Some(version), None, json!({"action": "claim"})).await.error_for_status().unwrap();
    assert_eq!(act(&site, &raised, Some(version + 1), Some("k-2"), json!({"action": "release"})).await.status(), StatusCode::OK);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_to_somebody_is_theirs_and_pages_at_once() {
    let site = Site::start().await;
    let raised = raised(&site, "ada", 1).await;
    let claimed = act(&site, &raised, Some(1), None, json!({"action": "claim", "minutes": 30})).await;
    let until = due(&site, &raised).await.unwrap();
    assert!(until - now() > Micros::minutes(29), "nobody is paged while it is taken: {until}");
    let version = claimed.json::<Value>().await.unwrap()["version"].as_u64().unwrap();
    let nobody = act(&site, &raised, Some(version), None, json!({"action": "assign", "to": "nobody"})).await;
    problem(nobody, StatusCode::NOT_FOUND).await;
    let given = act(&site, &raised, Some(version), None, json!({"action": "assign", "to": "ana", "note": "you know her"})).await;
    assert_eq!(given.status(), StatusCode::OK);
    let given: Value = given.json().await.unwrap();
    assert_eq!((&given["owner"], &given["acknowledged"]), (&json!("ana"), &Value::Null), "ana has not taken it yet");
    assert!(due(&site, &raised).await.unwrap() <= now(), "and is paged at once");
    let version = given["version"].as_u64().unwrap();
    problem(act(&site, &raised, Some(version), None, json!({"action": "judge", "verdict": "true"})).await, StatusCode::CONFLICT).await;
    let free: Value = act(&site, &raised, Some(version), None, json!({"action": "release"})).await.json().await.unwrap();
    assert_eq!(free["owner"], Value::Null);
    assert!(due(&site, &raised).await.is_some(), "an open alert that nobody has is paged");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snooze_ends_at_its_time_or_when_somebody_wakes_it() {
    let site = Site::start().await;
    let raised = raised(&site, "ada", 1).await;
    problem(act(&site, &raised, Some(1), None, json!({"action": "wake"})).await, StatusCode::CONFLICT).await;
    let snoozed: Value = act(&site, &raised, Some(1), None, json!({"action": "snooze", "minutes": 30, "note": "being washed"})).await.json().await.unwrap();
    let until = EventTime::parse(snoozed["snoozed"]["until"].as_str().unwrap()).unwrap();
    assert_eq!(due(&site, &raised).await, Some(until));
    let woken: Value = act(&site, &raised, Some(2), None, json!({"action": "wake"})).await.json().await.unwrap();
    assert_eq!(woken["snoozed"], Value::Null);
    assert!(due(&site, &raised).await.unwrap() <= now());
    let shown = site.json(&format!("/api/v1/alerts/{}", raised.alert)).await;
    let what: Vec<&str> = shown["history"].as_array().unwrap().iter().map(|entry| entry["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["snoozed", "woken"]);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_make_a_precision_and_labels_and_hops_make_delays() {
    let site = Site::start().await;
    for (offset, verdict) in [(1, Some("true")), (2, Some("true")), (3, Some("artefact")), (4, Some("device")), (5, None)] {
        let raised = raised(&site, "ada", offset).await;
        let at = |seconds: i64| raised.heard_at.as_event() + Micros::seconds(seconds);
        for (hop, seconds) in [(Hop::Evaluated, 1), (Hop::Stored, 1), (Hop::Attempted, 1 + offset), (Hop::Delivered, 1 + offset)] {
            site.store.stamp(raised.alert, hop, at(seconds)).await.unwrap();
        }
        if let Some(verdict) = verdict {
            act(&site, &raised, Some(1), None, json!({"action": "claim"})).await.error_for_status().unwrap();
            let version = site.store.episode(raised.alert).await.unwrap().version;
            act(&site, &raised, Some(version), None, json!({"action": "judge", "verdict": verdict})).await.error_for_status().unwrap();
        }
    }
    let report = site.json("/api/v1/reports/precision").await;
    assert_eq!(report["rules"].as_array().unwrap().len(), 1);
    let rule = &report["rules"][0];
    assert_eq!((&rule["rule"], &rule["alerts"], &rule["judged"]), (&json!("spo2-low"), &json!(5), &json!(4)));
    assert_eq!((&rule["true"], &rule["artefact"], &rule["expected"], &rule["device"]), (&json!(2), &json!(1), &json!(0), &json!(1)));
    assert_eq!(rule["precision"], 0.5);
    assert_eq!(site.json("/api/v1/reports/precision?until=2026-01-01T00:00:00Z").await["rules"], json!([]));
    problem(site.get("/api/v1/reports/precision?until=yesterday").await, StatusCode::UNPROCESSABLE_ENTITY).await;

    let csv = site.get("/api/v1/reports/labels.csv").await;
    assert!(csv.headers()["content-type"].to_str().unwrap().starts_with("text/csv"));
    let csv = csv.text().await.unwrap();
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!((rows[0], rows.len()), ("patient,time,rule,verdict", 5));
    assert!(rows[1..].iter().all(|row| row.starts_with("ada,") && row.contains(",spo2-low,")), "{csv}");
    let artefacts = site.get("/api/v1/reports/labels.csv?verdict=artefact").await.text().await.unwrap();
    assert_eq!(artefacts.lines().count(), 2, "{artefacts}");

    let delays = site.json("/api/v1/reports/delays").await;
    let of = |from: &str, to: &str| delays["hops"].as_array().unwrap().iter().find(|hop| hop["from"] == from && hop["to"] == to).unwrap().clone();
    let waited = of("stored", "attempted");
    assert_eq!((&waited["alerts"], &waited["p50_ms"], &waited["p99_ms"]), (&json!(5), &json!(3000.0), &json!(5000.0)));
    assert_eq!(of("delivered", "seen")["p50_ms"], Value::Null, "nobody looked");
    site.stop().await;
}

/// The mutant: one that is over and comes back is still somebody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_is_at_what_is_wrong_with_vigil_itself() {
    let site = Site::start().await;
    let take = async |name: &str, minutes: u32| {
        let body = json!({"name": name, "minutes": minutes});
        site.ask(Method::POST, "/api/v1/troubles/acknowledge").bearer_auth(&site.token).json(&body).send().await.unwrap()
    };
    assert_eq!(site.json("/api/v1/troubles").await["troubles"], json!([]));
    problem(take("evaluation", 30).await, StatusCode::NOT_FOUND).await;
    let began = now();
    site.store.trouble_begins("evaluation", "EVALUATION STOPPED", began).await.unwrap();
    problem(take("evaluation", 0).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    problem(take("evaluation", 481).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert_eq!(site.json("/api/v1/troubles").await["troubles"][0]["acknowledged"], Value::Null);
    assert_eq!(take("evaluation", 30).await.status(), StatusCode::NO_CONTENT);
    let shown = site.json("/api/v1/troubles").await["troubles"][0].clone();
    assert_eq!((&shown["name"], &shown["acknowledged"]["by"]), (&json!("evaluation"), &json!("ito")), "{shown}");
    site.store.trouble_is_over("evaluation", began, now()).await.unwrap();
    assert_eq!(site.json("/api/v1/troubles").await["troubles"], json!([]));
    site.store.trouble_is_closed("evaluation", began).await.unwrap();
    site.store.trouble_begins("evaluation", "again", now()).await.unwrap();
    assert_eq!(site.json("/api/v1/troubles").await["troubles"][0]["acknowledged"], Value::Null, "it is another one");
    site.stop().await;
}
