//! Whatever the bytes and whatever the format: nothing panics, and every message ends somewhere, in time and memory that its own size bounds.
//! `fuzz` does so by the million.

use std::time::{Duration, Instant};

use bytes::Bytes;
use intake::{Decided, DeviceClock, Format, Mapping, Message, decode, explain};
use proptest::prelude::*;
use proptest::strategy::Union;

use crate::{MAPPINGS, NOW, device, registry, words};

const TOPICS: [&str; 11] = [
    "v1/devices/ox/vitals",
    "v1/devices/ox/vitals/senml",
    "v1/devices/ox/vitals/senml-cbor",
    "v1/devices/ox/vitals/omh",
    "v1/devices/ox/vitals/fhir",
    "v1/devices/ox/vitals/m/thingsboard-telemetry",
    "v1/devices/ox/vitals/m/thingsboard-gateway",
    "v1/devices/ox/vitals/m/tasmota",
    "v1/devices/ox/vitals/m/zigbee2mqtt",
    "v1/devices/me/telemetry",
    "v1/gateway/telemetry",
];

fn sent(topic: &str, payload: Vec<u8>) -> Vec<Decided> {
    let payload = Bytes::from(payload);
    let message = Message { connection: &device("ox"), topic, payload: &payload, content_type: "", dup: false, received_at: NOW };
    decode(&message, &registry(), &MAPPINGS, &mut DeviceClock::default())
}

/// JSON of the words that the formats know, wherever they may stand.
fn json() -> impl Strategy<Value = serde_json::Value> {
    const WORDS: &[&str] = &[
        "n",
        "bn",
        "v",
        "bv",
        "u",
        "t",
        "bt",
        "vs",
        "s",
        "bver",
        "x_",
        "dev:spo2",
        "spo2",
        "%",
        "/",
        "header",
        "body",
        "schema_id",
        "heart_rate",
        "value",
        "unit",
        "beats/min",
        "effective_time_frame",
        "date_time",
        "time_interval",
        "2026-11-20T07:25:00Z",
        "2026-11-20",
        "resourceType",
        "Observation",
        "Bundle",
        "entry",
        "resource",
        "component",
        "code",
        "coding",
        "system",
        "http://loinc.org",
        "8867-4",
        "valueQuantity",
        "/min",
        "status",
        "final",
        "effectiveDateTime",
        "ts",
        "values",
        "ox",
        "cuff",
        "metric",
        "measured_at",
        "readings",
        "sent_at",
        "battery",
        "last_seen",
        "step_count",
        "dataAbsentReason",
        "é\u{0}",
    ];
    let word = || prop::sample::select(WORDS).prop_map(str::to_owned);
    let leaf = Union::new([
        word().prop_map(serde_json::Value::from).boxed(),
        any::<bool>().prop_map(serde_json::Value::from).boxed(),
        any::<i64>().prop_map(serde_json::Value::from).boxed(),
        any::<f64>().prop_map(serde_json::Value::from).boxed(),
        (-10..400).prop_map(serde_json::Value::from).boxed(),
        Just(serde_json::Value::Null).boxed(),
    ]);
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
            prop::collection::hash_map(word(), inner, 0..6).prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

/// An entry is numbered by its place, is of one of two kinds, and a dead letter says what is wrong.
fn i2(decided: &[Decided]) -> Result<(), TestCaseError> {
    prop_assert!(!decided.is_empty());
    for (number, decided) in decided.iter().enumerate() {
        if let Decided::Dead(dead) = decided {
            prop_assert_eq!(dead.entry as usize, number);
            let (reason, detail) = dead.detail.split_once(": ").unwrap();
            prop_assert!(reason == dead.reason.as_str() && !detail.is_empty());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn i2_holds_for_any_bytes(payload in prop::collection::vec(any::<u8>(), 0..200), topic in prop::sample::select(&TOPICS[..])) {
        let decided = sent(topic, payload.clone());
        i2(&decided)?;
        if let [Decided::Dead(dead)] = decided.as_slice() && dead.reason.as_str() == "malformed" && topic != "v1/devices/ox/vitals/senml-cbor" {
            prop_assert_eq!(&dead.payload[..], &payload[..]);
        }
    }

    #[test]
    fn i2_holds_for_any_json(value in json(), topic in prop::sample::select(&TOPICS[..])) {
        i2(&sent(topic, value.to_string().into_bytes()))?;
    }

    #[test]
    fn i2_holds_for_any_cbor(value in json()) {
        let mut payload = Vec::new();
        ciborium::into_writer(&value, &mut payload).unwrap();
        i2(&sent("v1/devices/ox/vitals/senml-cbor", payload))?;
    }

    /// A dead letter that is sent again alone is the same dead letter.
    #[test]
    fn a_dead_letter_answers_the_same_again(value in json(), topic in prop::sample::select(&TOPICS[1..])) {
        for decided in sent(topic, value.to_string().into_bytes()) {
            if let Decided::Dead(dead) = decided {
                let again = words(&sent(topic, dead.payload.to_vec()));
                prop_assert!(again.contains(&dead.detail), "{} of {value}: {} became {again:?}", topic, dead.detail);
            }
        }
    }

    /// What is shown without a server is what the dead letter says.
    #[test]
    fn explain_says_what_the_dead_letter_says(value in json(), number in 0..5_usize) {
        let format = Format::named(Format::NAMES[number]).unwrap();
        let payload = value.to_string().into_bytes();
        let explained = explain(&payload, format, NOW);
        let decided = sent(&format!("v1/devices/ox/vitals/{}", Format::NAMES[number]), payload);
        prop_assert_eq!(explained.len(), decided.len());
        for (explained, said) in explained.iter().zip(words(&decided)) {
            if explained.outcome.is_err() { prop_assert_eq!(explained.to_string(), said); }
        }
    }

    #[test]
    fn no_text_is_a_mapping_that_panics(text in "([a-z_]{1,8} ?= ?(\"[$@.a-z\\[\\]*{}/]{0,8}\"|[0-9.]{1,3})\n){0,4}(\\[\\[?(reading|members|devices)\\]?\\]\n)?(metric = \"spo2\"\nvalue = \"[@$.a-z?*\\[\\]]{0,8}\"\n)?") {
        if let Err(error) = Mapping::parse(&text) { prop_assert!(error.line >= 1); }
    }
}

/// What a payload repeats, so often that it fills so many bytes.
type Shape = (&'static str, &'static str, fn(usize) -> Vec<u8>);

/// `head`, then `again` until it fills the bytes, then `tail`.
fn filled(bytes: usize, head: &str, again: &str, tail: &str) -> Vec<u8> {
    let times = bytes.saturating_sub(head.len() + tail.len()) / again.len();
    [head.as_bytes(), again.repeat(times).as_bytes(), tail.as_bytes()].concat()
}

const SHAPES: &[Shape] = &[
    ("", "nothing but zeros", |n| filled(n, "[0", ",0", "]")),
    ("", "readings that are objects", |n| filled(n, "[{}", ",{}", "]")),
    ("", "nested arrays", |n| filled(n, "", "[", "")),
    ("", "nested objects", |n| filled(n, "", "{\"readings\":", "")),
    ("", "one key again and again", |n| filled(n, "{\"value\":1", ",\"value\":1", "}")),
    ("", "as many keys", |n| {
        let keys: Vec<String> = (0..n / 10).map(|key| format!("\"{key:06}\":1")).collect();
        format!("{{{}}}", keys.join(",")).into_bytes()
    }),
    ("", "a long metric", |n| filled(n, "[{\"metric\":\"", "spo", "\"}]")),
    ("", "a long unit", |n| filled(n, "{\"metric\":\"spo2\",\"value\":1,\"unit\":\"", "%", "\"}")),
    ("", "a long time", |n| filled(n, "{\"metric\":\"spo2\",\"value\":97,\"measured_at\":\"2026-11-20T00:00:00.", "0", "Z\"}")),
    ("", "a long number", |n| filled(n, "{\"metric\":\"spo2\",\"value\":", "9", "}")),
    ("", "a long fraction", |n| filled(n, "{\"metric\":\"spo2\",\"value\":0.", "0", "97e9}")),
    ("/senml", "a long base unit", |n| {
        let unit = "x".repeat(n / 2);
        filled(n, &format!("[{{\"bu\":\"{unit}\"}}"), ",{\"n\":\"a\"}", "]")
    }),
    ("/senml", "a long base name", |n| {
        let name = "x".repeat(n / 2);
        filled(n, &format!("[{{\"bn\":\"{name}\"}}"), ",{\"v\":1}", "]")
    }),
    ("/senml", "records without anything", |n| filled(n, "[{}", ",{}", "]")),
    ("/senml-cbor", "arrays in arrays", |n| vec![0x81; n]),
    ("/senml-cbor", "records that are empty", |n| [vec![0x9f], vec![0xa0; n], vec![0xff]].concat()),
    ("/senml-cbor", "text in pieces", |n| [b"\x81\xa1\x62bu\x7f".to_vec(), b"\x61a".repeat(n / 2), vec![0xff]].concat()),
    ("/senml-cbor", "tags", |n| vec![0xc4; n]),
    ("/senml-cbor", "an array that is not there", |_| b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec()),
    ("/senml-cbor", "text that is not there", |_| b"\x81\xa1\x00\x7b\x00\x00\x00\xff\xff\xff\xff\xff".to_vec()),
    ("/omh", "nothing but zeros", |n| filled(n, "[0", ",0", "]")),
    ("/omh", "a point that names all schemas' words", |n| {
        filled(n, "[{\"heart_rate\":0}", ",{\"systolic_blood_pressure\":{\"value\":1},\"diastolic_blood_pressure\":{}}", "]")
    }),
    ("/fhir", "components that are nothing", |n| filled(n, "{\"resourceType\":\"Observation\",\"component\":[0", ",0", "]}")),
    ("/fhir", "components under a long time", |n| {
        let time = "x".repeat(n / 2);
        filled(n, &format!("{{\"resourceType\":\"Observation\",\"effectiveDateTime\":\"{time}\",\"component\":[0"), ",0", "]}")
    }),
    ("/fhir", "components under a large modifier", |n| {
        let modifier = "0,".repeat(n / 4);
        filled(n, &format!("{{\"resourceType\":\"Observation\",\"modifierExtension\":[{modifier}0],\"component\":[0"), ",0", "]}")
    }),
    ("/fhir", "codings", |n| {
        filled(n, "{\"resourceType\":\"Observation\",\"code\":{\"coding\":[0", ",{\"system\":\"http://loinc.org\",\"code\":\"x\"}", "]}}")
    }),
    ("/fhir", "a Bundle of nothing", |n| filled(n, "{\"resourceType\":\"Bundle\",\"entry\":[0", ",0", "]}")),
    ("/fhir", "a Bundle of Patients", |n| filled(n, "{\"resourceType\":\"Bundle\",\"entry\":[{\"resource\":{}}", ",{\"resource\":{}}", "]}")),
    ("/fhir", "braces in a unit", |n| {
        filled(
            n,
            "{\"resourceType\":\"Observation\",\"status\":\"final\",\"code\":{\"coding\":[{\"system\":\"http://loinc.org\",\"code\":\"8867-4\"}]},\"effectiveDateTime\":\"2026-11-20T00:00:00Z\",\"valueQuantity\":{\"value\":1,\"system\":\"http://unitsofmeasure.org\",\"code\":\"",
            "{",
            "\"}}",
        )
    }),
    ("/m/thingsboard-gateway", "a long name", |n| {
        let name = "x".repeat(n / 2);
        filled(n, &format!("{{\"{name}\":[0"), ",0", "]}")
    }),
    ("/m/thingsboard-gateway", "as many names", |n| filled(n, "{\"ox\":[{\"ts\":1,\"values\":{\"spo2\":1}}", ",{\"ts\":1,\"values\":{\"spo2\":1}}", "]}")),
    ("/m/thingsboard-telemetry", "nothing but zeros", |n| filled(n, "[0", ",0", "]")),
    ("/m/thingsboard-telemetry", "values beside much else", |n| {
        let values: Vec<String> = (0..64).map(|value| format!("\"{value}\":97")).collect();
        filled(n, &format!("[{{{},\"ts\":[0", values.join(",")), ",0", "]}]")
    }),
    ("/m/beside", "a long unit beside items", |n| {
        let unit = "x".repeat(n / 2);
        filled(n, &format!("{{\"unit\":\"{unit}\",\"items\":[0"), ",0", "]}")
    }),
];

const BESIDE: &str = "name = \"beside\"\neach = \"$.items\"\n[[reading]]\nmetric = \"spo2\"\nvalue = \"@.v\"\nunit = \"$.unit\"\n";

/// The most that this process ever held, in bytes.
fn most_held() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// In a process of its own, where nothing else takes memory.
#[test]
fn time_and_memory_are_bounded_by_the_payload() {
    let child = std::process::Command::new(std::env::current_exe().unwrap()).args(["--exact", "hostile::shapes", "--ignored", "--nocapture"]).output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    println!("{said}");
    assert!(child.status.success() && said.contains("shapes, at most"), "{said}{}", String::from_utf8_lossy(&child.stderr));
}

/// A payload as large as the gateway takes: 8 times the bytes may take 8 times as long, not 64 times.
#[test]
#[ignore = "measured by time_and_memory_are_bounded_by_the_payload, alone in a process"]
fn shapes() {
    const SMALL: usize = 32 << 10;
    const LARGE: usize = 256 << 10;
    let mut mappings = MAPPINGS.clone();
    mappings.add(Mapping::parse(BESIDE).unwrap());
    let registry = registry();
    let before = most_held();
    for (level, what, shape) in SHAPES {
        let topic = format!("v1/devices/ox/vitals{level}");
        let took = |payload: Bytes| {
            let message = Message { connection: &device("ox"), topic: &topic, payload: &payload, content_type: "", dup: false, received_at: NOW };
            let once = || {
                let started = Instant::now();
                let decided = decode(&message, &registry, &mappings, &mut DeviceClock::default());
                let took = started.elapsed();
                i2(&decided).unwrap();
                let kept: usize = decided.iter().map(|decided| if let Decided::Dead(dead) = decided { dead.payload.len() } else { 0 }).sum();
                assert!(kept <= 64 * payload.len() + 4096 * 1300, "{level} {what}: {kept} bytes of dead letters");
                took
            };
            (0..3).map(|_| once()).min().unwrap()
        };
        let (small, large) = (took(shape(SMALL).into()), took(shape(LARGE).into()));
        println!("{:>9.1?} {:>9.1?} {:>5} MiB  {level} {what}", small, large, most_held() >> 20);
        assert!(large <= small * 24 + Duration::from_millis(100), "{level} {what}: {small:?} for {SMALL} bytes, {large:?} for {LARGE}");
    }
    let held = most_held() - before;
    println!("{} shapes, at most {} MiB for {LARGE} bytes", SHAPES.len(), held >> 20);
    assert!(held <= 64 << 20, "{held} bytes");
}

#[test]
fn formats_are_named_and_never_guessed() {
    let good = r#"[{"n":"dev:spo2","v":97}]"#;
    for (level, content_type, says) in [
        ("", "application/senml+json", "ok"),
        ("/senml", "", "ok"),
        ("/senml", "application/senml+json; charset=utf-8", "ok"),
        ("/senml", "application/json", "ok"),
        ("/senml", "text/plain", "ok"),
        ("/senml", "application/fhir+json", "unknown_format: the topic says senml, the content type says application/fhir+json; make them agree"),
        ("", "application/SenML+JSON", "ok"),
        ("", "text/plain", "unknown_format: `text/plain` is no content type that is read; known are application/json, application/senml+json"),
        ("", "", "malformed: unknown key `n`"),
        ("/xml", "", "unknown_format: `xml` is no format; known are json, senml, senml-cbor, omh, fhir and m/{mapping}"),
        ("x", "", "unknown_topic"),
    ] {
        let said = words(&crate::Sender::new().send_typed("ox", &format!("v1/devices/ox/vitals{level}"), content_type, good.as_bytes()));
        assert!(said.len() == 1 && said[0].starts_with(says), "{level} {content_type}: {said:?}");
    }
}
