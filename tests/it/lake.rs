//! The lake at the console: made, asked, checked; and what is said when that cannot be.

use std::path::Path;
use std::sync::Arc;

use processor::backtest::write_inputs;
use processor::objects::{LocalObjects, Objects};
use schemas::{Arrived, ClockState, DeviceId, EventTime, Input, Metric, Micros, PatientId, Reading, ReadingId};
use serde_json::Value;

use crate::driven::{done, install};
use crate::refusals::refused;

/// An installation whose lake holds 48 readings of two patients: one each, every half hour of a day.
pub fn installed(folder: &Path) -> String {
    let config = install(folder, &[]);
    for patient in ["ada", "bob"] {
        done(&["patient", "add", patient, "--name", &format!("NAME-{patient}"), "--born", "1931-03-04", "--config", &config]);
    }
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::open(folder.join("data/lake")).unwrap());
    let start = EventTime::parse("2026-01-20T00:00:00Z").unwrap();
    let readings = (0..48).map(|n| {
        let (patient, at) = (if n % 2 == 0 { "ada" } else { "bob" }, start + Micros::minutes(30 * n));
        let device = DeviceId::parse(&format!("{patient}-ox")).unwrap();
        let reading = Reading {
            id: ReadingId::new(&device, Metric::Spo2, at, None),
            patient: PatientId::parse(patient).unwrap(),
            device,
            metric: Metric::Spo2,
            value: 90.0 + (n % 8) as f64,
            at,
            stamped_at: at,
            received_at: at,
            clock: ClockState::AsSent,
            boot: None,
            seq: None,
            typed: false,
            test: false,
            value_as_sent: 90.0,
            unit_as_sent: "%".to_owned(),
            author: String::new(),
            format: None,
        };
        (Arrived(at.0), reading.patient.clone(), Input::Reading(reading))
    });
    write_inputs(&objects, 4, readings).unwrap();
    config
}

#[test]
fn a_lake_is_made_asked_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("vigil");
    let config = installed(&folder);
    refused(&["sql", "SELECT 1", "--config", &config], 1, &["no curated layer yet", "vigil lake compact"]);
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&done(&[arguments, &["--config", &config]].concat())).unwrap() };
    assert_eq!(json(&["lake", "compact"])["readings"], 48);
    let again = json(&["lake", "compact"]);
    assert_eq!((&again["version"], &again["unchanged"]), (&1.into(), &true.into()));
    assert_eq!(json(&["lake", "verify"])["findings"], serde_json::json!([]));
    assert_eq!(json(&["sql", "SELECT count(*) AS n, avg(value) AS mean FROM readings WHERE patient = 'ada'"]), serde_json::json!({"n": 24, "mean": 93.0}));
    let out = folder.join("day.csv");
    done(&["sql", "SELECT patient, at, value FROM readings ORDER BY at LIMIT 2", "--output", out.to_str().unwrap(), "--config", &config]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "patient,at,value\nada,2026-01-20T00:00:00Z,90.0\nbob,2026-01-20T00:30:00Z,91.0\n");

    let sql = |query: &str, code: i32, says: &[&str]| refused(&["sql", query, "--config", &config], code, says);
    sql("DELETE FROM readings", 1, &["read-only"]);
    sql("SELECT 1 FROM reading", 1, &["'reading' not found", "readings, voided"]);
    refused(&["sql", "SELECT 1", "--output", "x.xlsx", "--config", &config], 2, &["x.xlsx", ".parquet, .csv or .ndjson"]);
    refused(&["sql", "SELECT 1", "--as-of", "7", "--config", &config], 1, &["no version 7", "vigil lake versions"]);
    refused(&["sql", "SELECT 1", "--as-of", "noon", "--config", &config], 2, &["--as-of noon"]);
    refused(&["lake", "files", "reading", "--config", &config], 2, &["`reading`", "readings"]);

    let other = install(&folder.join("other"), &[]);
    crate::driven::edit(Path::new(&other), &[("path = \"data/lake\"", &format!("path = \"{}\"", folder.join("data/lake").display()))]);
    refused(&["lake", "tables", "--config", &other], 3, &["belongs to installation", "lake.path"]);
    refused(&["lake", "compact", "--config", &other], 3, &["belongs to installation"]);

    let file = done(&["lake", "files", "readings", "--config", &config]);
    let file = std::fs::File::options().write(true).open(file.trim()).unwrap();
    file.set_len(file.metadata().unwrap().len() - 10).unwrap();
    refused(&["lake", "verify", "--config", &config], 6, &["the lake is not what it says"]);
    sql("SELECT count(DISTINCT value) FROM readings", 1, &["cannot be read", "vigil lake verify"]);
    assert_eq!(json(&["lake", "compact", "--anew"])["readings"], 48);
}
