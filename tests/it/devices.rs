//! A device's life at the console: it is assigned, watched and exchanged.

use std::time::Instant;

use serde_json::Value;

use crate::driven::{ONE, PATIENCE, Serving, done, install, vigil};

fn one(arguments: &[&str]) -> Value {
    serde_json::from_str(&done(arguments)).unwrap()
}

#[test]
fn whoever_connects_a_device_sees_what_becomes_of_its_messages() {
    let folder = tempfile::tempdir().unwrap();
    let config = install(&folder.path().join("vigil"), &[]);
    done(&["patient", "add", "p1", "--name", "N", "--born", "1950-01-01", "--config", &config]);
    let old = one(&["device", "add", "old", "--patient", "p1", "--config", &config]);
    let new = one(&["device", "add", "new", "--config", &config]);
    let swapped = one(&["device", "swap", "old", "new", "--config", &config]);
    assert_eq!((&swapped["device"], &swapped["patient"]), (&"new".into(), &"p1".into()));
    let again = vigil(&["device", "swap", "old", "new", "--config", &config]).output().unwrap();
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(again.status.code() == Some(1) && said.contains("nobody's now") && said.contains("vigil device assign new"), "{said}");

    let serving = Serving::start(&config, ONE);
    let devices = folder.path().join("devices");
    std::fs::write(&devices, format!("{old}\n{new}\n")).unwrap();
    done(&["simulate", "--to", &serving.mqtt, "--devices", devices.to_str().unwrap(), "--speed", "20", "--seconds", "2"]);
    let token = one(&["user", "token", "admin", "--label", "watch", "--config", &config]);
    let watch = |device: &str| {
        let mut command = vigil(&["device", "watch", device, "--once", "--url", &serving.dashboard]);
        let output = command.env("VIGIL_TOKEN", token["token"].as_str().unwrap()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let begun = Instant::now();
    let (mut refused, mut accepted) = (String::new(), String::new());
    while refused.is_empty() || accepted.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "nothing was heard of them");
        (refused, accepted) = (watch("old"), watch("new"));
    }
    for line in refused.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        assert_eq!((&line["verdict"], &line["reason"]), (&"refused".into(), &"unassigned".into()));
    }
    for line in accepted.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        assert_eq!((&line["verdict"], &line["clock"]), (&"accepted".into(), &"as_sent".into()));
        assert!(line.get("value").is_none(), "no value is shown");
    }
    let nobody = vigil(&["device", "watch", "new", "--once", "--url", &serving.dashboard]).env_remove("VIGIL_TOKEN").output().unwrap();
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("vigil user token"));
    serving.stop();
}
