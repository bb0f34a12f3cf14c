//! Rules from the file into force: tried by cases, compared, loaded on grounds, and by two where that is asked for.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::driven::{self, ONE, PATIENCE, Serving, done, edit, install, vigil};
use crate::test_mode::Device;

const RULES: &str = r#"
[[rule]]
id = "low"
priority = "high"
when = "last(spo2, '5 min') < 90"

[[case]]
name = "falls and recovers"
steps = [
  { at = "08:00", spo2 = 95 },
  { at = "08:05", spo2 = 85, expect = "raised low" },
  { at = "08:06", spo2 = 93, expect = "cleared low" },
]
"#;

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Exit code and what was said on standard error; a token of the environment is the caller's.
fn refused(arguments: &[&str], token: Option<&str>) -> (Option<i32>, String) {
    let mut command = vigil(arguments);
    command.env_remove("VIGIL_TOKEN");
    command.envs(token.map(|token| ("VIGIL_TOKEN", token)));
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}

#[test]
fn cases_are_played_and_a_failure_shows_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(folder.path(), "good.toml", RULES);
    assert_eq!(json(&done(&["rule", "test", &good]))["passed"], true);
    let bad = write(folder.path(), "bad.toml", &RULES.replace("< 90", "< 80"));
    let output = vigil(&["--format", "table", "rule", "test", &good, &bad]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("- expected raised low") && shown.contains("last(spo2, '5 min') = 85: when FALSE"), "{shown}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 of 2 cases"));
    let none = write(folder.path(), "none.toml", RULES.split("[[case]]").next().unwrap());
    assert!(refused(&["rule", "test", &none], None).1.contains("has no [[case]]"));
}

#[test]
fn rules_go_live_on_grounds() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    done(&["init", site.to_str().unwrap()]);
    let config = site.join("vigil.toml").to_str().unwrap().to_owned();
    let rules = write(folder.path(), "rules.toml", RULES);

    let differs = done(&["--format", "table", "rule", "diff", &rules, "--config", &config]);
    assert!(differs.contains("+ low  new, live") && differs.contains("- spo2-low  gone, was live"), "{differs}");
    let (code, said) = refused(&["rule", "load", &rules, "--config", &config], None);
    assert!(code == Some(2) && said.contains("low would page people") && said.contains("--backtest"), "{said}");
    assert!(refused(&["rule", "load", &rules, "--reason", "so", "--config", &config], None).1.contains("--reason"));
    assert!(refused(&["rule", "load", &rules, "--backtest", "none", "--config", &config], None).1.contains("no back-test none is recorded"));
    let shadow = write(folder.path(), "shadow.toml", &RULES.replace("priority = \"high\"", "priority = \"high\"\nstate = \"shadow\""));
    assert_eq!(json(&done(&["rule", "load", &shadow, "--config", &config]))["version"], 2, "on trial it needs no grounds");
    let loaded = done(&["rule", "load", &rules, "--reason", "agreed at the ward round", "--config", &config]);
    assert_eq!(json(&loaded)["version"], 3);
    let changes = done(&["rule", "changes", "--config", &config]);
    let newest: Value = json(&changes);
    assert_eq!((&newest["version"], &newest["reason"]), (&3.into(), &"agreed at the ward round".into()), "{changes}");
}

#[tokio::test]
async fn a_back_test_of_these_very_rules_is_grounds() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    done(&["init", site.to_str().unwrap()]);
    let config = site.join("vigil.toml").to_str().unwrap().to_owned();
    let rules = write(folder.path(), "rules.toml", RULES);
    let url = format!("sqlite:{}", site.join("data/vigil.db").display());
    let store = store::Store::open(&url).await.unwrap();
    let backtest = |id: &str, toml: &str| store::backtests::Backtest {
        id: id.to_owned(),
        created_at: driven::now(),
        person: "silva".to_owned(),
        rules_hash: Sha256::digest(toml.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect(),
        data_hash: String::new(),
        engine_version: String::new(),
        from: None,
        to: None,
        summary: "{}".to_owned(),
    };
    store.put_backtest(&backtest("these", RULES)).await.unwrap();
    store.put_backtest(&backtest("others", &RULES.replace("< 90", "< 88"))).await.unwrap();
    store.close().await;

    let load = |id: &'static str| ["rule", "load", &rules, "--backtest", id, "--config", &config].map(str::to_owned);
    let others = load("others");
    let (code, said) = refused(&others.each_ref().map(String::as_str), None);
    assert!(code == Some(2) && said.contains("back-test others was of other rules"), "{said}");
    let these = load("these");
    assert_eq!(json(&done(&these.each_ref().map(String::as_str)))["version"], 2);
    assert_eq!(json(&done(&["rule", "changes", "--config", &config]))["backtest"], "these");
}

#[test]
fn a_second_person_puts_rules_into_force() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    done(&["init", site.to_str().unwrap()]);
    let path = site.join("vigil.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("second_person = false"));
    std::fs::write(&path, text.replace("second_person = false", "second_person = true ")).unwrap();
    let config = path.to_str().unwrap().to_owned();
    let rules = write(folder.path(), "rules.toml", RULES);
    let token = |name: &str, role: &str| {
        done(&["user", "add", name, "--role", role, "--config", &config]);
        let made = done(&["user", "token", name, "--label", "rules", "--scope", "admin", "--config", &config]);
        json(&made)["token"].as_str().unwrap().to_owned()
    };
    let (silva, kaya, ito) = (token("silva", "admin"), token("kaya", "admin"), token("ito", "clinician"));
    let load = ["rule", "load", &rules, "--reason", "agreed at the ward round", "--config", &config];

    assert!(refused(&load, None).1.contains("rules.second_person is set"), "the console is nobody");
    assert!(refused(&load, Some(&ito)).1.contains("ito may not change rules"));
    let proposed = json(&done(&[&load[..], &["--token", &silva]].concat()));
    assert_eq!(proposed["version"], Value::Null);
    let change = proposed["change"].as_str().unwrap();
    let approve = ["rule", "approve", change, "--config", &config];
    assert!(refused(&approve, Some(&silva)).1.contains("a second person"));
    assert_eq!(json(&done(&[&approve[..], &["--token", &kaya]].concat()))["version"], 2);
    assert!(done(&["rule", "show", "--config", &config]).contains("# version 2, by silva, approved by kaya"));
    assert!(refused(&approve, Some(&kaya)).1.contains("decided already"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_on_trial_is_counted_beside_the_live_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = install(&folder.path().join("site"), &["--partitions", "2"]);
    edit(Path::new(&config), &[("roll_after = \"5 min\"", "roll_after = \"1 s\"")]);
    let tried = "[[rule]]\nid = \"lower\"\npriority = \"high\"\nstate = \"shadow\"\nwhen = \"last(spo2, '5 min') < 85\"\n";
    let rules = write(folder.path(), "rules.toml", &format!("{}{tried}", RULES.split("[[case]]").next().unwrap()));
    done(&["rule", "load", &rules, "--reason", "agreed at the ward round", "--config", &config]);
    let device = |device: &str, patient: &str| {
        done(&["patient", "add", patient, "--name", "N", "--born", "1950-01-01", "--config", &config]);
        json(&done(&["device", "add", device, "--patient", patient, "--config", &config]))
    };
    let (one, two) = (device("one", "p1"), device("two", "p2"));
    let serving = Serving::start(&config, ONE);
    let (mut one, mut two) = (Device::connect("one", &one, &serving.mqtt), Device::connect("two", &two, &serving.mqtt));
    one.publish(&[82.0]).await;
    two.publish(&[88.0]).await;

    let began = Instant::now();
    let all = loop {
        let report = done(&["rule", "shadow-report", "--config", &config]);
        let all: Value = serde_json::from_str(report.lines().last().unwrap()).unwrap();
        if all["live"] == 2 && all["shadow"] == 1 {
            break all;
        }
        assert!(began.elapsed() < PATIENCE, "{report}");
    };
    let expected = serde_json::json!({
        "day": "all", "rule": "lower", "against": "low", "shadow": 1, "live": 2, "both": 1, "only_shadow": 0, "only_live": 1, "patients": 1, "earlier_s": 0,
    });
    assert_eq!(all, expected);
    assert!(refused(&["rule", "shadow-report", "none", "--config", &config], None).1.contains("the rules in force have no `none`"));
    serving.stop();
}
