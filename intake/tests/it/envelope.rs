//! What stands around the readings: the device, the format, when it was sent, which start of the device it was.

use bytes::Bytes;
use intake::{Mappings, Message, envelope};
use schemas::{DeviceId, EventTime};

#[test]
fn what_stands_around_the_readings_is_told() {
    let sent = EventTime::parse("2026-11-22T06:00:05Z").unwrap();
    let reading = r#"{"metric": "spo2", "value": 97, "boot": 4}"#;
    let whole = format!(r#"{{"sent_at": "{sent}", "boot": 3, "readings": [{reading}]}}"#);
    let single = r#"{"metric": "spo2", "value": 97, "sent_at": "2026-11-22T06:00:05Z"}"#;
    let senml = r#"[{"n": "spo2", "u": "%", "v": 97}]"#;
    for (topic, payload, expected) in [
        ("v1/devices/ox/vitals", whole.as_str(), Some(("ox", "json", true, Some(sent), Some(3)))),
        ("v1/devices/cuff/vitals/json", single, Some(("cuff", "json", true, Some(sent), None))),
        ("v1/devices/ox/vitals", reading, Some(("ox", "json", true, None, Some(4)))),
        ("v1/devices/ox/vitals", "{", Some(("ox", "json", true, None, None))),
        ("v1/devices/ox/vitals/senml", senml, Some(("ox", "senml", false, None, None))),
        ("v1/devices/me/telemetry", "{}", Some(("ox", "m/thingsboard-telemetry", false, None, None))),
        ("v1/devices/ox/vitals/morse", reading, None),
        ("elsewhere", reading, None),
    ] {
        let (ox, payload) = (DeviceId::parse("ox").unwrap(), Bytes::copy_from_slice(payload.as_bytes()));
        let message = Message { connection: &ox, topic, payload: &payload, content_type: "", dup: false, received_at: EventTime(0) };
        let found = envelope(&message, &Mappings::shipped().unwrap());
        let shown = found.as_ref().map(|found| (found.device.as_str(), found.format.as_str(), found.may_be_stamped, found.sent_at, found.boot));
        assert_eq!(shown, expected, "{topic}");
    }
}
