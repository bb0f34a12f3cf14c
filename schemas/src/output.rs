//! What the engine says, and what intake refused: how it stands in `vigil.windows`, `vigil.alerts` and `vigil.dead-letters`.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::input::{metric, patient};
use crate::{AlertId, Arrived, DecodeError, EventTime, Metric, Offset, PatientId, RuleId, pb};

/// What caused an output: an input, and which of its outputs this is. A replay says the same again under the same cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cause {
    pub offset: Offset,
    pub ordinal: u32,
}

/// A closed tumbling window `[start, end)` of one patient and metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub cause: Cause,
    pub patient: PatientId,
    pub metric: Metric,
    pub start: EventTime,
    pub end: EventTime,
    /// 0 when it first closed; late readings re-emit it with the next.
    pub revision: u32,
    pub count: u64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
    pub last: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransitionKind {
    Raised,
    Cleared,
    /// Later data changed what the alert rests on.
    Amended,
    /// The patient is no longer monitored, the rule is gone, or nothing is left that it rests on.
    Withdrawn,
}

/// The words of IEC 60601-1-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    Low,
    Medium,
    High,
}

/// What becomes of an alert that was over before we heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LatePolicy {
    Page,
    Inbox,
}

/// A column of the row that decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// `spo2_mean_300s`
    pub column: String,
    /// `mean(spo2, '5 min')`
    pub text: String,
    /// `None`: no evidence.
    pub value: Option<f64>,
}

/// A change of one alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    pub cause: Cause,
    pub kind: TransitionKind,
    pub alert: AlertId,
    pub patient: PatientId,
    pub rule: RuleId,
    pub rule_name: String,
    pub rule_version: u64,
    pub priority: Priority,
    /// Event time of the row that decided, or the timer's due.
    pub at: EventTime,
    /// When the condition began.
    pub since: EventTime,
    /// The engine's clock when this was decided.
    pub heard_at: Arrived,
    /// The condition was behind the frontier when it was decided.
    pub late: bool,
    pub late_policy: LatePolicy,
    /// Whether people are to be told: not for a late one under `inbox`, not for a device under test.
    pub pages: bool,
    /// On how many readings it rests.
    pub readings: u32,
    pub evidence: Vec<Evidence>,
    /// `SpO₂ 84 %, limit 90, for 4 min`
    pub summary: String,
    pub reason: String,
    /// Of an amendment: whether the raising row still holds.
    pub holds: bool,
    /// About a device or the system, not about a body.
    pub technical: bool,
    pub settings_version: u64,
    /// Of a rule on trial: recorded, in nobody's list, never paged.
    pub shadow: bool,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text { $($word => Ok(Self::$variant),)* other => Err(format!("`{other}` is none of {}", [$($word),*].join(", "))) }
            }
        }
    };
}

words! {
    /// Why an entry became a dead letter. The word is part of the interface: it is counted, filtered and documented.
    Reason {
        /// Not JSON, or not of the format that the topic names.
        Malformed = "malformed",
        /// The topic's last level or the content type names no format we read.
        UnknownFormat = "unknown_format",
        /// The topic is none that a device publishes to.
        UnknownTopic = "unknown_topic",
        UnknownMetric = "unknown_metric",
        /// A unit we do not convert, or a value that is true of another unit.
        UnitMismatch = "unit_mismatch",
        Implausible = "implausible",
        /// NaN, infinite, or no number at all.
        NotANumber = "not_a_number",
        BadTime = "bad_time",
        /// Nobody wore the device when this was measured. Replays when it is assigned.
        Unassigned = "unassigned",
        /// The topic names a device that the connection may not speak for.
        NotAllowed = "not_allowed",
        UnknownDevice = "unknown_device",
        TooLarge = "too_large",
        /// Two patients claim the device at that time.
        Ambiguous = "ambiguous",
        Empty = "empty",
    }
}

words! {
    /// How a message was written.
    Format {
        Vigil = "json",
        SenmlJson = "senml",
        SenmlCbor = "senml-cbor",
        OpenMHealth = "omh",
        Fhir = "fhir",
        Mapped = "mapping",
    }
}

impl Format {
    /// As it stands in the log: for ever. 0 is none.
    pub(crate) const fn number(format: Option<Self>) -> u32 {
        match format {
            None => 0,
            Some(Self::Vigil) => 1,
            Some(Self::SenmlJson) => 2,
            Some(Self::SenmlCbor) => 3,
            Some(Self::OpenMHealth) => 4,
            Some(Self::Fhir) => 5,
            Some(Self::Mapped) => 6,
        }
    }

    pub(crate) fn of_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| Self::number(Some(*format)) == number)
    }
}

/// An entry that was refused, as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    pub device: String,
    pub topic: String,
    pub payload: Bytes,
    pub reason: Reason,
    /// What is wrong and what to change.
    pub detail: String,
    pub received_at: EventTime,
    pub content_type: String,
    /// Which entry of the payload, from 0.
    pub entry: u32,
    pub metric: Option<Metric>,
    pub stamped_at: Option<EventTime>,
    /// `None`: the topic names none that is read.
    pub format: Option<Format>,
}

fn cause_to_pb(cause: Cause) -> Option<pb::Cause> {
    Some(pb::Cause { offset: cause.offset.0, ordinal: cause.ordinal })
}

fn cause_from_pb(cause: Option<pb::Cause>) -> Result<Cause, DecodeError> {
    let cause = cause.ok_or(DecodeError::Missing { field: "cause" })?;
    Ok(Cause { offset: Offset(cause.offset), ordinal: cause.ordinal })
}

impl Window {
    pub fn encode(&self) -> Bytes {
        pb::Window {
            cause: cause_to_pb(self.cause),
            patient: self.patient.to_string(),
            metric: self.metric.number(),
            start: self.start.0,
            end: self.end.0,
            revision: self.revision,
            count: self.count,
            sum: self.sum,
            min: self.min,
            max: self.max,
            last: self.last,
        }
        .encode_to_vec()
        .into()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let w = pb::Window::decode(bytes)?;
        Ok(Self {
            cause: cause_from_pb(w.cause)?,
            patient: patient(&w.patient)?,
            metric: metric(w.metric)?,
            start: EventTime(w.start),
            end: EventTime(w.end),
            revision: w.revision,
            count: w.count,
            sum: w.sum,
            min: w.min,
            max: w.max,
            last: w.last,
        })
    }
}

impl Transition {
    pub fn encode(&self) -> Bytes {
        pb::Transition {
            cause: cause_to_pb(self.cause),
            kind: match self.kind {
                TransitionKind::Raised => pb::TransitionKind::Raised,
                TransitionKind::Cleared => pb::TransitionKind::Cleared,
                TransitionKind::Amended => pb::TransitionKind::Amended,
                TransitionKind::Withdrawn => pb::TransitionKind::Withdrawn,
            }
            .into(),
            alert: Bytes::copy_from_slice(&self.alert.0),
            patient: self.patient.to_string(),
            rule: self.rule.to_string(),
            rule_name: self.rule_name.clone(),
            rule_version: self.rule_version,
            priority: match self.priority {
                Priority::Low => pb::Priority::Low,
                Priority::Medium => pb::Priority::Medium,
                Priority::High => pb::Priority::High,
            }
            .into(),
            at: self.at.0,
            since: self.since.0,
            heard_at: self.heard_at.0,
            late: self.late,
            late_policy: match self.late_policy {
                LatePolicy::Page => pb::LatePolicy::Page,
                LatePolicy::Inbox => pb::LatePolicy::Inbox,
            }
            .into(),
            pages: self.pages,
            readings: self.readings,
            evidence: self.evidence.iter().map(|e| pb::Evidence { column: e.column.clone(), text: e.text.clone(), value: e.value }).collect(),
            summary: self.summary.clone(),
            reason: self.reason.clone(),
            holds: self.holds,
            technical: self.technical,
            settings_version: self.settings_version,
            shadow: self.shadow,
        }
        .encode_to_vec()
        .into()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let t = pb::Transition::decode(bytes)?;
        let unknown = |field, number: i32| DecodeError::Unknown { field, number: i64::from(number) };
        Ok(Self {
            cause: cause_from_pb(t.cause)?,
            kind: match pb::TransitionKind::try_from(t.kind) {
                Ok(pb::TransitionKind::Raised) => TransitionKind::Raised,
                Ok(pb::TransitionKind::Cleared) => TransitionKind::Cleared,
                Ok(pb::TransitionKind::Amended) => TransitionKind::Amended,
                Ok(pb::TransitionKind::Withdrawn) => TransitionKind::Withdrawn,
                _ => return Err(unknown("kind", t.kind)),
            },
            alert: AlertId::from_slice(&t.alert).ok_or(DecodeError::Missing { field: "alert" })?,
            patient: patient(&t.patient)?,
            rule: RuleId::parse(&t.rule).map_err(|source| DecodeError::Id { field: "rule", source })?,
            rule_name: t.rule_name,
            rule_version: t.rule_version,
            priority: match pb::Priority::try_from(t.priority) {
                Ok(pb::Priority::Low) => Priority::Low,
                Ok(pb::Priority::Medium) => Priority::Medium,
                Ok(pb::Priority::High) => Priority::High,
                _ => return Err(unknown("priority", t.priority)),
            },
            at: EventTime(t.at),
            since: EventTime(t.since),
            heard_at: Arrived(t.heard_at),
            late: t.late,
            late_policy: match pb::LatePolicy::try_from(t.late_policy) {
                Ok(pb::LatePolicy::Page) => LatePolicy::Page,
                Ok(pb::LatePolicy::Inbox) => LatePolicy::Inbox,
                Err(_) => return Err(unknown("late_policy", t.late_policy)),
            },
            pages: t.pages,
            readings: t.readings,
            evidence: t.evidence.into_iter().map(|e| Evidence { column: e.column, text: e.text, value: e.value }).collect(),
            summary: t.summary,
            reason: t.reason,
            holds: t.holds,
            technical: t.technical,
            settings_version: t.settings_version,
            shadow: t.shadow,
        })
    }
}

impl DeadLetter {
    pub fn encode(&self) -> Bytes {
        pb::DeadLetter {
            device: self.device.clone(),
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            reason: self.reason.as_str().to_owned(),
            detail: self.detail.clone(),
            received_at: self.received_at.0,
            content_type: self.content_type.clone(),
            entry: self.entry,
            metric: self.metric.map(|metric| metric.name().to_owned()).unwrap_or_default(),
            stamped_at: self.stamped_at.map(|at| at.0),
            format: Format::number(self.format),
        }
        .encode_to_vec()
        .into()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let d = pb::DeadLetter::decode(bytes)?;
        Ok(Self {
            device: d.device,
            topic: d.topic,
            payload: d.payload,
            reason: d.reason.parse().map_err(|_| DecodeError::Missing { field: "reason" })?,
            detail: d.detail,
            received_at: EventTime(d.received_at),
            content_type: d.content_type,
            entry: d.entry,
            metric: d.metric.parse().ok(),
            stamped_at: d.stamped_at.map(EventTime),
            format: Format::of_number(d.format),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_round_trip() {
        let patient = PatientId::parse("p1").unwrap();
        let rule = RuleId::parse("spo2-low").unwrap();
        let cause = Cause { offset: Offset(7), ordinal: 1 };
        let window = Window {
            cause,
            patient: patient.clone(),
            metric: Metric::Spo2,
            start: EventTime(0),
            end: EventTime(300),
            revision: 2,
            count: 3,
            sum: 270.0,
            min: 80.0,
            max: 100.0,
            last: 90.0,
        };
        assert_eq!(Window::decode(&window.encode()).unwrap(), window);
        let transition = Transition {
            cause,
            kind: TransitionKind::Raised,
            alert: AlertId::by_offset(&patient, &rule, Offset(7)),
            patient,
            rule,
            rule_name: "Low oxygen saturation".to_owned(),
            rule_version: 4,
            priority: Priority::High,
            at: EventTime(100),
            since: EventTime(90),
            heard_at: Arrived(101),
            late: false,
            late_policy: LatePolicy::Inbox,
            pages: true,
            readings: 3,
            evidence: vec![Evidence { column: "spo2_mean_300s".to_owned(), text: "mean(spo2, '5 min')".to_owned(), value: Some(84.0) }],
            summary: "SpO₂ 84 %, limit 90".to_owned(),
            reason: String::new(),
            holds: true,
            technical: false,
            settings_version: 0,
            shadow: true,
        };
        assert_eq!(Transition::decode(&transition.encode()).unwrap(), transition);
        let dead = DeadLetter {
            device: "ox-1".to_owned(),
            topic: "v1/devices/ox-1/vitals".to_owned(),
            payload: Bytes::from_static(b"{"),
            reason: Reason::Malformed,
            detail: "line 1".to_owned(),
            received_at: EventTime(5),
            content_type: String::new(),
            entry: 0,
            metric: Some(Metric::Spo2),
            stamped_at: None,
            format: Some(Format::Fhir),
        };
        assert_eq!(DeadLetter::decode(&dead.encode()).unwrap(), dead);
    }
}
