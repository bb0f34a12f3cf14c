//! What must hold of every payload.

use bytes::Bytes;
use intake::{Assigned, Decided, DeviceClock, Format, Known, Mapping, Mappings, Message, Registry, decode, explain};
use schemas::{DeviceId, EventTime, Input, Micros, PatientId};

use crate::samples::{SAMPLES, SEVERAL};

const NOW: EventTime = EventTime(1_795_168_800_000_000);
/// Bytes that an entry may repeat of what stands around it, and say.
const AROUND: usize = 4 << 10;
/// Values that a mapping may read from one item, each of which is kept with the item.
const OF_ONE: usize = 66;

/// Of each message: the others are written by the same code.
const READ_BACK: usize = 16;

/// A registry with devices of each kind, and the mappings.
pub struct Checker {
    registry: Registry,
    mappings: Mappings,
    ox: DeviceId,
    hub: DeviceId,
}

impl Checker {
    /// `None`: the build is broken.
    pub fn new() -> Option<Self> {
        let device = |id| DeviceId::parse(id).ok();
        let (ox, hub, cuff, lost) = (device("ox")?, device("hub")?, device("cuff")?, device("lost")?);
        let known = |device: &DeviceId, hub, revoked| Known { device: device.clone(), test: false, hub, revoked, min_time: NOW - Micros::days(30) };
        let devices = [known(&ox, Some(hub.clone()), false), known(&cuff, Some(hub.clone()), false), known(&hub, None, false), known(&lost, None, true)];
        let worn = |device: &DeviceId, patient, from, until: Option<i64>| {
            let until = until.map(|until| NOW + Micros::minutes(until));
            Some(Assigned { device: device.clone(), patient: PatientId::parse(patient).ok()?, from: NOW + Micros::minutes(from), until })
        };
        let assigned =
            [worn(&ox, "ada", -60 * 24 * 20, Some(-60))?, worn(&ox, "uwe", -60, None)?, worn(&cuff, "ada", -60, None)?, worn(&lost, "ada", -60, None)?];
        let mut mappings = Mappings::shipped().ok()?;
        mappings.add(Mapping::parse(SEVERAL).ok()?);
        Some(Self { registry: Registry::new(devices, assigned), mappings, ox, hub })
    }

    /// What is wrong with what became of a payload, if anything is.
    pub fn check(&self, case: &[u8]) -> Result<(), String> {
        let Some((&selector, payload)) = case.split_first() else { return Ok(()) };
        let sample = &SAMPLES[usize::from(selector & 0x3f) % SAMPLES.len()];
        let connection = if selector & 0x40 == 0 { &self.ox } else { &self.hub };
        let payload = Bytes::copy_from_slice(payload);
        let message =
            Message { connection, topic: sample.topic, payload: &payload, content_type: sample.content_type, dup: selector & 0x80 != 0, received_at: NOW };
        let mut clock = DeviceClock::default();
        let decided = decode(&message, &self.registry, &self.mappings, &mut clock);
        i2(&decided)?;
        bounded(&decided, payload.len())?;
        self.again(&message, &decided)?;
        let mut same = DeviceClock::default();
        if decode(&message, &self.registry, &self.mappings, &mut same) != decided || same != clock {
            return Err("the same message gave something else the second time".to_owned());
        }
        if let Some(format) = sample.topic.strip_prefix("v1/devices/ox/vitals/").and_then(Format::named) {
            let explained = explain(&payload, format, NOW);
            if explained.len() != decided.len() && connection == &self.ox {
                return Err(format!("{} entries, {} explained", decided.len(), explained.len()));
            }
        }
        Ok(())
    }

    /// A dead letter that is sent again alone is the same dead letter, unless what was wrong stood beside it: another stamp, another thing.
    fn again(&self, message: &Message<'_>, decided: &[Decided]) -> Result<(), String> {
        for dead in decided.iter().filter_map(|decided| if let Decided::Dead(dead) = decided { Some(dead) } else { None }).take(3) {
            let repeated = Message { payload: &dead.payload, ..message.clone() };
            let again = decode(&repeated, &self.registry, &self.mappings, &mut DeviceClock::default());
            i2(&again)?;
            let placed = ["bad_time", "unassigned", "ambiguous"].contains(&dead.reason.as_str()) || dead.detail.contains("two things");
            if !placed && !again.iter().any(|again| matches!(again, Decided::Dead(again) if again.reason == dead.reason)) {
                return Err(format!("`{}` became {again:?}", dead.detail));
            }
        }
        Ok(())
    }
}

/// Every entry is an input that can be read back, or a dead letter that names its place and says what is wrong.
fn i2(decided: &[Decided]) -> Result<(), String> {
    if decided.is_empty() {
        return Err("nothing became of it".to_owned());
    }
    for (number, decided) in decided.iter().enumerate() {
        match decided {
            Decided::Dead(dead) => {
                let says = dead.detail.split_once(": ").is_some_and(|(reason, detail)| reason == dead.reason.as_str() && !detail.is_empty());
                if dead.entry as usize != number || !says {
                    return Err(format!("entry {number} is {dead:?}"));
                }
                if number < READ_BACK && schemas::DeadLetter::decode(&dead.encode()).ok().as_ref() != Some(dead) {
                    return Err(format!("a dead letter is not read back: {dead:?}"));
                }
            }
            Decided::Input(patient, input) => {
                let Input::Reading(reading) = input else { return Err(format!("a device made {input:?}")) };
                if reading.patient != *patient
                    || !reading.value.is_finite()
                    || (number < READ_BACK && Input::decode(&input.encode()).ok().as_ref() != Some(input))
                {
                    return Err(format!("an input is not read back: {input:?}"));
                }
            }
        }
    }
    Ok(())
}

/// What is kept of a message is as large as the message, or little more for each entry.
fn bounded(decided: &[Decided], payload: usize) -> Result<(), String> {
    let bytes: usize = decided.iter().map(|decided| if let Decided::Dead(dead) = decided { dead.payload.len() + dead.detail.len() } else { 0 }).sum();
    // escaped, a byte of JSON is six
    let most = 6 * OF_ONE * payload + decided.len() * AROUND;
    if bytes > most { Err(format!("{bytes} bytes in dead letters of a payload of {payload}")) } else { Ok(()) }
}
