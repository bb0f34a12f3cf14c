//! What cannot be done is said in one line that names the thing and the remedy, with the exit code of its kind.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::driven::{ONE, Process, Serving, done, edit, field, install, vigil};

#[track_caller]
pub fn refused(arguments: &[&str], code: i32, says: &[&str]) {
    let output = vigil(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "vigil {}: {said}", arguments.join(" "));
    for words in says {
        assert!(said.contains(words), "vigil {}: `{words}` is not in: {said}", arguments.join(" "));
    }
}

/// A port that nobody listens on.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn usage_is_2() {
    refused(&["dance"], 2, &["unrecognized subcommand"]);
    refused(&["demo", "--patients", "0"], 2, &["--patients 0", "between 1 and 10000"]);
    refused(&["demo", "--speed", "-1"], 2, &[]);
    refused(&["init", "/nowhere", "--timezone", "Mars/Olympus"], 2, &["--timezone Mars/Olympus", "Europe/Berlin"]);
    refused(&["decode", "x", "--as", "morse"], 2, &["--as morse", "senml"]);
    let folder = tempfile::tempdir().unwrap();
    let config = install(&folder.path().join("vigil"), &[]);
    refused(&["patient", "add", "p 1", "--name", "N", "--born", "1950-01-01", "--config", &config], 2, &["an id may hold"]);
    refused(&["patient", "add", "p1", "--name", "N", "--born", "yesterday", "--config", &config], 2, &["--born", "1945-07-14"]);
    refused(&["device", "add", "a/b", "--config", &config], 2, &["an id may hold"]);
}

#[test]
fn a_bad_configuration_is_3() {
    let folder = tempfile::tempdir().unwrap();
    refused(&["serve", "--config", "/nowhere/vigil.toml"], 3, &["/nowhere/vigil.toml", "vigil init"]);
    refused(&["serve", "--config", concat!(env!("CARGO_MANIFEST_DIR"), "/vigil.toml")], 3, &["installation", "vigil init"]);
    let config = install(&folder.path().join("vigil"), &[]);
    for role in ["ingest", "processor", "alerts", "dashboard-api"] {
        refused(&[role, "--config", &config], 3, &["journal.kind", "vigil serve"]);
    }
    edit(config.as_ref(), &[("partitions = 4", "partitions = 8")]);
    refused(&["serve", "--config", &config], 3, &["partitions", "4"]);
    edit(config.as_ref(), &[("partitions = 8", "partitions = 4"), ("filter = \"info\"", "filter = \"a=b=c\"")]);
    refused(&["config", "check", "--config", &config], 3, &["log.filter"]);
    let rules = folder.path().join("rules.toml");
    std::fs::write(&rules, "[[rule]]\nid = \"a\"\npriority = \"high\"\nwhen = \"last(spo, '5 min') < 1\"\n").unwrap();
    refused(&["rule", "check", rules.to_str().unwrap()], 1, &["spo2", "^"]);
}

#[test]
fn what_cannot_be_reached_is_4() {
    let folder = tempfile::tempdir().unwrap();
    let config = install(&folder.path().join("vigil"), &[]);
    let gateway = nobody();
    let recording = folder.path().join("r.csv");
    std::fs::write(&recording, "patient,device,metric,value,unit,measured_at,stored_at\np1,d1,spo2,97,%,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z\n").unwrap();
    // also with a password that looks like an option
    for password in ["p", "-x"] {
        refused(&["replay", recording.to_str().unwrap(), "--to", &gateway, "--user", "u", "--password", password], 4, &[&gateway]);
    }
    let devices = folder.path().join("devices");
    std::fs::write(&devices, "").unwrap();
    refused(&["simulate", "--to", &gateway, "--devices", devices.to_str().unwrap()], 4, &[&gateway]);
    edit(config.as_ref(), &[("[dashboard]\nlisten = \"127.0.0.1:0\"", &format!("[dashboard]\nlisten = \"{}\"", nobody()))]);
    refused(&["status", "--config", &config], 4, &["vigil serve"]);
    let away = folder.path().join("away");
    refused(&["init", away.to_str().unwrap(), "--store", &format!("postgres://u:geheim@{}/d", nobody())], 4, &["the store"]);
    let said = vigil(&["init", away.to_str().unwrap(), "--store", &format!("postgres://u:geheim@{}/d", nobody())]).output().unwrap();
    assert!(!String::from_utf8_lossy(&said.stderr).contains("geheim"), "a password is shown");
}

/// One installation, one process; and nobody else of this machine reads it.
#[test]
fn a_second_process_is_refused_and_nothing_is_readable_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let config = install(&folder.path().join("vigil"), &[]);
    let first = Serving::start(&config, ONE);
    refused(&["serve", "--config", &config], 1, &["in use by another process", "journal.kind"]);
    let mut pending = vec![folder.path().join("vigil")];
    while let Some(path) = pending.pop() {
        let metadata = std::fs::metadata(&path).unwrap();
        let private = path.file_name().unwrap() != "gateway.pem";
        assert!(!private || metadata.permissions().mode() & 0o077 == 0, "{} is open to others: {:o}", path.display(), metadata.permissions().mode());
        if metadata.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    first.stop();
}

/// `device add` prints a line that works: what it publishes is stored.
#[test]
fn the_printed_line_publishes() {
    let folder = tempfile::tempdir().unwrap();
    let config = install(&folder.path().join("vigil"), &[]);
    let mut process = Process::start(&["serve", "--config", &config]);
    let ready = process.line(" ready ");
    edit(config.as_ref(), &[("listen = \"127.0.0.1:0\"       # MQTT", &format!("listen = \"{}\" # MQTT", field(&ready, "mqtt")))]);
    done(&["patient", "add", "p1", "--name", "N", "--born", "1950-01-01", "--config", &config]);
    let said = done(&["device", "add", "ox1", "--patient", "p1", "--format", "table", "--config", &config]);
    let line = said.lines().find(|line| line.contains("mosquitto_pub")).unwrap().trim().to_owned();
    let Ok(mut shell) = std::process::Command::new("sh").args(["-c", &format!("command -v mosquitto_pub >/dev/null || exit 77; {line} -d")]).output() else {
        return;
    };
    if shell.status.code() == Some(77) {
        eprintln!("skipped: mosquitto_pub is not installed (mosquitto-clients)");
        process.signal("TERM");
        assert!(process.end().success());
        return;
    }
    // the registry is read each second: a device that is a moment old may be unknown
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !shell.status.success() && std::time::Instant::now() < until {
        shell = std::process::Command::new("sh").args(["-c", &format!("{line} -d")]).output().unwrap();
    }
    assert!(shell.status.success(), "{line}: {shell:?}");
    assert!(String::from_utf8_lossy(&shell.stdout).contains("PUBACK"), "{shell:?}");
    process.signal("TERM");
    assert!(process.end().success());
}
