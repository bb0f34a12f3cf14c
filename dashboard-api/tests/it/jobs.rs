//! The queue of jobs, with programs in place of `vigil` that hang, fail and answer at once; `tests/it/jobs.rs` at the root runs real ones.

use std::path::Path;
use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use store::audit::AuditFilter;

use crate::{Plan, Site, problem, until};

/// A site whose jobs are run by one of the programs beside this file.
async fn site_with(program: &str) -> Site {
    let mut plan = Plan::new().await;
    plan.config.jobs.program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/jobs").join(program);
    plan.start().await
}

async fn send(site: &Site, token: &str, method: Method, path: &str, body: Value) -> Response {
    site.ask(method, path).bearer_auth(token).json(&body).send().await.unwrap()
}

async fn look(site: &Site, token: &str, id: &str) -> Value {
    let response = site.ask(Method::GET, &format!("/api/v1/jobs/{id}")).bearer_auth(token).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

async fn in_state(site: &Site, token: &str, id: &str, state: &str) -> Value {
    until(state, async || Some(look(site, token, id).await).filter(|job| job["state"] == state)).await
}

async fn asked(site: &Site, token: &str, path: &str, body: Value) -> String {
    let response = send(site, token, Method::POST, path, body).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let job: Value = response.json().await.unwrap();
    let id = job["id"].as_str().unwrap().to_owned();
    assert_eq!(location, format!("/api/v1/jobs/{id}"));
    id
}

fn export() -> Value {
    json!({"project": "sepsis", "purpose": "a study", "as": "csv"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backtest_names_patients_only_to_who_may_see_them() {
    let site = site_with("answers").await;
    for (user, named) in [("lu", false), ("ito", true)] {
        let token = site.token_of(user, &["admin"]).await;
        let id = asked(&site, &token, "/api/v1/backtests", json!({})).await;
        let job = in_state(&site, &token, &id, "done").await;
        assert_eq!(job["result"], json!({"backtest": "b1"}), "where the result is kept");
        assert!(job["files"].as_array().unwrap().iter().any(|file| file["name"] == "report.json"), "{job}");
        let file = site.ask(Method::GET, &format!("/api/v1/jobs/{id}/files/report.json")).bearer_auth(&token).send().await.unwrap();
        assert_eq!(file.headers()["content-type"], "application/json");
        let report: Value = file.json().await.unwrap();
        assert_eq!((&report["alerts"], &report["events"][0]["lead_hours"]), (&json!(1), &json!(2.5)));
        assert_eq!(report["events"][0]["patient"] == "ada", named, "{user}: {report}");
        for wrong in ["job.json", "..%2Fjob.json", "out", ""] {
            let response = site.ask(Method::GET, &format!("/api/v1/jobs/{id}/files/{wrong}")).bearer_auth(&token).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{wrong}");
        }
    }
    let read = site.store.audit_entries(&AuditFilter::default(), 100).await.unwrap().into_iter().filter(|one| one.entry.action == "job.read").count();
    assert_eq!(read, 2);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_waits_for_another_administrator() {
    let site = site_with("answers").await;
    let (lu, ana) = (site.token_of("lu", &["lake"]).await, site.token_of("ana", &["admin"]).await);
    let id = asked(&site, &lu, "/api/v1/exports", export()).await;
    assert_eq!(look(&site, &lu, &id).await["state"], "waiting");
    let approve = format!("/api/v1/jobs/{id}/approve");
    problem(send(&site, &lu, Method::POST, &approve, json!({})).await, StatusCode::FORBIDDEN).await;
    let own = asked(&site, &ana, "/api/v1/exports", export()).await;
    problem(send(&site, &ana, Method::POST, &format!("/api/v1/jobs/{own}/approve"), json!({})).await, StatusCode::FORBIDDEN).await;
    assert_eq!(send(&site, &ana, Method::POST, &approve, json!({})).await.status(), StatusCode::OK);
    let job = in_state(&site, &lu, &id, "done").await;
    assert_eq!((&job["approved_by"], &job["files"][0]["name"]), (&json!("ana"), &json!("readings.csv")));
    problem(send(&site, &ana, Method::POST, &approve, json!({})).await, StatusCode::CONFLICT).await;
    // nobody's name is the rule: what names people is for who may see them
    let named = json!({"project": "sepsis", "purpose": "a study", "profile": "identified"});
    problem(send(&site, &lu, Method::POST, "/api/v1/exports", named).await, StatusCode::FORBIDDEN).await;
    for hides_nobody in [json!({"sql": "SELECT 1"}), json!({"sql": "SELECT 1", "profile": "identified", "project": "sepsis"})] {
        problem(send(&site, &lu, Method::POST, "/api/v1/queries", hides_nobody).await, StatusCode::FORBIDDEN).await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_runs_at_a_time_and_ends_when_it_is_removed() {
    let site = site_with("hangs").await;
    let (lu, ito) = (site.token_of("lu", &["lake"]).await, site.token_of("ito", &["lake"]).await);
    let first = asked(&site, &lu, "/api/v1/backtests", json!({})).await;
    let job = until("progress", async || Some(look(&site, &lu, &first).await).filter(|job| !job["progress"].is_null())).await;
    assert_eq!((&job["progress"]["done"], &job["progress"]["total"], &job["progress"]["unit"]), (&json!(3), &json!(12), &json!("rows")));
    assert!(job["progress"]["eta_s"].as_f64().unwrap() >= 0.0);
    let second = asked(&site, &ito, "/api/v1/backtests", json!({})).await;
    let waits = look(&site, &ito, &second).await;
    assert_eq!((&waits["state"], &waits["ahead"]), (&json!("queued"), &json!(1)));
    // another's job is not there
    problem(send(&site, &ito, Method::DELETE, &format!("/api/v1/jobs/{first}"), json!({})).await, StatusCode::NOT_FOUND).await;
    let list: Value = site.ask(Method::GET, "/api/v1/jobs").bearer_auth(&ito).send().await.unwrap().json().await.unwrap();
    assert_eq!(list["jobs"].as_array().unwrap().len(), 1);
    let folder = site.folder.path().join("jobs").join(&first);
    assert!(folder.exists());
    assert_eq!(send(&site, &lu, Method::DELETE, &format!("/api/v1/jobs/{first}"), json!({})).await.status(), StatusCode::NO_CONTENT);
    in_state(&site, &ito, &second, "running").await;
    until("its folder to be gone", async || (!folder.exists()).then_some(())).await;
    problem(site.ask(Method::GET, &format!("/api/v1/jobs/{first}")).bearer_auth(&lu).send().await.unwrap(), StatusCode::NOT_FOUND).await;
    // five are enough for one
    for _ in 0..5 {
        asked(&site, &lu, "/api/v1/backtests", json!({})).await;
    }
    problem(send(&site, &lu, Method::POST, "/api/v1/backtests", json!({})).await, StatusCode::TOO_MANY_REQUESTS).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_says_why_and_one_that_fills_the_disk_is_ended() {
    let site = site_with("fails").await;
    let token = site.token_of("lu", &["lake"]).await;
    let id = asked(&site, &token, "/api/v1/backtests", json!({})).await;
    let job = in_state(&site, &token, &id, "failed").await;
    assert_eq!(job["error"], "--project ../x: a name has 1 to 40 of a–z, 0–9 and -");
    site.stop().await;

    let mut plan = Plan::new().await;
    plan.config.jobs.program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/jobs/hangs");
    plan.config.jobs.leave = u64::MAX;
    let site = plan.start().await;
    let token = site.token_of("lu", &["lake"]).await;
    let id = asked(&site, &token, "/api/v1/backtests", json!({})).await;
    let job = in_state(&site, &token, &id, "failed").await;
    assert!(job["error"].as_str().unwrap().contains("dashboard.jobs_leave"), "{job}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_ran_when_the_dashboard_ended_is_begun_again_and_one_that_expired_is_gone() {
    let plan = Plan::new().await;
    let (store, journal, mut config) = (plan.store.clone(), plan.journal.clone(), plan.config.clone());
    config.jobs.program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/jobs/hangs");
    let site = Plan { config: config.clone(), ..plan }.start().await;
    let token = site.token_of("lu", &["lake"]).await;
    let id = asked(&site, &token, "/api/v1/backtests", json!({})).await;
    in_state(&site, &token, &id, "running").await;
    site.stop.cancel();
    site.running.await.unwrap().unwrap();

    config.jobs.program.set_file_name("answers");
    let site = Plan { store: store.clone(), journal: journal.clone(), config: config.clone(), folder: site.folder }.start().await;
    in_state(&site, &token, &id, "done").await;
    // what is no job, and half of one, harm nothing
    let jobs = site.folder.path().join("jobs");
    std::fs::create_dir(jobs.join("half")).unwrap();
    std::fs::create_dir(jobs.join("other")).unwrap();
    std::fs::write(jobs.join("other/job.json"), "{}").unwrap();
    site.stop.cancel();
    site.running.await.unwrap().unwrap();

    config.jobs.kept = Duration::ZERO;
    let site = Plan { store, journal, config, folder: site.folder }.start().await;
    assert!(!jobs.join("half").exists() && jobs.join("other").exists());
    assert_eq!(look(&site, &token, &id).await["state"], "done", "it is kept for as long as it was told when it ended");
    let id = asked(&site, &token, "/api/v1/backtests", json!({})).await;
    // asked for and expired: whatever state it was seen in last
    until("the end of a job that is kept for no time", async || (!jobs.join(&id).exists()).then_some(())).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_run_is_refused_at_once() {
    let site = site_with("answers").await;
    let token = site.token_of("ana", &["admin"]).await;
    for (path, body, says) in [
        ("/api/v1/backtests", json!({"rules": "[[rule]]\nid = 'x'"}), "rules:"),
        ("/api/v1/backtests", json!({"patients": ["a b"]}), "patients:"),
        ("/api/v1/backtests", json!({"labels": [{"patient": "ada", "time": "noon"}]}), "labels:"),
        ("/api/v1/backtests", json!({"rule": ""}), "rule"),
        ("/api/v1/exports", json!({"project": "p", "purpose": " "}), "purpose"),
        ("/api/v1/queries", json!({"sql": "SELECT 1", "as": "xlsx"}), "xlsx"),
    ] {
        let body = problem(send(&site, &token, Method::POST, path, body).await, StatusCode::UNPROCESSABLE_ENTITY).await;
        assert!(body["detail"].as_str().unwrap().contains(says), "{path}: {body}");
    }
    site.stop().await;
}
