//! The mapping language, and the mappings that come with Vigil.

use bytes::Bytes;
use intake::{Assigned, Decided, DeviceClock, Format, Known, Mapping, Mappings, Message, Registry, decode, explain};
use schemas::{EventTime, Micros, PatientId};

use crate::{MAPPINGS, NOW, Sender, check, device, readings, shared, shown, words};

#[test]
fn thingsboard_s_shapes_are_read() {
    check(
        "thingsboard-telemetry",
        &[
            (r#"{"spo2":97,"heartRate":70}"#, &["heart_rate 70 /min, measured when received", "spo2 97 %"]),
            (r#"{"ts":1795168800000,"values":{"spo2":97,"systolic":120}}"#, &["spo2 97 %, measured 2026-11-20T10:00:00Z", "systolic_pressure 120"]),
            (
                r#"[{"ts":1795168800000,"values":{"spo2":97}},{"ts":1795168801000,"values":{"spo2":"97","mood":1}},{"spo2":96}]"#,
                &[
                    "spo2 97 %, measured 2026-11-20T10:00:00Z",
                    "unknown_metric: `mood` is not a metric",
                    "not_a_number: spo2 was not measured: `spo2` is not a number",
                    "spo2 96 %, measured when received",
                ],
            ),
            (r#"{"ts":"now","values":{"spo2":97}}"#, &["bad_time: @.ts: expected whole milliseconds since 1970"]),
            (r#"{"values":{}}"#, &["empty: nothing that the mapping `thingsboard-telemetry` reads is in it"]),
            ("[]", &["empty: nothing in it stands where the mapping `thingsboard-telemetry` looks"]),
            ("spo2=97", &["malformed: not JSON"]),
        ],
    );
    check(
        "thingsboard-gateway",
        &[
            (
                r#"{"ox":[{"ts":1795168800000,"values":{"spo2":97}}],"Device A":[{"ts":1795168800000,"values":{"spo2":97}}]}"#,
                &["unknown_device: `Device A`: an id may hold letters", "ox: spo2 97 %"],
            ),
            (r#"{"ox":[{"values":{"spo2":97}}]}"#, &["ox: bad_time: @.ts: expected a time, and there is none"]),
        ],
    );
}

/// ThingsBoard's own examples, with their temperatures of 22 to 43 °C and humidity.
#[test]
fn thingsboard_s_documentation() {
    let Some(folder) = shared("formats/thingsboard") else { return };
    let humidity = "unknown_metric: `humidity` is not a metric";
    let nameless = "unknown_device: `Device";
    for (file, mapping, says) in [
        (
            "telemetry-data-as-object",
            "thingsboard-telemetry",
            &["unknown_metric: `key1`", "unknown_metric: `key2`", "unknown_metric: `key3`", "unknown_metric: `key4`"][..],
        ),
        ("telemetry-data-with-ts", "thingsboard-telemetry", &["unknown_metric: `key1`", "unknown_metric: `key2`"]),
        (
            "telemetry-array-with-ts",
            "thingsboard-telemetry",
            &[humidity, "temperature 22.5 Cel, measured 2016-01-01T12:00:00Z", humidity, "temperature 22.7 Cel, measured 2016-01-01T12:00:01Z"],
        ),
        ("gateway-telemetry", "thingsboard-gateway", &[nameless; 6]),
    ] {
        let payload = std::fs::read(folder.join(format!("{file}.json"))).unwrap();
        let said = shown(&payload, Format::Mapped(MAPPINGS.named(mapping).unwrap()));
        assert!(said.len() == says.len() && said.iter().zip(says).all(|(said, says)| said.starts_with(says)), "{file}: {said:#?}");
    }
    // the gateway's devices, once they have ids
    let toml = include_str!("../../../mappings/thingsboard-gateway.toml");
    let named = Mapping::parse(&format!("{toml}\n[devices]\n\"Device A\" = \"device-a\"\n\"Device B\" = \"device-b\"\n")).unwrap();
    let payload = std::fs::read(folder.join("gateway-telemetry.json")).unwrap();
    let said = shown(&payload, Format::Mapped(&named));
    let stored: Vec<&String> = said.iter().filter(|said| !said.contains("humidity")).collect();
    assert_eq!(
        stored,
        [
            "device-a: temperature 42 Cel, measured 2017-01-01T00:00:00Z",
            "device-a: temperature 43 Cel, measured 2017-01-01T00:00:01Z",
            "device-b: temperature 42 Cel, measured 2017-01-01T00:00:00Z"
        ]
    );
    assert_eq!(said.len(), 6);
}

#[test]
fn flat_home_automation_is_read() {
    check(
        "tasmota",
        &[
            (r#"{"Time":"2026-11-22T06:00:00","MLX90614":{"OBJTMP":36.6,"AMBTMP":21.5},"TempUnit":"C"}"#, &["temperature 36.6 Cel, measured when received"]),
            (r#"{"MLX90614":{"OBJTMP":98.6},"HX711":{"Weight":71.2},"TempUnit":"F"}"#, &["temperature 37 Cel (sent as 98.6 F)", "weight 71.2 kg"]),
            (r#"{"MLX90614":{"OBJTMP":98.6}}"#, &["unit_mismatch: temperature: there is no unit at @.TempUnit"]),
            (r#"{"MLX90614":{"OBJTMP":null},"TempUnit":"C"}"#, &["not_a_number: temperature was not measured: `@.MLX90614.OBJTMP` is null"]),
            (
                r#"{"Time":"2026-11-22T06:00:00","AM2301":{"Temperature":21.5}}"#,
                &["empty: nothing that the mapping `tasmota` reads is in it: @.MLX90614.OBJTMP"],
            ),
        ],
    );
    check(
        "zigbee2mqtt",
        &[
            (
                r#"{"battery":87,"body_temperature":36.6,"temperature":21.5,"last_seen":"2026-11-20T09:00:00Z","linkquality":120}"#,
                &["battery 87 %, measured 2026-11-20T09:00:00Z", "temperature 36.6 Cel"],
            ),
            (r#"{"battery":87,"last_seen":1795168800000}"#, &["battery 87 %, measured 2026-11-20T10:00:00Z"]),
            (r#"{"battery":101}"#, &["implausible: battery 101 %"]),
        ],
    );
}

#[test]
fn a_topic_finds_its_mapping_and_its_device() {
    let battery = r#"{"battery":87}"#;
    for (connection, topic, payload, says) in [
        ("hub", "zigbee2mqtt/cuff", battery, "ok"),
        ("hub", "zigbee2mqtt/toaster", battery, "unknown_device: device `toaster` is not registered"),
        ("hub", "zigbee2mqtt/ox", battery, "not_allowed: `hub` may not speak for device `ox`"),
        ("hub", "zigbee2mqtt/Living Room", battery, "unknown_device: the device in the topic"),
        ("hub", "zigbee2mqtt/cuff/availability", battery, "unknown_topic"),
        ("ox", "v1/devices/me/telemetry", r#"{"spo2":97}"#, "ok"),
        ("ox", "v1/devices/ox/vitals/m/zigbee2mqtt", battery, "ok"),
        ("ox", "v1/devices/ox/vitals/m/nobody", battery, "unknown_format: `nobody` is no mapping; known are thingsboard-telemetry"),
        ("ox", "tele/ox/SENSOR", r#"{"HX711":{"Weight":71.2}}"#, "ok"),
        ("ox", "tele/ox/STATE", "{}", "unknown_topic"),
    ] {
        let said = words(&Sender::new().send(connection, topic, payload));
        assert!(said.len() == 1 && said[0].starts_with(says), "{connection} {topic}: {said:?}");
    }
    let clock = |topic: &str| intake::device_of(topic, &device("hub"), &MAPPINGS);
    assert_eq!(clock("zigbee2mqtt/cuff"), Some(device("cuff")));
    assert_eq!(clock("v1/devices/ox/vitals/senml"), Some(device("ox")));
    assert_eq!(clock("v1/gateway/telemetry"), Some(device("hub")));
    assert_eq!(clock("elsewhere"), None);
}

/// One message of a hub: each entry is its device's, each device's clock its own, and a stranger refuses nobody else.
#[test]
fn a_gateway_speaks_for_the_devices_behind_it() {
    let known =
        |id: &str, hub: Option<&str>| Known { device: device(id), test: false, hub: hub.map(device), revoked: id == "lost", min_time: NOW - Micros::days(30) };
    let worn = |id: &str, patient: &str| Assigned { device: device(id), patient: PatientId::parse(patient).unwrap(), from: EventTime(0), until: None };
    let behind = Some("hub");
    let registry = Registry::new(
        [known("hub", None), known("cuff", behind), known("scale", behind), known("lost", behind), known("spare", behind), known("foreign", None)],
        [worn("cuff", "ada"), worn("scale", "uwe"), worn("foreign", "eve"), worn("lost", "ada")],
    );
    let ms = NOW.0 / 1000;
    let ahead = ms + 3_600_000;
    let payload = format!(
        r#"{{"cuff":[{{"ts":{ms},"values":{{"systolic":120}}}}],"foreign":[{{"ts":{ms},"values":{{"spo2":97}}}}],"lost":[{{"ts":{ms},"values":{{"spo2":97}}}}],
            "scale":[{{"ts":{ahead},"values":{{"weight":70}}}}],"spare":[{{"ts":{ms},"values":{{"spo2":97}}}}],"toaster":[{{"ts":{ms},"values":{{"spo2":97}}}}]}}"#
    );
    let send = |payload: &[u8]| {
        let payload = Bytes::copy_from_slice(payload);
        let message = Message { connection: &device("hub"), topic: "v1/gateway/telemetry", payload: &payload, content_type: "", dup: false, received_at: NOW };
        decode(&message, &registry, &MAPPINGS, &mut DeviceClock::default())
    };
    let decided = send(payload.as_bytes());
    let said = words(&decided);
    let says = [
        "ok",
        "not_allowed: `hub` may not speak for device `foreign`",
        "not_allowed",
        "ok",
        "unassigned: nobody wore device `spare`",
        "unknown_device: device `toaster` is not registered",
    ];
    assert!(said.len() == says.len() && said.iter().zip(says).all(|(said, says)| said.starts_with(says)), "{said:#?}");
    let stored = readings(decided.iter().filter(|decided| matches!(decided, Decided::Input(..))).cloned().collect());
    assert_eq!((stored[0].patient.as_str(), stored[0].at, stored[0].stamped_at), ("ada", NOW, NOW));
    assert_eq!((stored[1].patient.as_str(), stored[1].at, stored[1].stamped_at), ("uwe", NOW, NOW + Micros::hours(1)), "only the scale's clock is wrong");
    // the dead letter can be sent again alone: it still names its device
    let Decided::Dead(dead) = &decided[4] else { panic!() };
    assert_eq!(std::str::from_utf8(&dead.payload).unwrap(), format!(r#"{{"spare":[{{"ts":{ms},"values":{{"spo2":97}}}}]}}"#));
    assert_eq!(words(&send(&dead.payload)), [dead.detail.as_str()]);
}

#[test]
fn the_language_by_example() {
    let mapping = Mapping::parse(
        r#"
        name = "acme"
        about = "Acme's hub"
        topics = ["acme/+/up"]
        each = "$.measurements"
        device = "@.serial"
        time = "$.at"
        time_as = "s"

        [devices]
        "SN 1" = "ox"

        [[reading]]
        metric = "temperature"
        value = "@.t"
        unit = "Cel"
        scale = 0.1

        [[reading]]
        metric = "heart_rate"
        value = "@.pulses[*]"

        [members]
        of = ["@.more"]
        ignore = ["rssi"]
        names.ox = { metric = "spo2", unit = "%" }
        "#,
    )
    .unwrap();
    assert_eq!((mapping.name(), mapping.about(), mapping.topics().collect::<Vec<_>>()), ("acme", "Acme's hub", vec!["acme/+/up".to_owned()]));
    let payload = br#"{"at":1795168800.5,"fw":"1.2","measurements":[{"serial":"SN 1","t":367,"pulses":[70,71]},{"serial":7,"more":{"rssi":-60,"ox":97}}]}"#;
    let explained = explain(payload, Format::Mapped(&mapping), NOW);
    let said: Vec<String> = explained.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "ox: temperature 36.7 Cel, measured 2026-11-20T10:00:00.5Z",
            "ox: heart_rate 70 /min, measured 2026-11-20T10:00:00.5Z",
            "ox: heart_rate 71 /min, measured 2026-11-20T10:00:00.5Z",
            "7: spo2 97 %, measured 2026-11-20T10:00:00.5Z"
        ]
    );
    let mut all = Mappings::shipped().unwrap();
    all.add(mapping);
    let payload = Bytes::copy_from_slice(payload);
    let message = Message { connection: &device("ox"), topic: "acme/1/up", payload: &payload, content_type: "", dup: false, received_at: NOW };
    let decided = decode(&message, &crate::registry(), &all, &mut DeviceClock::default());
    assert_eq!(words(&decided)[..3], ["ok", "ok", "ok"]);
    let Decided::Dead(dead) = &decided[3] else { panic!() };
    assert_eq!(&dead.payload[..], br#"{"at":1795168800.5,"measurements":[{"more":{"ox":97,"rssi":-60},"serial":7}]}"#);
}

#[test]
fn an_error_names_the_line_the_key_and_the_remedy() {
    let reading = "[[reading]]\nmetric = \"spo2\"\nvalue = \"@.spo2\"\n";
    for (toml, says) in [
        ("name = \"a\"\nname = \"b\"", "line 2: `name`: duplicate key"),
        ("name = \"a", "line 1: `name`: "),
        ("nam = \"a\"", "line 1: `nam`: unknown field `nam`, expected one of `name`"),
        ("about = \"a\"", "line 1: `about`: missing field `name`"),
        ("name = \"a b\"", "line 1: `name`: `a b` is no name"),
        ("name = \"a\"", "line 1: `name`: the mapping reads nothing; add a [[reading]]"),
        ("name = \"a\"\n[[reading]]\nmetric = \"spo\"\nvalue = \"@.x\"", "line 3: `metric`: `spo` is not a metric; did you mean spo2?"),
        ("name = \"a\"\n[[reading]]\nmetric = \"spo2\"\nvalue = \"x\"", "line 4: `value`: `x` is no path; start at the item with `@.name`"),
        ("name = \"a\"\n[[reading]]\nmetric = \"spo2\"\nvalue = \"@.[\"", "line 4: `value`: `@.[` is no JSONPath (RFC 9535)"),
        ("name = \"a\"\n[[reading]]\nmetric = \"spo2\"\nvalue = \"@.x\"\nunit = \"kg\"", "line 5: `unit`: `kg` is no unit of spo2; expected one of %"),
        ("name = \"a\"\n[[reading]]\nmetric = \"spo2\"\nvalue = \"@.x\"\nscale = 0.0", "line 5: `scale`: a scale is a number other than 0"),
        ("name = \"a\"\n[[reading]]\nmetric = \"spo2\"", "line 2: `reading`: missing field `value`"),
        (&format!("name = \"a\"\ntopics = [\"a/#\"]\n{reading}"), "line 2: `topics`: `a/#` has a level that is neither text, `{device}` nor `+`"),
        (&format!("name = \"a\"\ntopics = [\"{{device}}/a\"]\n{reading}"), "line 2: `topics`: `{device}/a` must start with a level of its own"),
        (&format!("name = \"a\"\ntopics = [\"a/{{device}}/{{device}}\"]\n{reading}"), "line 2: `topics`: `a/{device}/{device}` names the device twice"),
        (&format!("name = \"a\"\ntopics = [\"v1/devices/{{device}}/vitals/x\"]\n{reading}"), "line 2: `topics`: `v1/devices/{device}/vitals/x` is Vigil's own"),
        (&format!("name = \"a\"\ntime_as = \"ms\"\n{reading}"), "line 2: `time_as`: there is no `time`"),
        (&format!("name = \"a\"\ntime = \"@.t\"\ntime_as = \"us\"\n{reading}"), "line 3: `time_as`: `us` is none of `rfc3339`, `ms` and `s`"),
        (&format!("name = \"a\"\ntime = \"@.t\"\ntime_missing = \"now\"\n{reading}"), "line 3: `time_missing`: `now` is neither `refuse` nor `received`"),
        (&format!("name = \"a\"\neach = \"@.x\"\n{reading}"), "line 2: `each`: it starts at the message"),
        (&format!("name = \"a\"\neach = \"$.x\"\ntime = \"$.a.b\"\n{reading}"), "line 1: `name`: `$.a.b` goes too deep"),
        (&format!("name = \"a\"\n[devices]\n\"x y\" = \"x y\"\n{reading}"), "line 3: `\"x y\"`: an id may hold letters"),
        ("name = \"a\"\n[members]\nof = [\"$.x\"]", "line 3: `of`: name the objects from the item"),
        ("name = \"a\"\n[members]\nof = [\"@\"]\nnames.x = { metric = \"mood\" }", "line 4: `names.x`: `mood` is not a metric"),
    ] {
        let error = Mapping::parse(toml).unwrap_err().to_string();
        assert!(error.starts_with(says), "{toml}\n{error}");
    }
}

/// What one refused message may cost is bounded by what was sent.
#[test]
fn a_message_of_a_thousand_members_is_one_dead_letter() {
    let members: Vec<String> = (0..1000).map(|number| format!(r#""k{number}":1"#)).collect();
    let said = words(&Sender::new().send("ox", "v1/devices/me/telemetry", &format!("{{{}}}", members.join(","))));
    assert_eq!(said, ["malformed: 1000 values in one item; at most 64 are read"]);
}
