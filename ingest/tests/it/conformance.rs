//! `docs/mqtt.md`, row by row: what is sent, and what is answered.

use std::fmt::Write as _;

use crate::client::{Raw, connect_with, framed, publish, subscribe};
use crate::{GOOD, Served, VITALS, served};

const PAGE: &str = include_str!("../../../docs/mqtt.md");

/// Where in the two specifications, and what is answered; "–" where a version has no such case.
struct Row {
    case: &'static str,
    sections: [&'static str; 2],
    /// Sent as the first words of a connection, or on an open one.
    sent: Sent,
    answers: [&'static str; 2],
}

enum Sent {
    First(fn(&Served, u8) -> Vec<u8>),
    Open(fn(u8) -> Vec<u8>),
}

fn first(case: &'static str, sections: [&'static str; 2], sent: fn(&Served, u8) -> Vec<u8>, answers: [&'static str; 2]) -> Row {
    Row { case, sections, sent: Sent::First(sent), answers }
}

fn open(case: &'static str, sections: [&'static str; 2], sent: fn(u8) -> Vec<u8>, answers: [&'static str; 2]) -> Row {
    Row { case, sections, sent: Sent::Open(sent), answers }
}

/// A CONNECT of `ox` with its password, bent by its protocol level, flags, properties (MQTT 5) and client id. `will` stands behind the client id.
fn bent(served: &Served, level: u8, flags: u8, properties: &[u8], client: &str, will: &[u8]) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT".to_vec();
    body.extend_from_slice(&[level, flags, 0, 60]);
    if level == 5 {
        body.push(properties.len() as u8);
        body.extend_from_slice(properties);
    }
    let text = |body: &mut Vec<u8>, text: &str| {
        body.extend_from_slice(&(text.len() as u16).to_be_bytes());
        body.extend_from_slice(text.as_bytes());
    };
    text(&mut body, client);
    body.extend_from_slice(will);
    text(&mut body, "ox");
    text(&mut body, served.password("ox"));
    framed(0x10, &body)
}

fn with_properties(served: &Served, level: u8, properties: &[u8]) -> Vec<u8> {
    connect_with(level, properties, "c", Some("ox"), Some(served.password("ox")), 60)
}

/// Will properties, topic and payload.
const WILL: &[u8] = b"\x00\x00\x01w\x00\x00";

/// A PUBLISH at QoS 1 with these properties in MQTT 5, and none in 3.1.1.
fn with(level: u8, properties: &[u8], payload: &str) -> Vec<u8> {
    let mut body = (VITALS.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(VITALS.as_bytes());
    body.extend_from_slice(&[0, 1]);
    if level == 5 {
        body.push(properties.len() as u8);
        body.extend_from_slice(properties);
    }
    body.extend_from_slice(payload.as_bytes());
    framed(0x32, &body)
}

fn flagged(mut packet: Vec<u8>, flags: u8) -> Vec<u8> {
    packet[0] |= flags;
    packet
}

/// One filter and its options.
fn subscription(level: u8, filter: &str, options: u8) -> Vec<u8> {
    let mut packet = subscribe(level, 1, &[filter]);
    *packet.last_mut().unwrap() = options;
    packet
}

fn unsubscription(level: u8, filters: &[&str]) -> Vec<u8> {
    let mut body = vec![0, 1];
    if level == 5 {
        body.push(0);
    }
    for filter in filters {
        body.extend_from_slice(&(filter.len() as u16).to_be_bytes());
        body.extend_from_slice(filter.as_bytes());
    }
    framed(0xa2, &body)
}

const OWN: &str = "v1/devices/ox/verdicts";
const NONE: &str = "–";

fn connecting() -> Vec<Row> {
    vec![
        first("accepted", ["3.1.4", "3.1.4"], |s, l| bent(s, l, 0xc2, &[], "c", &[]), ["CONNACK 0", "CONNACK 0"]),
        first(
            "another protocol name",
            ["3.1.2.1", "3.1.2.1"],
            |_, l| framed(0x10, &[b"\x00\x04MQTX", &[l, 2, 0, 0, 0, 1, b'c'][..]].concat()),
            ["closed", "closed"],
        ),
        first("MQTT 3.1 (`MQIsdp`)", ["3.1.2.1", NONE], |_, _| framed(0x10, b"\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01c"), ["CONNACK 0x01, closed", NONE]),
        first("a lower protocol level (3)", ["3.1.2.2", NONE], |s, _| bent(s, 3, 0xc2, &[], "c", &[]), ["CONNACK 0x01, closed", NONE]),
        first("a higher protocol level (6)", [NONE, "3.1.2.2"], |s, _| bent(s, 6, 0xc2, &[], "c", &[]), [NONE, "CONNACK 0x84, closed"]),
        first("reserved bits of the fixed header", ["2.2.2", "2.1.3"], |s, l| flagged(bent(s, l, 0xc2, &[], "c", &[]), 1), ["closed", "closed"]),
        first("the reserved connect flag", ["3.1.2.3", "3.1.2.3"], |s, l| bent(s, l, 0xc3, &[], "c", &[]), ["closed", "CONNACK 0x81, closed"]),
        first("Will QoS 3", ["3.1.2.6", "3.1.2.6"], |s, l| bent(s, l, 0xde, &[], "c", &[]), ["closed", "CONNACK 0x81, closed"]),
        first("Will QoS or Will Retain without Will", ["3.1.2.6", "3.1.2.6"], |s, l| bent(s, l, 0xe2, &[], "c", &[]), ["closed", "CONNACK 0x81, closed"]),
        first("a Will, QoS 0 or 1", [NONE, "3.1.2.5"], |s, l| bent(s, l, 0xc6, &[], "c", WILL), [NONE, "CONNACK 0x83, closed"]),
        first("a Will, QoS 2", [NONE, "3.2.2.3.4"], |s, l| bent(s, l, 0xd6, &[], "c", WILL), [NONE, "CONNACK 0x9b, closed"]),
        first("a Will, retained", [NONE, "3.2.2.3.5"], |s, l| bent(s, l, 0xe6, &[], "c", WILL), [NONE, "CONNACK 0x9a, closed"]),
        first("an empty client id, clean", ["3.1.3.1", "3.1.3.1"], |s, l| bent(s, l, 0xc2, &[], "", &[]), ["CONNACK 0", "CONNACK 0"]),
        first("an empty client id, not clean", ["3.1.3.1", "3.1.3.1"], |s, l| bent(s, l, 0xc0, &[], "", &[]), ["CONNACK 0x02, closed", "CONNACK 0"]),
        first("not clean: Session Present is 0", ["3.2.2.2", "3.2.2.1.1"], |s, l| bent(s, l, 0xc0, &[], "c", &[]), ["CONNACK 0", "CONNACK 0"]),
        first("cut short inside", ["4.8", "4.13"], |_, _| framed(0x10, b"\x00\x04MQ"), ["closed", "closed"]),
        first(
            "bytes behind its end",
            ["4.8", "4.13"],
            |s, l| {
                let whole = bent(s, l, 0xc2, &[], "c", &[]);
                framed(0x10, &[&whole[2..], b"x"].concat())
            },
            ["closed", "CONNACK 0x81, closed"],
        ),
        first("larger than 8 KiB", ["–", "3.1.4"], |s, l| bent(s, l, 0xc2, &[], &"c".repeat(9000), &[]), ["closed", "closed"]),
        first("a property twice", [NONE, "3.1.2.11"], |s, l| with_properties(s, l, b"\x21\x00\x05\x21\x00\x05"), [NONE, "CONNACK 0x82, closed"]),
        first("Receive Maximum 0", [NONE, "3.1.2.11.3"], |s, l| with_properties(s, l, b"\x21\x00\x00"), [NONE, "CONNACK 0x82, closed"]),
        first("Maximum Packet Size 0", [NONE, "3.1.2.11.4"], |s, l| with_properties(s, l, b"\x27\x00\x00\x00\x00"), [NONE, "CONNACK 0x82, closed"]),
        first("a property that no packet has", [NONE, "2.2.2.2"], |s, l| with_properties(s, l, b"\x7f\x00"), [NONE, "CONNACK 0x81, closed"]),
        first("an Authentication Method", [NONE, "4.12"], |s, l| with_properties(s, l, b"\x15\x00\x05PLAIN"), [NONE, "CONNACK 0x8c, closed"]),
        first("Authentication Data without Method", [NONE, "3.1.2.11.10"], |s, l| with_properties(s, l, b"\x16\x00\x01x"), [NONE, "CONNACK 0x82, closed"]),
        first(
            "a Maximum Packet Size that the CONNACK exceeds",
            [NONE, "3.1.2.11.4"],
            |s, l| with_properties(s, l, b"\x27\x00\x00\x00\x0a"),
            [NONE, "CONNACK 0x95, closed"],
        ),
        first(
            "DISCONNECT in the same breath",
            ["3.1.4", "3.1.4"],
            |s, l| [bent(s, l, 0xc2, &[], "c", &[]), vec![0xe0, 0]].concat(),
            ["CONNACK 0, closed", "CONNACK 0, closed"],
        ),
    ]
}

fn publishing() -> Vec<Row> {
    vec![
        open("QoS 1", ["4.3.2", "4.3.2"], |l| publish(l, 1, 1, VITALS, GOOD.as_bytes()), ["PUBACK", "PUBACK"]),
        open("QoS 0", ["4.3.1", "4.3.1"], |l| publish(l, 0, 0, VITALS, GOOD.as_bytes()), ["", ""]),
        open("QoS 2", ["4.3.3", "3.2.2.3.4"], |l| publish(l, 2, 1, VITALS, GOOD.as_bytes()), ["PUBREC", "DISCONNECT 0x9b, closed"]),
        open("PUBREL", ["3.6", "3.6"], |_| vec![0x62, 2, 0, 1], ["PUBCOMP", "DISCONNECT 0x82, closed"]),
        open("PUBREL with packet identifier 0", ["2.3.1", "2.2.1"], |_| vec![0x62, 2, 0, 0], ["closed", "DISCONNECT 0x82, closed"]),
        open("DUP at QoS 1", ["3.3.1.1", "3.3.1.1"], |l| flagged(publish(l, 1, 1, VITALS, GOOD.as_bytes()), 8), ["PUBACK", "PUBACK"]),
        open("DUP at QoS 0", ["3.3.1.1", "3.3.1.1"], |l| flagged(publish(l, 0, 0, VITALS, GOOD.as_bytes()), 8), ["", ""]),
        open("a payload that cannot be read", [NONE, "3.4.2.1"], |l| publish(l, 1, 1, VITALS, b"{"), ["PUBACK", "PUBACK 0x99"]),
        open("no payload", ["3.3.3", "3.3.3"], |l| publish(l, 1, 1, VITALS, b""), ["PUBACK", "PUBACK 0x99"]),
        open("a topic of 65,535 bytes", ["4.7.3", "4.7.3"], |l| publish(l, 1, 1, &"a".repeat(65_535), GOOD.as_bytes()), ["PUBACK", "PUBACK 0x83"]),
        open("a topic that starts with `$`", ["4.7.2", "4.7.2"], |l| publish(l, 1, 1, "$SYS/x", GOOD.as_bytes()), ["PUBACK", "PUBACK 0x83"]),
        open("a surrogate in the topic", ["1.5.3", "1.5.4"], |_| framed(0x32, b"\x00\x03\xed\xa0\x80\x00\x01\x00"), ["closed", "DISCONNECT 0x81, closed"]),
        open(
            "a content type that names a format",
            [NONE, "3.3.2.3.9"],
            |l| with(l, b"\x03\x00\x16application/senml+json", r#"[{"n":"spo2","v":97,"u":"%"}]"#),
            [NONE, "PUBACK"],
        ),
        open("a content type that names none", [NONE, "3.3.2.3.9"], |l| with(l, b"\x03\x00\x08text/xml", GOOD), [NONE, "PUBACK 0x99"]),
        open("a User Property, Message Expiry Interval", [NONE, "3.3.2.3"], |l| with(l, b"\x26\x00\x01a\x00\x01b\x02\x00\x00\x00\x05", GOOD), [NONE, "PUBACK"]),
        open("a Response Topic with a wildcard", [NONE, "3.3.2.3.5"], |l| with(l, b"\x08\x00\x01#", GOOD), [NONE, "PUBACK"]),
        open("a Subscription Identifier", [NONE, "3.3.2.3.8"], |l| with(l, b"\x0b\x01", GOOD), [NONE, "DISCONNECT 0x82, closed"]),
        open("a property of another packet", [NONE, "2.2.2.2"], |l| with(l, b"\x21\x00\x05", GOOD), [NONE, "DISCONNECT 0x82, closed"]),
        open("a property that no packet has", [NONE, "2.2.2.2"], |l| with(l, b"\x7f\x00", GOOD), [NONE, "DISCONNECT 0x81, closed"]),
        open("properties longer than the packet", [NONE, "2.2.2.1"], |_| framed(0x32, b"\x00\x01a\x00\x01\x7f\x01"), [NONE, "DISCONNECT 0x81, closed"]),
    ]
}

fn other_packets() -> Vec<Row> {
    vec![
        open("SUBSCRIBE to the own verdicts", ["3.9", "3.9"], |l| subscribe(l, 1, &[OWN]), ["SUBACK 0, PUBLISH", "SUBACK 0, PUBLISH"]),
        open(
            "SUBSCRIBE to several filters",
            ["3.9.3", "3.9.3"],
            |l| subscribe(l, 1, &["#", OWN, "a"]),
            ["SUBACK 0x80 0 0x80, PUBLISH", "SUBACK 0xa2 0 0x87, PUBLISH"],
        ),
        open("SUBSCRIBE to `#`, `$SYS/#`", ["3.9.3", "3.9.3"], |l| subscribe(l, 1, &["#", "$SYS/#"]), ["SUBACK 0x80 0x80", "SUBACK 0xa2 0xa2"]),
        open("SUBSCRIBE to `$share/g/…`", ["3.9.3", "4.8.2"], |l| subscribe(l, 1, &["$share/g/a"]), ["SUBACK 0x80", "SUBACK 0x9e"]),
        open("SUBSCRIBE to a filter that is none", ["4.7.1", "4.7.1"], |l| subscribe(l, 1, &["a#"]), ["SUBACK 0x80", "SUBACK 0xa2"]),
        open("SUBSCRIBE to an empty filter", ["4.7.3", "4.7.3"], |l| subscribe(l, 1, &[""]), ["SUBACK 0x80", "SUBACK 0x87"]),
        open("SUBSCRIBE to more than 256 filters", ["3.9", "3.9"], |l| subscribe(l, 1, &[OWN; 257]), ["closed", "DISCONNECT 0x97, closed"]),
        open("UNSUBSCRIBE from more than 256 filters", ["3.10", "3.10"], |l| unsubscription(l, &[OWN; 257]), ["closed", "DISCONNECT 0x97, closed"]),
        first(
            "SUBSCRIBE whose SUBACK exceeds the client's Maximum Packet Size",
            [NONE, "3.1.2.11.4"],
            |s, l| [with_properties(s, l, b"\x27\x00\x00\x00\x40"), subscribe(l, 1, &["a"; 61])].concat(),
            [NONE, "CONNACK 0, DISCONNECT 0x97, closed"],
        ),
        open("SUBSCRIBE, reserved bits", ["3.8.1", "3.8.1"], |l| framed(0x80, &subscribe(l, 1, &[OWN])[2..]), ["closed", "DISCONNECT 0x81, closed"]),
        open("SUBSCRIBE, QoS 3", ["3.8.3", "3.8.3.1"], |l| subscription(l, OWN, 3), ["closed", "DISCONNECT 0x81, closed"]),
        open("SUBSCRIBE, reserved options", ["3.8.3", "3.8.3.1"], |l| subscription(l, OWN, 0xc0), ["closed", "DISCONNECT 0x81, closed"]),
        open("SUBSCRIBE, options of MQTT 5", ["3.8.3.4", NONE], |l| subscription(l, OWN, 0x04), ["closed", NONE]),
        open("SUBSCRIBE, Retain Handling 3", [NONE, "3.8.3.1"], |l| subscription(l, OWN, 0x30), [NONE, "DISCONNECT 0x81, closed"]),
        open("UNSUBSCRIBE from what was not subscribed to", ["3.10.4", "3.11.3"], |l| unsubscription(l, &[OWN, "a"]), ["UNSUBACK", "UNSUBACK 0x11 0x11"]),
        open("UNSUBSCRIBE from nothing", ["3.10.3", "3.10.3"], |l| unsubscription(l, &[]), ["closed", "DISCONNECT 0x82, closed"]),
        open("PINGREQ with reserved bits", ["3.12.1", "3.12.1"], |_| vec![0xc4, 0], ["closed", "DISCONNECT 0x81, closed"]),
        open("DISCONNECT", ["3.14", "3.14"], |_| vec![0xe0, 0], ["closed", "closed"]),
        open("DISCONNECT with reason 0x04", [NONE, "3.14.2.1"], |_| vec![0xe0, 1, 4], [NONE, "closed"]),
        open("DISCONNECT, reserved bits", ["3.14.1", "3.14.1"], |_| vec![0xe1, 0], ["closed", "DISCONNECT 0x81, closed"]),
        open("DISCONNECT with something in it", ["3.14.1", NONE], |_| vec![0xe0, 1, 4], ["closed", NONE]),
        open("AUTH", [NONE, "4.12"], |_| vec![0xf0, 0], [NONE, "DISCONNECT 0x82, closed"]),
        open("packet type 15", ["2.2.1", NONE], |_| vec![0xf0, 0], ["closed", NONE]),
        open("SUBACK", ["2.2.1", "2.1.2"], |_| vec![0x90, 3, 0, 1, 0], ["closed", "DISCONNECT 0x82, closed"]),
        open("UNSUBACK", ["2.2.1", "2.1.2"], |_| vec![0xb0, 2, 0, 1], ["closed", "DISCONNECT 0x82, closed"]),
        open("PINGRESP", ["2.2.1", "2.1.2"], |_| vec![0xd0, 0], ["closed", "DISCONNECT 0x82, closed"]),
        open("PUBREC, PUBCOMP", ["2.2.1", "2.1.2"], |_| vec![0x50, 2, 0, 1, 0x70, 2, 0, 1], ["closed", "DISCONNECT 0x82, closed"]),
        open(
            "a remaining length that takes more bytes than it needs",
            ["2.2.3", "1.5.5"],
            |l| {
                let packet = publish(l, 1, 1, VITALS, GOOD.as_bytes());
                [&[packet[0], packet[1] | 0x80, 0], &packet[2..]].concat()
            },
            ["PUBACK", "PUBACK"],
        ),
    ]
}

impl Row {
    /// Its line in the page.
    fn line(&self) -> String {
        let mut line = format!("| {} | {} | {} |", self.case, self.sections[0], self.sections[1]);
        for answer in self.answers {
            match answer {
                "" => line.push_str(" nothing |"),
                NONE => line.push_str(" – |"),
                answer => write!(line, " `{answer}` |").unwrap(),
            }
        }
        line + " this table |"
    }
}

#[tokio::test]
async fn every_row_is_answered_as_the_page_says() {
    let (served, _journal) = served().await;
    let mut differ = Vec::new();
    for row in [connecting(), publishing(), other_packets()].iter().flatten() {
        for (level, expected) in [(4, row.answers[0]), (5, row.answers[1])] {
            if expected == NONE {
                continue;
            }
            let said = match row.sent {
                Sent::First(sent) => Raw::dial(served.address, level).await.answers(&sent(&served, level)).await,
                Sent::Open(sent) => served.open(level, "ox").await.answers(&sent(level)).await,
            };
            if said != expected {
                differ.push(format!("{}, MQTT {level}: `{said}`; expected `{expected}`", row.case));
            }
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    served.stopped().await;
}

/// The page has these rows as they are here, and every other row of it names a test that exists.
#[test]
fn every_row_of_the_page_is_held() {
    let tests = [
        ("access", include_str!("access.rs")),
        ("clients", include_str!("clients.rs")),
        ("hostile", include_str!("hostile.rs")),
        ("identity", include_str!("identity.rs")),
        ("malformed", include_str!("malformed.rs")),
        ("protocol", include_str!("protocol.rs")),
        ("receipts", include_str!("receipts.rs")),
        ("tls", include_str!("tls.rs")),
    ];
    let rows = [connecting(), publishing(), other_packets()];
    let ours: Vec<_> = rows.iter().flatten().map(Row::line).collect();
    let page: Vec<_> = PAGE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Case ")).collect();
    let missing: Vec<_> = ours.iter().filter(|line| !page.contains(&line.as_str())).map(String::as_str).collect();
    assert!(missing.is_empty(), "docs/mqtt.md has no such lines:\n{}", missing.join("\n"));
    for line in page.iter().filter(|line| !ours.iter().any(|ours| ours == *line)) {
        let held = line.trim_end_matches(" |").rsplit("| ").next().unwrap();
        for name in held.split(", ") {
            let exists = name.trim_matches('`').split_once("::").is_some_and(|(file, test)| {
                let test = format!("async fn {test}()");
                tests.iter().any(|(name, text)| *name == file && text.contains(&test))
            });
            assert!(exists, "no test {name} holds this line of docs/mqtt.md: {line}");
        }
    }
}
