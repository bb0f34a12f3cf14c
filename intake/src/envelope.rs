//! What stands around the readings of a message, for whoever looks at how a device sends.

use schemas::{DeviceId, EventTime};

use crate::decode::Message;
use crate::formats::{self, Format};
use crate::mapping::Mappings;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// As the topic says, or the connection's own.
    pub device: DeviceId,
    /// As topics name it.
    pub format: String,
    /// `sent_at` has a place in this format.
    pub may_be_stamped: bool,
    pub sent_at: Option<EventTime>,
    /// Of the message, or of its first reading that has one.
    pub boot: Option<u64>,
}

/// `None`: its topic or content type is none that is read. What cannot be parsed has neither time nor boot.
pub fn envelope(message: &Message<'_>, mappings: &Mappings) -> Option<Envelope> {
    let route = formats::route(message.topic, message.content_type, mappings).ok()?;
    let parsed = route.format.parse(message.payload, message.received_at).unwrap_or_default();
    let of_readings = || parsed.entries.iter().find_map(|entry| entry.read.as_ref().ok()?.boot);
    Some(Envelope {
        device: route.device(message.connection).ok()?,
        format: route.format.name(),
        may_be_stamped: matches!(route.format, Format::Vigil),
        sent_at: parsed.sent_at,
        boot: parsed.boot.or_else(of_readings),
    })
}
