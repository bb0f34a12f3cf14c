//! One valid message or more of each format: what is bent.

/// Topic, and payloads in the format that it names.
pub(crate) struct Sample {
    pub topic: &'static str,
    pub content_type: &'static str,
    pub payloads: &'static [&'static str],
}

const fn sample(topic: &'static str, payloads: &'static [&'static str]) -> Sample {
    Sample { topic, content_type: "", payloads }
}

pub(crate) const CBOR: usize = 2;

pub(crate) static SAMPLES: [Sample; 12] = [
    sample(
        "v1/devices/ox/vitals",
        &[
            r#"{"metric":"spo2","value":97,"unit":"%","measured_at":"2026-11-20T09:59:00Z","seq":1,"boot":2}"#,
            r#"{"sent_at":1795168799000,"seq":7,"boot":1,"readings":[{"metric":"heart_rate","value":72.5,"measured_at":1795168790123},{"metric":"glucose","value":6.1,"unit":"mmol/L"},{"metric":"spo","value":null}]}"#,
            r#"[{"metric":"temperature","value":36.6,"unit":"Cel"},{"metric":"weight","value":80000,"unit":"g"}]"#,
        ],
    ),
    sample("v1/devices/ox/vitals/senml", PACKS),
    sample("v1/devices/ox/vitals/senml-cbor", PACKS),
    sample(
        "v1/devices/ox/vitals/omh",
        &[
            r#"{"header":{"id":"1","creation_date_time":"2026-11-20T07:25:00Z","schema_id":{"namespace":"omh","name":"heart-rate","version":"2.0"},"acquisition_provenance":{"source_name":"x","modality":"sensed"}},"body":{"heart_rate":{"value":60,"unit":"beats/min"},"effective_time_frame":{"date_time":"2026-11-20T07:25:00Z"},"temporal_relationship_to_physical_activity":"at rest"}}"#,
            r#"{"systolic_blood_pressure":{"value":120,"unit":"mmHg"},"diastolic_blood_pressure":{"value":80,"unit":"mmHg"},"effective_time_frame":{"time_interval":{"start_date_time":"2026-11-20T07:25:00Z","duration":{"value":10,"unit":"min"}}},"body_posture":"sitting","descriptive_statistic":"average"}"#,
            r#"[{"step_count":{"value":100,"unit":"steps"},"effective_time_frame":{"time_interval":{"date":"2026-11-20","part_of_day":"morning"}}},{"oxygen_saturation":{"value":97,"unit":"%"},"supplemental_oxygen_flow_rate":{"value":2,"unit":"L/min"},"system":"peripheral capillary","effective_time_frame":{"date_time":"2026-11-20T07:25:00Z"}}]"#,
        ],
    ),
    sample(
        "v1/devices/ox/vitals/fhir",
        &[
            r#"{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"},{"system":"urn:iso:std:iso:11073:10101","code":"147842"}],"text":"HR"},"effectiveDateTime":"2026-11-20T09:00:00Z","valueQuantity":{"value":72,"unit":"beats/min","system":"http://unitsofmeasure.org","code":"{beats}/min"}}"#,
            r#"{"resourceType":"Observation","status":"final","effectivePeriod":{"start":"2026-11-20T08:00:00Z","end":"2026-11-20T09:00:00Z"},"code":{"coding":[{"system":"http://loinc.org","code":"85354-9"}]},"component":[{"code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},"valueQuantity":{"value":107,"system":"http://unitsofmeasure.org","code":"mm[Hg]"}},{"code":{"coding":[{"system":"http://snomed.info/sct","code":"271650006"}]},"dataAbsentReason":{"coding":[{"code":"not-performed"}]}}]}"#,
            r#"{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient"}},{"resource":{"resourceType":"Observation","status":"entered-in-error","code":{"coding":[{"system":"http://loinc.org","code":"2339-0"}]},"effectiveDateTime":"2026-11-20","valueQuantity":{"value":99,"comparator":"<","unit":"mg/dL"}}},{"resource":{"resourceType":"Bundle"}}]}"#,
        ],
    ),
    sample("v1/devices/me/telemetry", &[r#"[{"ts":1795168790123,"values":{"spo2":97,"heartRate":60}},{"systolic":120}]"#, r#"{"spo2":97,"temperature":36.6}"#]),
    sample(
        "v1/gateway/telemetry",
        &[r#"{"ox":[{"ts":1795168790123,"values":{"spo2":97}}],"cuff":[{"ts":1795168790124,"values":{"systolic":120,"diastolic":80}}],"Device A":[]}"#],
    ),
    sample("tele/ox/SENSOR", &[r#"{"Time":"2026-11-20T09:59:00","MLX90614":{"OBJTMP":36.6,"AMBTMP":21.5},"HX711":{"Weight":80.5},"TempUnit":"C"}"#]),
    sample("zigbee2mqtt/ox", &[r#"{"battery":87,"body_temperature":36.6,"spo2":97,"heart_rate":60,"last_seen":"2026-11-20T09:59:00Z","linkquality":120}"#]),
    sample(
        "v1/devices/ox/vitals/m/several",
        &[r#"{"at":1795168790,"unit":"%","id":"ox","items":[{"n":"ox","v":[97,98]},{"n":7,"v":[{"v":96}]}],"more":{"v":{"a":95}}}"#],
    ),
    Sample { topic: "v1/devices/cuff/vitals", content_type: "application/senml+json; charset=utf-8", payloads: PACKS },
    sample("v1/devices/lost/vitals/fhir", &["{}"]),
];

const PACKS: &[&str] = &[
    r#"[{"bn":"urn:dev:mac:0024befffe804ff1:","bt":1795168790.5,"bu":"%","bver":10,"n":"spo2","v":97},{"n":"8867-4","u":"beat/min","v":72,"t":-5},{"n":"respiratory_rate","u":"1/s","v":0.25,"ut":60}]"#,
    r#"[{"n":"dev:temperature","u":"K","v":310.15},{"n":"dev:steps","s":40,"bs":2},{"n":"dev:open","vb":true},{"n":"dev:photo","vd":"aGkgCg"},{"n":"dev:label","vs":"x","label_":1}]"#,
];

/// A mapping that reads many values, from items, beside what the message says of all of them.
pub(crate) const SEVERAL: &str = r#"
name = "several"
each = "$.items"
device = "@.n"
time = "$.at"
time_as = "s"
[[reading]]
metric = "spo2"
value = "@..v"
unit = "$.unit"
[[reading]]
metric = "heart_rate"
value = "$.pulse"
[devices]
7 = "cuff"
"#;

/// Every sample as [`crate::Checker::check`] takes it.
pub fn samples() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (number, sample) in SAMPLES.iter().enumerate() {
        for payload in sample.payloads {
            let mut whole = vec![number as u8];
            if number == CBOR {
                let value: serde_json::Value = serde_json::from_str(payload).unwrap_or_default();
                if ciborium::into_writer(&value, &mut whole).is_err() {
                    whole.truncate(1);
                }
            } else {
                whole.extend_from_slice(payload.as_bytes());
            }
            all.push(whole);
        }
    }
    all
}
