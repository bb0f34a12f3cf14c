//! The bytes of a packet: where it ends, and the PUBLISH in it, read without copying. Every other packet is read by the library.

use std::sync::Arc;

use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet::{Property, v5_0};
use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;

use crate::closed::Closed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// 3.1.1
    V3,
    V5,
}

/// The kind of packet: the high half of its first byte.
pub(crate) mod kind {
    pub const CONNECT: u8 = 1;
    pub const PUBLISH: u8 = 3;
    pub const PUBREL: u8 = 6;
    pub const SUBSCRIBE: u8 = 8;
    pub const UNSUBSCRIBE: u8 = 10;
    pub const PINGREQ: u8 = 12;
    pub const DISCONNECT: u8 = 14;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// More bytes must come, before its length is known.
    Partial,
    /// It will have `total` bytes, and not all of them are here.
    Begun {
        total: usize,
    },
    /// By its own header, larger than is allowed: known before its bytes are here.
    TooLarge,
    Malformed,
    /// `header` bytes before what the header announces, `total` with it.
    Whole {
        header: usize,
        total: usize,
    },
}

/// Looks at the packet at the head of `input`.
pub(crate) fn frame(input: &[u8], most: usize) -> Frame {
    let mut length = 0_usize;
    for (i, byte) in input.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let (header, total) = (2 + i, 2 + i + length);
            return match total {
                _ if total > most => Frame::TooLarge,
                _ if total > input.len() => Frame::Begun { total },
                _ => Frame::Whole { header, total },
            };
        }
    }
    if input.len() >= 5 { Frame::Malformed } else { Frame::Partial }
}

#[derive(Debug)]
pub(crate) struct Publish<'a> {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    /// 0 at QoS 0.
    pub packet_id: u16,
    pub topic: &'a str,
    pub content_type: String,
    pub payload: Bytes,
}

impl<'a> Publish<'a> {
    pub fn parse(packet: &'a Bytes, header: usize, version: Version) -> Result<Self, Closed> {
        let flags = packet[0] & 0x0f;
        let qos = (flags >> 1) & 0b11;
        if qos == 3 {
            return Err(Closed::malformed("a PUBLISH with QoS 3"));
        }
        let body = &packet[header..];
        let (topic, rest) = text(body).ok_or(Closed::malformed("a PUBLISH whose topic is cut short or not UTF-8"))?;
        check_topic(topic)?;
        let (packet_id, rest) = if qos == 0 { (0, rest) } else { number(rest).ok_or(Closed::malformed("a PUBLISH without packet identifier"))? };
        if qos > 0 && packet_id == 0 {
            return Err(Closed::protocol("a PUBLISH with packet identifier 0"));
        }
        let (content_type, length) = match (version, rest) {
            (Version::V3, payload) => (String::new(), payload.len()),
            (Version::V5, [0, payload @ ..]) => (String::new(), payload.len()),
            (Version::V5, []) => return Err(Closed::malformed("a PUBLISH without property length")),
            (Version::V5, _) => properties(flags, body)?,
        };
        let payload = packet.slice(packet.len() - length..);
        Ok(Self { dup: flags & 0b1000 != 0, qos, retain: flags & 1 != 0, packet_id, topic, content_type, payload })
    }
}

fn check_topic(topic: &str) -> Result<(), Closed> {
    if topic.is_empty() {
        // in MQTT 5 it would need an alias, and we allow none
        return Err(Closed::protocol("a PUBLISH without topic"));
    }
    if topic.contains('\0') {
        return Err(Closed::malformed("a PUBLISH with U+0000 in its topic"));
    }
    if topic.contains(['+', '#']) {
        return Err(Closed::Protocol { code: DisconnectReasonCode::TopicNameInvalid, detail: "a PUBLISH to a topic with a wildcard" });
    }
    Ok(())
}

/// The rare PUBLISH with properties: its content type, and how long its payload is.
fn properties(flags: u8, body: &[u8]) -> Result<(String, usize), Closed> {
    let (publish, _) = v5_0::Publish::parse(flags, Arc::from(body)).map_err(|error| Closed::unread(error, "a PUBLISH whose properties cannot be read"))?;
    let mut content_type = String::new();
    for property in publish.props() {
        match property {
            Property::ContentType(value) => value.val().clone_into(&mut content_type),
            Property::TopicAlias(_) => {
                let detail = "a topic alias, though the CONNACK allows none";
                return Err(Closed::Protocol { code: DisconnectReasonCode::TopicAliasInvalid, detail });
            }
            Property::SubscriptionIdentifier(_) => return Err(Closed::protocol("a subscription identifier in a PUBLISH to the server")),
            _ => {}
        }
    }
    Ok((content_type, publish.payload().len()))
}

fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*number), rest))
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = number(bytes)?;
    let (text, rest) = rest.split_at_checked(usize::from(length))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_measured_before_it_is_there() {
        for (input, expected) in [
            (&[][..], Frame::Partial),
            (&[0x30], Frame::Partial),
            (&[0x30, 0x80], Frame::Partial),
            (&[0x30, 0x80, 0x80, 0x80, 0x80], Frame::Malformed),
            (&[0x30, 0xff, 0xff, 0xff, 0x7f], Frame::TooLarge),
            (&[0x30, 99], Frame::TooLarge),
            (&[0x30, 98], Frame::Begun { total: 100 }),
            (&[0xc0, 0, 7], Frame::Whole { header: 2, total: 2 }),
            (&[0x30, 0x81, 0x00, 7], Frame::Whole { header: 3, total: 4 }),
        ] {
            assert_eq!(frame(input, 100), expected, "{input:?}");
        }
    }

    fn publish(version: Version, bytes: &[u8]) -> Result<(String, u16, String, Vec<u8>), String> {
        let packet = Bytes::copy_from_slice(bytes);
        let publish = Publish::parse(&packet, 2, version).map_err(|closed| closed.to_string())?;
        Ok((publish.topic.to_owned(), publish.packet_id, publish.content_type, publish.payload.to_vec()))
    }

    #[test]
    fn a_publish_is_read_in_both_versions() {
        let read = |id| Ok(("a/b".to_owned(), id, String::new(), b"hi".to_vec()));
        assert_eq!(publish(Version::V3, b"\x32\x09\x00\x03a/b\x00\x07hi"), read(7));
        assert_eq!(publish(Version::V3, b"\x30\x07\x00\x03a/bhi"), read(0));
        assert_eq!(publish(Version::V5, b"\x32\x0a\x00\x03a/b\x00\x07\x00hi"), read(7));
        let typed = b"\x32\x0e\x00\x03a/b\x00\x07\x04\x03\x00\x01jhi";
        assert_eq!(publish(Version::V5, typed), Ok(("a/b".to_owned(), 7, "j".to_owned(), b"hi".to_vec())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (bytes, says) in [
            (&b"\x36\x05\x00\x01a\x00\x01"[..], "QoS 3"),
            (b"\x32\x02\x00\x05", "cut short"),
            (b"\x32\x05\x00\x01\xff\x00\x01", "not UTF-8"),
            (b"\x32\x05\x00\x01\x00\x00\x01", "U+0000"),
            (b"\x32\x05\x00\x01#\x00\x01", "wildcard"),
            (b"\x32\x04\x00\x00\x00\x01", "without topic"),
            (b"\x32\x03\x00\x01a", "without packet identifier"),
            (b"\x32\x05\x00\x01a\x00\x00", "packet identifier 0"),
            (b"\x32\x05\x00\x01a\x00\x01", "without property length"),
            (b"\x32\x09\x00\x01a\x00\x01\x03\x23\x00\x01", "topic alias"),
            (b"\x32\x08\x00\x01a\x00\x01\x02\x0b\x01", "subscription identifier"),
            (b"\x32\x07\x00\x01a\x00\x01\x02\x21", "cannot be read"),
        ] {
            let said = publish(Version::V5, bytes).unwrap_err();
            assert!(said.contains(says), "{bytes:?}: {said}");
        }
    }
}
