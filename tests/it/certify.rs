//! `vigil certify` with real devices: one that does everything right, and others that each do one thing wrong.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rumqttc::QoS;
use schemas::Micros;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::driven::{Process, done, edit, field, install, vigil};
use crate::vendor::{self, Account, Again, Habits, VALUE};

/// The gateway is away for long enough that a device that forgets it is found out, and no longer.
const PACE: [&str; 6] = ["--outage", "2 s", "--patience", "15 s", "--within", "2 min"];

fn installation(folder: &Path) -> String {
    let config = install(&folder.join("vigil"), &[]);
    edit(Path::new(&config), &[("listen_tls = \"\" ", "listen_tls = \"127.0.0.1:0\" ")]);
    config
}

/// A device that is registered; answers its password.
fn register(config: &str, id: &str) -> String {
    let added: Value = serde_json::from_str(&done(&["device", "add", id, "--test", "--config", config])).unwrap();
    added["password"].as_str().unwrap().to_owned()
}

/// A run of the first of these devices, with the others beside it; its report, its Markdown, and whether the command succeeded.
async fn certified(config: String, devices: Vec<(&'static str, Habits)>) -> (Value, String, bool) {
    let passwords: Vec<String> = devices.iter().map(|(id, _)| register(&config, id)).collect();
    let folder = Path::new(&config).parent().unwrap().to_owned();
    let out = folder.join("reports");
    let mut process = Process::start(&[&["certify", devices[0].0, "--config", &config, "--out", out.to_str().unwrap()][..], &PACE].concat());
    let listening = process.line("mqtt_tls=");
    let ca = std::fs::read(folder.join("keys/gateway.pem")).unwrap();
    let mut living = JoinSet::new();
    for ((id, habits), password) in devices.into_iter().zip(&passwords) {
        let (plain, tls) = (field(&listening, "mqtt"), field(&listening, "mqtt_tls").trim_end_matches(',').to_owned());
        living.spawn(vendor::live(habits, Account { id: id.to_owned(), password: password.clone(), plain, tls, ca: ca.clone() }));
    }
    let ended = tokio::task::spawn_blocking(move || (process.line("{\"began_at\""), process.end().success()));
    let (line, success) = tokio::select! {
        ended = ended => ended.unwrap(),
        Some(ended) = living.join_next() => panic!("a device ended before its run: {ended:?}"),
    };
    let report: Value = serde_json::from_str(&line).unwrap();
    let [markdown, json] = [0, 1].map(|n| std::fs::read_to_string(report["files"][n].as_str().unwrap()).unwrap());
    let mut written: Value = serde_json::from_str(&json).unwrap();
    written["files"] = report["files"].clone();
    assert_eq!(written, report, "one structure");
    for text in [&markdown, &json] {
        assert!(!text.contains(&VALUE.to_string()), "a value stands in it: {text}");
        assert!(passwords.iter().all(|password| !text.contains(password)), "a secret stands in it: {text}");
    }
    (report, markdown, success)
}

fn with(report: &Value, verdict: &str) -> BTreeSet<String> {
    let required = report["items"].as_array().unwrap().iter().filter(|item| item["required"] == true && item["verdict"] == verdict);
    required.map(|item| item["item"].as_str().unwrap().to_owned()).collect()
}

fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_does_everything_right_passes() {
    let folder = tempfile::tempdir().unwrap();
    let config = installation(folder.path());
    // it comes once, and nobody but the device that is certified gets in
    let neighbour = Habits { pause: Duration::from_secs(600), ..Habits::default() };
    let (report, markdown, success) = certified(config, vec![("good", Habits::default()), ("neighbour", neighbour)]).await;
    assert!(success && report["passed"] == true, "{report:#}");
    assert_eq!((&report["schema"], &report["ended"]), (&1.into(), &"complete".into()));
    assert!(report["counts"]["unacknowledged"].as_u64().unwrap() >= 1, "a PUBACK was withheld: {report:#}");
    assert!(report["counts"]["connections"].as_u64().unwrap() >= 3, "it came back twice: {report:#}");
    assert_eq!((&report["counts"]["refused_connections"], &report["counts"]["refused"]), (&1.into(), &0.into()), "{report:#}");
    assert!(markdown.starts_with("# good: passed\n") && markdown.contains("| connects over TLS 1.3 | pass |"), "{markdown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_does_one_thing_wrong_fails_in_that() {
    let folder = tempfile::tempdir().unwrap();
    let config = installation(folder.path());
    let good = Habits::default;
    let hour = Micros::hours(1);
    // what it does, what fails, what cannot be seen then, and what the report says of it
    let table: [(&'static str, Habits, &'static str, &'static [&'static str], &'static str); 10] = [
        ("qos-0", Habits { qos: QoS::AtMostOnce, ..good() }, "qos", &["resend", "receive_maximum"], "lost"),
        ("plain", Habits { tls: false, ..good() }, "tls", &[], "plain TCP"),
        ("forgetful", Habits { again: Again::Never, ..good() }, "resend", &[], "did not come again"),
        ("inventive", Habits { again: Again::OtherValues, ..good() }, "resend", &[], "another value under the same time"),
        ("imperial", Habits { unit: "mm[Hg]", ..good() }, "decodes", &[], "unit_mismatch: "),
        ("slow", Habits { ahead: Micros::ZERO - hour, ..good() }, "clock", &[], "1 h behind"),
        ("fast", Habits { ahead: hour, ..good() }, "clock", &[], "time zone"),
        ("undated", Habits { says_when_sent: false, ..good() }, "sent_at", &[], "have none"),
        ("careless", Habits { keeps_backlog: false, ..good() }, "backlog", &[], "the backlog is not whole"),
        ("eager", Habits { pause: Duration::from_millis(100), ..good() }, "reconnect", &[], "are called for"),
    ];
    let mut runs = JoinSet::new();
    for (id, habits, fails, unseen, says) in table {
        let config = config.clone();
        runs.spawn(async move { (id, fails, unseen, says, certified(config, vec![(id, habits)]).await) });
    }
    while let Some(run) = runs.join_next().await {
        let (id, fails, unseen, says, (report, markdown, success)) = run.unwrap();
        assert!(!success && report["passed"] == false, "{id}: {report:#}");
        assert_eq!((with(&report, "fail"), with(&report, "not_seen")), (set(&[fails]), set(unseen)), "{id}: {markdown}");
        assert!(markdown.contains(says), "{id}: `{says}` is not in:\n{markdown}");
    }
}

/// What is known by then is written, whoever ends it.
#[test]
fn a_run_that_is_interrupted_writes_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let config = installation(folder.path());
    done(&["device", "add", "ox", "--config", &config]);
    let out = folder.path().join("reports");
    let mut process = Process::start(&["certify", "ox", "--config", &config, "--out", out.to_str().unwrap()]);
    process.line("waiting for the device to connect");
    process.signal("INT");
    let report: Value = serde_json::from_str(&process.line("{\"began_at\"")).unwrap();
    assert_eq!(process.end().code(), Some(1));
    assert_eq!((&report["ended"], &report["passed"]), (&"interrupted".into(), &false.into()));
    assert!(with(&report, "fail").is_empty() && with(&report, "not_seen").len() == 14, "{report:#}");
    assert!(std::fs::read_to_string(report["files"][0].as_str().unwrap()).unwrap().starts_with("# ox: not passed: 14 not seen\n"));
}

#[test]
fn what_cannot_be_certified_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let config = install(&folder.path().join("vigil"), &[]);
    done(&["device", "add", "hub", "--config", &config]);
    done(&["device", "add", "cuff", "--hub", "hub", "--config", &config]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (arguments, code, says) in [
        (&["certify", "hub"][..], 2, "--listen-tls"),
        (&["certify", "cuff", "--listen-tls", "127.0.0.1:0"], 2, "`vigil certify hub`"),
        (&["certify", "nobody", "--listen-tls", "127.0.0.1:0"], 1, "nobody"),
        (&["certify", "hub", "--listen-tls", &address], 1, "is `vigil serve` running? --listen and --listen-tls"),
        (&["certify", "hub", "--within", "soon"], 2, "is not a duration"),
    ] {
        let output = vigil(&[arguments, &["--config", &config]].concat()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains(says), "{arguments:?}: {said}");
    }
}
