//! What the two versions of MQTT ask of a server, and what this one does not offer.

use std::time::{Duration, Instant};

use schemas::Reason;

use crate::client::{Raw, connect, connect_with, framed, publish, subscribe};
use crate::{BAD, GOOD, VITALS, dead_letters, inputs, served};

const VERDICTS: &str = "v1/devices/ox/verdicts";

#[tokio::test]
async fn the_connack_of_mqtt_5_says_what_is_not_offered() {
    let (served, _journal) = served().await;
    let mut raw = Raw::dial(served.address, 5).await;
    // session expiry 60 s, and no client id
    raw.send(&connect_with(5, &[0x11, 0, 0, 0, 60], "", Some("ox"), Some(served.password("ox")), 0)).await;
    let (kind, body) = raw.packet().await.unwrap();
    assert_eq!((kind, &body[..2]), (0x20, &[0, 0][..]), "session present 0, success");
    let (connack, _) = mqtt_protocol_core::mqtt::packet::v5_0::Connack::parse(&body).unwrap();
    let said = format!("{connack}");
    for (property, value) in [
        ("receive_maximum", "32"),
        ("maximum_qos", "1"),
        ("retain_available", "0"),
        ("maximum_packet_size", "262144"),
        ("topic_alias_maximum", "0"),
        ("wildcard_subscription_available", "0"),
        ("subscription_identifier_available", "0"),
        ("shared_subscription_available", "0"),
        ("session_expiry_interval", "0"),
        ("assigned_client_identifier", "\"ox-"),
    ] {
        assert!(says(&said, property, value), "{property} {value}: {said}");
    }
    served.stopped().await;
}

/// The library prints `{"type":"connack",…,"props":[{"ReceiveMaximum":{"id":…,"val":32}},…]}`.
fn says(printed: &str, property: &str, value: &str) -> bool {
    let plain = |text: &str| text.replace('_', "").to_lowercase();
    let printed = plain(printed);
    let Some(at) = printed.find(&plain(property)) else { return false };
    printed[at..].chars().take(120).collect::<String>().contains(&format!(":{}", plain(value)))
}

#[tokio::test]
async fn a_hub_speaks_for_the_devices_behind_it_and_nobody_for_others() {
    let (served, journal) = served().await;
    let mut hub = served.open(5, "hub").await;
    hub.publish(1, 1, "v1/devices/cuff/vitals", GOOD).await;
    hub.acked(1).await;
    assert_eq!(inputs(&journal)[0].device.as_str(), "cuff");
    for (id, topic, code, reason) in [
        (2, VITALS, 0x87, Reason::NotAllowed),
        (3, "v1/devices/toaster/vitals", 0x87, Reason::UnknownDevice),
        (4, "v1/devices/cuff/vitals/xml", 0x99, Reason::UnknownFormat),
        (5, "home/kitchen", 0x83, Reason::UnknownTopic),
    ] {
        hub.publish(1, id, topic, GOOD).await;
        let (said, text) = hub.refused(id).await;
        assert_eq!(said, code, "{topic}: {text}");
        assert!(text.starts_with(reason.as_str()), "{text}");
        let dead = dead_letters(&journal).pop().unwrap();
        assert_eq!((dead.device.as_str(), dead.reason, dead.topic.as_str()), ("hub", reason, topic));
    }
    let mut spare = served.open(5, "spare").await;
    spare.publish(1, 1, "v1/devices/spare/vitals", GOOD).await;
    assert_eq!(spare.refused(1).await.0, 0x83, "nobody wears it");
    served.stopped().await;
}

#[tokio::test]
async fn a_client_that_wants_no_reasons_gets_the_code_alone() {
    let (served, _journal) = served().await;
    // request problem information 0; maximum packet size 30
    for properties in [&[0x17, 0][..], &[0x27, 0, 0, 0, 30]] {
        let mut raw = Raw::dial(served.address, 5).await;
        raw.send(&connect_with(5, properties, "c", Some("ox"), Some(served.password("ox")), 0)).await;
        assert_eq!(raw.packet().await.unwrap().0, 0x20);
        raw.publish(1, 1, VITALS, BAD).await;
        assert_eq!(raw.packet().await, Some((0x40, vec![0, 1, 0x99])));
    }
    served.stopped().await;
}

#[tokio::test]
async fn refusals_are_told_on_the_verdict_topic() {
    let (served, journal) = served().await;
    for level in [4, 5] {
        let mut ox = served.open(level, "ox").await;
        assert_eq!(ox.subscribe(&[VERDICTS]).await, [0]);
        let greeting = ox.verdict(VERDICTS).await;
        assert!(greeting["server_time"].as_str().unwrap().ends_with('Z'), "{greeting}");
        journal.hold();
        ox.publish(1, 6, VITALS, &format!("[{GOOD},{BAD}]")).await;
        ox.silent().await;
        journal.release();
        let verdict = ox.verdict(VERDICTS).await;
        assert_eq!((&verdict["packet_id"], &verdict["accepted"]), (&6.into(), &1.into()), "{verdict}");
        assert_eq!((&verdict["refused"][0]["entry"], &verdict["refused"][0]["reason"]), (&1.into(), &"unknown_metric".into()));
        assert!(verdict["refused"][0]["detail"].as_str().unwrap().contains("did you mean spo2?"), "{verdict}");
        assert_eq!(ox.refused(6).await.0, if level == 5 { 0x99 } else { 0 });
        ox.publish(1, 7, VITALS, GOOD).await;
        ox.acked(7).await;
        // unsubscribed, nothing is told any more
        let filter = b"\x00\x16v1/devices/ox/verdicts";
        let body = [&[0, 3][..], if level == 5 { &[0] } else { &[] }, filter].concat();
        ox.send(&framed(0xa2, &body)).await;
        assert_eq!(ox.packet().await, Some((0xb0, if level == 5 { vec![0, 3, 0, 0] } else { vec![0, 3] })));
        ox.publish(1, 8, VITALS, BAD).await;
        assert_eq!(ox.refused(8).await.0, if level == 5 { 0x99 } else { 0 });
    }
    served.stopped().await;
}

#[tokio::test]
async fn no_other_topic_can_be_subscribed_to() {
    let (served, _journal) = served().await;
    let filters = ["v1/devices/strap/verdicts", "v1/devices/+/verdicts", "#", VITALS, "$share/g/v1/devices/ox/verdicts"];
    assert_eq!(served.open(4, "ox").await.subscribe(&filters).await, [0x80; 5]);
    let mut ox = served.open(5, "ox").await;
    assert_eq!(ox.subscribe(&filters).await, [0x87, 0xa2, 0xa2, 0x87, 0x9e]);
    ox.publish(1, 1, VITALS, BAD).await;
    assert_eq!(ox.refused(1).await.0, 0x99, "nothing else is told");
    // a subscription identifier
    ox.send(&framed(0x82, b"\x00\x04\x02\x0b\x01\x00\x16v1/devices/ox/verdicts\x00")).await;
    ox.closed(0xa1).await;
    served.stopped().await;
}

/// What it is, the bytes in that version, and how MQTT 5 is told.
type Case = (&'static str, fn(u8) -> Vec<u8>, u8);

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection_and_nothing_else() {
    let (served, _journal) = served().await;
    let mut good = served.open(5, "strap").await;
    let retained = |level| {
        let mut packet = publish(level, 1, 1, VITALS, GOOD.as_bytes());
        packet[0] |= 1;
        packet
    };
    let both: Vec<Case> = vec![
        ("a second connect", |level| connect(level, "c", Some("ox"), Some("x"), 0), 0x82),
        ("a wildcard", |level| publish(level, 1, 1, "v1/devices/+/vitals", b""), 0x90),
        ("NUL", |level| publish(level, 1, 1, "v1/devices/o\0x/vitals", b""), 0x81),
        ("not UTF-8", |_| framed(0x32, b"\x00\x02\xc3\x28\x00\x01\x00"), 0x81),
        ("no topic", |level| publish(level, 1, 1, "", b""), 0x82),
        ("QoS 3", |level| publish(level, 3, 1, VITALS, b""), 0x81),
        ("packet identifier 0", |level| publish(level, 1, 0, VITALS, b""), 0x82),
        ("a cut topic", |_| framed(0x32, b"\x00\x09v1"), 0x81),
        ("a length of five bytes", |_| vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x01], 0x81),
        ("reserved bits", |_| vec![0xc1, 0], 0x81),
        ("packet type 0", |_| vec![0x00, 0], 0x82),
        ("a connack", |_| vec![0x20, 2, 0, 0], 0x82),
        ("a puback", |_| vec![0x40, 2, 0, 1], 0x82),
        ("an empty subscribe", |level| subscribe(level, 1, &[]), 0x82),
        ("subscribe 0", |level| subscribe(level, 0, &["a"]), 0x82),
        ("a ping with something in it", |_| vec![0xc0, 1, 0], 0x81),
    ];
    let only_v5: Vec<Case> = vec![
        ("retained", retained, 0x9a),
        ("QoS 2", |level| publish(level, 2, 1, VITALS, GOOD.as_bytes()), 0x9b),
        ("a topic alias", |_| framed(0x32, b"\x00\x00\x00\x01\x03\x23\x00\x01"), 0x82),
        ("a topic and an alias", |_| framed(0x32, b"\x00\x01a\x00\x01\x03\x23\x00\x01"), 0x94),
        ("auth", |_| vec![0xf0, 0], 0x82),
        ("pubrel", |_| vec![0x62, 2, 0, 1], 0x82),
        ("two content types", |_| framed(0x32, b"\x00\x01a\x00\x01\x08\x03\x00\x01a\x03\x00\x01b"), 0x82),
    ];
    for (levels, cases) in [(&[4, 5][..], both), (&[5], only_v5)] {
        for (what, packet, code) in cases {
            for &level in levels {
                let mut ox = served.open(level, "ox").await;
                ox.send(&packet(level)).await;
                let said = ox.closed(code).await;
                println!("{what}, MQTT {level}: {said}");
            }
        }
    }
    // and where no connection is open yet
    for packet in [publish(4, 1, 1, VITALS, GOOD.as_bytes()), vec![0xc0, 0], framed(0x10, b"\x00\x04MQTX\x04\x02\x00\x00\x00\x01c")] {
        let mut stranger = Raw::dial(served.address, 4).await;
        stranger.send(&packet).await;
        stranger.closed(0).await;
    }
    good.publish(1, 1, "v1/devices/strap/vitals", GOOD).await;
    good.acked(1).await;
    served.stopped().await;
}

/// In 3.1.1 nothing can be said against a retain flag: it is a publish like any other.
#[tokio::test]
async fn mqtt_3_retained_is_an_ordinary_publish() {
    let (served, journal) = served().await;
    let mut ox = served.open(4, "ox").await;
    let mut packet = publish(4, 1, 1, VITALS, GOOD.as_bytes());
    packet[0] |= 1;
    ox.send(&packet).await;
    ox.acked(1).await;
    assert_eq!(inputs(&journal).len(), 1);
    served.stopped().await;
}

/// An identifier that is in flight is refused, or its first ack would be taken for the second message's. A repetition says that it is one.
#[tokio::test]
async fn a_packet_identifier_in_flight_is_not_reused() {
    let (served, journal) = served().await;
    for level in [4, 5] {
        let mut ox = served.open(level, "ox").await;
        journal.hold();
        ox.publish(1, 1, VITALS, GOOD).await;
        let mut again = publish(level, 1, 1, VITALS, GOOD.as_bytes());
        again[0] |= 0b1000;
        ox.send(&again).await;
        ox.silent().await;
        ox.publish(1, 1, VITALS, BAD).await;
        ox.closed(0x82).await;
        journal.release();
    }
    served.stopped().await;
}

#[tokio::test]
async fn a_packet_too_large_is_refused_from_its_header() {
    let (served, journal) = served().await;
    for level in [4, 5] {
        let mut ox = served.open(level, "ox").await;
        // 256 KiB are allowed, header included, and not a byte more
        let fits = "x".repeat((256 << 10) - 4 - 2 - VITALS.len() - 2 - usize::from(level == 5));
        ox.publish(1, 1, VITALS, &fits).await;
        assert_eq!(ox.refused(1).await.0, if level == 5 { 0x99 } else { 0 });
        assert_eq!(dead_letters(&journal).pop().unwrap().payload.len(), fits.len());
        // nothing follows the header: it is not waited for
        ox.send(&[0x32, 0xff, 0xff, 0xff, 0x7f]).await;
        ox.closed(0x95).await;
        // and everything follows it: the refusal still arrives
        for length in [fits.len() + 1, 512 << 10] {
            let mut ox = served.open(level, "ox").await;
            ox.send(&publish(level, 1, 1, VITALS, &vec![b'x'; length])).await;
            ox.closed(0x95).await;
        }
    }
    served.stopped().await;
}

#[tokio::test]
async fn silence_beyond_one_and_a_half_keep_alives_ends_the_connection() {
    let (served, _journal) = served().await;
    let mut quiet = Vec::new();
    for (level, device) in [(4, "ox"), (5, "cuff"), (5, "strap")] {
        let mut raw = Raw::dial(served.address, level).await;
        raw.send(&connect(level, "c", Some(device), Some(served.password(device)), 1)).await;
        assert_eq!(raw.packet().await.unwrap().0, 0x20);
        quiet.push(raw);
    }
    let since = Instant::now();
    let mut alive = quiet.pop().unwrap();
    let ended = async {
        for raw in &mut quiet {
            raw.closed(0x8d).await;
        }
    };
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => break,
            () = alive.silent() => {}
        }
    }
    assert!(since.elapsed() >= Duration::from_millis(1400), "{:?}", since.elapsed());
    alive.silent().await;
    served.stopped().await;
}
