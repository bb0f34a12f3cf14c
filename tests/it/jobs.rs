//! What analysts ask for over the API: run by real processes, over a lake that came through MQTT, and the same as the console says.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use store::users::{Role, User};

use crate::driven::{ONE, PATIENCE, Serving, done, now};
use crate::kill::{number, record};
use crate::run::{Plan, play};

struct Analyst<'a> {
    client: &'a Client,
    url: String,
    token: String,
}

impl Analyst<'_> {
    async fn send(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let answer = self.client.request(method, format!("{}/api/v1{path}", self.url)).bearer_auth(&self.token).json(&body).send().await.unwrap();
        let status = answer.status();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    async fn ask(&self, path: &str, body: Value) -> String {
        let (status, job) = self.send(Method::POST, path, body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{job}");
        job["id"].as_str().unwrap().to_owned()
    }

    async fn until(&self, id: &str, state: &str) -> Value {
        let began = Instant::now();
        loop {
            let (status, job) = self.send(Method::GET, &format!("/jobs/{id}"), Value::Null).await;
            assert_eq!(status, StatusCode::OK, "{job}");
            if job["state"] == state {
                return job;
            }
            assert!(job["state"] != "failed" && began.elapsed() < PATIENCE, "{state} did not come: {job}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn file(&self, id: &str, name: &str) -> String {
        let url = format!("{}/api/v1/jobs/{id}/files/{name}", self.url);
        self.client.get(url).bearer_auth(&self.token).send().await.unwrap().error_for_status().unwrap().text().await.unwrap()
    }
}

/// Processes that work in a folder of jobs.
fn working_in(folder: &Path) -> Vec<u32> {
    let folder = folder.canonicalize().unwrap();
    let mine = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&folder));
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(mine).collect()
}

/// Takes longer than any test: some 10^12 rows.
const FOR_EVER: &str = "SELECT count(*) FROM readings a, readings b, readings c, readings d WHERE a.value + b.value + c.value + d.value < 0";

#[tokio::test(flavor = "multi_thread")]
async fn what_analysts_ask_for_is_what_the_console_says() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let seed = number("VIGIL_SEED", rand::random::<u32>().into());
    eprintln!("VIGIL_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("recording.csv");
    record(&recording, 2400, &mut StdRng::seed_from_u64(seed));
    let site = folder.path().join("site");
    let run = play(&site, &Plan { recording: &recording, speed: 0.0, kafka: None, pager: None }, |_| false).await;
    let config = site.join("vigil.toml").to_str().unwrap().to_owned();
    done(&["lake", "compact", "--config", &config]);
    let mut tokens = Vec::new();
    for (name, role) in [("lu", Role::Analyst), ("ana", Role::Admin)] {
        run.store.add_user(&User { name: name.to_owned(), role, created_at: now(), disabled_at: None }).await.unwrap();
        tokens.push(run.store.new_api_token(name, "tests", &["admin"], now(), None).await.unwrap().1.to_string());
    }
    let client = Client::new();
    let mut serving = Serving::start(&config, ONE);
    let analyst = |serving: &Serving, n: usize| Analyst { client: &client, url: serving.dashboard.clone(), token: tokens[n].clone() };
    let (lu, ana) = (analyst(&serving, 0), analyst(&serving, 1));

    // a question, as somebody sees it who may not know who is who
    let sql = "SELECT count(*) AS n, count(DISTINCT patient) AS patients, min(patient) AS one FROM readings";
    let id = lu.ask("/queries", json!({"sql": sql, "profile": "safe-harbor", "project": "sepsis"})).await;
    let job = lu.until(&id, "done").await;
    assert_eq!((&job["result"]["rows"], &job["files"][0]["name"]), (&json!(1), &json!("answer.ndjson")));
    let answer = lu.file(&id, "answer.ndjson").await;
    assert_eq!(answer, done(&["sql", sql, "--profile", "safe-harbor", "--project", "sepsis", "--config", &config]));
    // a pseudonym may have `p0` in it by chance, and is longer than any id here
    let one = serde_json::from_str::<Value>(&answer).unwrap()["one"].as_str().unwrap().len();
    assert!(answer.contains("\"n\":2400") && one == 16, "{answer}");
    // who may see patients sees them
    let id = ana.ask("/queries", json!({"sql": sql, "as": "csv"})).await;
    ana.until(&id, "done").await;
    assert!(ana.file(&id, "answer.csv").await.contains("2400,") && ana.file(&id, "answer.csv").await.contains("p00"));
    for (sql, says) in [("DELETE FROM readings", "read-only"), ("--help", "SQL"), ("SELECT * FROM reading", "readings, voided")] {
        let id = ana.ask("/queries", json!({"sql": sql})).await;
        let began = Instant::now();
        while ana.send(Method::GET, &format!("/jobs/{id}"), Value::Null).await.1["state"] != "failed" {
            assert!(began.elapsed() < PATIENCE, "{sql} does not fail");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (_, job) = ana.send(Method::GET, &format!("/jobs/{id}"), Value::Null).await;
        assert!(job["error"].as_str().unwrap().contains(says), "{sql}: {job}");
        assert!(!job["error"].as_str().unwrap().contains(site.to_str().unwrap()), "{job}");
    }

    // an export, allowed by somebody else; the same bytes as the console's
    let wanted = json!({"project": "sepsis", "purpose": "--a study", "tables": ["readings"], "as": "csv", "metrics": ["spo2"]});
    let id = lu.ask("/exports", wanted).await;
    assert_eq!(ana.send(Method::POST, &format!("/jobs/{id}/approve"), json!({})).await.0, StatusCode::OK);
    let job = lu.until(&id, "done").await;
    let manifest: Value = serde_json::from_str(&lu.file(&id, "manifest.json").await).unwrap();
    assert_eq!((&manifest["requester"], &manifest["approver"], &manifest["purpose"]), (&json!("lu"), &json!("ana"), &json!("--a study")));
    let out = folder.path().join("out");
    let by = ["--project", "sepsis", "--purpose=--a study", "--requester", "x", "--approver", "y", "--tables", "readings", "--as", "csv", "--metrics", "spo2"];
    let same: Value = serde_json::from_str(&done(&[&["export", out.to_str().unwrap(), "--config", &config], &by[..]].concat())).unwrap();
    assert_eq!((&job["result"]["content"], &job["result"]["rows"]), (&same["content"], &json!(1200)));
    assert_eq!(lu.file(&id, "readings.csv").await, std::fs::read_to_string(out.join("readings.csv")).unwrap());

    // a back-test: the console's, without anybody's name
    let rules = done(&["rule", "show", "--config", &config]);
    let file = folder.path().join("rules.toml");
    std::fs::write(&file, &rules).unwrap();
    let id = lu.ask("/backtests", json!({"rules": rules, "against_log": true})).await;
    let job = lu.until(&id, "done").await;
    let report = lu.file(&id, "report.json").await;
    let console: Value = serde_json::from_str(&done(&["rule", "backtest", file.to_str().unwrap(), "--against-log", "--json", "--config", &config])).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["trial"]["burden"]["by_rule"], console["trial"]["burden"]["by_rule"]);
    assert_eq!((&report["data"], &report["trial"]["rules"]), (&console["data"], &console["trial"]["rules"]));
    assert!(report["trial"]["burden"]["alerts"].as_u64().unwrap() > 0 && !report.to_string().contains("p00"), "{report}");
    let kept = run.store.backtest(job["result"]["backtest"].as_str().unwrap()).await.unwrap().unwrap();
    assert_eq!(kept.person, "lu", "who asked is who stands there");

    // why: as far as the journal reaches, while it is in use
    let raised = run.topics.transitions.values().find(|transition| transition.patient.as_str().starts_with('p')).unwrap();
    let path = format!("/explanations?patient={}&rule={}", raised.patient, raised.rule);
    assert_eq!(lu.send(Method::GET, &path, Value::Null).await.0, StatusCode::FORBIDDEN);
    let (status, why) = ana.send(Method::GET, &path, Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{why}");
    assert!(why["told"].as_array().unwrap().iter().any(|told| told["at"] == raised.at.to_string()), "{why}");
    let (status, wrong) = ana.send(Method::GET, &format!("/explanations?patient={}&rule=nothing-of-this", raised.patient), Value::Null).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");

    // one that joins for ever: stopped by its limit; by who asked; and with the dashboard, by whatever ends it
    let id = ana.ask("/queries", json!({"sql": FOR_EVER, "timeout": "1 s"})).await;
    let began = Instant::now();
    while ana.send(Method::GET, &format!("/jobs/{id}"), Value::Null).await.1["state"] != "failed" {
        assert!(began.elapsed() < PATIENCE, "a limit of a second is kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let jobs = site.join("data/jobs");
    let gone = async |what: &str| {
        let began = Instant::now();
        while !working_in(&jobs).is_empty() {
            assert!(began.elapsed() < PATIENCE, "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let forever = json!({"sql": FOR_EVER, "timeout": "10 h"});
    let id = ana.ask("/queries", forever.clone()).await;
    ana.until(&id, "running").await;
    assert_eq!(ana.send(Method::DELETE, &format!("/jobs/{id}"), Value::Null).await.0, StatusCode::NO_CONTENT);
    gone("it is ended by who asked").await;
    let id = ana.ask("/queries", forever).await;
    ana.until(&id, "running").await;
    let began = Instant::now();
    while working_in(&jobs).is_empty() {
        assert!(began.elapsed() < PATIENCE, "its process is seen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = working_in(&jobs);
    serving.kill_and_start(0);
    let began = Instant::now();
    while working_in(&jobs).iter().any(|pid| before.contains(pid)) {
        assert!(began.elapsed() < PATIENCE, "a job ends with the dashboard, whatever ended that");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    serving.stop();
    gone("and when it is told to end").await;
    let serving = Serving::start(&config, ONE);
    let ana = analyst(&serving, 1);
    ana.until(&id, "running").await;
    assert_eq!(ana.send(Method::DELETE, &format!("/jobs/{id}"), Value::Null).await.0, StatusCode::NO_CONTENT);
    serving.stop();
}
