//! What is sent on an open connection: acks, answers and verdicts.

use bytes::{BufMut as _, BytesMut};
use mqtt_protocol_core::mqtt::packet::{Property, ReasonString, v5_0};
use mqtt_protocol_core::mqtt::result_code::{DisconnectReasonCode, MqttError};

use crate::receipts::Waiting;
use crate::wire::Version;

const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;
const SUBACK: u8 = 0x90;
const UNSUBACK: u8 = 0xb0;
pub(crate) const PINGRESP: [u8; 2] = [0xd0, 0];

/// What a client is able, and wants, to be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    pub version: Version,
    pub problems: bool,
    pub max_packet: usize,
}

/// The ack of a message that [`crate::receipts::Receipts::poll_head`] let go.
pub(crate) fn ack(output: &mut BytesMut, listener: Listener, message: &Waiting) {
    match (message.qos, &message.verdict, listener.version) {
        (0, _, _) => {}
        (1, Some(verdict), Version::V5) => {
            let ack = v5_0::Puback::builder().packet_id(message.packet_id).reason_code(verdict.code());
            let said = ReasonString::new(verdict.reason_string()).map(|text| vec![Property::ReasonString(text)]);
            match said.and_then(|said| ack.props(said).build()) {
                Ok(ack) if listener.problems && ack.size() <= listener.max_packet => output.put_slice(&ack.to_continuous_buffer()),
                _ => {
                    let [high, low] = message.packet_id.to_be_bytes();
                    output.put_slice(&[PUBACK, 3, high, low, verdict.code() as u8]);
                }
            }
        }
        (1, _, _) => short(output, PUBACK, message.packet_id),
        _ => short(output, PUBREC, message.packet_id),
    }
}

fn short(output: &mut BytesMut, kind: u8, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    output.put_slice(&[kind, 2, high, low]);
}

pub(crate) fn pubcomp(output: &mut BytesMut, packet_id: u16) {
    short(output, PUBCOMP, packet_id);
}

/// One code per filter.
pub(crate) fn suback(output: &mut BytesMut, version: Version, packet_id: u16, codes: &[u8]) {
    answer(output, SUBACK, version, packet_id, codes);
}

/// At most: MQTT 3.1.1 has no properties.
pub(crate) const fn size_of_suback(filters: usize) -> usize {
    let remaining = 2 + 1 + filters;
    remaining + if remaining < 128 { 2 } else { 3 }
}

/// One code per filter; MQTT 3.1.1 has none.
pub(crate) fn unsuback(output: &mut BytesMut, version: Version, packet_id: u16, codes: &[u8]) {
    answer(output, UNSUBACK, version, packet_id, if version == Version::V5 { codes } else { &[] });
}

fn answer(output: &mut BytesMut, kind: u8, version: Version, packet_id: u16, codes: &[u8]) {
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    output.put_u8(kind);
    length(output, 2 + properties.len() + codes.len());
    output.put_u16(packet_id);
    output.put_slice(properties);
    output.put_slice(codes);
}

/// A message at QoS 0, unless the client said that it is too large for it.
pub(crate) fn publish(output: &mut BytesMut, listener: Listener, topic: &str, payload: &[u8]) {
    let properties: &[u8] = if listener.version == Version::V5 { &[0] } else { &[] };
    let remaining = 2 + topic.len() + properties.len() + payload.len();
    if remaining + 5 > listener.max_packet {
        return;
    }
    output.put_u8(PUBLISH);
    length(output, remaining);
    output.put_u16(topic.len() as u16);
    output.put_slice(topic.as_bytes());
    output.put_slice(properties);
    output.put_slice(payload);
}

pub(crate) fn disconnect(output: &mut BytesMut, listener: Listener, code: DisconnectReasonCode, detail: &str) {
    let said = ReasonString::new(detail).map(|text| vec![Property::ReasonString(text)]);
    let packet: Result<_, MqttError> = said.and_then(|said| v5_0::Disconnect::builder().reason_code(code).props(said).build());
    match packet {
        Ok(packet) if packet.size() <= listener.max_packet => output.put_slice(&packet.to_continuous_buffer()),
        _ => output.put_slice(&[0xe0, 1, code as u8]),
    }
}

fn length(output: &mut BytesMut, mut length: usize) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        output.put_u8(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use mqtt_protocol_core::mqtt::packet::v3_1_1;
    use schemas::{DeadLetter, EventTime, Reason};

    use super::*;
    use crate::verdict::Verdict;

    const V5: Listener = Listener { version: Version::V5, problems: true, max_packet: usize::MAX };
    const V3: Listener = Listener { version: Version::V3, problems: false, max_packet: usize::MAX };

    fn refused() -> Waiting {
        let mut verdict = Verdict::default();
        let dead = DeadLetter {
            device: "ox".to_owned(),
            topic: "t".to_owned(),
            payload: bytes::Bytes::new(),
            reason: Reason::NotAllowed,
            detail: "not_allowed: x".to_owned(),
            received_at: EventTime(0),
            content_type: String::new(),
            entry: 0,
            metric: None,
            stamped_at: None,
            format: None,
        };
        verdict.add(dead, true);
        Waiting { packet_id: 0x0102, qos: 1, receipts: 0, accepted: 0, cost: 0, verdict: Some(Box::new(verdict)) }
    }

    fn acked(listener: Listener, message: &Waiting) -> Vec<u8> {
        let mut output = BytesMut::new();
        ack(&mut output, listener, message);
        output.to_vec()
    }

    #[test]
    fn an_ack_says_what_the_client_can_hear() {
        let good = |qos| Waiting { qos, verdict: None, ..refused() };
        assert_eq!(acked(V5, &good(1)), [0x40, 2, 1, 2]);
        assert_eq!(acked(V3, &good(1)), [0x40, 2, 1, 2]);
        assert_eq!(acked(V3, &good(2)), [0x50, 2, 1, 2]);
        assert!(acked(V3, &good(0)).is_empty());
        assert_eq!(acked(V3, &refused()), [0x40, 2, 1, 2], "3.1.1 has no reason codes");
        assert_eq!(acked(V5, &refused()), b"\x40\x15\x01\x02\x87\x11\x1f\x00\x0enot_allowed: x");
        for mute in [Listener { problems: false, ..V5 }, Listener { max_packet: 22, ..V5 }] {
            assert_eq!(acked(mute, &refused()), [0x40, 3, 1, 2, 0x87]);
        }
    }

    #[test]
    fn messages_are_what_the_library_reads() {
        for listener in [V3, V5] {
            let mut output = BytesMut::new();
            let payload = vec![b'x'; 300];
            publish(&mut output, listener, "a/b", &payload);
            let crate::wire::Frame::Whole { header, total } = crate::wire::frame(&output, 1 << 20) else { panic!("{output:?}") };
            assert_eq!(total, output.len());
            let body: std::sync::Arc<[u8]> = output[header..].into();
            let (topic, read) = if listener.version == Version::V5 {
                let (publish, _) = v5_0::Publish::parse(0, body).unwrap();
                (publish.topic_name().to_owned(), publish.payload().as_slice().to_vec())
            } else {
                let (publish, _) = v3_1_1::Publish::parse(0, body).unwrap();
                (publish.topic_name().to_owned(), publish.payload().as_slice().to_vec())
            };
            assert_eq!((topic.as_str(), read), ("a/b", payload));
        }
        let mut output = BytesMut::new();
        publish(&mut output, Listener { max_packet: 10, ..V5 }, "a/b", b"too large for it");
        assert!(output.is_empty());
    }
}
