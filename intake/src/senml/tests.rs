use std::path::{Path, PathBuf};

use schemas::EventTime;
use serde_json::Value;

use super::pack::{Content, Resolved, Time, resolve};
use super::*;

/// The examples of RFC 8428, when they are beside the workspace.
fn examples() -> Option<PathBuf> {
    let folder = std::env::var_os("VIGIL_TEST_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let folder = folder.join("data/formats/senml");
    folder.is_dir().then_some(folder)
}

/// As `senmlCat` writes a resolved record, without links.
fn published(value: &Value) -> Resolved {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let content = match (value["v"].as_f64(), text("vs"), value["vb"].as_bool()) {
        (Some(number), ..) => Content::Number(number),
        (_, Some(text), _) => Content::Text(text),
        (.., Some(bool)) => Content::Bool(bool),
        _ => panic!("{value}"),
    };
    let at = EventTime((value["t"].as_f64().unwrap() * 1e6).round() as i64);
    Resolved { name: text("n").unwrap(), unit: text("u"), time: Time::Absolute(at), content }
}

#[test]
#[allow(clippy::print_stderr)]
fn rfc_8428_examples_resolve_to_their_published_answers() {
    let Some(folder) = examples() else {
        eprintln!("skipped: no ../shared/data/formats/senml");
        return;
    };
    let mut compared = 0;
    for number in 1..=12 {
        let answers: Vec<Value> = serde_json::from_slice(&std::fs::read(folder.join(format!("ex{number}.gen.resolved.json"))).unwrap()).unwrap();
        let answers: Vec<Resolved> = answers.iter().map(published).collect();
        for (file, encoding) in [("json", Encoding::Json), ("gen.json", Encoding::Json), ("gen.cbor", Encoding::Cbor)] {
            let Ok(payload) = std::fs::read(folder.join(format!("ex{number}.{file}"))) else {
                assert!(encoding == Encoding::Cbor && ![3, 5].contains(&number));
                continue;
            };
            let mut resolved = resolve(&payload, encoding).unwrap();
            if number == 7 {
                // the published answer leaves the data value out
                assert_eq!(resolved.pop().unwrap().content, Content::Data("aGkgCg".to_owned()));
            }
            // what is relative to now was resolved when the answer was made
            let now = answers[0].time;
            for record in &mut resolved {
                if record.time == Time::Relative(Micros::ZERO) {
                    record.time = now;
                }
            }
            assert_eq!(resolved, answers, "ex{number}.{file}");
            compared += 1;
        }
    }
    assert_eq!(compared, 12 * 2 + 2);
    let units = resolve(&std::fs::read(folder.join("ex13.json")).unwrap(), Encoding::Json).unwrap();
    assert_eq!(units.len(), 4, "ex13 has no published answer");
}

#[test]
fn a_record_written_alone_resolves_to_itself() {
    let payload = br#"[{"bn":"urn:dev:ox:","bt":1795168800.25,"bu":"/","bv":0.5,"n":"spo2","v":0.47},{"n":"label","vs":"x"},{"n":"on","vb":true},{"n":"b","vd":"aGk"},{"n":"e","s":2}]"#;
    let now = EventTime(1_795_168_800_000_000);
    for record in resolve(payload, Encoding::Json).unwrap() {
        for encoding in [Encoding::Json, Encoding::Cbor] {
            assert_eq!(resolve(&record.written(encoding, now), encoding).unwrap(), std::slice::from_ref(&record));
        }
    }
}
