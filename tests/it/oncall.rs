//! Who is on call, from the console: every command of docs/oncall.md as it is written there, and what is refused.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::driven::{done, edit, vigil};

const GUIDE: &str = include_str!("../../docs/oncall.md");
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/oncall.toml");

/// Takes whatever is posted, and keeps the bodies.
fn receiver() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let kept = taken.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some((name, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
                    length = value.trim().parse().unwrap_or_else(|_| panic!("{name}"));
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            kept.lock().unwrap().push(String::from_utf8(body).unwrap());
            stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").unwrap();
        }
    });
    (address, taken)
}

/// An installation with a webhook, and a patient; its configuration.
fn site(folder: &Path, pager: &str) -> String {
    let site = folder.join("site");
    done(&["init", site.to_str().unwrap()]);
    let config = site.join("vigil.toml");
    edit(
        &config,
        &[("enabled = false\nname = \"pager\"", "enabled = true\nname = \"pager\""), ("https://pager.example/hooks/vigil", &format!("http://{pager}/"))],
    );
    let config = config.to_str().unwrap().to_owned();
    done(&["patient", "add", "p1", "--name", "OKAFOR, Ada", "--born", "1945-07-14", "--config", &config]);
    config
}

fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = vigil(arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `silva` alone, from 08:00 to 20:00.
fn days_only(folder: &Path, more: &str) -> String {
    let path = folder.join("days.toml");
    let text = format!(
        r#"timezone = "Europe/Lisbon"
person = [{{ name = "silva", channels = ["webhook:pager"] }}]
schedule = [{{ name = "nurses", rotation = [{{ people = ["silva"], starts = "2026-01-01", from = "08:00", until = "20:00" }}] }}]
[[policy]]
name = "all"
{more}
[[policy.step]]
to = ["schedule:nurses"]
wait = "5 min"
"#
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_command_of_the_guide_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let (pager, taken) = receiver();
    let config = site(folder.path(), &pager);
    // the mails of the example have no server here; each of its people has the pager as well
    let ran: Vec<(&str, std::process::Output)> = GUIDE
        .lines()
        .filter_map(|line| line.strip_prefix("    vigil "))
        .map(|line| {
            let words = line.split('#').next().unwrap().split_whitespace();
            let words: Vec<String> = words.map(|word| word.replace("/srv/vigil/vigil.toml", &config).replace("docs/oncall.toml", EXAMPLE)).collect();
            (line, vigil(&words.iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap())
        })
        .collect();
    assert!(ran.len() >= 10, "the guide has lost its commands");
    for (line, output) in &ran {
        let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        match *line {
            // no mail server is configured: the one command that tries every channel says so
            line if line.contains("test silva") => {
                assert_eq!(output.status.code(), Some(1), "{said} {failed}");
                let rows = rows(&said);
                assert_eq!((&rows[0]["accepted"], &rows[1]["accepted"]), (&false.into(), &true.into()), "{said}");
            }
            line => assert!(output.status.success(), "vigil {line}\n{said}\n{failed}"),
        }
    }
    let pages = taken.lock().unwrap();
    assert_eq!(pages.len(), 2, "silva's pager, and the pager");
    assert!(pages.iter().all(|page| page.contains("This is a test") && page.contains("TEST") && !page.contains("OKAFOR")), "{pages:?}");
    let of = |what: &str| rows(&String::from_utf8_lossy(&ran.iter().find(|(line, _)| line.contains(what)).unwrap().1.stdout));
    let christmas: Vec<Value> = of("--at 2026-12-25T03:00");
    let step = |n: usize| christmas.iter().filter(|row| row["step"] == n).map(|row| row["who"].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(step(1), ["okafor", "ito"], "the holiday's: {christmas:?}");
    assert_eq!(step(2), ["okafor", "ito", "kaya"]);
    assert_eq!(step(3), ["whoever reads it"]);
    assert_eq!(of("oncall load")[0]["uncovered"], 0);
}

#[test]
fn an_hour_without_anybody_is_refused_unless_it_is_forced() {
    let folder = tempfile::tempdir().unwrap();
    let config = site(folder.path(), "127.0.0.1:9");
    let load = |file: &str, more: &[&str]| [&["oncall", "load", file, "--config", &config], more].concat().iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
    let words = |all: &[String]| all.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
    let run = |all: Vec<String>| refused(&words(&all).iter().map(String::as_str).collect::<Vec<_>>());
    let days = days_only(folder.path(), "");
    let (code, said) = run(load(&days, &[]));
    assert_eq!(code, Some(1));
    assert!(said.contains("all: ") && said.contains("T20:00:00+0") && said.contains("and ") && said.contains("--force"), "{said}");
    assert!(said.contains("silva is no user"), "{said}");
    assert!(refused(&["oncall", "who", "--config", &config]).1.contains("no on-call file was ever loaded"));

    let resort = days_only(folder.path(), "last_resort = [\"channel:webhook:pager\"]");
    assert!(run(load(&resort, &[])).1.contains("--force"), "a last resort is nobody who is on call");
    let forced = rows(&done(&["oncall", "load", &resort, "--force", "--config", &config]));
    assert_eq!(forced[0]["version"], 1);
    assert!(forced[0]["uncovered"].as_u64().unwrap() >= 28);

    // what is in force says so every afternoon
    let output = vigil(&["oncall", "rehearse", "--from", "2026-11-27T18:00", "--until", "07:00", "--config", &config]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let found = rows(&String::from_utf8_lossy(&output.stdout));
    let uncovered: Vec<&Value> = found.iter().filter(|row| row["finding"] == "uncovered").collect();
    assert_eq!(uncovered.len(), 1, "{found:?}");
    assert_eq!((&uncovered[0]["from"], &uncovered[0]["until"]), (&"2026-11-27T20:00:00+00:00".into(), &"2026-11-28T07:00:00+00:00".into()));
    assert_eq!(uncovered[0]["detail"], "only the last resort is paged");
    assert!(found[0]["detail"].as_str().unwrap().starts_with("1 patients, "), "{found:?}");
    let (code, said) = refused(&["oncall", "gaps", "--from", "2026-11-27T18:00", "--until", "07:00", "--config", &config]);
    assert!(code == Some(1) && said.contains("1 stretches"), "{said}");

    let ward = days_only(folder.path(), "wards = [\"nowhere\"]\n[[policy.step]]\nto = [\"person:silva\"]\nwait = \"5 min\"\n[[policy]]\nname = \"rest\"");
    assert!(run(load(&ward, &["--force"])).1.contains("the ward `nowhere`, which is not there; the wards are: "));
    assert_eq!(refused(&["oncall", "who", "--at", "tomorrow", "--config", &config]).0, Some(2));
    assert_eq!(refused(&["oncall", "who", "--ward", "nowhere", "--config", &config]).0, Some(2));
    assert_eq!(refused(&["oncall", "test", "nobody", "--config", &config]).0, Some(2));
    assert_eq!(refused(&["oncall", "test", "silva", "--config", &config]).0, Some(1), "nobody listens at the pager");
}
