//! Alerts: listed and paged through, acknowledged once, given back in time.

use std::collections::BTreeSet;
use std::time::Instant;

use reqwest::{Method, Response, StatusCode};
use schemas::Micros;
use serde_json::{Value, json};
use store::episodes::{Episode, What};
use store::timers::{REPAGE, Timer};

use crate::{Plan, Site, episode, now, problem};

async fn acknowledge(site: &Site, token: &str, alert: &Episode, if_match: Option<u64>, body: Value) -> Response {
    let path = format!("/api/v1/alerts/{}/acknowledgements", alert.alert);
    let mut request = site.ask(Method::POST, &path).bearer_auth(token).json(&body);
    if let Some(version) = if_match {
        request = request.header("if-match", format!("\"{version}\""));
    }
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_is_taken_once_and_the_second_learns_by_whom() {
    let site = Site::start().await;
    let raised = episode("ada", 1);
    let id = raised.alert.to_string();
    site.store.upsert_episode(&raised).await.unwrap();
    site.store.add_timer(&Timer::new("t1".to_owned(), raised.alert, REPAGE, now() + Micros::minutes(5))).await.unwrap();
    let seen = site.get(&format!("/api/v1/alerts/{id}")).await;
    assert_eq!(seen.headers()["etag"], "\"1\"");
    let seen: Value = seen.json().await.unwrap();
    assert!(seen["next_page"].is_string(), "the timer pages again");
    assert_eq!((&seen["acknowledged"], &seen["version"]), (&Value::Null, &json!(1)));

    let taken = acknowledge(&site, &site.token, &raised, Some(1), json!({"note": "  at the bedside "})).await;
    assert_eq!(taken.status(), StatusCode::CREATED);
    assert_eq!(taken.headers()["etag"], "\"2\"");
    let taken: Value = taken.json().await.unwrap();
    assert_eq!((&taken["acknowledged"]["by"], &taken["acknowledged"]["note"]), (&json!("ito"), &json!("at the bedside")));
    assert!(taken["acknowledged"]["undo_until"].is_string());

    let other = site.token_of("ana", &["write"]).await;
    let stale = problem(acknowledge(&site, &other, &raised, Some(1), json!({})).await, StatusCode::PRECONDITION_FAILED).await;
    assert_eq!((&stale["current"], &stale["acknowledged"]["by"]), (&json!(2), &json!("ito")));
    let again = problem(acknowledge(&site, &other, &raised, Some(2), json!({})).await, StatusCode::CONFLICT).await;
    assert_eq!(again["acknowledged"]["note"], "at the bedside");
    problem(acknowledge(&site, &other, &raised, None, json!({})).await, StatusCode::CONFLICT).await;

    let detail = site.json(&format!("/api/v1/alerts/{id}")).await;
    let next = schemas::EventTime::parse(detail["next_page"].as_str().unwrap()).unwrap();
    assert_eq!(detail["next_page"], detail["acknowledged"]["until"], "nobody is paged until the acknowledgement ends");
    assert!(next - now() > Micros::minutes(59) && next - now() <= Micros::minutes(60), "{next}");
    let taken: Vec<&Value> = detail["history"].as_array().unwrap().iter().filter(|entry| entry["what"] == "acknowledged").collect();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0]["by"], "ito");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_is_given_back_only_by_who_gave_it_and_in_time() {
    let site = Site::start().await;
    let raised = episode("ada", 1);
    let path = format!("/api/v1/alerts/{}/acknowledgements", raised.alert);
    site.store.upsert_episode(&raised).await.unwrap();
    site.store.add_timer(&Timer::new("t1".to_owned(), raised.alert, REPAGE, now() + Micros::minutes(5))).await.unwrap();
    let take_back = |token: &str| site.ask(Method::DELETE, &path).bearer_auth(token).send();
    problem(take_back(&site.token).await.unwrap(), StatusCode::CONFLICT).await;
    assert_eq!(acknowledge(&site, &site.token, &raised, None, json!({})).await.status(), StatusCode::CREATED);
    let other = site.token_of("ana", &["write"]).await;
    problem(take_back(&other).await.unwrap(), StatusCode::CONFLICT).await;
    let back = take_back(&site.token).await.unwrap();
    assert_eq!(back.status(), StatusCode::OK);
    assert_eq!(back.json::<Value>().await.unwrap()["acknowledged"], Value::Null);
    let next = site.json(&format!("/api/v1/alerts/{}", raised.alert)).await["next_page"].as_str().map(|at| schemas::EventTime::parse(at).unwrap()).unwrap();
    assert!((next - now()) > Micros::minutes(4) && (next - now()) <= Micros::minutes(5), "it is paged again after repage_after");
    // too late
    site.store.take_alert(raised.alert, "ito", None, now() - Micros::seconds(11), None).await.unwrap();
    problem(take_back(&site.token).await.unwrap(), StatusCode::CONFLICT).await;
    let history = site.store.history(raised.alert).await.unwrap();
    assert_eq!(history.iter().filter(|entry| entry.what == What::Unacknowledged).count(), 1);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_acknowledged_says_why() {
    let site = Site::start().await;
    let raised = episode("ada", 1);
    site.store.upsert_episode(&raised).await.unwrap();
    problem(acknowledge(&site, &site.token, &episode("ada", 2), None, json!({})).await, StatusCode::NOT_FOUND).await;
    problem(acknowledge(&site, &site.token, &raised, None, json!({"note": "x".repeat(1001)})).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    problem(acknowledge(&site, &site.token, &raised, None, json!({"nota": "x"})).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    problem(acknowledge(&site, &site.token, &raised, None, json!({"note": 5})).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    let path = format!("/api/v1/alerts/{}/acknowledgements", raised.alert);
    let odd = site.ask(Method::POST, &path).bearer_auth(&site.token).header("if-match", "*").json(&json!({})).send().await.unwrap();
    problem(odd, StatusCode::BAD_REQUEST).await;
    problem(
        site.ask(Method::POST, "/api/v1/alerts/xyz/acknowledgements").bearer_auth(&site.token).json(&json!({})).send().await.unwrap(),
        StatusCode::UNPROCESSABLE_ENTITY,
    )
    .await;
    assert_eq!(site.store.episode(raised.alert).await.unwrap().acknowledged, None);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_filtered_and_paged_through_without_loss() {
    let site = Site::start().await;
    for n in 0..25 {
        let of = if n % 5 == 0 { "eva" } else { "ada" };
        let mut one = episode(of, n);
        one.heard_at.0 += n;
        site.store.upsert_episode(&one).await.unwrap();
        if n % 2 == 0 {
            site.store.take_alert(one.alert, "ito", None, now(), None).await.unwrap();
        }
    }
    for (query, expected) in [
        ("", 25),
        ("ward=w8&", 5),
        ("ward=w7&", 20),
        ("patient=eva&", 5),
        ("state=open&", 25),
        ("state=cleared&", 0),
        ("acknowledged=true&", 13),
        ("acknowledged=false&", 12),
        ("acknowledged=false&ward=w8&", 2),
    ] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = site.json(&format!("/api/v1/alerts?{query}limit=4{cursor}")).await;
            let alerts = page["alerts"].as_array().unwrap();
            assert!(alerts.len() <= 4);
            found.extend(alerts.iter().map(|alert| alert["id"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let all = found.len();
        found.sort_unstable();
        found.dedup();
        assert_eq!((found.len(), all), (expected, expected), "{query}");
    }
    for bad in ["state=gone", "acknowledged=perhaps", "limit=many", "cursor=1", "patient=a/b", "stat=open"] {
        problem(site.get(&format!("/api/v1/alerts?{bad}")).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    }
    problem(site.get("/api/v1/alerts?ward=nowhere").await, StatusCode::NOT_FOUND).await;
    assert_eq!(site.json("/api/v1/alerts?limit=0").await["alerts"].as_array().unwrap().len(), 1, "clamped");
    site.stop().await;
}

/// `dev/alert-list` asks for 10,000, and prints how long a page took.
async fn every_open_alert_is_on_one_page_of_the_list(plan: Plan, what: &str) {
    const EACH: usize = 100;
    let open = std::env::var("VIGIL_TEST_OPEN").map_or(250, |many| many.parse::<i64>().unwrap());
    let episodes: Vec<Episode> = (1..=open).map(|n| episode(["ada", "uwe", "eva"][n as usize % 3], n)).collect();
    for some in episodes.chunks(500) {
        let stored = plan.store.transaction(|tx| {
            Box::pin(async move {
                for episode in some {
                    tx.upsert_episode(episode).await?;
                }
                Ok(())
            })
        });
        stored.await.unwrap();
    }
    let site = plan.start().await;
    let (mut seen, mut took, mut cursor) = (BTreeSet::new(), Vec::new(), String::new());
    loop {
        let began = Instant::now();
        let page = site.json(&format!("/api/v1/alerts?state=open&limit={EACH}{cursor}")).await;
        took.push(began.elapsed());
        for alert in page["alerts"].as_array().unwrap() {
            assert!(seen.insert(alert["id"].as_str().unwrap().to_owned()), "on two pages");
        }
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen.len(), episodes.len());
    // the first page is what is looked at
    for _ in 0..100 {
        let began = Instant::now();
        site.json(&format!("/api/v1/alerts?state=open&ward=w7&limit={EACH}")).await;
        took.push(began.elapsed());
    }
    took.sort();
    let ms = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)].as_secs_f64() * 1e3;
    println!("{what}: {open} open alerts, a page of {EACH}: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms of {}", ms(50), ms(99), ms(100), took.len());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_open_alert_is_on_one_page_of_the_list_on_sqlite() {
    every_open_alert_is_on_one_page_of_the_list(Plan::new().await, "SQLite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_open_alert_is_on_one_page_of_the_list_on_postgres() {
    let Some(plan) = Plan::on_postgres().await else { return };
    every_open_alert_is_on_one_page_of_the_list(plan, "PostgreSQL").await;
}
