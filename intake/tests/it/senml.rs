//! SenML; that packs resolve as RFC 8428 says is tested beside the decoder.

use intake::Format;
use schemas::{ClockState, Micros};

use crate::{NOW, Sender, check, counted, readings, words};

const TOPIC: &str = "v1/devices/ox/vitals/senml";

#[test]
fn names_and_units_are_read() {
    check(
        "senml",
        &[
            (r#"[{"n":"urn:dev:mac:0024befffe804ff1:spo2","u":"%","v":97,"t":1795168800}]"#, &["spo2 97 %, measured 2026-11-20T"]),
            (r#"[{"n":"urn:dev:ow:1/spo2","u":"/","v":0.97}]"#, &["spo2 97 % (sent as 0.97 /), measured when received"]),
            (r#"[{"n":"dev:8867-4","u":"beat/min","v":72}]"#, &["heart_rate 72 /min"]),
            (r#"[{"n":"dev:150456","u":"%","v":96}]"#, &["spo2 96 %"]),
            (r#"[{"n":"dev:respiratory_rate","u":"1/s","v":0.25}]"#, &["respiratory_rate 15 /min (sent as 0.25 1/s)"]),
            (r#"[{"n":"dev:temperature","u":"K","v":310.15}]"#, &["temperature 37 Cel"]),
            (r#"[{"bn":"dev:","bu":"kg","bv":70,"n":"weight","v":1.5}]"#, &["weight 71.5 kg"]),
            (r#"[{"n":"dev:systolic_pressure","u":"Pa","v":16000}]"#, &["systolic_pressure 120.009852 mm[Hg]"]),
            (r#"[{"n":"dev:2339-0","u":"mg/l","v":990}]"#, &["glucose 99 mg/dL (sent as 990 mg/l)"]),
        ],
    );
}

#[test]
fn a_refusal_says_what_to_change() {
    check(
        "senml",
        &[
            ("", &["empty: the message is empty; expected [{"]),
            ("{}", &["malformed: a pack is an array"]),
            ("[]", &["empty: there is no record"]),
            (r#"[{"bn":"dev:"}]"#, &["empty: there is no record"]),
            (r#"[{"n":"dev:label","vs":"x"}]"#, &["unknown_metric: `dev:label` is text, not a vital sign"]),
            (r#"[{"n":"dev:open","vb":false}]"#, &["unknown_metric: `dev:open` is a boolean"]),
            (r#"[{"n":"dev:photo","vd":"aGkgCg"}]"#, &["unknown_metric: `dev:photo` is data"]),
            (r#"[{"n":"dev:steps","s":40}]"#, &["unknown_metric: `dev:steps` is a sum over time"]),
            (r#"[{"n":"dev:spo2","t":-5}]"#, &["not_a_number: `dev:spo2` was not measured"]),
            (r#"[{"n":"dev:voltage","u":"V","v":3}]"#, &["unknown_metric: `voltage` is not a metric"]),
            (r#"[{"n":"dev:spo2","v":97,"must_":1}]"#, &["malformed: `must_` must be understood"]),
            (r#"[{"n":"dev:spo2","v":97,"may":1}]"#, &["spo2 97 %"]),
            (r#"[{"bver":11,"n":"dev:spo2","v":97}]"#, &["malformed: `bver` is 11"]),
            (r#"[{"bver":10,"n":"dev:spo2","v":97},{"bver":9,"n":"dev:spo2","v":97}]"#, &["malformed: `bver` is 9"]),
            (r#"[{"n":"dev:spo2","v":97,"vs":"x"}]"#, &["malformed: a record has two values"]),
            (r#"[{"n":"dev spo2","v":97}]"#, &["malformed: `dev spo2` is no name"]),
            (r#"[{"v":97}]"#, &["malformed: `` is no name"]),
            (r#"[{"n":"dev:spo2","v":"97"}]"#, &["malformed: `v` is not of its type"]),
            (r#"[{"n":"dev:spo2","v":0.96}]"#, &["unit_mismatch: spo2 0.96; expected % between 0 and 100"]),
            (r#"[{"n":"dev:spo2","u":"%RH","v":96}]"#, &["unit_mismatch: spo2 96 %RH; expected one of %"]),
            (r#"[{"n":"dev:15074-8","u":"mg/dL","v":99}]"#, &["unit_mismatch: 15074-8 is glucose in mmol/L, the unit says mg/dL"]),
            (r#"[{"n":"dev:spo2","v":97,"t":1e300}]"#, &["bad_time: 1"]),
            (r#"[{"n":"dev:spo2","v":97,"t":3600}]"#, &["bad_time: `dev:spo2` is 1 h ahead of now"]),
            // one topic is one device
            (
                r#"[{"n":"dev:1:spo2","v":97},{"n":"dev:2:spo2","v":96}]"#,
                &["not_allowed: the pack names two things, `dev:1` and `dev:2`", "not_allowed: the pack names two things"],
            ),
        ],
    );
}

#[test]
fn relative_times_count_from_now_and_no_clock_moves_them() {
    let payload = r#"[{"bn":"dev:","n":"spo2","v":97,"t":-60},{"n":"heart_rate","v":70}]"#;
    let read = readings(Sender::new().send("ox", TOPIC, payload));
    assert_eq!([read[0].at, read[1].at], [NOW - Micros::minutes(1), NOW]);
    assert!(read.iter().all(|reading| reading.clock == ClockState::Unstamped && reading.format == Some(schemas::Format::SenmlJson)));
    let absolute = readings(Sender::new().send("ox", TOPIC, r#"[{"bn":"dev:","bt":1795168740,"n":"spo2","v":97}]"#));
    assert_eq!((absolute[0].at, absolute[0].clock), (NOW - Micros::minutes(1), ClockState::AsSent));
}

/// A dead letter can be sent again alone, with the same answer.
#[test]
fn a_refused_record_stands_for_itself() {
    let pack = br#"[{"bn":"dev:","bt":1795168740,"bu":"%","n":"spo2","v":97},{"n":"spo2","v":101},{"n":"mood","v":3}]"#;
    let mut sender = Sender::new();
    let decided = sender.send_typed("ox", "v1/devices/ox/vitals", "application/senml+json", pack);
    assert_eq!(words(&decided)[0], "ok");
    for decided in &decided[1..] {
        let intake::Decided::Dead(dead) = decided else { panic!("{decided:?}") };
        assert_eq!(dead.format, Some(schemas::Format::SenmlJson));
        let again = sender.send_typed("ox", "v1/devices/ox/vitals", "application/senml+json", &dead.payload);
        assert_eq!(words(&again), [dead.detail.as_str()]);
    }
}

#[test]
fn cbor_is_read_and_nan_is_not_measured() {
    let pack = |value: ciborium::Value| {
        let record = ciborium::Value::Map(vec![(0.into(), "dev:spo2".into()), (1.into(), "%".into()), (2.into(), value)]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&ciborium::Value::Array(vec![record]), &mut bytes).unwrap();
        bytes
    };
    let decimal = ciborium::Value::Tag(4, Box::new(ciborium::Value::Array(vec![(-1).into(), 975.into()])));
    for (value, says) in [
        (97.into(), "spo2 97 %"),
        (decimal, "spo2 97.5 %"),
        (f64::NAN.into(), "not_a_number: spo2 is not a number; leave the reading out when nothing was measured"),
        (f64::INFINITY.into(), "not_a_number"),
        (ciborium::Value::Null, "malformed: `v` is not of its type"),
    ] {
        let said = crate::shown(&pack(value), Format::SenmlCbor);
        assert!(said.len() == 1 && said[0].starts_with(says), "{said:?} {says}");
    }
    let mut longer = pack(97.into());
    longer.push(0);
    assert_eq!(crate::shown(&longer, Format::SenmlCbor), ["malformed: 1 bytes after the pack"]);
    // an array that claims more than it holds
    assert_eq!(counted(&intake::explain(b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", Format::SenmlCbor, NOW)), (0, 1));
}

/// Found by `dev/fuzz`: half a century before now is a small number, and was read again as a time ahead of now.
#[test]
fn a_dead_letter_of_long_ago_stays_of_long_ago() {
    let first = Sender::new().send("ox", TOPIC, r#"[{"n":"dev:spo2","u":"x","v":97,"t":-1795168590.5}]"#);
    let intake::Decided::Dead(dead) = &first[0] else { panic!("{first:?}") };
    let again = Sender::new().send("ox", TOPIC, std::str::from_utf8(&dead.payload).unwrap());
    assert_eq!(words(&again), words(&first));
}
