//! Open mHealth and IEEE 1752.1.

use crate::{Sender, check, words};

fn point(name: &str, version: &str, body: &str) -> String {
    format!(
        r#"{{"header":{{"id":"1","creation_date_time":"2026-11-22T06:00:00Z","schema_id":{{"namespace":"omh","name":"{name}","version":"{version}"}}}},"body":{body}}}"#
    )
}

#[test]
fn bodies_and_data_points_are_read() {
    let pulse = r#"{"heart_rate":{"value":60,"unit":"beats/min"},"effective_time_frame":{"date_time":"2026-11-20T07:25:00Z"}}"#;
    let ieee = r#"{"header":{"uuid":"1","source_creation_date_time":"2026-11-22T06:00:00Z","modality":"sensed","schema_id":{"namespace":"ieee","name":"heart-rate","version":"2.0"}},"body":{"heart_rate":{"value":60,"unit":"beats/min"},"effective_time_frame":{"date_time":"2026-11-20T07:25:00Z"}}}"#;
    check(
        "omh",
        &[
            (pulse, &["heart_rate 60 /min, measured 2026-11-20T07:25:00Z"]),
            (&format!("[{pulse},{pulse}]"), &["heart_rate 60", "heart_rate 60"]),
            (&point("heart-rate", "2.0", pulse), &["heart_rate 60"]),
            (ieee, &["heart_rate 60"]),
            (
                r#"{"systolic_blood_pressure":{"value":120,"unit":"mmHg"},"diastolic_blood_pressure":{"value":5,"unit":"mmHg"}}"#,
                &["systolic_pressure 120 mm[Hg], measured when received", "implausible: diastolic_pressure 5 mmHg"],
            ),
            (
                r#"{"oxygen_saturation":{"value":95,"unit":"%"},"supplemental_oxygen_flow_rate":{"value":2.5,"unit":"L/min"}}"#,
                &["spo2 95 %", "oxygen_flow 2.5 L/min"],
            ),
            // an interval stands at its end, also one that is given by its length
            (
                r#"{"step_count":{"value":600,"unit":"steps"},"effective_time_frame":{"time_interval":{"start_date_time":"2026-11-20T06:00:00Z","duration":{"value":1.5,"unit":"h"}}}}"#,
                &["steps 600 {steps}, measured 2026-11-20T07:30:00Z"],
            ),
            // a day and a part of it stand at the day's beginning
            (
                r#"{"heart_rate":{"value":60,"unit":"beats/min"},"effective_time_frame":{"time_interval":{"date":"2026-11-20","part_of_day":"evening"}}}"#,
                &["heart_rate 60 /min, measured 2026-11-20T00:00:00Z"],
            ),
        ],
    );
}

#[test]
fn a_refusal_says_what_to_change() {
    let pulse = r#"{"heart_rate":{"value":60,"unit":"beats/min"}}"#;
    check(
        "omh",
        &[
            ("[]", &["empty: there is no data point"]),
            ("7", &["malformed: a data point is an object"]),
            ("{}", &["unknown_metric: none of heart_rate, systolic_blood_pressure"]),
            (r#"{"body":{}}"#, &["malformed: a data point has a `header`"]),
            (r#"{"header":{}}"#, &["malformed: a data point has a `body`"]),
            (r#"{"header":{},"body":{}}"#, &["malformed: the header has no `id`"]),
            (&point("physical-activity", "1.0", "{}"), &["unknown_metric: `omh:physical-activity` is no schema that is read; known are heart-rate"]),
            (&point("heart-rate", "9.0", pulse), &["unknown_format: heart-rate has no version `9.0` that is read; known are 2.0, 1.1, 1.0"]),
            (&point("heart-rate", "2.0", pulse), &["bad_time: `effective_time_frame` is missing; heart-rate 2.0 requires it"]),
            (&point("heart-rate", "1.0", pulse), &["heart_rate 60"]),
            (&point("heart-rate", "1.0", "{}"), &["malformed: `heart_rate` is missing"]),
            (r#"{"heart_rate":{"value":60,"unit":"beat/min"}}"#, &["unit_mismatch: heart_rate 60 beat/min"]),
            (r#"{"step_count":{"value":600,"unit":"steps"}}"#, &["bad_time: `effective_time_frame` is missing; step-count 3.0 requires it"]),
            (
                r#"{"heart_rate":{"value":60,"unit":"beat/min"},"effective_time_frame":{"date_time":"2026-11-20T07:25:00Z"}}"#,
                &["unit_mismatch: heart_rate 60 beat/min; expected one of beats/min"],
            ),
            (
                r#"{"heart_rate":{"value":60,"unit":"beats/min"},"effective_time_frame":{"date_time":"2026-11-20T07:25:00Z"},"descriptive_statistic":"variance"}"#,
                &["not_a_number: heart_rate was not measured: a variance is a statistic; send the readings themselves"],
            ),
            (
                r#"{"heart_rate":{"value":null,"unit":"beats/min"},"effective_time_frame":{"date_time":"2026-11-20T07:25:00Z"}}"#,
                &["not_a_number: `heart_rate` has no `value` that is a number"],
            ),
            (
                r#"{"heart_rate":{"value":60,"unit":"beats/min"},"temporal_relationship_to_sleep":"asleep"}"#,
                &["malformed: `temporal_relationship_to_sleep` is \"asleep\"; expected one of before sleeping"],
            ),
            (
                r#"{"oxygen_saturation":{"value":0.96,"unit":"%"},"effective_time_frame":{"date_time":"2026-11-20T07:25:00Z"}}"#,
                &["unit_mismatch: spo2 0.96; expected % between 0 and 100"],
            ),
            (
                r#"{"blood_glucose":{"value":5.5,"unit":"mg/dL"},"effective_time_frame":{"date_time":"2026-11-20T07:25:00Z"}}"#,
                &["unit_mismatch: glucose 5.5; expected at least 20 mg/dL; this is true of mmol/L"],
            ),
        ],
    );
}

#[test]
fn one_of_two_pressures_may_be_refused_alone() {
    let body = r#"{"systolic_blood_pressure":{"value":400,"unit":"mmHg"},"diastolic_blood_pressure":{"value":60,"unit":"mmHg"}}"#;
    let said = words(&Sender::new().send("ox", "v1/devices/ox/vitals/omh", body));
    assert!(said.len() == 2 && said[0].starts_with("implausible: systolic_pressure 400 mmHg") && said[1] == "ok", "{said:?}");
}
