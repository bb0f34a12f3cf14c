//! What others published, counted beside what was expected.

use intake::{Format, explain};
use serde_json::{Value, json};

use crate::{NOW, counted, shared, shown};

/// Schema, and how many documents must be accepted and rejected.
const OPEN_MHEALTH: [(&str, usize, usize); 8] = [
    ("heart-rate", 8, 5),
    ("blood-pressure", 18, 10),
    ("oxygen-saturation", 5, 5),
    ("respiratory-rate", 7, 4),
    ("body-temperature", 11, 10),
    ("body-weight", 8, 21),
    ("blood-glucose", 26, 28),
    ("step-count", 10, 11),
];

#[test]
fn open_mhealth_should_pass_is_accepted_and_should_fail_is_rejected() {
    let Some(folder) = shared("formats/openmhealth/test-data") else { return };
    for (schema, pass, fail) in OPEN_MHEALTH {
        let (mut accepted, mut rejected, mut bare_rejected) = (0, 0, 0);
        for version in std::fs::read_dir(folder.join(schema)).unwrap() {
            let version = version.unwrap().path();
            for (kind, must) in [("shouldPass", true), ("shouldFail", false)] {
                for file in std::fs::read_dir(version.join(kind)).into_iter().flatten() {
                    let file = file.unwrap().path();
                    let payload = std::fs::read(&file).unwrap();
                    let body: Value = serde_json::from_slice(&payload).unwrap();
                    let id = json!({"namespace": "omh", "name": schema, "version": version.file_name().unwrap().to_str().unwrap()});
                    let point = json!({"header": {"id": "1", "creation_date_time": "2026-11-20T07:25:00Z", "schema_id": id}, "body": body});
                    let (stored, refused) = counted(&explain(point.to_string().as_bytes(), Format::OpenMHealth, NOW));
                    let (bare_stored, bare_refused) = counted(&explain(&payload, Format::OpenMHealth, NOW));
                    let name = file.display();
                    if must {
                        assert!(stored > 0 && refused == 0, "{name}: {:?}", shown(point.to_string().as_bytes(), Format::OpenMHealth));
                        assert!(bare_stored > 0 && bare_refused == 0, "{name}: {:?}", shown(&payload, Format::OpenMHealth));
                        accepted += 1;
                    } else {
                        assert!(stored == 0 && refused > 0, "{name} is accepted");
                        rejected += 1;
                        bare_rejected += usize::from(bare_stored == 0);
                    }
                }
            }
        }
        assert_eq!((accepted, rejected), (pass, fail), "{schema}");
        // without its header a document is of any version: only a missing time can become right by that
        let untimed = [("heart-rate", 1), ("oxygen-saturation", 1), ("body-temperature", 2), ("blood-glucose", 2), ("step-count", 2), ("blood-pressure", 1)];
        let allowed = untimed.iter().find(|(name, _)| *name == schema).map_or(0, |(_, allowed)| *allowed);
        assert_eq!(rejected - bare_rejected, allowed, "{schema}");
    }
}

/// HL7's 64 Observations, and what is stored of them. All else is no vital sign, was cancelled, entered in error or not measured.
#[test]
fn hl7_s_examples() {
    let Some(folder) = shared("fhir-r4/Observation") else { return };
    let expected = [
        ("blood-pressure", &["systolic_pressure 107 mm[Hg], measured 2012-09-17T00:00:00Z", "diastolic_pressure 60 mm[Hg], measured 2012-09-17T00:00:00Z"][..]),
        ("blood-pressure-dar", &["systolic_pressure 107 mm[Hg], measured 2012-09-17T00:00:00Z"]),
        ("body-temperature", &["temperature 36.5 Cel, measured 1999-07-02T00:00:00Z"]),
        ("example", &["weight 83.914588 kg (sent as 185 [lb_av]), measured 2016-03-28T00:00:00Z"]),
        ("f001", &["glucose 113.49828 mg/dL (sent as 6.3 mmol/L), measured 2013-04-02T08:30:10Z"]),
        ("heart-rate", &["heart_rate 44 /min, measured 1999-07-02T00:00:00Z"]),
        ("map-sitting", &["mean_pressure 60 mm[Hg], measured 2018-04-05T09:30:10Z"]),
        ("mbp", &["mean_pressure 80 mm[Hg], measured 1999-07-02T00:00:00Z"]),
        ("respiratory-rate", &["respiratory_rate 26 /min, measured 1999-07-02T00:00:00Z"]),
        ("satO2", &["spo2 95 %, measured 2014-12-05T08:30:10Z"]),
    ];
    let refused = [
        ("blood-pressure-cancel", &["not_a_number: systolic_pressure was not measured: its status is cancelled", "not_a_number: diastolic_pressure"][..]),
        ("blood-pressure-dar", &["not_a_number: diastolic_pressure was not measured: dataAbsentReason not-performed"]),
        ("f202", &["not_a_number: temperature was not measured: its status is entered-in-error"]),
        ("unsat", &["not_a_number: glucose was not measured: its status is cancelled"]),
    ];
    let (mut files, mut stored, mut dead) = (0, 0, 0);
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap().trim_start_matches("Observation-").to_owned();
        let explained = explain(&std::fs::read(&file).unwrap(), Format::Fhir, NOW);
        let (good, bad): (Vec<_>, Vec<_>) = explained.iter().partition(|explained| explained.outcome.is_ok());
        let good: Vec<String> = good.iter().map(ToString::to_string).collect();
        let bad: Vec<String> = bad.iter().map(ToString::to_string).collect();
        assert_eq!(good, expected.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, lines)| *lines), "{name}");
        match refused.iter().find(|(known, _)| *known == name) {
            Some((_, says)) => assert!(bad.len() == says.len() && bad.iter().zip(*says).all(|(bad, says)| bad.starts_with(says)), "{name}: {bad:?}"),
            None => assert!(bad.iter().all(|bad| bad.starts_with("unknown_metric: ")), "{name}: {bad:?}"),
        }
        files += 1;
        stored += good.len();
        dead += bad.len();
    }
    assert_eq!((files, stored, dead), (64, 11, DEAD));
}

const DEAD: usize = 97;
