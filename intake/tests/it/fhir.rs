//! FHIR R4 Observation and Bundle.

use crate::{NOW, Sender, check, readings, words};

/// An Observation with this in place of status, time, code and value.
fn observation(parts: &str) -> String {
    format!(r#"{{"resourceType":"Observation",{parts}}}"#)
}

const FINAL: &str = r#""status":"final","effectiveDateTime":"2026-11-20T07:25:00Z""#;

fn vital(system: &str, code: &str, value: &str) -> String {
    observation(&format!(r#"{FINAL},"code":{{"coding":[{{"system":"{system}","code":"{code}"}}]}},{value}"#))
}

fn ucum(value: f64, code: &str) -> String {
    format!(r#""valueQuantity":{{"value":{value},"system":"http://unitsofmeasure.org","code":"{code}"}}"#)
}

#[test]
fn codes_and_units_are_read() {
    for (system, code, value, says) in [
        ("http://loinc.org", "8867-4", ucum(72.0, "/min"), "heart_rate 72 /min, measured 2026-11-20T07:25:00Z"),
        ("http://loinc.org", "8867-4", ucum(72.0, "{Beats}/min"), "heart_rate 72 /min"),
        ("http://loinc.org", "8867-4", ucum(72.0, "min-1"), "heart_rate 72 /min"),
        ("http://snomed.info/sct", "364075005", ucum(72.0, "/min"), "heart_rate 72 /min"),
        ("urn:iso:std:iso:11073:10101", "150456", ucum(97.0, "%"), "spo2 97 %"),
        ("http://loinc.org", "8310-5", ucum(98.6, "[degF]"), "temperature 37 Cel (sent as 98.6 [degF])"),
        ("http://loinc.org", "29463-7", ucum(185.0, "[lb_av]"), "weight 83.914588 kg (sent as 185 [lb_av])"),
        ("http://loinc.org", "15074-8", ucum(6.3, "mmol/L"), "glucose 113.49828 mg/dL (sent as 6.3 mmol/L)"),
        ("http://loinc.org", "55423-8", ucum(600.0, "{steps}"), "steps 600"),
        (
            "urn:iso:std:iso:11073:10101",
            "150021",
            r#""valueQuantity":{"value":16,"system":"urn:iso:std:iso:11073:10101","code":"265987"}"#.to_owned(),
            "systolic_pressure 120.009852 mm[Hg] (sent as 16 265987)",
        ),
        ("http://loinc.org", "8480-6", r#""valueQuantity":{"value":120,"unit":"mmHg"}"#.to_owned(), "systolic_pressure 120 mm[Hg]"),
    ] {
        check("fhir", &[(&vital(system, code, &value), &[says])]);
    }
}

#[test]
fn consciousness_is_read_from_coded_answers() {
    let coded = |codings: &[(&str, &str)]| {
        let codings: Vec<String> = codings.iter().map(|(system, code)| format!(r#"{{"system":"{system}","code":"{code}"}}"#)).collect();
        format!(r#""valueCodeableConcept":{{"coding":[{}]}}"#, codings.join(","))
    };
    let (loinc, snomed) = ("http://loinc.org", "http://snomed.info/sct");
    for (system, code) in [(loinc, "67775-7"), (loinc, "80288-4"), (snomed, "1104441000000107")] {
        for (answer, says) in [
            (coded(&[(snomed, "248234008")]), "consciousness 0 {ACVPU}, measured 2026-11-20T07:25:00Z"),
            (coded(&[(snomed, "130987000")]), "consciousness 1 {ACVPU}"),
            (coded(&[(loinc, "LA17108-4")]), "consciousness 2 {ACVPU}"),
            (coded(&[("urn:local", "P"), (snomed, "450847001"), (loinc, "LA17107-6")]), "consciousness 3 {ACVPU}"),
            (coded(&[(snomed, "422768004")]), "consciousness 4 {ACVPU}"),
            (
                coded(&[(snomed, "248234008"), (snomed, "422768004")]),
                "not_a_number: consciousness: its codes disagree: 248234008 is A, 422768004 is U; send one",
            ),
            // the observable where its answer belongs, a level of another scale, a code of another system
            (
                coded(&[(snomed, "1104441000000107")]),
                "not_a_number: consciousness: `1104441000000107` is no answer that is read; send SNOMED 248234008 (alert)",
            ),
            (coded(&[(loinc, "LA30127-1")]), "not_a_number: consciousness: `LA30127-1` is no answer"),
            (coded(&[("urn:local", "248234008")]), "not_a_number: consciousness: `248234008` is no answer"),
            (r#""valueCodeableConcept":{"text":"alert"}"#.to_owned(), "not_a_number: consciousness: `` is no answer"),
            (r#""valueString":"A""#.to_owned(), "not_a_number: consciousness is given as `valueString`"),
            (r#""dataAbsentReason":{"text":"asleep"}"#.to_owned(), "not_a_number: consciousness was not measured: dataAbsentReason asleep"),
        ] {
            check("fhir", &[(&vital(system, code, &answer), &[says])]);
        }
    }
    // a coded answer to anything else is none
    check("fhir", &[(&vital(loinc, "8867-4", &coded(&[(snomed, "248234008")])), &["not_a_number: heart_rate is given as `valueCodeableConcept`"])]);
}

/// A triple of code, unit and value that cannot be true.
#[test]
fn what_cannot_be_true_is_refused() {
    for (code, value, says) in [
        // diastolic pressure under the code of heart rate
        ("8867-4", ucum(80.0, "mm[Hg]"), "unit_mismatch: heart_rate 80 mm[Hg]; expected one of /min"),
        ("15074-8", ucum(99.0, "mg/dL"), "unit_mismatch: 15074-8 is glucose in mmol/L, the unit says mg/dL; correct one of the two"),
        ("2339-0", ucum(5.5, "mmol/L"), "unit_mismatch: 2339-0 is glucose in mg/dL, the unit says mmol/L"),
        ("2339-0", ucum(5.5, "mg/dL"), "unit_mismatch: glucose 5.5; expected at least 20 mg/dL; this is true of mmol/L"),
        ("59408-5", ucum(0.96, "%"), "unit_mismatch: spo2 0.96; expected % between 0 and 100"),
        ("59408-5", ucum(0.96, "1"), "unit_mismatch: spo2 0.96 1; expected one of %"),
        ("8310-5", ucum(98.6, "Cel"), "implausible: temperature 98.6 Cel"),
        (
            "8867-4",
            r#""valueQuantity":{"value":72}"#.to_owned(),
            "unit_mismatch: heart_rate: the unit is missing; send system http://unitsofmeasure.org and code `/min`",
        ),
        (
            "8867-4",
            r#""valueQuantity":{"value":72,"system":"http://snomed.info/sct","code":"258983007"}"#.to_owned(),
            "unit_mismatch: heart_rate: units of `http://snomed.info/sct` are not read",
        ),
    ] {
        check("fhir", &[(&vital("http://loinc.org", code, &value), &[says])]);
    }
    let both = r#"{"coding":[{"system":"http://loinc.org","code":"8867-4"},{"system":"http://snomed.info/sct","code":"271650006"}]}"#;
    let value = ucum(80.0, "/min");
    check(
        "fhir",
        &[(
            &observation(&format!(r#"{FINAL},"code":{both},{value}"#)),
            &["unknown_metric: its codes disagree: 8867-4 is heart_rate, 271650006 is diastolic_pressure"],
        )],
    );
}

#[test]
fn what_was_not_measured_is_never_zero() {
    for (value, says) in [
        (r#""dataAbsentReason":{"coding":[{"code":"not-performed"}]}"#, "not_a_number: heart_rate was not measured: dataAbsentReason not-performed"),
        (r#""dataAbsentReason":{"text":"cuff too small"}"#, "not_a_number: heart_rate was not measured: dataAbsentReason cuff too small"),
        (r#""valueQuantity":{"value":"NaN"}"#, "not_a_number: heart_rate was not measured: its value is \"NaN\", not a number"),
        (r#""valueQuantity":{"unit":"/min"}"#, "not_a_number: heart_rate was not measured: its quantity has no value"),
        (r#""valueQuantity":{"value":60,"comparator":">","unit":"/min"}"#, "not_a_number: heart_rate is given as a bound, > 60; send the value"),
        (r#""valueString":"72""#, "not_a_number: heart_rate is given as `valueString`; send `valueQuantity`"),
        (r#""note":[]"#, "not_a_number: heart_rate was not measured: it has no value"),
    ] {
        check("fhir", &[(&vital("http://loinc.org", "8867-4", value), &[says])]);
    }
}

#[test]
fn what_does_not_stand_is_refused() {
    let code = r#""code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]}"#;
    let value = ucum(72.0, "/min");
    for (parts, says) in [
        (r#""status":"preliminary","effectiveDateTime":"2026-11-20T07:25:00Z""#, "heart_rate 72"),
        (
            r#""status":"entered-in-error","effectiveDateTime":"2026-11-20T07:25:00Z""#,
            "not_a_number: heart_rate was not measured: its status is entered-in-error; if it was",
        ),
        (r#""status":"cancelled""#, "not_a_number: heart_rate was not measured: its status is cancelled"),
        (r#""status":"done""#, "not_a_number: heart_rate was not measured: its status is `done`, which FHIR R4 does not know"),
        (r#""issued":"2026-11-20T07:25:00Z""#, "not_a_number: heart_rate was not measured: its status is missing"),
        (r#""status":"final""#, "bad_time: it does not say when"),
        (r#""status":"final","effectiveDateTime":"2026""#, "bad_time: effectiveDateTime: `2026` is not a time"),
        (r#""status":"final","effectiveDateTime":"2026-11-20""#, "heart_rate 72 /min, measured 2026-11-20T00:00:00Z"),
        (r#""status":"final","effectiveInstant":"2026-11-20T07:25:00.5+01:00""#, "heart_rate 72 /min, measured 2026-11-20T06:25:00.5Z"),
        (
            r#""status":"final","effectivePeriod":{"start":"2026-11-20T07:00:00Z","end":"2026-11-20T08:00:00Z"}"#,
            "heart_rate 72 /min, measured 2026-11-20T08:00:00Z",
        ),
        (r#""status":"final","effectiveDateTime":"2026-11-20T07:25:00Z","modifierExtension":[]"#, "malformed: a `modifierExtension`"),
    ] {
        check("fhir", &[(&observation(&format!("{parts},{code},{value}")), &[says])]);
    }
}

#[test]
fn components_and_bundles_are_entries() {
    let component = |code: &str, value: &str| format!(r#"{{"code":{{"coding":[{{"system":"http://loinc.org","code":"{code}"}}]}},{value}}}"#);
    let (high, low) = (component("8480-6", &ucum(120.0, "mm[Hg]")), component("8462-4", r#""dataAbsentReason":{"text":"cuff"}"#));
    let panel = observation(&format!(r#"{FINAL},"code":{{"coding":[{{"system":"http://loinc.org","code":"85354-9"}}]}},"component":[{high},{low}]"#));
    let pulse = vital("http://loinc.org", "8867-4", &ucum(72.0, "/min"));
    let pair: &[&str] = &["systolic_pressure 120 mm[Hg]", "not_a_number: diastolic_pressure was not measured: dataAbsentReason cuff"];
    check("fhir", &[(&panel, pair)]);
    let bundle = format!(
        r#"{{"resourceType":"Bundle","type":"collection","entry":[{{"resource":{{"resourceType":"Patient","id":"ada"}}}},{{"resource":{panel}}},{{"resource":{pulse}}},{{}}]}}"#
    );
    check("fhir", &[(&bundle, &[pair[0], pair[1], "heart_rate 72", "malformed: an entry of the Bundle holds no resource"])]);
    check(
        "fhir",
        &[
            ("", &["empty: the message is empty"]),
            ("[]", &["malformed: a resource is an object"]),
            (r#"{"resourceType":"Patient"}"#, &["malformed: `Patient` is neither an Observation nor a Bundle"]),
            (r#"{"resourceType":"Bundle"}"#, &["empty: there is no Observation in the Bundle"]),
            (r#"{"resourceType":"Observation"}"#, &["unknown_metric: `` is no LOINC, MDC or SNOMED code"]),
        ],
    );
    // a refused component can be sent again alone, with the same answer
    let mut sender = Sender::new();
    let decided = sender.send_typed("ox", "v1/devices/ox/vitals", "application/fhir+json; fhirVersion=4.0", bundle.as_bytes());
    let intake::Decided::Dead(dead) = &decided[1] else { panic!("{decided:?}") };
    assert_eq!(words(&sender.send("ox", "v1/devices/ox/vitals/fhir", std::str::from_utf8(&dead.payload).unwrap())), [dead.detail.as_str()]);
}

/// A day is its beginning: it never hides what was measured later that day, and is never later than now.
#[test]
fn a_day_is_its_beginning() {
    let code = r#""code":{"coding":[{"system":"http://loinc.org","code":"29463-7"}]}"#;
    let on = |day: &str| {
        let value = ucum(80.0, "kg");
        let payload = observation(&format!(r#""status":"final","effectiveDateTime":"{day}",{code},{value}"#));
        readings(Sender::new().send("ox", "v1/devices/ox/vitals/fhir", &payload)).remove(0).at
    };
    assert_eq!(NOW.to_string(), "2026-11-20T10:00:00Z");
    assert_eq!(on("2026-11-20").to_string(), "2026-11-20T00:00:00Z");
    assert_eq!(on("2026-11-21"), NOW);
    // east of Greenwich it is tomorrow: that is no wrong clock, and moves nothing else
    let weight = |when: &str| observation(&format!(r#""status":"final","effectiveDateTime":"{when}",{code},{}"#, ucum(80.0, "kg")));
    let bundle = format!(r#"{{"resourceType":"Bundle","entry":[{{"resource":{}}},{{"resource":{}}}]}}"#, weight("2026-11-21"), weight("2026-11-20T09:00:00Z"));
    let read = readings(Sender::new().send("ox", "v1/devices/ox/vitals/fhir", &bundle));
    assert_eq!([read[0].at, read[1].at], [NOW, NOW - schemas::Micros::hours(1)]);
}
