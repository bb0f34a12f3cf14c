//! A patient's settings: changed only against the version that was read, and on their way to the engine.

use reqwest::{Method, Response, StatusCode};
use schemas::{Input, Metric, Micros};
use serde_json::{Value, json};

use crate::{Site, now, patient, problem, until};

async fn put(site: &Site, if_match: Option<&str>, body: &Value) -> Response {
    let mut request = site.ask(Method::PUT, "/api/v1/patients/ada/settings").bearer_auth(&site.token).json(body);
    if let Some(tag) = if_match {
        request = request.header("if-match", tag);
    }
    request.send().await.unwrap()
}

fn change() -> Value {
    json!({
        "monitored": true, "limits": {"spo2.low": 88.0}, "oxygen_l_min": 2.0, "news2_scale": 2, "expected_interval_s": {"spo2": 60},
        "pauses": [{"from": "2026-11-22T06:00:00Z", "until": null, "reason": "in hospital"}],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_needs_the_version_that_was_read_and_leaves_an_outbox_row() {
    let site = Site::start().await;
    let before = site.get("/api/v1/patients/ada/settings").await;
    assert_eq!(before.headers()["etag"], "\"0\"");
    let before: Value = before.json().await.unwrap();
    assert_eq!((&before["version"], &before["monitored"], &before["limits"], &before["oxygen_l_min"]), (&json!(0), &json!(true), &json!({}), &Value::Null));

    problem(put(&site, None, &change()).await, StatusCode::PRECONDITION_REQUIRED).await;
    let stale = problem(put(&site, Some("\"3\""), &change()).await, StatusCode::PRECONDITION_FAILED).await;
    assert_eq!(stale["current"], 0);
    assert_eq!(site.store.outbox_waiting().await.unwrap(), 0);

    let changed = put(&site, Some("\"0\""), &change()).await;
    assert_eq!(changed.status(), StatusCode::OK);
    assert_eq!(changed.headers()["etag"], "\"1\"");
    let changed: Value = changed.json().await.unwrap();
    assert_eq!((&changed["version"], &changed["author"], &changed["oxygen_l_min"]), (&json!(1), &json!("ito"), &json!(2.0)));
    assert_eq!(changed["enrolled_at"], before["enrolled_at"], "left out means as it was");
    problem(put(&site, Some("\"0\""), &change()).await, StatusCode::PRECONDITION_FAILED).await;

    let outgoing = site.store.outbox_claim("test", now(), Micros::minutes(1), 10).await.unwrap();
    assert_eq!(outgoing.len(), 1);
    let Ok(Input::Settings(settings)) = Input::decode(&outgoing[0].input) else { panic!("settings") };
    assert_eq!((settings.version, settings.patient, settings.limits["spo2.low"]), (1, patient("ada"), 88.0));
    assert_eq!(settings.expected_interval[&Metric::Spo2], Micros::minutes(1));

    // a limit that ends: whoever does not know of it does not make it last for ever
    let mut ends = change();
    ends["limits_until"] = json!({"spo2.low": "2026-12-01T08:00:00Z"});
    assert_eq!(put(&site, Some("\"1\""), &ends).await.status(), StatusCode::OK);
    let kept: Value = put(&site, Some("\"2\""), &change()).await.json().await.unwrap();
    assert_eq!(kept["limits_until"], json!({"spo2.low": "2026-12-01T08:00:00Z"}));
    ends["limits"] = json!({});
    let gone: Value = put(&site, Some("\"3\""), &ends).await.json().await.unwrap();
    assert_eq!(gone["limits_until"], json!({}), "an end without its limit");

    // what was read can be sent back
    let mut again: Value = site.json("/api/v1/patients/ada/settings").await;
    again["monitored"] = json!(false);
    assert_eq!(put(&site, Some("\"4\""), &again).await.status(), StatusCode::OK);
    until("the row", async || (site.json("/api/v1/patients/ada").await["monitored"] == false).then_some(())).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_be_wrong_is_refused_with_what_to_change() {
    let site = Site::start().await;
    site.store.put_rules(engine::DEFAULT_RULES, "ana", 0, now()).await.unwrap();
    let with = |key: &str, value: Value| {
        let mut body = change();
        body[key] = value;
        body
    };
    let without = |key: &str| {
        let mut body = change();
        body.as_object_mut().unwrap().remove(key);
        body
    };
    for (body, says) in [
        (with("limits", json!({"spo2.lwo": 88})), "no rule asks for"),
        (with("limits", json!({"spo2.low": 880})), "cannot be measured"),
        (with("limits", json!({"spo2.low": -1})), "cannot be measured"),
        (with("limits", json!({"spo2.low": "88"})), "invalid type"),
        (with("limits_until", json!({"heart_rate.low": "2026-12-01T08:00:00Z"})), "there is no limit"),
        (with("limits_until", json!({"spo2.low": "tomorrow"})), "is not a time"),
        (with("oxygen_l_min", json!(-1)), "oxygen_l_min"),
        (with("news2_scale", json!(3)), "news2_scale"),
        (with("pauses", json!([{"from": "2026-11-22T06:00:00Z", "until": "2026-11-22T05:00:00Z", "reason": ""}])), "ends before it begins"),
        (with("pauses", json!([{"from": "yesterday", "until": null, "reason": ""}])), "is not a time"),
        (with("pauses", json!([{"from": "2026-11-22T06:00:00Z", "reason": ""}])), "until"),
        (with("expected_interval_s", json!({"pulse": 60})), "is no metric"),
        (with("expected_interval_s", json!({"spo2": 0})), "expected_interval_s"),
        (with("patient", json!("uwe")), "another one"),
        (with("monitord", json!(true)), "unknown field"),
        (without("limits"), "limits"),
        (without("oxygen_l_min"), "oxygen_l_min"),
    ] {
        let refused = problem(put(&site, Some("\"0\""), &body).await, StatusCode::UNPROCESSABLE_ENTITY).await;
        assert!(refused["detail"].as_str().unwrap().contains(says), "{says}: {refused}");
    }
    let huge = site.ask(Method::PUT, "/api/v1/patients/ada/settings").bearer_auth(&site.token).header("if-match", "\"0\"");
    let huge = huge.header("content-type", "application/json").body(r#"{"monitored": true, "limits": {"spo2.low": 1e999}}"#).send().await.unwrap();
    assert!(huge.status().is_client_error());
    assert!(site.store.settings(&patient("ada")).await.unwrap().is_none());
    problem(put(&site, Some("soon"), &change()).await, StatusCode::BAD_REQUEST).await;
    site.stop().await;
}
