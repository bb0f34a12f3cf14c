//! What the engine reads, and how it stands in `vigil.inputs`.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use crate::{DeviceId, EventTime, Format, IdError, Metric, Micros, Origin, PatientId, ReadingId, pb};

/// One record of `vigil.inputs`.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Reading(Reading),
    Void(Void),
    Settings(Settings),
    RuleSet(RuleSet),
    /// Time has passed; the record's `arrived_at` says how much.
    Tick,
}

impl Input {
    /// What tells it from every other input.
    pub const fn origin(&self) -> Origin {
        match self {
            Self::Reading(reading) => Origin::Reading(reading.id, reading.value.to_bits()),
            Self::Void(void) => Origin::Void(void.reading),
            Self::Settings(settings) => Origin::Settings(settings.version),
            Self::RuleSet(rules) => Origin::RuleSet(rules.version),
            Self::Tick => Origin::Tick,
        }
    }
}

/// What intake did to a device's stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ClockState {
    #[default]
    AsSent,
    /// The stamp could not be true; [`Reading::at`] is not what was sent.
    Corrected,
    /// No stamp was sent: measured when received.
    Unstamped,
}

/// One value of one metric of one patient at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub id: ReadingId,
    pub patient: PatientId,
    pub device: DeviceId,
    pub metric: Metric,
    /// In the metric's own unit.
    pub value: f64,
    /// When it was measured, after any correction.
    pub at: EventTime,
    /// When it was measured, as the device said.
    pub stamped_at: EventTime,
    /// When the gateway had the message.
    pub received_at: EventTime,
    pub clock: ClockState,
    pub boot: Option<u64>,
    pub seq: Option<u64>,
    /// Entered by a person.
    pub typed: bool,
    /// From a device under test: shown, never paged.
    pub test: bool,
    pub value_as_sent: f64,
    pub unit_as_sent: String,
    pub author: String,
    /// `None`: nobody sent it as a message.
    pub format: Option<Format>,
}

/// A reading entered in error, or moved to another patient. One that is moved to the patient it is voided of takes an earlier void back.
#[derive(Clone, Debug, PartialEq)]
pub struct Void {
    pub reading: ReadingId,
    pub patient: PatientId,
    pub metric: Metric,
    /// The reading's own [`Reading::at`].
    pub at: EventTime,
    pub reason: String,
    pub author: String,
    pub moved_to: Option<PatientId>,
}

/// Readings measured in `[from, until)` are stored and shown; clinical rules skip them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    pub from: EventTime,
    /// `None`: until further notice.
    pub until: Option<EventTime>,
    pub reason: String,
}

impl Pause {
    pub fn covers(&self, at: EventTime) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

/// What a care team decided for one patient.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub patient: PatientId,
    /// Counts up; the engine ignores one it already has.
    pub version: u64,
    pub monitored: bool,
    /// `spo2.low` → 88.
    pub limits: BTreeMap<String, f64>,
    /// Of those that end by themselves: until when, in event time.
    pub limits_until: BTreeMap<String, EventTime>,
    /// `Some(0.0)` is on air; `None` is unknown.
    pub oxygen_l_min: Option<f64>,
    /// 1 or 2 (2 only on a clinician's documented target of 88–92 %).
    pub news2_scale: u8,
    pub pauses: Vec<Pause>,
    pub expected_interval: BTreeMap<Metric, Micros>,
    pub enrolled_at: EventTime,
    pub author: String,
}

/// The rules, as TOML, the same to every partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    pub version: u64,
    pub toml: String,
    pub activated_at: EventTime,
    pub author: String,
}

/// Bytes of the journal that are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("not a protobuf message of this topic")]
    Protobuf(#[from] prost::DecodeError),
    #[error("field `{field}` is missing or empty")]
    Missing { field: &'static str },
    #[error("field `{field}`: {source}")]
    Id { field: &'static str, source: IdError },
    #[error("field `{field}` holds {number}, which this version does not know")]
    Unknown { field: &'static str, number: i64 },
}

pub(crate) fn metric(number: u32) -> Result<Metric, DecodeError> {
    Metric::from_number(number).ok_or(DecodeError::Unknown { field: "metric", number: i64::from(number) })
}

pub(crate) fn patient(text: &str) -> Result<PatientId, DecodeError> {
    PatientId::parse(text).map_err(|source| DecodeError::Id { field: "patient", source })
}

impl Input {
    /// Whose record this is: the key in the journal. `None` for what goes to every partition.
    pub fn patient(&self) -> Option<&PatientId> {
        match self {
            Self::Reading(reading) => Some(&reading.patient),
            Self::Void(void) => Some(&void.patient),
            Self::Settings(settings) => Some(&settings.patient),
            Self::RuleSet(_) | Self::Tick => None,
        }
    }

    pub fn encode(&self) -> Bytes {
        let input = match self {
            Self::Reading(r) => pb::input::Input::Reading(r.to_pb()),
            Self::Void(v) => pb::input::Input::Void(pb::Void {
                reading: Bytes::copy_from_slice(&v.reading.0),
                patient: v.patient.to_string(),
                metric: v.metric.number(),
                at: v.at.0,
                reason: v.reason.clone(),
                author: v.author.clone(),
                moved_to: v.moved_to.as_ref().map(ToString::to_string).unwrap_or_default(),
            }),
            Self::Settings(s) => pb::input::Input::Settings(s.to_pb()),
            Self::RuleSet(r) => {
                pb::input::Input::RuleSet(pb::RuleSet { version: r.version, toml: r.toml.clone(), activated_at: r.activated_at.0, author: r.author.clone() })
            }
            Self::Tick => pb::input::Input::Tick(pb::Tick {}),
        };
        pb::Input { input: Some(input) }.encode_to_vec().into()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match pb::Input::decode(bytes)?.input.ok_or(DecodeError::Missing { field: "input" })? {
            pb::input::Input::Reading(r) => Reading::from_pb(r).map(Self::Reading),
            pb::input::Input::Void(v) => Ok(Self::Void(Void {
                reading: ReadingId::from_slice(&v.reading).ok_or(DecodeError::Missing { field: "reading" })?,
                patient: patient(&v.patient)?,
                metric: metric(v.metric)?,
                at: EventTime(v.at),
                reason: v.reason,
                author: v.author,
                moved_to: if v.moved_to.is_empty() {
                    None
                } else {
                    Some(PatientId::parse(&v.moved_to).map_err(|source| DecodeError::Id { field: "moved_to", source })?)
                },
            })),
            pb::input::Input::Settings(s) => Settings::from_pb(s).map(Self::Settings),
            pb::input::Input::RuleSet(r) => {
                Ok(Self::RuleSet(RuleSet { version: r.version, toml: r.toml, activated_at: EventTime(r.activated_at), author: r.author }))
            }
            pb::input::Input::Tick(_) => Ok(Self::Tick),
        }
    }
}

impl Reading {
    fn to_pb(&self) -> pb::Reading {
        pb::Reading {
            id: Bytes::copy_from_slice(&self.id.0),
            patient: self.patient.to_string(),
            device: self.device.to_string(),
            metric: self.metric.number(),
            value: self.value,
            at: self.at.0,
            stamped_at: self.stamped_at.0,
            received_at: self.received_at.0,
            clock: match self.clock {
                ClockState::AsSent => pb::ClockState::AsSent,
                ClockState::Corrected => pb::ClockState::Corrected,
                ClockState::Unstamped => pb::ClockState::Unstamped,
            }
            .into(),
            boot: self.boot,
            seq: self.seq,
            typed: self.typed,
            test: self.test,
            value_as_sent: self.value_as_sent,
            unit_as_sent: self.unit_as_sent.clone(),
            author: self.author.clone(),
            format: Format::number(self.format),
        }
    }

    fn from_pb(r: pb::Reading) -> Result<Self, DecodeError> {
        Ok(Self {
            id: ReadingId::from_slice(&r.id).ok_or(DecodeError::Missing { field: "id" })?,
            patient: patient(&r.patient)?,
            device: DeviceId::parse(&r.device).map_err(|source| DecodeError::Id { field: "device", source })?,
            metric: metric(r.metric)?,
            value: r.value,
            at: EventTime(r.at),
            stamped_at: EventTime(r.stamped_at),
            received_at: EventTime(r.received_at),
            clock: match pb::ClockState::try_from(r.clock) {
                Ok(pb::ClockState::AsSent) => ClockState::AsSent,
                Ok(pb::ClockState::Corrected) => ClockState::Corrected,
                Ok(pb::ClockState::Unstamped) => ClockState::Unstamped,
                Err(_) => return Err(DecodeError::Unknown { field: "clock", number: i64::from(r.clock) }),
            },
            boot: r.boot,
            seq: r.seq,
            typed: r.typed,
            test: r.test,
            value_as_sent: r.value_as_sent,
            unit_as_sent: r.unit_as_sent,
            author: r.author,
            format: Format::of_number(r.format),
        })
    }
}

impl Settings {
    /// The patient's own limit of that name for what was measured at `at`; `None`: the rule's default counts.
    pub fn limit(&self, name: &str, at: EventTime) -> Option<f64> {
        let over = self.limits_until.get(name).is_some_and(|until| at >= *until);
        self.limits.get(name).copied().filter(|_| !over)
    }

    fn to_pb(&self) -> pb::Settings {
        pb::Settings {
            patient: self.patient.to_string(),
            version: self.version,
            monitored: self.monitored,
            limits: self.limits.clone(),
            limits_until: self.limits_until.iter().map(|(name, until)| (name.clone(), until.0)).collect(),
            oxygen_l_min: self.oxygen_l_min,
            news2_scale: u32::from(self.news2_scale),
            pauses: self.pauses.iter().map(|p| pb::Pause { from: p.from.0, until: p.until.map_or(0, |until| until.0), reason: p.reason.clone() }).collect(),
            expected_interval: self.expected_interval.iter().map(|(metric, interval)| (metric.name().to_owned(), interval.0)).collect(),
            enrolled_at: self.enrolled_at.0,
            author: self.author.clone(),
        }
    }

    fn from_pb(s: pb::Settings) -> Result<Self, DecodeError> {
        Ok(Self {
            patient: patient(&s.patient)?,
            version: s.version,
            monitored: s.monitored,
            limits: s.limits,
            limits_until: s.limits_until.into_iter().map(|(name, until)| (name, EventTime(until))).collect(),
            oxygen_l_min: s.oxygen_l_min,
            news2_scale: if s.news2_scale == 2 { 2 } else { 1 },
            pauses: s
                .pauses
                .into_iter()
                .map(|p| Pause { from: EventTime(p.from), until: (p.until != 0).then_some(EventTime(p.until)), reason: p.reason })
                .collect(),
            expected_interval: s
                .expected_interval
                .into_iter()
                .map(|(name, interval)| {
                    Ok((name.parse().map_err(|_| DecodeError::Unknown { field: "expected_interval", number: interval })?, Micros(interval)))
                })
                .collect::<Result<_, DecodeError>>()?,
            enrolled_at: EventTime(s.enrolled_at),
            author: s.author,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> Reading {
        let device = DeviceId::parse("ox-1").unwrap();
        Reading {
            id: ReadingId::new(&device, Metric::Spo2, EventTime(5), None),
            patient: PatientId::parse("p1").unwrap(),
            device,
            metric: Metric::Spo2,
            value: 84.0,
            at: EventTime(7),
            stamped_at: EventTime(5),
            received_at: EventTime(9),
            clock: ClockState::Corrected,
            boot: Some(0),
            seq: None,
            typed: false,
            test: true,
            value_as_sent: 84.0,
            unit_as_sent: "%".to_owned(),
            author: String::new(),
            format: Some(Format::SenmlCbor),
        }
    }

    #[test]
    fn inputs_round_trip() {
        let patient = PatientId::parse("p1").unwrap();
        for input in [
            Input::Reading(reading()),
            Input::Void(Void {
                reading: reading().id,
                patient: patient.clone(),
                metric: Metric::Spo2,
                at: EventTime(7),
                reason: "wrong finger".to_owned(),
                author: "nurse".to_owned(),
                moved_to: Some(PatientId::parse("p2").unwrap()),
            }),
            Input::Settings(Settings {
                patient,
                version: 3,
                monitored: true,
                limits: [("spo2.low".to_owned(), 88.0)].into(),
                limits_until: [("spo2.low".to_owned(), EventTime(11))].into(),
                oxygen_l_min: Some(0.0),
                news2_scale: 2,
                pauses: vec![Pause { from: EventTime(1), until: None, reason: "bath".to_owned() }],
                expected_interval: [(Metric::Spo2, Micros::minutes(5))].into(),
                enrolled_at: EventTime(1),
                author: "nurse".to_owned(),
            }),
            Input::RuleSet(RuleSet { version: 1, toml: "[[rule]]".to_owned(), activated_at: EventTime(2), author: "a".to_owned() }),
            Input::Tick,
        ] {
            assert_eq!(Input::decode(&input.encode()).unwrap(), input);
        }
    }

    #[test]
    fn what_is_not_an_input_is_an_error() {
        assert!(matches!(Input::decode(b""), Err(DecodeError::Missing { field: "input" })));
        assert!(matches!(Input::decode(b"\xff\xff"), Err(DecodeError::Protobuf(_))));
        let mut message = reading().to_pb();
        message.metric = 99;
        assert!(matches!(Reading::from_pb(message), Err(DecodeError::Unknown { field: "metric", number: 99 })));
    }
}
