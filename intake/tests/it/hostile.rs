//! Whatever the bytes and whatever the format: nothing panics, and every message ends somewhere.

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
