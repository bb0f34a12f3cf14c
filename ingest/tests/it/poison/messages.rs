//! Poison: messages of which something cannot be an input, and into how many of each they fall.

pub struct Poison {
    pub what: &'static str,
    /// `{}` stands for the device.
    pub topic: &'static str,
    pub payload: Vec<u8>,
    pub inputs: usize,
    pub dead_letters: usize,
}

pub fn all() -> Vec<Poison> {
    const VITALS: &str = "v1/devices/{}/vitals";
    let poison = |what, topic, payload: &str, inputs, dead_letters| Poison { what, topic, payload: payload.as_bytes().to_vec(), inputs, dead_letters };
    let bad = r#"{"metric":"spo","value":97}"#;
    vec![
        poison("nothing", VITALS, "", 0, 1),
        poison("JSON cut short", VITALS, r#"{"metric":"spo2","value":9"#, 0, 1),
        poison("nested too deep", VITALS, &"[".repeat(4000), 0, 1),
        Poison {
            what: "noise",
            topic: VITALS,
            payload: (0..8000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
            inputs: 0,
            dead_letters: 1,
        },
        poison("an unknown format", "v1/devices/{}/vitals/xml", "<spo2>97</spo2>", 0, 1),
        poison("an unknown topic", "home/{}", r#"{"metric":"spo2","value":97}"#, 0, 1),
        poison("an unknown device", "v1/devices/{}-x/vitals", r#"{"metric":"spo2","value":97}"#, 0, 1),
        poison("an unknown metric", VITALS, bad, 0, 1),
        poison("an impossible value", VITALS, r#"{"metric":"spo2","value":140}"#, 0, 1),
        poison("a fraction for a percentage", VITALS, r#"{"metric":"spo2","value":0.96,"unit":"%"}"#, 0, 1),
        poison("a number that is none", VITALS, r#"{"metric":"spo2","value":"97"}"#, 0, 1),
        poison("a time that is none", VITALS, r#"{"metric":"spo2","value":97,"measured_at":"yesterday"}"#, 0, 1),
        poison("two of three wrong", VITALS, &format!(r#"[{{"metric":"pulse","value":1}},{{"metric":"spo2","value":96}},{bad}]"#), 1, 2),
        poison("a hundred wrong", VITALS, &format!("[{}]", vec![bad; 100].join(",")), 0, 100),
        poison("more than can be", VITALS, &format!("[{}0]", "0,".repeat(5000)), 0, 1),
        poison("SenML with a bad name", "v1/devices/{}/vitals/senml", r#"[{"n":" ","v":1}]"#, 0, 1),
        poison("CBOR that announces more than there is", "v1/devices/{}/vitals/senml-cbor", "\u{1b}\u{7f}", 0, 1),
        poison("a FHIR resource that is no Observation", "v1/devices/{}/vitals/fhir", r#"{"resourceType":"Patient"}"#, 0, 1),
        poison("a Bundle in a Bundle", "v1/devices/{}/vitals/fhir", r#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Bundle"}},{}]}"#, 0, 2),
        poison("an unknown mapping", "v1/devices/{}/vitals/m/acme", "{}", 0, 1),
    ]
}
