//! Vigil's own JSON; topics, times, clocks and who wore the device, which are the same for every format.

use bytes::Bytes;
use intake::{Decided, DeviceClock, Message, decode};
use proptest::prelude::*;
use schemas::{ClockState, EventTime, Input, Metric, Micros};

use crate::{MAPPINGS, NOW, Sender, device, readings, registry, send, words};

#[test]
fn three_shapes_are_read() {
    let time = NOW.to_string();
    let one = format!(r#"{{"metric":"spo2","value":97,"unit":"%","measured_at":"{time}","seq":4}}"#);
    for payload in [one.clone(), format!("[{one}]"), format!(r#"{{"sent_at":"{time}","boot":3,"readings":[{one}]}}"#)] {
        let all = readings(send(&payload));
        assert!(all.len() == 1 && all[0].metric == Metric::Spo2 && all[0].value == 97.0 && all[0].at == NOW && all[0].seq == Some(4), "{payload}");
    }
    let ms = NOW.0 / 1000;
    let warm = readings(send(&format!(r#"{{"metric":"temperature","value":98.6,"unit":"[degF]","measured_at":{ms}}}"#)));
    assert!((warm[0].value - 37.0).abs() < 1e-9 && warm[0].value_as_sent == 98.6 && warm[0].unit_as_sent == "[degF]");
    assert_eq!(readings(send(r#"{"metric":"spo2","value":97}"#))[0].clock, ClockState::Unstamped);
}

#[test]
fn a_refusal_says_what_to_change() {
    for (payload, says) in [
        ("", "empty: the message is empty"),
        ("\u{0}\u{1}", "malformed: not JSON"),
        ("[]", "empty: there is no reading"),
        ("7", "malformed: neither an object nor an array"),
        (r#"{"value":97}"#, "malformed: `metric` is missing"),
        (r#"{"metric":"spo","value":97}"#, "unknown_metric: `spo` is not a metric; did you mean spo2?"),
        (r#"{"metric":"spo2","value":0.96}"#, "unit_mismatch: spo2 0.96; expected % between 0 and 100"),
        (r#"{"metric":"spo2","value":101}"#, "implausible: spo2 101"),
        (r#"{"metric":"glucose","value":5,"unit":"g"}"#, "unit_mismatch: glucose 5 g; expected one of"),
        (r#"{"metric":"spo2","value":null}"#, "not_a_number: spo2: `value` is null"),
        (r#"{"metric":"spo2","value":"97"}"#, "not_a_number: spo2: `value` is not a number"),
        (r#"{"metric":"spo2","value":NaN}"#, "malformed: not JSON"),
        (r#"{"metric":"spo2","value":97,"measured_at":"yesterday"}"#, "bad_time: measured_at: `yesterday` is not a time"),
        (r#"{"metric":"spo2","value":97,"measuredAt":"2026-11-22T06:00:00Z"}"#, "malformed: unknown key `measuredAt`"),
        (r#"{"metric":"spo2","value":97,"patient":"ada"}"#, "malformed: unknown key `patient`"),
        (r#"{"metric":"spo2","value":97,"seq":-1}"#, "malformed: `seq` is not a whole number"),
    ] {
        let said = words(&send(payload));
        assert!(said.len() == 1 && said[0].starts_with(says), "{payload}: {said:?}");
    }
}

#[test]
fn a_topic_names_a_device_that_the_connection_may_speak_for() {
    let good = r#"{"metric":"heart_rate","value":70}"#;
    for (connection, topic, says) in [
        ("ox", "v1/devices/ox/vitals/json", "ok"),
        ("hub", "v1/devices/cuff/vitals", "ok"),
        ("ox", "v1/devices/cuff/vitals", "not_allowed"),
        ("lost", "v1/devices/lost/vitals", "not_allowed"),
        ("hub", "v1/devices/toaster/vitals", "unknown_device"),
        ("hub", "v1/devices/a\0b/vitals", "unknown_device"),
        ("ox", "v1/devices/ox/vitals/xml", "unknown_format"),
        ("ox", "v1/devices/ox", "unknown_topic"),
        ("ox", "telemetry", "unknown_topic"),
        ("spare", "v1/devices/spare/vitals", "unassigned"),
    ] {
        let said = words(&Sender::new().send(connection, topic, good));
        assert!(said.len() == 1 && said[0].starts_with(says), "{connection} {topic}: {said:?}");
    }
}

/// It is the patient's who wore the device when it was measured, not when it arrived.
#[test]
fn a_late_reading_is_of_who_wore_the_device_then() {
    for (minutes, patient) in [(-61, "ada"), (-60, "uwe"), (0, "uwe")] {
        let at = NOW + Micros::minutes(minutes);
        assert_eq!(readings(send(&format!(r#"{{"metric":"spo2","value":97,"measured_at":"{at}"}}"#)))[0].patient.as_str(), patient);
    }
}

#[test]
fn only_a_time_that_cannot_be_true_is_corrected() {
    let at = |minutes: i64| NOW + Micros::minutes(minutes);
    let pair = |first: EventTime, second: EventTime| {
        format!(r#"[{{"metric":"spo2","value":97,"measured_at":"{first}"}},{{"metric":"spo2","value":96,"measured_at":"{second}"}}]"#)
    };
    // two minutes ahead is tolerated, an hour late is late
    assert!(readings(send(&pair(at(-60), at(2)))).iter().all(|r| r.clock == ClockState::AsSent));
    // the future: the whole message moves, its newest to now
    for year in ["2099-01-01T00:00:00Z", "1970-01-01T00:10:00Z"] {
        let newest = EventTime::parse(year).unwrap();
        let moved = readings(send(&pair(newest - Micros::minutes(5), newest)));
        assert_eq!([moved[0].at, moved[1].at], [at(-5), NOW], "{year}");
        assert!(moved.iter().all(|r| r.clock == ClockState::Corrected && r.stamped_at != r.at));
    }
}

#[test]
fn a_steadily_slow_clock_is_corrected_and_a_delay_is_not() {
    let mut sender = Sender::new();
    let mut play = |minute: i64, behind: i64, dup: bool| {
        sender.received_at = NOW + Micros::minutes(minute);
        sender.dup = dup;
        let sent = sender.received_at - Micros::minutes(behind);
        let payload = format!(r#"{{"sent_at":"{sent}","readings":[{{"metric":"spo2","value":97,"measured_at":"{sent}"}}]}}"#);
        readings(sender.send("ox", "v1/devices/ox/vitals", &payload)).remove(0)
    };
    assert_eq!(play(0, 10, false).clock, ClockState::AsSent, "one late message is a delay");
    assert_eq!(play(1, 10, true).clock, ClockState::AsSent, "a repetition says nothing");
    assert_eq!(play(2, 12, false).clock, ClockState::AsSent);
    let third = play(3, 11, false);
    assert_eq!((third.clock, third.at), (ClockState::Corrected, NOW + Micros::minutes(3) - Micros::minutes(1)), "the least delay is the offset");
    assert_eq!(play(4, 0, false).clock, ClockState::AsSent, "one message on time: it was never the clock");
}

#[test]
fn a_resend_is_one_reading_and_a_restarted_clock_is_another() {
    let payload = r#"{"metric":"spo2","value":97,"measured_at":"1970-01-01T00:00:10Z"}"#;
    let mut sender = Sender::new();
    let mut id = |minutes: i64| {
        sender.received_at = NOW + Micros::minutes(minutes);
        readings(sender.send("ox", "v1/devices/ox/vitals", payload))[0].id
    };
    assert_eq!(id(1), id(2), "resent within the hour");
    assert_ne!(id(1), id(200), "repeated by a clock that started again");
    let boot = |boot: u64| readings(send(&format!(r#"{{"metric":"spo2","value":97,"measured_at":"{NOW}","boot":{boot}}}"#)))[0].id;
    assert_ne!(boot(1), boot(2));
}

proptest! {
    /// Whatever the bytes, each entry ends in exactly one place, and nothing panics.
    #[test]
    fn i2_every_entry_ends_in_exactly_one_place(entries in prop::collection::vec((any::<bool>(), -10.0f64..400.0, "[a-z0-9_%]{0,8}"), 1..20)) {
        let payload = entries.iter().map(|(known, value, unit)| {
            let metric = if *known { "heart_rate" } else { "mood" };
            if unit.is_empty() { format!(r#"{{"metric":"{metric}","value":{value}}}"#) } else { format!(r#"{{"metric":"{metric}","value":{value},"unit":"{unit}"}}"#) }
        }).collect::<Vec<_>>().join(",");
        let decided = send(&format!("[{payload}]"));
        prop_assert_eq!(decided.len(), entries.len());
        for (number, (decided, (known, value, unit))) in decided.iter().zip(&entries).enumerate() {
            match decided {
                Decided::Input(_, Input::Reading(reading)) => prop_assert!(*known && unit.is_empty() && reading.value == *value),
                Decided::Dead(dead) => prop_assert_eq!(dead.entry as usize, number),
                Decided::Input(..) => prop_assert!(false),
            }
        }
    }

    #[test]
    fn random_bytes_are_one_dead_letter_with_the_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let payload = Bytes::from(bytes);
        let connection = device("ox");
        let message = Message { connection: &connection, topic: "v1/devices/ox/vitals", payload: &payload, content_type: "", dup: false, received_at: NOW };
        let decided = decode(&message, &registry(), &MAPPINGS, &mut DeviceClock::default());
        prop_assert!(!decided.is_empty());
        if let [Decided::Dead(dead)] = decided.as_slice() { prop_assert_eq!(&dead.payload, &payload); }
    }
}

/// What stands in an array is a reading, also when it is kept alone: it must not become a message of its own.
#[test]
fn an_element_that_is_kept_alone_stays_an_element() {
    for element in [r#"{"readings":[{"metric":"spo2","value":97}]}"#, r#"{"metric":"spo2","value":"x","sent_at":[1]}"#] {
        let decided = send(&format!("[{element}]"));
        let [Decided::Dead(dead)] = &decided[..] else { panic!("{element}") };
        assert_eq!(send(std::str::from_utf8(&dead.payload).unwrap()), decided);
    }
}
