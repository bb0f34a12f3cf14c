//! What people see enters at the console, is scored, and is taken back.

use serde_json::Value;

use crate::driven::{ONE, Serving, done, install, vigil};

#[test]
fn what_a_nurse_is_told_by_telephone_is_scored_and_can_be_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = install(&folder.path().join("vigil"), &[]);
    done(&["patient", "add", "p1", "--name", "N", "--born", "1950-01-01", "--config", &config]);
    done(&["user", "add", "silva", "--role", "clinician", "--config", &config]);
    let token: Value = serde_json::from_str(&done(&["user", "token", "silva", "--label", "observe", "--scope", "write", "--config", &config])).unwrap();
    let serving = Serving::start(&config, ONE);
    let ask = |arguments: &[&str]| {
        let mut command = vigil(&[&["patient"], arguments, &["--url", &serving.dashboard]].concat());
        command.env("VIGIL_TOKEN", token["token"].as_str().unwrap()).output().unwrap()
    };
    let told = |arguments: &[&str]| -> Value {
        let output = ask(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let refused = |arguments: &[&str], code: i32, says: &str| {
        let output = ask(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && said.contains(says), "{says}: {said}");
    };
    let confused = told(&["observe", "p1", "--metric", "consciousness", "--value", "C", "--key", "call-1"]);
    assert_eq!((&confused["text"], &confused["author"]), (&"C".into(), &"silva".into()));
    let pressure = told(&["observe", "p1", "--metric", "systolic_pressure", "--value", "12", "--unit", "kPa"]);
    assert_eq!(pressure["text"], "90");
    told(&["observe", "p1", "--metric", "oxygen_flow", "--value", "air"]);
    let score = told(&["news2", "p1"]);
    assert_eq!(score["summary"], "NEWS2 at least 6: systolic BP 3, consciousness 3; RR, SpO₂, pulse, temperature not known");
    let table = ask(&["news2", "p1", "--format", "table"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("consciousness") && table.contains("typed") && table.contains("risk medium, scale 1"), "{table}");

    refused(&["observe", "p1", "--metric", "spo", "--value", "97"], 2, "did you mean spo2?");
    refused(&["observe", "p1", "--metric", "spo2", "--value", "0.97"], 1, "expected % between 0 and 100");
    refused(&["observe", "p1", "--metric", "spo2", "--value", "97", "--at", "2099-01-01T00:00:00Z"], 1, "is in the future");
    refused(&["observe", "p1", "--metric", "spo2", "--value", "97", "--at", "noon"], 2, "--at");
    refused(&["void", "p1", pressure["id"].as_str().unwrap(), "--reason", " "], 2, "--reason");

    let voided = told(&["void", "p1", pressure["id"].as_str().unwrap(), "--reason", "another patient's cuff"]);
    assert_eq!(voided["reason"], "another patient's cuff");
    assert_eq!(told(&["news2", "p1"])["lower_bound"], 3);
    refused(&["void", "p1", pressure["id"].as_str().unwrap(), "--reason", "again"], 1, "voided already");
    serving.stop();
}

/// `typed` stands for people; a device of that name would own what they typed.
#[test]
fn no_device_is_called_typed() {
    let folder = tempfile::tempdir().unwrap();
    let config = install(&folder.path().join("vigil"), &[]);
    let refused = vigil(&["device", "add", "typed", "--config", &config]).output().unwrap();
    assert!(refused.status.code() == Some(1) && String::from_utf8_lossy(&refused.stderr).contains("stands for what people type"), "{refused:?}");
}
