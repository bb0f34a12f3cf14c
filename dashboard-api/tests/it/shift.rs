//! A shift from its beginning to its end: nobody is left without somebody, and nobody is anybody's who has not said so.

use reqwest::{Method, Response, StatusCode};
use schemas::{Arrived, Micros};
use serde_json::{Value, json};
use store::audit::AuditFilter;
use store::episodes::{Episode, State};
use store::users::{Role, User};

use crate::{Plan, Site, episode, now, patient, problem, until};

/// Of a clinician.
struct Nurse<'a> {
    site: &'a Site,
    token: String,
}

impl<'a> Nurse<'a> {
    async fn new(site: &'a Site, name: &str) -> Self {
        if name != "ito" {
            site.store.add_user(&User { name: name.to_owned(), role: Role::Clinician, created_at: now(), disabled_at: None }).await.unwrap();
        }
        Self { site, token: site.token_of(name, &["write"]).await }
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> Response {
        self.site.ask(method, &format!("/api/v1{path}")).bearer_auth(&self.token).json(&body).send().await.unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> StatusCode {
        self.send(Method::POST, path, body).await.status()
    }

    async fn get(&self, path: &str) -> Value {
        let response = self.site.ask(Method::GET, &format!("/api/v1{path}")).bearer_auth(&self.token).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }
}

fn ids(of: &Value) -> Vec<&str> {
    of.as_array().unwrap().iter().map(|one| one["patient"]["id"].as_str().unwrap()).collect()
}

async fn a_shift_is_handed_over(site: Site) {
    let (ito, eve) = (Nurse::new(&site, "ito").await, Nurse::new(&site, "eve").await);
    problem(ito.send(Method::GET, "/shift", Value::Null).await, StatusCode::NOT_FOUND).await;
    problem(ito.send(Method::POST, "/shift/patients", json!({"patients": ["ada"]})).await, StatusCode::CONFLICT).await;
    problem(ito.send(Method::POST, "/shift", json!({"ward": "attic"})).await, StatusCode::NOT_FOUND).await;
    assert_eq!(ito.post("/shift", json!({"ward": "w7"})).await, StatusCode::CREATED);
    problem(ito.send(Method::POST, "/shift", json!({"ward": "w8"})).await, StatusCode::CONFLICT).await;
    assert_eq!(ito.get("/wards/w7/shift").await["without"], json!(["ada", "uwe"]), "nobody has anybody yet");

    problem(ito.send(Method::POST, "/shift/patients", json!({"patients": ["ada", "nobody"]})).await, StatusCode::NOT_FOUND).await;
    assert_eq!(ito.post("/shift/patients", json!({"patients": ["ada", "uwe", "ada"]})).await, StatusCode::NO_CONTENT);
    assert_eq!(ito.post("/shift/patients", json!({"patients": ["ada"]})).await, StatusCode::NO_CONTENT, "again is the same");
    assert_eq!(eve.post("/shift", json!({"ward": "w7"})).await, StatusCode::CREATED);
    let taken = problem(eve.send(Method::POST, "/shift/patients", json!({"patients": ["eva", "ada"]})).await, StatusCode::CONFLICT).await;
    assert_eq!(taken["taken"], json!([{"patient": "ada", "person": "ito"}]));
    let ward = eve.get("/wards/w7/shift").await;
    assert_eq!(ward["without"], json!([]));
    assert_eq!(ward["on_shift"][0]["patients"], json!(["ada", "uwe"]));
    assert!(eve.get("/wards/w8/shift").await["without"].as_array().unwrap().contains(&json!("eva")), "all or none was taken");

    // what the next one has to know
    let old = Episode { heard_at: Arrived(now().0 - Micros::hours(9).0), ..episode("ada", 1) };
    let over = Episode { state: State::Cleared, cleared_at: Some(now() + Micros::seconds(1)), ..episode("ada", 2) };
    let quiet = episode("ada", 3);
    for one in [&old, &over, &quiet] {
        site.store.upsert_episode(one).await.unwrap();
    }
    let path = format!("/api/v1/alerts/{}/actions", quiet.alert);
    let snooze = site.ask(Method::POST, &path).bearer_auth(&ito.token).header("if-match", "\"1\"");
    let snooze = snooze.json(&json!({"action": "snooze", "minutes": 20, "note": "in the bath"})).send().await.unwrap();
    assert_eq!(snooze.status(), StatusCode::OK);
    assert_eq!(ito.post("/patients/ada/pins", json!({"text": "hears badly: ring twice"})).await, StatusCode::CREATED);
    problem(ito.send(Method::POST, "/patients/ada/pins", json!({"text": " "})).await, StatusCode::UNPROCESSABLE_ENTITY).await;

    let ending = problem(ito.send(Method::POST, "/shift/end", json!({})).await, StatusCode::CONFLICT).await;
    assert_eq!(ending["patients"], json!(["ada", "uwe"]));
    problem(ito.send(Method::POST, "/shift/handover", json!({"to": "ana", "patients": ["ada"], "note": "n"})).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    problem(ito.send(Method::POST, "/shift/handover", json!({"to": "eve", "patients": ["eva"], "note": "n"})).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert_eq!(ito.post("/shift/handover", json!({"to": "eve", "patients": ["ada", "uwe"], "note": "restless night"})).await, StatusCode::OK);
    let hers = until("the offers with their alerts", async || {
        let shift = eve.get("/shift").await;
        (ids(&shift["offered_to_you"]) == ["ada", "uwe"]).then_some(shift)
    })
    .await;
    assert!(hers["patients"].as_array().unwrap().is_empty(), "offered is not taken");
    let ada = &hers["offered_to_you"][0];
    assert_eq!((&ada["handover"]["note"], &ada["handover"]["from"]), (&json!("restless night"), &json!("ito")));
    let alerts = |of: &str| ada[of].as_array().unwrap().iter().map(|alert| alert["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let id = |of: &Episode| of.alert.to_string();
    assert_eq!((alerts("open"), alerts("snoozed")), (vec![id(&old)], vec![id(&quiet)]));
    assert_eq!(alerts("over"), [id(&over)]);
    assert!(alerts("raised").contains(&id(&over)) && !alerts("raised").contains(&id(&old)), "of this shift only");
    assert!(ada["snoozed"][0]["snoozed"]["until"].is_string());
    assert_eq!(ada["pins"][0]["text"], "hears badly: ring twice");
    assert!(ada["patient"]["paused"].is_boolean() && ada["patient"]["silent"].is_boolean());

    // taken patient by patient, and only by who was asked
    let offer = |of: usize| format!("/handovers/{}", hers["offered_to_you"][of]["handover"]["id"].as_str().unwrap());
    problem(ito.send(Method::POST, &offer(0), json!({"accept": true})).await, StatusCode::NOT_FOUND).await;
    assert_eq!(eve.post(&offer(0), json!({"accept": true})).await, StatusCode::NO_CONTENT);
    problem(eve.send(Method::POST, &offer(0), json!({"accept": true})).await, StatusCode::NOT_FOUND).await;
    assert_eq!(eve.post(&offer(1), json!({"accept": false})).await, StatusCode::NO_CONTENT);
    assert_eq!((ids(&ito.get("/shift").await["patients"]), ids(&eve.get("/shift").await["patients"])), (vec!["uwe"], vec!["ada"]));
    problem(ito.send(Method::POST, "/shift/end", json!({})).await, StatusCode::CONFLICT).await;

    // taken back in time; and what ends with a shift
    let again: Value = ito.send(Method::POST, "/shift/handover", json!({"to": "eve", "patients": ["uwe"], "note": "please"})).await.json().await.unwrap();
    let path = format!("/handovers/{}", again[0]["id"].as_str().unwrap());
    problem(eve.send(Method::DELETE, &path, Value::Null).await, StatusCode::NOT_FOUND).await;
    assert_eq!(ito.send(Method::DELETE, &path, Value::Null).await.status(), StatusCode::NO_CONTENT);
    problem(eve.send(Method::POST, &path, json!({"accept": true})).await, StatusCode::NOT_FOUND).await;
    let last: Value = ito.send(Method::POST, "/shift/handover", json!({"to": "eve", "patients": ["uwe"], "note": "please"})).await.json().await.unwrap();
    problem(ito.send(Method::POST, "/shift/end", json!({"left_to_nobody_because": ""})).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert_eq!(ito.post("/shift/end", json!({"left_to_nobody_because": "went to hospital"})).await, StatusCode::NO_CONTENT);
    let path = format!("/handovers/{}", last[0]["id"].as_str().unwrap());
    problem(eve.send(Method::POST, &path, json!({"accept": true})).await, StatusCode::NOT_FOUND).await;
    assert_eq!(eve.get("/wards/w7/shift").await["without"], json!(["uwe"]), "and everybody sees it");
    let pin = format!("/pins/{}", ada["pins"][0]["id"].as_str().unwrap());
    assert_eq!(eve.send(Method::DELETE, &pin, Value::Null).await.status(), StatusCode::NO_CONTENT);
    problem(eve.send(Method::DELETE, &pin, Value::Null).await, StatusCode::NOT_FOUND).await;

    // who may no longer sign in has nobody
    site.store.disable_user("eve", now()).await.unwrap();
    let ana = Nurse { site: &site, token: site.token_of("ana", &["admin"]).await };
    let ward = ana.get("/wards/w7/shift").await;
    assert_eq!((&ward["without"], &ward["on_shift"]), (&json!(["ada", "uwe"]), &json!([])));
    let entries = site.store.audit_entries(&AuditFilter { patient: Some(patient("ada")), ..AuditFilter::default() }, 100).await.unwrap();
    let done: Vec<(&str, &str)> = entries.iter().map(|one| (one.entry.person.as_str(), one.entry.action.as_str())).collect();
    for expected in [("ito", "shift.take"), ("ito", "shift.offer"), ("eve", "shift.answer"), ("eve", "read.shift"), ("ito", "pin.add"), ("eve", "pin.remove")] {
        assert!(done.contains(&expected), "{expected:?} is not in {done:?}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shift_is_handed_over_on_sqlite() {
    a_shift_is_handed_over(Site::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shift_is_handed_over_on_postgres() {
    let Some(plan) = Plan::on_postgres().await else { return };
    a_shift_is_handed_over(plan.start().await).await;
}

/// Twenty people want one patient at one moment, and one has them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_do_not_take_the_same_patient() {
    let site = Site::start().await;
    let mut nurses = Vec::new();
    for number in 0..20 {
        let nurse = Nurse::new(&site, &format!("nurse-{number}")).await;
        assert_eq!(nurse.post("/shift", json!({"ward": "w7"})).await, StatusCode::CREATED);
        nurses.push(nurse);
    }
    let asked = nurses.iter().map(|nurse| nurse.post("/shift/patients", json!({"patients": ["ada"]})));
    let answers = futures::future::join_all(asked).await;
    let taken = answers.iter().filter(|status| **status == StatusCode::NO_CONTENT).count();
    assert_eq!((taken, answers.iter().filter(|status| **status == StatusCode::CONFLICT).count()), (1, 19));
    assert_eq!(site.store.charges_in("w7").await.unwrap().len(), 1);
    site.stop().await;
}
