//! One message, to what is written of it.

use std::collections::HashMap;

use bytes::Bytes;
use schemas::{ClockState, DeadLetter, DeviceId, EventTime, Input, Metric, Micros, PatientId, Reading, ReadingId, Reason};

use crate::clock::{DeviceClock, TOLERANCE};
use crate::formats::{self, Route};
use crate::mapping::Mappings;
use crate::parsed::{Entry, Parsed, Read, Refused, Source, Stamp};
use crate::registry::{Ambiguous, Known, Registry};

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

/// Decides every entry of a message. `clock` is what is known of the clock of the device that [`device_of`] names.
pub fn decode(message: &Message<'_>, registry: &Registry, mappings: &Mappings, clock: &mut DeviceClock) -> Vec<Decided> {
    let whole = |Refused(reason, detail)| vec![Decided::Dead(dead(message, &Source::Whole, 0, None, None, reason, detail))];
    if message.content_type.len() > CONTENT_TYPE {
        return whole(Refused(Reason::Malformed, format!("a content type of {} bytes; at most {CONTENT_TYPE}", message.content_type.len())));
    }
    let route = match formats::route(message.topic, message.content_type, mappings) {
        Ok(route) => route,
        Err(refused) => return whole(refused),
    };
    let mut decided = routed(message, &route, registry, clock);
    for one in &mut decided {
        match one {
            Decided::Input(_, Input::Reading(reading)) => reading.format = Some(route.format.kind()),
            Decided::Input(..) => {}
            Decided::Dead(dead) => dead.format = Some(route.format.kind()),
        }
    }
    decided
}

fn routed(message: &Message<'_>, route: &Route<'_>, registry: &Registry, clock: &mut DeviceClock) -> Vec<Decided> {
    let whole = |Refused(reason, detail)| vec![Decided::Dead(dead(message, &Source::Whole, 0, None, None, reason, detail))];
    let speaker = match route.device(message.connection) {
        Ok(device) => device,
        Err(refused) => return whole(refused),
    };
    let known = match spoken_for(message, registry, &speaker) {
        Ok(known) => known,
        Err(refused) => return whole(refused),
    };
    let parsed = match route.format.parse(message.payload, message.received_at) {
        Ok(parsed) => parsed,
        Err(refused) => return whole(refused),
    };
    if let Some(sent_at) = parsed.sent_at {
        clock.heard(sent_at, message.received_at, message.dup);
    }
    let shifts = Shifts::of(&parsed, message, registry, known, clock);
    let (seq, boot) = (parsed.seq, parsed.boot);
    let entries = parsed.entries.into_iter().enumerate();
    entries
        .map(|(number, entry)| {
            let Entry { source, device, metric, stamped_at, read } = entry;
            let decided = read.and_then(|read| {
                let read = Read { seq: read.seq.or(seq), boot: read.boot.or(boot), ..read };
                match &device {
                    None => place(message, registry, known, read, shifts.speaker),
                    Some(device) => place(message, registry, spoken_for(message, registry, device)?, read, shifts.of_device(device)),
                }
            });
            decided.unwrap_or_else(|Refused(reason, detail)| Decided::Dead(dead(message, &source, number, metric, stamped_at, reason, detail)))
        })
        .collect()
}

/// The device that a message on this topic speaks for, whose clock [`decode`] wants: the one that the topic names, or the connection's own.
pub fn device_of(topic: &str, connection: &DeviceId, mappings: &Mappings) -> Option<DeviceId> {
    formats::route(topic, "", mappings).ok()?.device(connection).ok()
}

fn spoken_for<'a>(message: &Message<'_>, registry: &'a Registry, device: &DeviceId) -> Result<&'a Known, Refused> {
    let Some(known) = registry.device(device) else {
        return Err(Refused(Reason::UnknownDevice, format!("device `{device}` is not registered; `vigil device add` registers it")));
    };
    if known.revoked || !registry.may_speak_for(message.connection, known) {
        return Err(Refused(Reason::NotAllowed, format!("`{}` may not speak for device `{device}`; register it behind this hub", message.connection)));
    }
    Ok(known)
}

/// By how much the stamps of each device in a message are moved.
struct Shifts {
    speaker: Micros,
    /// A clock is its device's: one that is wrong moves nobody else's. `None` when the payload names nobody.
    others: Option<HashMap<DeviceId, Micros>>,
}

impl Shifts {
    fn of(parsed: &Parsed, message: &Message<'_>, registry: &Registry, speaker: &Known, clock: &DeviceClock) -> Self {
        let newest = parsed.entries.iter().filter(|entry| entry.device.is_none()).filter_map(|entry| entry.stamped_at).max();
        let speaker = shift(newest, speaker, clock.offset(), message.received_at);
        if parsed.entries.iter().all(|entry| entry.device.is_none()) {
            return Self { speaker, others: None };
        }
        let mut newest = HashMap::<&DeviceId, EventTime>::new();
        for (device, at) in parsed.entries.iter().filter_map(|entry| entry.device.as_ref().zip(entry.stamped_at)) {
            let newest = newest.entry(device).or_insert(at);
            *newest = at.max(*newest);
        }
        let others = newest.into_iter().filter_map(|(device, newest)| {
            let shift = shift(Some(newest), registry.device(device)?, Micros::ZERO, message.received_at);
            Some((device.clone(), shift))
        });
        Self { speaker, others: Some(others.collect()) }
    }

    fn of_device(&self, device: &DeviceId) -> Micros {
        self.others.as_ref().and_then(|others| others.get(device)).copied().unwrap_or_default()
    }
}

/// A slow clock by what it is behind; what cannot be true so that the newest is now.
fn shift(newest: Option<EventTime>, known: &Known, slow: Micros, received_at: EventTime) -> Micros {
    let Some(newest) = newest.map(|newest| newest + slow) else { return slow };
    if newest - received_at > TOLERANCE || newest < known.min_time { slow + (received_at - newest) } else { slow }
}

fn place(message: &Message<'_>, registry: &Registry, known: &Known, read: Read, shift: Micros) -> Result<Decided, Refused> {
    let (at, stamped_at, clock) = match read.stamp {
        Stamp::Ago(span) => (message.received_at - span, message.received_at - span, ClockState::Unstamped),
        Stamp::At(stamped) if shift == Micros::ZERO => (stamped, stamped, ClockState::AsSent),
        Stamp::At(stamped) => (stamped + shift, stamped, ClockState::Corrected),
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
        format: None,
    };
    Ok(Decided::Input(patient, Input::Reading(reading)))
}

fn dead(
    message: &Message<'_>,
    source: &Source,
    number: usize,
    metric: Option<Metric>,
    stamped_at: Option<EventTime>,
    reason: Reason,
    detail: String,
) -> DeadLetter {
    DeadLetter {
        device: message.connection.to_string(),
        topic: message.topic.to_owned(),
        payload: source.written(message.payload, message.received_at),
        reason,
        detail: format!("{reason}: {detail}"),
        received_at: message.received_at,
        content_type: message.content_type.to_owned(),
        entry: u32::try_from(number).unwrap_or(u32::MAX),
        metric,
        stamped_at,
        format: None,
    }
}
