//! The packets of a conversation that are no PUBLISH.

use bytes::{BufMut as _, Bytes};
use mqtt_protocol_core::mqtt::packet::{Property, SubEntry, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::{DisconnectReasonCode, SubackReasonCode, UnsubackReasonCode};

use crate::closed::Closed;
use crate::conversation::Conversation;
use crate::onlooker::Sight;
use crate::reply::{self, PINGRESP};
use crate::verdict;
use crate::wire::{Version, kind};

/// Filters of one packet: there is one that can be granted.
const FILTERS: usize = 256;

const MOST_QOS: u8 = 2;
const GRANTED: u8 = SubackReasonCode::GrantedQos0 as u8;

impl Conversation {
    pub fn packet(&mut self, packet: &Bytes, header: usize) -> Result<(), Closed> {
        let (kind, flags, body) = (packet[0] >> 4, packet[0] & 0x0f, &packet[header..]);
        let expected = if matches!(kind, kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE) { 0b0010 } else { 0 };
        if flags != expected {
            return Err(Closed::malformed("a packet whose reserved bits are set"));
        }
        match (kind, self.listener.version) {
            (kind::PINGREQ, _) if body.is_empty() => {
                self.output.put_slice(&PINGRESP);
                self.tell(|| Sight::Pinged);
            }
            (kind::SUBSCRIBE, _) => self.subscribe(body)?,
            (kind::UNSUBSCRIBE, _) => self.unsubscribe(body)?,
            (kind::PUBREL, Version::V3) => match body.try_into().map(u16::from_be_bytes) {
                Ok(packet_id) if packet_id > 0 => reply::pubcomp(&mut self.output, packet_id),
                _ => return Err(Closed::malformed("a PUBREL without packet identifier")),
            },
            (kind::DISCONNECT, _) => return Err(Closed::Goodbye),
            (kind::PINGREQ, _) => return Err(Closed::malformed("a PINGREQ with something in it")),
            (kind::CONNECT, _) => return Err(Closed::protocol("a second CONNECT")),
            _ => return Err(Closed::protocol("a packet that a device has no reason to send")),
        }
        Ok(())
    }

    fn subscribe(&mut self, body: &[u8]) -> Result<(), Closed> {
        const UNREAD: &str = "a SUBSCRIBE that cannot be read";
        let version = self.listener.version;
        let (packet_id, entries) = match version {
            Version::V3 => {
                let (packet, _) = v3_1_1::Subscribe::parse(body).map_err(|error| Closed::unread(error, UNREAD))?;
                // the library takes them for the options of MQTT 5
                if packet.entries().iter().any(|entry| entry.sub_opts().to_buffer()[0] > MOST_QOS) {
                    return Err(Closed::malformed("a SUBSCRIBE whose reserved bits are set"));
                }
                (packet.packet_id(), packet.entries().clone())
            }
            Version::V5 => {
                let (packet, _) = v5_0::Subscribe::parse(body).map_err(|error| Closed::unread(error, UNREAD))?;
                if packet.props().iter().any(|property| matches!(property, Property::SubscriptionIdentifier(_))) {
                    let detail = "a subscription identifier, though the CONNACK allows none";
                    return Err(Closed::Protocol { code: DisconnectReasonCode::SubscriptionIdentifiersNotSupported, detail });
                }
                (packet.packet_id(), packet.entries().clone())
            }
        };
        if packet_id == 0 {
            return Err(Closed::protocol("a SUBSCRIBE with packet identifier 0"));
        }
        self.answerable(entries.len())?;
        let own = verdict::topic(&self.passage.device);
        let codes: Vec<u8> = entries.iter().map(|entry| answer(entry, &own, version)).collect();
        reply::suback(&mut self.output, version, packet_id, &codes);
        if codes.contains(&GRANTED) {
            self.greet();
        }
        Ok(())
    }

    /// The answer has a code for each filter, and the client may not take as many.
    fn answerable(&self, filters: usize) -> Result<(), Closed> {
        if filters <= FILTERS && reply::size_of_suback(filters) <= self.listener.max_packet {
            return Ok(());
        }
        let detail = "more filters in one packet than its answer may hold";
        Err(Closed::Protocol { code: DisconnectReasonCode::QuotaExceeded, detail })
    }

    fn unsubscribe(&mut self, body: &[u8]) -> Result<(), Closed> {
        const UNREAD: &str = "an UNSUBSCRIBE that cannot be read";
        let version = self.listener.version;
        let (packet_id, filters) = match version {
            Version::V3 => {
                let (packet, _) = v3_1_1::Unsubscribe::parse(body).map_err(|error| Closed::unread(error, UNREAD))?;
                (packet.packet_id(), packet.entries().clone())
            }
            Version::V5 => {
                let (packet, _) = v5_0::Unsubscribe::parse(body).map_err(|error| Closed::unread(error, UNREAD))?;
                (packet.packet_id(), packet.entries().clone())
            }
        };
        if packet_id == 0 {
            return Err(Closed::protocol("an UNSUBSCRIBE with packet identifier 0"));
        }
        self.answerable(filters.len())?;
        let own = verdict::topic(&self.passage.device);
        let mut codes = Vec::with_capacity(filters.len());
        for filter in &filters {
            let was = filter.as_str() == own && std::mem::take(&mut self.subscribed);
            codes.push(if was { UnsubackReasonCode::Success } else { UnsubackReasonCode::NoSubscriptionExisted } as u8);
        }
        reply::unsuback(&mut self.output, version, packet_id, &codes);
        Ok(())
    }
}

fn answer(entry: &SubEntry, own: &str, version: Version) -> u8 {
    let filter = entry.topic_filter();
    let code = match version {
        _ if filter == own => SubackReasonCode::GrantedQos0,
        Version::V3 => SubackReasonCode::UnspecifiedError,
        Version::V5 if filter.starts_with("$share/") => SubackReasonCode::SharedSubscriptionsNotSupported,
        Version::V5 if filter.contains(['+', '#']) => SubackReasonCode::WildcardSubscriptionsNotSupported,
        Version::V5 => SubackReasonCode::NotAuthorized,
    };
    code as u8
}
