//! A thousand malformed packets, made by rules. Each names what it breaks and what the specification says to that; each is sent to the gateway over a
//! socket of its own.

use std::collections::BTreeSet;

use crate::client::{Raw, framed};
use crate::{GOOD, Served, VITALS, dead_letters, inputs, served};

struct Case {
    breaks: String,
    level: u8,
    /// The first words of a connection, or said on an open one.
    first: bool,
    bytes: Vec<u8>,
    /// Either is right; `closed` stands behind each.
    answers: &'static [&'static str],
}

/// On an open connection of MQTT 5. In 3.1.1 it is closed without a word.
const MALFORMED: &[&str] = &["DISCONNECT 0x81"];
const PROTOCOL: &[&str] = &["DISCONNECT 0x82"];
/// Where the specification calls it one and means the other, or a packet breaks it twice.
const EITHER: &[&str] = &["DISCONNECT 0x81", "DISCONNECT 0x82"];
const TOO_LARGE: &[&str] = &["DISCONNECT 0x95"];
const TOPIC: &[&str] = &["DISCONNECT 0x90"];
/// A CONNECT.
const NOTHING: &[&str] = &[""];
const CONNECT_MALFORMED: &[&str] = &["CONNACK 0x81"];
const CONNECT_PROTOCOL: &[&str] = &["CONNACK 0x82"];
const CONNECT_EITHER: &[&str] = &["CONNACK 0x81", "CONNACK 0x82"];

const BAD_UTF8: [(&str, &[u8]); 13] = [
    ("a lone continuation", b"\x80"),
    ("two bytes cut", b"\xc3"),
    ("two bytes that are none", b"\xc3\x28"),
    ("an overlong NUL", b"\xc0\x80"),
    ("an overlong slash", b"\xc1\xaf"),
    ("three bytes cut", b"\xe2\x82"),
    ("an overlong of three", b"\xe0\x80\xaf"),
    ("a high surrogate", b"\xed\xa0\x80"),
    ("a low surrogate", b"\xed\xbf\xbf"),
    ("four bytes cut", b"\xf0\x9f\x98"),
    ("an overlong of four", b"\xf0\x80\x80\xaf"),
    ("beyond Unicode", b"\xf4\x90\x80\x80"),
    ("a byte that is never there", b"\xff"),
];

/// Every property of MQTT 5: its identifier, a value, and the packets that clients send in which it may stand (`C`ONNECT, `P`UBLISH, `S`UBSCRIBE,
/// `U`NSUBSCRIBE).
const PROPERTIES: [(u8, &[u8], &str); 27] = [
    (0x01, b"\x01", "P"),
    (0x02, b"\x00\x00\x00\x05", "P"),
    (0x03, b"\x00\x01j", "P"),
    (0x08, b"\x00\x01r", "P"),
    (0x09, b"\x00\x01c", "P"),
    (0x0b, b"\x01", "S"),
    (0x11, b"\x00\x00\x00\x05", "C"),
    (0x12, b"\x00\x01c", ""),
    (0x13, b"\x00\x05", ""),
    (0x15, b"\x00\x01m", "C"),
    (0x16, b"\x00\x01d", "C"),
    (0x17, b"\x01", "C"),
    (0x18, b"\x00\x00\x00\x05", ""),
    (0x19, b"\x01", "C"),
    (0x1a, b"\x00\x01i", ""),
    (0x1c, b"\x00\x01s", ""),
    (0x1f, b"\x00\x01r", ""),
    (0x21, b"\x00\x05", "C"),
    (0x22, b"\x00\x05", "C"),
    (0x23, b"\x00\x05", "P"),
    (0x24, b"\x01", ""),
    (0x25, b"\x01", ""),
    (0x26, b"\x00\x01a\x00\x01b", "CPSU"),
    (0x27, b"\x00\x00\x10\x00", "C"),
    (0x28, b"\x01", ""),
    (0x29, b"\x01", ""),
    (0x2a, b"\x01", ""),
];

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// With its length before it, which may be false.
fn properties(level: u8, properties: &[u8]) -> Vec<u8> {
    if level == 5 { [&[properties.len() as u8], properties].concat() } else { Vec::new() }
}

/// The four packets that are looked at inside, whole, around these properties.
fn around(packet: char, properties: &[u8]) -> Vec<u8> {
    match packet {
        'C' => framed(0x10, &connect(5, properties, b"c", b"ox", b"pw")),
        'P' => framed(0x32, &[&text(VITALS.as_bytes()), &[0, 1][..], properties, b"{}"].concat()),
        'S' => framed(0x82, &[&[0, 1], properties, &text(b"a"), &[1]].concat()),
        _ => framed(0xa2, &[&[0, 1], properties, &text(b"a")].concat()),
    }
}

/// What a CONNECT announces; `properties` with their length.
fn connect(level: u8, properties: &[u8], client: &[u8], user: &[u8], password: &[u8]) -> Vec<u8> {
    [&text(b"MQTT"), &[level, 0xc2, 0, 60][..], properties, &text(client), &text(user), &text(password)].concat()
}

#[derive(Default)]
struct Corpus(Vec<Case>);

impl Corpus {
    fn open(&mut self, level: u8, breaks: String, bytes: Vec<u8>, answers: &'static [&'static str]) {
        self.0.push(Case { breaks, level, first: false, bytes, answers });
    }

    fn first(&mut self, level: u8, breaks: String, bytes: Vec<u8>, answers: &'static [&'static str]) {
        self.0.push(Case { breaks, level, first: true, bytes, answers });
    }

    /// Properties that break something in each packet that has some.
    fn in_each(&mut self, breaks: &str, wrong: &[u8], answers: [&'static [&'static str]; 2], packets: &str) {
        for packet in packets.chars() {
            let (breaks, bytes) = (format!("{breaks}, in {packet}"), around(packet, wrong));
            if packet == 'C' { self.first(5, breaks, bytes, answers[0]) } else { self.open(5, breaks, bytes, answers[1]) }
        }
    }

    fn headers(&mut self, level: u8) {
        for kind in (0..16_u8).filter(|kind| *kind != 3) {
            let right = if [6, 8, 10].contains(&kind) { 2 } else { 0 };
            for bit in [1, 2, 4, 8] {
                self.open(level, format!("reserved bit {bit} of type {kind}"), vec![kind << 4 | (right ^ bit), 2, 0, 1], MALFORMED);
            }
        }
        for kind in [0, 1, 2, 4, 5, 7, 9, 11, 13, 15] {
            for body in [&b""[..], b"\x00\x01", b"\x00\x01\x00\x00"] {
                self.open(level, format!("type {kind}, which no device sends, of {} bytes", body.len()), framed(kind << 4, body), PROTOCOL);
            }
        }
        for first in (0..16_u8).map(|kind| kind << 4 | if [6, 8, 10].contains(&kind) { 2 } else { 0 }) {
            for last in [0, 1, 0xff] {
                self.open(level, format!("a length of five bytes, {first:#04x}, {last}"), vec![first, 0x80, 0x80, 0x80, 0x80, last], MALFORMED);
            }
            for length in [[0x80, 0x80, 0x80, 0x01], [0xff, 0xff, 0xff, 0x7f]] {
                self.open(level, format!("a length of {length:x?}, {first:#04x}"), [&[first][..], &length].concat(), TOO_LARGE);
            }
            if first != 0x10 {
                self.first(level, format!("{first:#04x} before CONNECT"), vec![first, 2, 0, 1], NOTHING);
            }
        }
        for body in [&b"\0"[..], b"\0\0", b"\xc0\0\0"] {
            self.open(level, format!("a PINGREQ with {body:x?}"), framed(0xc0, body), MALFORMED);
        }
    }

    fn publishes(&mut self, level: u8) {
        let whole = [&text(VITALS.as_bytes()), &[0, 1][..], &properties(level, b"")].concat();
        for length in 0..whole.len() {
            // without properties and payload it is a message of 3.1.1
            if level == 5 || length < whole.len() {
                self.open(level, format!("a PUBLISH cut at {length}"), framed(0x32, &whole[..length]), MALFORMED);
            }
        }
        let publish = |first: u8, topic: &[u8], id: &[u8]| framed(first, &[&text(topic), id, &properties(level, b""), GOOD.as_bytes()].concat());
        for (what, bytes) in BAD_UTF8 {
            for topic in [bytes.to_vec(), [b"v1/", bytes, b"/vitals"].concat(), [b"v1/devices/ox/vitals", bytes].concat()] {
                self.open(level, format!("{what} in the topic {topic:x?}"), publish(0x32, &topic, &[0, 1]), MALFORMED);
            }
        }
        for topic in ["\0", "a\0b", "v1/devices/ox/vitals\0"] {
            self.open(level, format!("NUL in the topic {topic:?}"), publish(0x32, topic.as_bytes(), &[0, 1]), MALFORMED);
        }
        for topic in ["+", "#", "a/+", "a/#", "+/a", "#/a", "a+", "v1/devices/+/vitals"] {
            self.open(level, format!("a wildcard in the topic {topic}"), publish(0x32, topic.as_bytes(), &[0, 1]), TOPIC);
        }
        for first in [0x36, 0x37, 0x3e, 0x3f] {
            self.open(level, format!("QoS 3, {first:#04x}"), publish(first, VITALS.as_bytes(), &[0, 1]), MALFORMED);
        }
        for first in [0x32, 0x3a] {
            self.open(level, format!("packet identifier 0, {first:#04x}"), publish(first, VITALS.as_bytes(), &[0, 0]), PROTOCOL);
            self.open(level, format!("no topic, {first:#04x}"), publish(first, b"", &[0, 1]), PROTOCOL);
        }
        self.open(level, "no topic, QoS 0".to_owned(), publish(0x30, b"", b""), PROTOCOL);
    }

    fn subscriptions(&mut self, level: u8) {
        let none = properties(level, b"");
        for (first, what, options) in [(0x82, "SUBSCRIBE", &[1][..]), (0xa2, "UNSUBSCRIBE", &[])] {
            let whole = [&[0, 1], &none[..], &text(b"a/b"), options, &text(b"c"), options].concat();
            let one = 2 + none.len() + 5 + options.len();
            for length in (0..whole.len()).filter(|length| *length != one) {
                self.open(level, format!("a {what} cut at {length}"), framed(first, &whole[..length]), EITHER);
            }
            let with = |id: &[u8], filter: &[u8], options: &[u8]| framed(first, &[id, &none, &text(filter), options].concat());
            self.open(level, format!("a {what} with packet identifier 0"), with(&[0, 0], b"a", options), PROTOCOL);
            for (bad, bytes) in BAD_UTF8 {
                self.open(level, format!("{bad} in a filter of {what}"), with(&[0, 1], bytes, options), MALFORMED);
            }
        }
        let reserved: &[u8] = if level == 5 { &[3, 0x30, 0x31, 0x40, 0x41, 0x80, 0xc0, 0xff] } else { &[3, 4, 8, 0x10, 0x20, 0x40, 0x80, 0xff] };
        for options in reserved {
            let body = [&[0, 1], &none[..], &text(b"a"), &[*options]].concat();
            self.open(level, format!("a SUBSCRIBE with options {options:#04x}"), framed(0x82, &body), EITHER);
        }
    }

    /// Of MQTT 5.
    fn properties(&mut self) {
        for (id, value, packets) in PROPERTIES {
            let property = [&[id], value].concat();
            let others: String = "CPSU".chars().filter(|packet| !packets.contains(*packet)).collect();
            self.in_each(&format!("property {id:#04x} of another packet"), &properties(5, &property), [CONNECT_EITHER, EITHER], &others);
            // a subscription identifier is refused when it is there once
            if ![0x0b, 0x26].contains(&id) && !packets.is_empty() {
                let twice = properties(5, &property.repeat(2));
                self.in_each(&format!("property {id:#04x} twice"), &twice, [CONNECT_PROTOCOL, PROTOCOL], packets);
            }
            for length in 1..property.len() {
                // its length tells the truth, and the packet is as long as it says
                self.in_each(&format!("property {id:#04x} cut at {length}"), &cut(&property[..length]), [CONNECT_EITHER, EITHER], packets);
            }
        }
        for id in
            [&b"\x00"[..], b"\x04", b"\x0a", b"\x10", b"\x14", b"\x1b", b"\x20", b"\x2b", b"\x7f", b"\x80\x01", b"\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x01"]
        {
            self.in_each(&format!("property {id:x?}, which is none"), &properties(5, &[id, &[0]].concat()), [CONNECT_EITHER, EITHER], "CPSU");
        }
        for length in [&b"\xff\x01"[..], b"\xff\xff\x7f", b"\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x01", b"\xff\xff\xff\xff\xff"] {
            self.in_each(&format!("a property length of {length:x?}"), length, [CONNECT_EITHER, EITHER], "CPSU");
        }
        for (what, bytes) in BAD_UTF8 {
            let wrong = text(bytes);
            self.in_each(
                &format!("{what} in the name of a user property"),
                &properties(5, &[b"\x26", &wrong[..], b"\x00\x01b"].concat()),
                [CONNECT_EITHER, EITHER],
                "CPSU",
            );
            self.in_each(
                &format!("{what} in the value of a user property"),
                &properties(5, &[b"\x26\x00\x01a", &wrong[..]].concat()),
                [CONNECT_EITHER, EITHER],
                "CPSU",
            );
            for id in [0x03, 0x08] {
                self.in_each(&format!("{what} in property {id:#04x}"), &properties(5, &[&[id], &wrong[..]].concat()), [CONNECT_EITHER, EITHER], "P");
            }
        }
        for (id, packet) in [(0x01, "P"), (0x17, "C"), (0x19, "C")] {
            for value in [2, 0x80, 0xff] {
                self.in_each(&format!("property {id:#04x} is {value}"), &properties(5, &[id, value]), [CONNECT_EITHER, EITHER], packet);
            }
        }
        for (id, value) in [(0x21, &b"\0\0"[..]), (0x27, b"\0\0\0\0")] {
            self.in_each(&format!("property {id:#04x} is 0"), &properties(5, &[&[id], value].concat()), [CONNECT_PROTOCOL, PROTOCOL], "C");
        }
        self.in_each("authentication data without method", &properties(5, b"\x16\x00\x01d"), [CONNECT_PROTOCOL, PROTOCOL], "C");
    }

    fn connects(&mut self, level: u8) {
        let malformed = if level == 5 { CONNECT_EITHER } else { NOTHING };
        let none = properties(level, b"");
        let whole = connect(level, &none, b"c", b"ox", b"pw");
        for length in 0..whole.len() {
            let answers = if length < 8 { NOTHING } else { malformed };
            self.first(level, format!("a CONNECT cut at {length}"), framed(0x10, &whole[..length]), answers);
        }
        for behind in [&b"\0"[..], b"\0\0", b"\x10\0"] {
            self.first(level, format!("{behind:x?} behind a CONNECT"), framed(0x10, &[&whole[..], behind].concat()), malformed);
        }
        for bits in 1..16 {
            self.first(level, format!("reserved bits {bits:#x} of CONNECT"), framed(0x10 | bits, &whole), NOTHING);
        }
        // reserved, Will QoS 3, Will QoS and Retain without Will
        for flags in [0xc3, 0x03, 0xde, 0xfe, 0xca, 0xd2, 0xe2, 0xfa] {
            let mut wrong = whole.clone();
            wrong[7] = flags;
            self.first(level, format!("connect flags {flags:#04x}"), framed(0x10, &wrong), if level == 5 { CONNECT_MALFORMED } else { NOTHING });
        }
        for name in [&b""[..], b"M", b"MQT", b"mqtt", b"MQTT\0", b"MQTTX", b"HTTP", b"MQIsdq", b"\xff\xff\xff\xff"] {
            let body = [&text(name), &whole[6..]].concat();
            self.first(level, format!("the protocol {name:x?}"), framed(0x10, &body), NOTHING);
        }
        for (what, bytes) in BAD_UTF8 {
            self.first(level, format!("{what} in the client id"), framed(0x10, &connect(level, &none, bytes, b"ox", b"pw")), malformed);
            self.first(level, format!("{what} in the user name"), framed(0x10, &connect(level, &none, b"c", bytes, b"pw")), malformed);
        }
        let large = framed(0x10, &connect(level, &none, &vec![b'c'; 9000], b"ox", b"pw"));
        self.first(level, "a CONNECT of 9,000 bytes".to_owned(), large, NOTHING);
        for last in [0, 1, 0xff] {
            self.first(level, format!("a CONNECT whose length takes five bytes, {last}"), vec![0x10, 0x80, 0x80, 0x80, 0x80, last], NOTHING);
        }
    }
}

/// A property that ends too early, and nothing behind it that could be taken for the rest: the length says that it is all.
fn cut(property: &[u8]) -> Vec<u8> {
    [&[property.len() as u8], property].concat()
}

fn corpus() -> Vec<Case> {
    let mut corpus = Corpus::default();
    for level in [4, 5] {
        corpus.headers(level);
        corpus.publishes(level);
        corpus.subscriptions(level);
        corpus.connects(level);
    }
    corpus.properties();
    for body in [&b""[..], b"\0", b"\0\0", b"\0\x01\0", b"\0\x01\0\0"] {
        corpus.open(4, format!("a PUBREL of {body:x?}"), framed(0x62, body), MALFORMED);
        corpus.open(5, format!("a PUBREL of {body:x?}"), framed(0x62, body), PROTOCOL);
    }
    corpus.0
}

async fn answer(served: &Served, case: &Case) -> String {
    if case.first { Raw::dial(served.address, case.level).await } else { served.open(case.level, "ox").await }.answers(&case.bytes).await
}

#[tokio::test]
async fn a_thousand_malformed_packets_are_answered_and_nothing_else_happens() {
    let (served, journal) = served().await;
    let corpus = corpus();
    let distinct: BTreeSet<_> = corpus.iter().map(|case| (case.level, case.first, &case.bytes)).collect();
    println!("{} malformed packets, {} of them distinct", corpus.len(), distinct.len());
    assert!(distinct.len() >= 1000);
    let mut good = served.open(5, "strap").await;
    let mut differ = Vec::new();
    for (number, case) in corpus.iter().enumerate() {
        let said = answer(&served, case).await;
        let right = |answer: &&str| match (*answer, case.level == 4 && !case.first) {
            ("", _) | (_, true) => said == "closed",
            (answer, false) => said == format!("{answer}, closed"),
        };
        if !case.answers.iter().any(right) {
            differ.push(format!("{}, MQTT {}: `{said}`; expected {:?}; {:x?}", case.breaks, case.level, case.answers, case.bytes));
        }
        let id = u16::try_from(number).unwrap() + 1;
        good.publish(1, id, "v1/devices/strap/vitals", GOOD).await;
        good.acked(id).await;
    }
    assert!(differ.is_empty(), "{} of {}:\n{}", differ.len(), corpus.len(), differ.join("\n"));
    assert_eq!((inputs(&journal).len(), dead_letters(&journal).len()), (corpus.len(), 0), "only what the good client sent");
    served.stopped().await;
}
