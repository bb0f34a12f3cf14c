//! What every format is read to, and the checks that all of them share.

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use schemas::{DeviceId, EventTime, Metric, Micros, Reason, UnitError};
use serde_json::{Map, Value};

/// Entries of one message: each may become a dead letter that repeats what stands around it.
const ENTRIES: usize = 4096;
/// Bytes of what stands around an entry and is repeated with each of several.
pub(crate) const AROUND: usize = 1 << 10;

/// What stands around the readings, and each reading or why it is none.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub sent_at: Option<EventTime>,
    pub seq: Option<u64>,
    pub boot: Option<u64>,
    pub entries: Vec<Entry>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub source: Source,
    /// Whom the payload says it speaks of; `None` is whom the topic names.
    pub device: Option<DeviceId>,
    pub metric: Option<Metric>,
    /// By the device's own clock.
    pub stamped_at: Option<EventTime>,
    pub read: Result<Read, Refused>,
}

/// What of the payload can be read alone, in the same format and with the same answer. It is written only for a dead letter.
#[derive(Debug)]
pub(crate) enum Source {
    Whole,
    Json(Value),
    /// Of several entries.
    Shared(Arc<Value>),
    Senml(crate::senml::Encoding, crate::senml::Resolved),
}

impl Source {
    /// An element of an array: alone it needs no array when it is an object.
    pub fn element(value: Value) -> Self {
        Self::Json(if value.is_object() { value } else { Value::Array(vec![value]) })
    }

    pub fn written(&self, payload: &Bytes, received_at: EventTime) -> Bytes {
        match self {
            Self::Whole => payload.clone(),
            Self::Json(value) => value.to_string().into(),
            Self::Shared(value) => value.to_string().into(),
            Self::Senml(encoding, record) => record.written(*encoding, received_at).into(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Read {
    pub metric: Metric,
    pub value_as_sent: f64,
    pub unit_as_sent: Option<String>,
    /// In the metric's own unit.
    pub value: f64,
    pub stamp: Stamp,
    pub seq: Option<u64>,
    pub boot: Option<u64>,
}

/// When it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// By the device's clock, which may be wrong.
    At(EventTime),
    /// So long before it was received: no clock of the device has a part in it.
    Ago(Micros),
}

impl Stamp {
    pub const RECEIVED: Self = Self::Ago(Micros::ZERO);

    pub fn stamped_at(self) -> Option<EventTime> {
        match self {
            Self::At(at) => Some(at),
            Self::Ago(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub Reason, pub String);

impl Refused {
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self(Reason::Malformed, detail.into())
    }
    pub fn bad_time(detail: impl Into<String>) -> Self {
        Self(Reason::BadTime, detail.into())
    }
    pub fn empty(detail: impl Into<String>) -> Self {
        Self(Reason::Empty, detail.into())
    }
    pub fn unknown_metric(detail: impl Into<String>) -> Self {
        Self(Reason::UnknownMetric, detail.into())
    }
    /// There is no number because there was no measurement. It is never stored as 0.
    pub fn not_measured(what: impl Display, why: impl Display) -> Self {
        Self(Reason::NotANumber, format!("{what} was not measured: {why}"))
    }
}

impl From<UnitError> for Refused {
    fn from(error: UnitError) -> Self {
        let reason = match error {
            UnitError::Unknown { .. } | UnitError::Mismatch { .. } => Reason::UnitMismatch,
            UnitError::Implausible { .. } => Reason::Implausible,
            UnitError::NotANumber { .. } => Reason::NotANumber,
        };
        Self(reason, error.to_string())
    }
}

/// Said before anything is made of each entry.
pub(crate) fn countable(entries: usize) -> Result<(), Refused> {
    if entries <= ENTRIES {
        return Ok(());
    }
    Err(Refused(Reason::TooLarge, format!("more than {ENTRIES} entries in one message; send them in several")))
}

/// Whether it may be repeated with every entry.
pub(crate) fn is_small(around: &Map<String, Value>) -> bool {
    // as long as it is written, and no longer than it is asked about
    struct Left(usize);
    impl std::io::Write for Left {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::FileTooLarge)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(Left(AROUND), around).is_ok()
}

/// Text of a stranger, short enough for a sentence.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A value as it was sent, in the unit that it was sent in (an absent unit is the metric's own).
pub(crate) fn measured(metric: Metric, sent: f64, unit: Option<&str>, stamp: Stamp) -> Result<Read, Refused> {
    let value = metric.convert(sent, unit)?;
    Ok(Read { metric, value_as_sent: sent, unit_as_sent: unit.map(str::to_owned), value, stamp, seq: None, boot: None })
}

/// The metric of that name; the canary is Vigil's own.
pub(crate) fn metric_named(name: &str) -> Result<Metric, Refused> {
    let metric: Metric = name.parse().map_err(|error: schemas::UnknownMetric| Refused::unknown_metric(error.to_string()))?;
    if metric == Metric::Canary { Err(Refused::unknown_metric("`canary` is Vigil's own; a device cannot measure it")) } else { Ok(metric) }
}

/// RFC 3339 with a zone.
pub(crate) fn instant(text: &str, key: &str) -> Result<EventTime, Refused> {
    EventTime::parse(text).map_err(|error| Refused::bad_time(format!("{key}: {error}")))
}

/// A day, `2012-09-17`: its beginning in UTC, so that it never hides what was measured later that day, and never later than received.
pub(crate) fn day(text: &str, received_at: EventTime) -> Option<EventTime> {
    if text.len() != 10 {
        return None;
    }
    let start = EventTime::parse(&format!("{text}T00:00:00Z")).ok()?;
    Some(start.min(received_at))
}

/// JSON, or why it is none; `shape` says what would be right.
pub(crate) fn json(payload: &[u8], shape: &str) -> Result<Value, Refused> {
    if payload.is_empty() {
        return Err(Refused::empty(format!("the message is empty; {shape}")));
    }
    serde_json::from_slice(payload).map_err(|error| Refused::malformed(format!("not JSON: {error}; {shape}")))
}

/// A code may name its unit: glucose by mass is not glucose by amount of substance, however plausible the number.
pub(crate) fn code_allows(loinc: &str, metric: Metric, unit: &str) -> Result<(), Refused> {
    match Metric::unit_of_loinc(loinc) {
        Some("mg/dL") if unit == "g/L" => Ok(()),
        Some(demanded) if demanded != unit => {
            Err(Refused(Reason::UnitMismatch, format!("{loinc} is {metric} in {demanded}, the unit says {}; correct one of the two", cut(unit))))
        }
        _ => Ok(()),
    }
}
