//! One message, to what is written of it.

use bytes::Bytes;
use schemas::{ClockState, DeadLetter, DeviceId, EventTime, Input, Metric, Micros, PatientId, Reading, ReadingId, Reason};

use crate::clock::{DeviceClock, TOLERANCE};
use crate::json::{self, Parsed, Read, Refused};
use crate::registry::{Ambiguous, Known, Registry};

/// Entries of one message: each may become a dead letter that repeats what stands around it.
const ENTRIES: usize = 4096;
/// Bytes of a content type.
const CONTENT_TYPE: usize = 256;

/// A publish as it came.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Whose connection it is; authenticated.
    pub connection: &'a DeviceId,
    pub topic: &'a str,
    pub payload: &'a Bytes,
    pub content_type: &'a str,
    /// MQTT's DUP flag: the bytes may have come before.
    pub dup: bool,
    pub received_at: EventTime,
}

/// Where an entry goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Decided {
    Input(PatientId, Input),
    Dead(DeadLetter),
}

/// The device that a topic names: `v1/devices/{device}/vitals`, with `/json` or without.
fn device_of(topic: &str) -> Result<DeviceId, Refused> {
    let rest = topic.strip_prefix("v1/devices/").and_then(|rest| rest.split_once('/'));
    let Some((device, format)) = rest else {
        return Err(Refused(Reason::UnknownTopic, format!("`{}` is no topic of devices; publish to v1/devices/{{device}}/vitals", cut(topic))));
    };
    match format {
        "vitals" | "vitals/json" => {}
        _ if format.starts_with("vitals/") => {
            return Err(Refused(Reason::UnknownFormat, format!("`{}` is no format; publish to v1/devices/{{device}}/vitals", cut(format))));
        }
        _ => return Err(Refused(Reason::UnknownTopic, format!("`{}`; publish to v1/devices/{{device}}/vitals", cut(format)))),
    }
    DeviceId::parse(device).map_err(|error| Refused(Reason::UnknownDevice, format!("the device in the topic: {error}")))
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Decides every entry of a message. `clock` is what is known of the clock of the device that the topic names.
pub fn decode(message: &Message<'_>, registry: &Registry, clock: &mut DeviceClock) -> Vec<Decided> {
    let whole = |Refused(reason, detail)| vec![Decided::Dead(dead(message, &[], 0, None, None, reason, detail))];
    if message.content_type.len() > CONTENT_TYPE {
        return whole(Refused(Reason::Malformed, format!("a content type of {} bytes; at most {CONTENT_TYPE}", message.content_type.len())));
    }
    let device = match device_of(message.topic) {
        Ok(device) => device,
        Err(refused) => return whole(refused),
    };
    let Some(known) = registry.device(&device) else {
        return whole(Refused(Reason::UnknownDevice, format!("device `{device}` is not registered; `vigil device add` registers it")));
    };
    if known.revoked || !registry.may_speak_for(message.connection, known) {
        return whole(Refused(Reason::NotAllowed, format!("`{}` may not speak for device `{device}`; register it behind this hub", message.connection)));
    }
    let parsed = match json::parse(message.payload) {
        Ok(parsed) => parsed,
        Err(refused) => return whole(refused),
    };
    if parsed.entries.len() > ENTRIES {
        return whole(Refused(Reason::TooLarge, format!("{} entries in one message; send at most {ENTRIES}", parsed.entries.len())));
    }
    if let Some(sent_at) = parsed.sent_at {
        clock.heard(sent_at, message.received_at, message.dup);
    }
    let shift = shift(&parsed, known, clock, message.received_at);
    let (seq, boot) = (parsed.seq, parsed.boot);
    let entries = parsed.entries.into_iter().enumerate();
    entries
        .map(|(number, entry)| {
            let stamped_at = entry.stamped_at;
            let decided = entry.read.and_then(|read| place(message, registry, known, Read { seq: read.seq.or(seq), boot: read.boot.or(boot), ..read }, shift));
            decided.unwrap_or_else(|Refused(reason, detail)| Decided::Dead(dead(message, &entry.bytes, number, entry.metric, stamped_at, reason, detail)))
        })
        .collect()
}

/// By how much the stamps of a message are moved: a slow clock by what it is behind; what cannot be true so that the newest is now.
fn shift(parsed: &Parsed, known: &Known, clock: &DeviceClock, received_at: EventTime) -> Micros {
    let newest = parsed.entries.iter().filter_map(|entry| entry.stamped_at).max();
    let slow = clock.offset();
    let Some(newest) = newest.map(|newest| newest + slow) else { return slow };
    if newest - received_at > TOLERANCE || newest < known.min_time { slow + (received_at - newest) } else { slow }
}

fn place(message: &Message<'_>, registry: &Registry, known: &Known, read: Read, shift: Micros) -> Result<Decided, Refused> {
    let (at, stamped_at, clock) = match read.stamped_at {
        None => (message.received_at, message.received_at, ClockState::Unstamped),
        Some(stamped) if shift == Micros::ZERO => (stamped, stamped, ClockState::AsSent),
        Some(stamped) => (stamped + shift, stamped, ClockState::Corrected),
    };
    if at < known.min_time {
        return Err(Refused(Reason::BadTime, format!("measured {at}, before the device existed ({}); correct its clock", known.min_time)));
    }
    let patient = match registry.patient_of(&known.device, at) {
        Ok(Some(patient)) => patient.clone(),
        Ok(None) => return Err(Refused(Reason::Unassigned, format!("nobody wore device `{}` at {at}; assign it from then on", known.device))),
        Err(Ambiguous) => return Err(Refused(Reason::Ambiguous, format!("two patients claim device `{}` at {at}; end one assignment", known.device))),
    };
    let boot = read.boot;
    // a restarted clock that repeats a stamp is another reading; a resend is the same
    let hour = Micros::hours(1).0;
    let told_apart = boot.or_else(|| (clock == ClockState::Corrected).then(|| at.0.div_euclid(hour).unsigned_abs()));
    let reading = Reading {
        id: ReadingId::new(&known.device, read.metric, stamped_at, told_apart),
        patient: patient.clone(),
        device: known.device.clone(),
        metric: read.metric,
        value: read.value,
        at,
        stamped_at,
        received_at: message.received_at,
        clock,
        boot,
        seq: read.seq,
        typed: false,
        test: known.test,
        value_as_sent: read.value_as_sent,
        unit_as_sent: read.unit_as_sent.unwrap_or_default(),
        author: String::new(),
    };
    Ok(Decided::Input(patient, Input::Reading(reading)))
}

fn dead(
    message: &Message<'_>,
    entry: &[u8],
    number: usize,
    metric: Option<Metric>,
    stamped_at: Option<EventTime>,
    reason: Reason,
    detail: String,
) -> DeadLetter {
    DeadLetter {
        device: message.connection.to_string(),
        topic: message.topic.to_owned(),
        payload: if entry.is_empty() { message.payload.clone() } else { Bytes::copy_from_slice(entry) },
        reason,
        detail: format!("{reason}: {detail}"),
        received_at: message.received_at,
        content_type: message.content_type.to_owned(),
        entry: u32::try_from(number).unwrap_or(u32::MAX),
        metric,
        stamped_at,
    }
}
