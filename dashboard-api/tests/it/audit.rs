//! D1: whoever reads leaves an entry, in the store or beside it; if neither takes it, nothing is shown.

use reqwest::{Method, StatusCode};
use serde_json::json;
use store::audit::{AuditFilter, AuditState};

use crate::{Plan, Site, episode, patient, problem, until};

async fn actions(site: &Site) -> Vec<(String, Option<String>)> {
    let mut entries = site.store.audit_entries(&AuditFilter::default(), 1000).await.unwrap();
    entries.reverse();
    entries.into_iter().map(|found| (found.entry.action, found.entry.patient.map(|patient| patient.to_string()))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_every_read_leaves_an_entry_with_reader_and_patient() {
    let site = Site::start().await;
    site.store.upsert_episode(&episode("ada", 1)).await.unwrap();
    let alert = format!("/api/v1/alerts/{}", episode("ada", 1).alert);
    let mut expected = Vec::new();
    for (path, action, of) in [
        ("/api/v1/patients", "read.patients", None),
        ("/api/v1/wards/w7/patients", "read.patients", None),
        ("/api/v1/patients/ada", "read.patient", Some("ada")),
        ("/api/v1/patients/ada/vitals?metric=spo2", "read.vitals", Some("ada")),
        ("/api/v1/patients/uwe/settings", "read.settings", Some("uwe")),
        ("/api/v1/patients/eva/news2", "read.news2", Some("eva")),
        ("/api/v1/alerts", "read.alerts", None),
        ("/api/v1/alerts?patient=eva", "read.alerts", Some("eva")),
        (&alert, "read.alert", Some("ada")),
        ("/api/v1/devices", "read.devices", None),
        ("/api/v1/dead-letters", "read.dead-letters", None),
        ("/api/v1/events?ward=w7", "read.stream", None),
    ] {
        assert_eq!(site.get(path).await.status(), StatusCode::OK, "{path}");
        expected.push((action.to_owned(), of.map(str::to_owned)));
        // it is there before the answer is
        assert_eq!(actions(&site).await, expected, "{path}");
    }
    let acknowledged = site.ask(Method::POST, &format!("{alert}/acknowledgements")).bearer_auth(&site.token).json(&json!({})).send().await.unwrap();
    assert_eq!(acknowledged.status(), StatusCode::CREATED);
    expected.push(("alert.acknowledge".to_owned(), Some("ada".to_owned())));
    assert_eq!(actions(&site).await, expected);
    // what shows nobody leaves nothing
    for path in ["/api/v1/wards", "/api/v1/session", "/api/v1/patients/nobody", "/api/v1/openapi.json"] {
        site.get(path).await;
    }
    assert_eq!(actions(&site).await, expected);
    let entries = site.store.audit_entries(&AuditFilter { patient: Some(patient("uwe")), ..AuditFilter::default() }, 10).await.unwrap();
    assert_eq!(entries[0].entry.person, "ito");
    assert!(matches!(site.store.verify_audit().await.unwrap(), AuditState::Intact(_)));
    site.stop().await;
}

/// Holds the one writer's place in the database, as a full disk or a stuck backup does: reads go on, writes do not.
async fn no_writes(site: &Site) -> sqlx::AnyConnection {
    use sqlx::{Connection, Executor};
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(&format!("sqlite://{}", site.folder.path().join("vigil.db").display())).await.unwrap();
    connection.execute("BEGIN IMMEDIATE").await.unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_entries_wait_in_the_spool_until_the_store_takes_them_again() {
    use sqlx::Executor;
    let site = Site::start().await;
    assert_eq!(site.get("/api/v1/patients").await.status(), StatusCode::OK);
    let mut holder = no_writes(&site).await;
    assert_eq!(site.get("/api/v1/patients/ada").await.status(), StatusCode::OK, "the spool stands in");
    assert_eq!(site.get("/api/v1/patients/uwe").await.status(), StatusCode::OK);
    let spooled = std::fs::read_to_string(site.folder.path().join("audit.spool")).unwrap();
    assert_eq!(spooled.lines().count(), 2);
    assert!(spooled.contains("\"patient\":\"ada\"") && spooled.contains("\"person\":\"ito\"") && !spooled.contains("OKAFOR"), "{spooled}");
    assert_eq!(actions(&site).await.len(), 1);

    holder.execute("ROLLBACK").await.unwrap();
    let found = until("the spooled entries", async || Some(actions(&site).await).filter(|found| found.len() >= 3)).await;
    let of: Vec<Option<&str>> = found.iter().map(|(_, patient)| patient.as_deref()).collect();
    assert_eq!(of, [None, Some("ada"), Some("uwe")]);
    until("an empty spool", async || std::fs::read(site.folder.path().join("audit.spool")).unwrap().is_empty().then_some(())).await;
    assert_eq!(site.get("/api/v1/patients/eva").await.status(), StatusCode::OK);
    assert_eq!(actions(&site).await.len(), 4, "straight into the store again");
    assert!(matches!(site.store.verify_audit().await.unwrap(), AuditState::Intact(_)));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_what_a_process_left_in_the_spool_is_stored_by_the_next() {
    let plan = Plan::new().await;
    let left = r#"{"at":"2026-11-22T06:00:00Z","person":"ito","action":"read.patient","patient":"ada","detail":""}"#;
    std::fs::write(&plan.config.audit_spool, format!("{left}\n{{\"at\":\"2026")).unwrap();
    let site = plan.start().await;
    let found = until("the entry", async || Some(actions(&site).await).filter(|found| !found.is_empty())).await;
    assert_eq!(found, [("read.patient".to_owned(), Some("ada".to_owned()))]);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_nothing_is_shown_when_no_entry_can_be_written() {
    let mut plan = Plan::new().await;
    plan.config.audit_spool = "/dev/full".into();
    let site = plan.start().await;
    site.store.upsert_episode(&episode("ada", 1)).await.unwrap();
    let _holder = no_writes(&site).await;
    for path in ["/api/v1/patients", "/api/v1/patients/ada", "/api/v1/patients/ada/vitals?metric=spo2", "/api/v1/alerts", "/api/v1/events"] {
        let refused = site.get(path).await;
        assert!(refused.headers().contains_key("retry-after"), "{path}");
        let body = problem(refused, StatusCode::SERVICE_UNAVAILABLE).await;
        assert!(!body.to_string().contains("OKAFOR"));
    }
    let path = format!("/api/v1/alerts/{}/acknowledgements", episode("ada", 1).alert);
    problem(site.ask(Method::POST, &path).bearer_auth(&site.token).json(&json!({})).send().await.unwrap(), StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(site.store.episode(episode("ada", 1).alert).await.unwrap().acknowledged, None, "refused means not done");
    site.stop().await;
}
