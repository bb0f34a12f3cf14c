//! Hostile streams of packets, and what must hold of a conversation whatever it hears: for `dev/fuzz` and a short run in the tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::BytesMut;
use intake::Mappings;
use journal::memory::MemoryJournal;
use journal::{Journal, Topic};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use schemas::{DeviceId, EventTime, Partition, PatientId};
use store::registry::{Assignment, Device, RegistryView};
use tokio::sync::watch;

use crate::budget::Budget;
use crate::clocks::Clocks;
use crate::closed::Closed;
use crate::conversation::Conversation;
use crate::gateway::Shared;
use crate::handshake::MAX_CONNECT;
use crate::hello::Hello;
use crate::reply::Listener;
use crate::telemetry::{Meters, Seldom};
use crate::view::View;
use crate::wire::{Frame, Version, frame, kind};

/// Options and the seed of the split, before the stream.
const SELECTORS: usize = 2;
const PARTITIONS: u32 = 2;
/// Small, so that it is used up.
const BUDGET: usize = 4 << 10;

/// What the first byte of a case says.
mod option {
    pub const V5: u8 = 1;
    /// The client takes small packets only.
    pub const SMALL: u8 = 2;
    /// So does the server.
    pub const SMALL_HERE: u8 = 4;
    /// The first packet is a CONNECT.
    pub const CONNECT: u8 = 8;
    pub const CERTIFIED: u8 = 16;
    /// Nothing is durable before the whole stream is read.
    pub const HELD: u8 = 32;
    pub const MUTE: u8 = 64;
}

/// A registry with one device that is worn.
pub struct Checker {
    view: watch::Receiver<Arc<View>>,
    ox: DeviceId,
}

/// What was said, packet by packet, and why it ended.
struct Outcome {
    said: Vec<Vec<u8>>,
    closed: Option<Closed>,
    records: usize,
}

impl Checker {
    /// `None`: the build is broken.
    pub fn new() -> Option<Self> {
        let ox = DeviceId::parse("ox").ok()?;
        let zero = EventTime(0);
        let device = Device { id: ox.clone(), model: String::new(), test: false, hub: None, created_at: zero, revoked_at: None, min_time: zero };
        let worn = Assignment { device: ox.clone(), patient: PatientId::parse("ada").ok()?, from: zero, until: None };
        let view = View::new(RegistryView { version: 1, devices: vec![device], credentials: Vec::new(), assignments: vec![worn] });
        Some(Self { view: watch::channel(Arc::new(view)).1, ox })
    }

    /// What is wrong with what was answered, if anything is.
    pub fn check(&self, case: &[u8]) -> Result<(), String> {
        let Some((&[options, split], mut stream)) = case.split_first_chunk::<SELECTORS>() else { return Ok(()) };
        let is = |option: u8| options & option != 0;
        let most_here = if is(option::SMALL_HERE) { 1 << 10 } else { 256 << 10 };
        let most = if is(option::SMALL) { 40 } else { usize::MAX };
        let mut listener = Listener { version: if is(option::V5) { Version::V5 } else { Version::V3 }, problems: !is(option::MUTE), max_packet: most };
        if is(option::CONNECT) {
            match connected(&mut stream, is(option::CERTIFIED), most_here)? {
                // less than any CONNACK is never let in
                Some(hello) if hello.max_packet >= 40 => listener = Listener { version: hello.version, problems: hello.problems, max_packet: hello.max_packet },
                _ => return Ok(()),
            }
        }
        if listener.version == Version::V3 {
            listener.max_packet = usize::MAX;
        }
        let whole = self.converse(listener, most_here, is(option::HELD), [stream].into_iter())?;
        answered(listener, most_here, stream, &whole)?;
        let mut rng = StdRng::seed_from_u64(u64::from(split));
        let mut rest = stream;
        let pieces = std::iter::from_fn(|| {
            let (piece, left) = rest.split_at(rng.random_range(1..=16.min(rest.len().max(1))).min(rest.len()));
            rest = left;
            (!piece.is_empty()).then_some(piece)
        });
        let pieces = self.converse(listener, most_here, is(option::HELD), pieces)?;
        same(&whole, &pieces)
    }

    fn converse<'a>(&self, listener: Listener, max_packet: usize, held: bool, pieces: impl Iterator<Item = &'a [u8]>) -> Result<Outcome, String> {
        let journal = MemoryJournal::new(PARTITIONS);
        let shared = Arc::new(self.shared(&journal, max_packet, BUDGET));
        if held {
            journal.hold();
        }
        let mut conversation = Conversation::new(shared.clone(), self.ox.clone(), listener, BytesMut::new(), None);
        let mut output = BytesMut::new();
        let mut closed = None;
        for piece in pieces {
            conversation.input.extend_from_slice(piece);
            conversation.heard();
            closed = settle(&mut conversation, &mut output).err();
            if closed.is_some() {
                break;
            }
        }
        if held {
            if output.iter().next().is_some() && frames(&output)?.iter().any(|packet| [0x40, 0x50].contains(&packet[0])) {
                return Err("I1: an ack left before its receipt".to_owned());
            }
            journal.release();
            if closed.is_none() {
                closed = settle(&mut conversation, &mut output).err();
            }
        }
        if closed.is_none() && !conversation.passage.is_settled() {
            return Err("it waits for something that will not come".to_owned());
        }
        drop(conversation);
        if shared.budget.free() != BUDGET {
            return Err(format!("{} bytes of the budget of {BUDGET} are left", shared.budget.free()));
        }
        let topics = [Topic::Inputs, Topic::DeadLetters];
        let records = topics.iter().flat_map(|topic| (0..PARTITIONS).map(|partition| journal.records(*topic, Partition(partition)).len())).sum();
        Ok(Outcome { said: frames(&output)?, closed, records })
    }

    pub(crate) fn shared(&self, journal: &MemoryJournal, max_packet: usize, budget: usize) -> Shared {
        Shared {
            journal: Arc::new(journal.clone()) as Arc<dyn Journal>,
            partitions: PARTITIONS,
            view: self.view.clone(),
            turns: crate::turns::Turns::new(),
            onlooker: None,
            connections: Arc::default(),
            clocks: Clocks::new(),
            budget: Arc::new(Budget::new(budget)),
            halves: Budget::of_halves(budget),
            meters: Meters::new(),
            max_packet,
            unwritten: Seldom::default(),
            // `fuzz` reads payloads
            mappings: Mappings::default(),
        }
    }
}

/// Reads the CONNECT at the head of `stream`, and looks at the answer to it.
fn connected(stream: &mut &[u8], certified: bool, most_here: usize) -> Result<Option<Hello>, String> {
    let Frame::Whole { header, total } = frame(stream, MAX_CONNECT) else { return Ok(None) };
    let (packet, rest) = stream.split_at(total);
    *stream = rest;
    match Hello::parse(packet, header, certified) {
        Ok(hello) => {
            let connack = hello.accept(most_here);
            if frames(&connack)?.len() != 1 || connack[0] != 0x20 || (hello.user.is_empty() && !certified) {
                return Err(format!("a CONNECT is answered {connack:x?}"));
            }
            Ok(Some(hello))
        }
        Err(refusal) => {
            let connack = refusal.encode();
            if !connack.is_empty() && (frames(&connack)?.len() != 1 || connack[0] != 0x20 || connack[3] == 0) {
                return Err(format!("a CONNECT that is refused ({}) is answered {connack:x?}", refusal.detail));
            }
            Ok(None)
        }
    }
}

/// As a connection does it: packets, acks, and what the acks make room for, until nothing more happens.
fn settle(conversation: &mut Conversation, output: &mut BytesMut) -> Result<(), Closed> {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        conversation.work()?;
        let mut settled = false;
        loop {
            output.unsplit(conversation.output.split());
            if !conversation.poll_settle(&mut context)? {
                break;
            }
            settled = true;
        }
        if conversation.poll_room(&mut context).is_pending() && (!settled || conversation.input.is_empty()) {
            return Ok(());
        }
    }
}

/// The packets of a stream that must be made of whole ones.
fn frames(mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        let Frame::Whole { header, total } = frame(bytes, usize::MAX) else { return Err(format!("{bytes:x?} is said, and is no packet")) };
        let (packet, rest) = bytes.split_at(total);
        // the first byte, then what the header announces
        packets.push([&packet[..1], &packet[header..]].concat());
        bytes = rest;
    }
    Ok(packets)
}

/// Every packet of a stream that did not end the connection has its one answer; whatever is said, the client can take.
fn answered(listener: Listener, most_here: usize, mut stream: &[u8], outcome: &Outcome) -> Result<(), String> {
    let header = |body: usize| if body < 128 { 2 } else { 3 };
    if let Some(large) = outcome.said.iter().find(|said| said.len() - 1 + header(said.len() - 1) > listener.max_packet) {
        return Err(format!("a packet of {} bytes to a client that takes {}: {:#04x}", large.len() + 1, listener.max_packet, large[0]));
    }
    let acks = outcome.said.iter().filter(|said| [0x40, 0x50].contains(&said[0])).count();
    if acks > outcome.records {
        return Err(format!("I2: {acks} acks of {} records", outcome.records));
    }
    if outcome.closed.is_some() {
        return Ok(());
    }
    let mut expected = BTreeMap::<u8, usize>::new();
    while let Frame::Whole { total, .. } = frame(stream, most_here) {
        let answer = match (stream[0] >> 4, stream[0] & 0b110) {
            (kind::PUBLISH, 0b010) => 0x40,
            (kind::PUBLISH, 0b100) => 0x50,
            (kind::PUBLISH, _) => 0,
            (kind::PUBREL, _) => 0x70,
            (kind::SUBSCRIBE, _) => 0x90,
            (kind::UNSUBSCRIBE, _) => 0xb0,
            (kind::PINGREQ, _) => 0xd0,
            (other, _) => return Err(format!("a packet of kind {other} did not end the connection")),
        };
        *expected.entry(answer).or_default() += 1;
        stream = &stream[total..];
    }
    expected.remove(&0);
    let mut said = BTreeMap::<u8, usize>::new();
    for packet in outcome.said.iter().filter(|packet| packet[0] != 0x30) {
        *said.entry(packet[0]).or_default() += 1;
    }
    if said == expected { Ok(()) } else { Err(format!("answers by kind: {said:x?}, expected {expected:x?}")) }
}

/// However a stream is cut, it is answered the same.
fn same(whole: &Outcome, pieces: &Outcome) -> Result<(), String> {
    let label = |outcome: &Outcome| outcome.closed.as_ref().map(|closed| closed.to_string());
    // what is in flight at once depends on what comes at once
    let window = ["more messages in flight than the server's Receive Maximum", "a packet identifier that is still in flight"];
    let (first, second) = (label(whole), label(pieces));
    if [&first, &second].into_iter().flatten().any(|label| window.contains(&label.as_str())) {
        return Ok(());
    }
    // acks keep their order among themselves, and so do the other answers; a verdict is told to who is a subscriber when the ack leaves
    let digest = |outcome: &Outcome| -> [Vec<Vec<u8>>; 2] {
        let said = outcome.said.iter().filter(|said| said[0] != 0x30).cloned();
        let (acks, answers) = said.partition(|said| [0x40, 0x50].contains(&said[0]));
        [acks, answers]
    };
    if first != second || (first.is_none() && (digest(whole) != digest(pieces) || whole.records != pieces.records)) {
        return Err(format!("in one piece: {first:?} {:x?}; in many: {second:?} {:x?}", digest(whole), digest(pieces)));
    }
    Ok(())
}

fn text(text: &[u8]) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes(), text].concat()
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        packet.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            packet.extend_from_slice(body);
            return packet;
        }
    }
}

const PUBLISH_PROPERTIES: [&[u8]; 8] = [
    b"",
    b"\x03\x00\x10application/json",
    b"\x26\x00\x01a\x00\x01b",
    b"\x02\x00\x00\x00\x05\x01\x01",
    b"\x08\x00\x01r\x09\x00\x01c",
    b"\x23\x00\x01",
    b"\x0b\x01",
    b"\x03\x00\x01a\x03\x00\x01b",
];
const CONNECT_PROPERTIES: [&[u8]; 7] = [
    b"",
    b"\x11\x00\x00\x00\x3c\x21\x00\x05",
    b"\x27\x00\x00\x01\x00\x17\x00\x19\x01",
    b"\x26\x00\x01a\x00\x01b\x22\x00\x05",
    b"\x15\x00\x05PLAIN\x16\x00\x01x",
    b"\x27\x00\x00\x00\x29",
    b"\x21\x00\x00",
];

/// A packet that is right, or nearly.
fn packet(rng: &mut StdRng, v5: bool) -> Vec<u8> {
    let id = rng.random_range(0..4_u16).to_be_bytes();
    let properties = |rng: &mut StdRng, all: &[&[u8]]| {
        let properties = if rng.random_range(0..3) == 0 { all[rng.random_range(0..all.len())] } else { b"" };
        if v5 { [&[properties.len() as u8], properties].concat() } else { Vec::new() }
    };
    match rng.random_range(0..10) {
        0 => {
            let flags = [0xc2, 0x82, 0x02, 0xc0, 0xc6, 0xe6, 0xd6, 0x42][rng.random_range(0..8)];
            let mut body = [&text(b"MQTT")[..], &[if v5 { 5 } else { 4 }, flags, 0, 60], &properties(rng, &CONNECT_PROPERTIES), &text(b"c")].concat();
            if flags & 4 != 0 {
                body.extend([properties(rng, &[b"\x18\x00\x00\x00\x01", b"\x01\x01"]), text(b"w"), text(b"bye")].concat());
            }
            for _ in 0..(flags >> 7) + (flags >> 6 & 1) {
                body.extend(text(b"ox"));
            }
            framed(0x10, &body)
        }
        1..=3 => {
            let flags = [0, 2, 2, 2, 4, 10, 3, 6][rng.random_range(0..8)];
            let topic: &[u8] = [&b"v1/devices/ox/vitals"[..], b"v1/devices/ox/vitals/senml", b"home/x", b"", b"a/#"][rng.random_range(0..5)];
            let payload: &[u8] = [&br#"{"metric":"spo2","value":97}"#[..], br#"[{"n":"spo2","v":97},{"n":"x","v":1}]"#, b"", b"{"][rng.random_range(0..4)];
            let id: &[u8] = if flags & 6 == 0 { b"" } else { &id };
            framed(0x30 | flags, &[&text(topic)[..], id, &properties(rng, &PUBLISH_PROPERTIES), payload].concat())
        }
        4 | 5 => {
            let mut body = [&id[..], &properties(rng, &[b"\x0b\x01", b"\x26\x00\x01a\x00\x01b"])].concat();
            for _ in 0..if rng.random_range(0..16) == 0 { 60 } else { rng.random_range(0..4) } {
                let filter: &[u8] = [&b"v1/devices/ox/verdicts"[..], b"#", b"$share/g/a", b"$share//", b"", b"a/+/b"][rng.random_range(0..6)];
                body.extend([&text(filter)[..], &[[0, 1, 2, 3, 0x2c, 0x30][rng.random_range(0..6)]]].concat());
            }
            framed(0x82, &body)
        }
        6 => {
            let mut body = [&id[..], &properties(rng, &[b"\x26\x00\x01a\x00\x01b"])].concat();
            for _ in 0..if rng.random_range(0..16) == 0 { 60 } else { rng.random_range(0..3) } {
                body.extend(text([&b"v1/devices/ox/verdicts"[..], b"#"][rng.random_range(0..2)]));
            }
            framed(0xa2, &body)
        }
        7 => framed(0x62, &id),
        8 => vec![0xc0, 0],
        _ => [vec![0xe0, 0], framed(0xe0, b"\x04\x05\x11\x00\x00\x00\x01"), framed(0xf0, b"\x18\x00"), framed(0x40, &id), framed(0x20, b"\x00\x00")]
            [rng.random_range(0..5)]
        .clone(),
    }
}

/// Another stream like this one.
pub fn bend(case: &mut Vec<u8>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    if case.len() < SELECTORS {
        *case = vec![rng.random::<u8>() & !option::CONNECT, rng.random()];
    }
    if rng.random_range(0..16) == 0 {
        case[0] = rng.random();
        case[1] = rng.random();
    }
    let v5 = case[0] & option::V5 != 0;
    let mut packets = Vec::new();
    let mut rest = &case[SELECTORS..];
    while let Frame::Whole { total, .. } = frame(rest, usize::MAX) {
        let (packet, left) = rest.split_at(total);
        packets.push(packet.to_vec());
        rest = left;
    }
    packets.extend((!rest.is_empty()).then(|| rest.to_vec()));
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=packets.len());
        match rng.random_range(0..10) {
            0..=3 => packets.insert(at, packet(&mut rng, v5)),
            4 if at < packets.len() => drop(packets.remove(at)),
            5 if at < packets.len() && packets.len() < 80 => {
                let again = packets[at].clone();
                let times = if rng.random_range(0..16) == 0 { 40 } else { 1 };
                packets.splice(at..at, std::iter::repeat_n(again, times));
            }
            // the body, under a header that is right
            6 | 7 if at < packets.len() => {
                let Frame::Whole { header, .. } = frame(&packets[at], usize::MAX) else { continue };
                let mut body = packets[at][header..].to_vec();
                bend_bytes(&mut body, &mut rng);
                packets[at] = framed(packets[at][0], &body);
            }
            _ if at < packets.len() => bend_bytes(&mut packets[at], &mut rng),
            _ => {}
        }
    }
    case.truncate(SELECTORS);
    case.extend(packets.concat());
}

fn bend_bytes(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..3) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, 0x26, 0x23, 0x0b, 0x03][rng.random_range(0..9)],
            2 => bytes.truncate(at),
            3 if at < bytes.len() => {
                let end = rng.random_range(at..bytes.len().min(at + 16));
                let piece = bytes[at..=end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes.insert(at, rng.random()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `dev/fuzz` runs as many as it is asked for, and keeps what reaches new code. `VIGIL_TEST_CASES` are as many as are wanted here, without that.
    #[test]
    #[allow(clippy::print_stdout)]
    fn whatever_a_conversation_hears_it_answers_as_it_must() {
        let set = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
        let (seed, cases) = (set("VIGIL_TEST_SEED").unwrap_or_else(rand::random), set("VIGIL_TEST_CASES").unwrap_or(20_000));
        println!("VIGIL_TEST_SEED={seed}, {cases} cases");
        let checker = Checker::new().unwrap();
        let (mut case, mut open) = (Vec::new(), 0);
        for round in 0..cases {
            if round % 4 == 0 {
                case.clear();
            }
            bend(&mut case, seed.wrapping_add(round));
            checker.check(&case).unwrap_or_else(|wrong| panic!("VIGIL_TEST_SEED={seed}, case {round}: {wrong}\n{case:x?}"));
            open += usize::from(case.len() > 30);
        }
        println!("{open} cases are long enough to say something");
        // about half of them are: so few are none by chance
        assert!(open as u64 > cases / 3, "{open} cases are long enough to say something");
    }
}
