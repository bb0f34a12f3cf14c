//! The lake at the console: made, asked, checked; and what is said when that cannot be.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use processor::backtest::write_inputs;
use processor::objects::{LocalObjects, Objects};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use schemas::{Arrived, ClockState, DeviceId, EventTime, Input, Metric, Micros, PatientId, Reading, ReadingId};
use serde_json::Value;

use crate::driven::{Process, done, edit, install, vigil};
use crate::kill::{lasts, number, record};
use crate::mimic::hold_the_lake;
use crate::refusals::refused;
use crate::run::{Plan, play};

/// An installation whose lake holds 48 readings of two patients: one each, every half hour of a day.
pub fn installed(folder: &Path) -> String {
    let config = install(folder, &[]);
    for patient in ["olu", "bob"] {
        done(&["patient", "add", patient, "--name", &format!("NAME-{patient}"), "--born", "1931-03-04", "--config", &config]);
    }
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::open(folder.join("data/lake")).unwrap());
    let start = EventTime::parse("2026-01-20T00:00:00Z").unwrap();
    let readings = (0..48).map(|n| {
        let (patient, at) = (if n % 2 == 0 { "olu" } else { "bob" }, start + Micros::minutes(30 * n));
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
    assert_eq!(json(&["sql", "SELECT count(*) AS n, avg(value) AS mean FROM readings WHERE patient = 'olu'"]), serde_json::json!({"n": 24, "mean": 93.0}));
    let out = folder.join("day.csv");
    done(&["sql", "SELECT patient, at, value FROM readings ORDER BY at LIMIT 2", "--output", out.to_str().unwrap(), "--config", &config]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "patient,at,value\nolu,2026-01-20T00:00:00Z,90.0\nbob,2026-01-20T00:30:00Z,91.0\n");

    let sql = |query: &str, code: i32, says: &[&str]| refused(&["sql", query, "--config", &config], code, says);
    sql("DELETE FROM readings", 1, &["read-only"]);
    sql("SELECT 1 FROM reading", 1, &["'reading' not found", "readings, voided"]);
    refused(&["sql", "SELECT 1", "--output", "x.xlsx", "--config", &config], 2, &["x.xlsx", ".parquet, .csv or .ndjson"]);
    refused(&["sql", "SELECT 1", "--as-of", "7", "--config", &config], 1, &["no version 7", "vigil lake versions"]);
    refused(&["sql", "SELECT 1", "--as-of", "noon", "--config", &config], 2, &["--as-of noon"]);
    refused(&["lake", "files", "reading", "--config", &config], 2, &["`reading`", "readings"]);

    // a patient is forgotten, also where only the store knew of them
    done(&["patient", "add", "zoe", "--name", "NAME-zoe", "--born", "1931-03-04", "--config", &config]);
    assert_eq!(json(&["lake", "compact"])["version"], 2);
    let patients = |config: &str| done(&["sql", "SELECT patient FROM patients ORDER BY 1", "--config", config]);
    assert_eq!(patients(&config), "{\"patient\":\"bob\"}\n{\"patient\":\"olu\"}\n{\"patient\":\"zoe\"}\n");
    refused(&["lake", "erase", "zoe", "--reason", " ", "--config", &config], 2, &["--reason says nothing"]);
    let counted = json(&["lake", "erase", "zoe", "--reason", "asked to be", "--dry-run"]);
    assert_eq!((&counted["rows"], &counted["dry_run"]), (&serde_json::json!({"patients": 1}), &true.into()));
    assert_eq!(json(&["lake", "erase", "zoe", "--reason", "asked to be"])["versions"], serde_json::json!([1, 2]));
    assert_eq!(json(&["lake", "compact"])["unchanged"], true, "the store knows her, and the lake does not have her again");
    assert_eq!(patients(&config), "{\"patient\":\"bob\"}\n{\"patient\":\"olu\"}\n");
    assert_eq!(json(&["lake", "verify"])["findings"], serde_json::json!([]));
    // who wears a device is not forgotten before it is taken off
    done(&["device", "add", "olu-ox", "--patient", "olu", "--config", &config]);
    refused(&["lake", "erase", "olu", "--reason", "asked to be", "--config", &config], 2, &["olu wears olu-ox", "vigil device assign"]);

    let other = install(&folder.join("other"), &[]);
    edit(Path::new(&other), &[("path = \"data/lake\"", &format!("path = \"{}\"", folder.join("data/lake").display()))]);
    refused(&["lake", "tables", "--config", &other], 3, &["belongs to installation", "lake.path"]);
    refused(&["lake", "compact", "--config", &other], 3, &["belongs to installation"]);

    let file = done(&["lake", "files", "readings", "--config", &config]);
    let file = std::fs::File::options().write(true).open(file.trim()).unwrap();
    file.set_len(file.metadata().unwrap().len() - 10).unwrap();
    refused(&["lake", "verify", "--config", &config], 6, &["the lake is not what it says"]);
    sql("SELECT count(DISTINCT value) FROM readings", 1, &["cannot be read", "vigil lake verify"]);
    assert_eq!(json(&["lake", "compact", "--anew"])["readings"], 48);
}

/// Somebody else gets a folder without identities; who made it stands in the audit log; and what is not allowed is refused before anything is written.
#[test]
fn an_export_has_papers_and_no_names() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("vigil");
    let config = installed(&folder);
    done(&["lake", "compact", "--config", &config]);
    let out = folder.join("out");
    let by = ["--project", "sepsis", "--purpose", "a study", "--requester", "Silva"];
    let export = |more: &[&'static str]| {
        [&["export", out.to_str().unwrap()], &by[..], &["--config", &config], more].concat().into_iter().map(ToOwned::to_owned).collect::<Vec<String>>()
    };
    let run = |more: &[&'static str]| -> Value { serde_json::from_str(&done(&export(more).iter().map(String::as_str).collect::<Vec<_>>())).unwrap() };
    let no = |more: &[&'static str], code: i32, says: &[&str]| refused(&export(more).iter().map(String::as_str).collect::<Vec<_>>(), code, says);
    no(&["--approver", "Silva"], 2, &["--approver Silva", "somebody else"]);
    no(&["--approver", " "], 2, &["--approver says nothing"]);
    no(&["--approver", "Novak", "--profile", "hipaa"], 2, &["--profile hipaa", "safe-harbor"]);
    no(&["--approver", "Novak", "--tables", "rules"], 2, &["--tables rules", "names no patient"]);
    no(&["--approver", "Novak", "--metrics", "spo"], 2, &["--metrics spo", "spo2"]);
    no(&["--approver", "Novak", "--gaps", "carry", "--every", "1 h"], 2, &["--carry-for"]);
    no(&["--approver", "Novak", "--every", "1 hour"], 2, &["--every", "5 min"]);
    no(&["--approver", "Novak", "--ward", "attic"], 1, &["ward attic"]);
    no(&["--approver", "Novak", "--patients", "/nowhere"], 1, &["/nowhere"]);
    no(&["--approver", "Novak", "--from", "2026-02-01T00:00:00Z", "--until", "2026-01-01T00:00:00Z"], 2, &["--from is not before --until"]);
    refused(&["export", "x", "--project", "../x", "--purpose", "p", "--requester", "a", "--approver", "b", "--config", &config], 2, &["--project ../x", "a–z"]);
    assert!(!out.exists());
    assert_eq!(run(&["--approver", "Novak", "--estimate"])["rows"], 50);
    assert!(!out.exists(), "an estimate writes nothing");
    let made = run(&["--approver", "Novak", "--as", "csv"]);
    assert_eq!((&made["patients"], &made["rows"]), (&2.into(), &50.into()));
    let text = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let (readings, manifest): (_, Value) = (text("readings.csv"), serde_json::from_str(&text("manifest.json")).unwrap());
    // a pseudonym has neither o nor l nor u, so that none of them looks like the name
    assert!(!readings.contains("olu") && !readings.contains("2026-"), "{readings}");
    assert_eq!(manifest["content"], made["content"]);
    assert_eq!((&manifest["approver"], &manifest["profile"]), (&"Novak".into(), &"safe-harbor".into()));
    assert!(text("README.md").contains("Safe Harbor") && text("dictionary.md").contains("59408-5"));
    no(&["--approver", "Novak"], 2, &["is there already"]);
    let disguised = done(&["sql", "SELECT min(patient) AS who FROM readings", "--profile", "safe-harbor", "--project", "sepsis", "--config", &config]);
    assert!(readings.contains(serde_json::from_str::<Value>(&disguised).unwrap()["who"].as_str().unwrap()), "the same pseudonyms in SQL");
    refused(&["sql", "SELECT 1", "--profile", "safe-harbor", "--config", &config], 2, &["--project"]);
}

/// SIGKILL to the process that archives, and to compactions on their way; the lake is whole after each, and in the end has every reading once. `dev/lake-kills` is the long one.
#[tokio::test(flavor = "multi_thread")]
async fn a_lake_is_whole_however_often_its_makers_are_killed() {
    let seed = number("VIGIL_SEED", rand::random::<u32>().into());
    let (readings, kills, seconds) = (number("VIGIL_READINGS", 2_000) as usize, number("VIGIL_KILLS", 4) as usize, number("VIGIL_SECONDS", 8) as f64);
    eprintln!("VIGIL_SEED={seed} VIGIL_READINGS={readings} VIGIL_KILLS={kills} VIGIL_SECONDS={seconds}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("recording.csv");
    record(&recording, readings, &mut random);
    let site = folder.path().join("site");
    let config = site.join("vigil.toml");
    let (mut killed, mut whole, mut halfway) = (0, 0, 0);
    let run = play(&site, &Plan { recording: &recording, speed: lasts(readings) / seconds, kafka: None, pager: None }, |serving| {
        if killed == 0 {
            edit(&config, &[("roll_after = \"5 min\"", "roll_after = \"1 s\"")]);
        }
        std::thread::sleep(Duration::from_secs_f64(random.random_range(0.1..1.0) * seconds / (kills / 2 + 1) as f64));
        serving.kill_and_start(0);
        let mut compaction = Process::start(&["lake", "compact", "--config", config.to_str().unwrap()]);
        std::thread::sleep(Duration::from_millis(random.random_range(5..400)));
        halfway += usize::from(compaction.status().is_none());
        compaction.kill();
        let verified = vigil(&["lake", "verify", "--config", config.to_str().unwrap()]).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        let nothing_yet = ["no curated layer yet", "the lake holds nothing"].iter().any(|words| said.contains(words));
        assert!(verified.status.success() || nothing_yet, "after {killed} kills: {said}{}", String::from_utf8_lossy(&verified.stdout));
        whole += usize::from(verified.status.success());
        killed += 2;
        killed < kills
    })
    .await;
    hold_the_lake(&site, &run);
    eprintln!("{killed} times SIGKILL, {halfway} compactions of them half way; {whole} versions whole, 0 missing, 0 twice");
}
