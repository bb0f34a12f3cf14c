//! Vigil's own JSON: one reading, an array of them, or `{"sent_at", "seq", "boot", "readings": […]}`.

use schemas::{EventTime, Metric, Reason};
use serde_json::{Map, Value};

/// What stands around the readings, and each reading or why it is none.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub sent_at: Option<EventTime>,
    pub seq: Option<u64>,
    pub boot: Option<u64>,
    pub entries: Vec<Entry>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    /// As it was sent; empty when it is the whole payload.
    pub bytes: Vec<u8>,
    pub metric: Option<Metric>,
    pub stamped_at: Option<EventTime>,
    pub read: Result<Read, Refused>,
}

#[derive(Debug)]
pub(crate) struct Read {
    pub metric: Metric,
    pub value_as_sent: f64,
    pub unit_as_sent: Option<String>,
    /// In the metric's own unit.
    pub value: f64,
    pub stamped_at: Option<EventTime>,
    pub seq: Option<u64>,
    pub boot: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Refused(pub Reason, pub String);

const READING: [&str; 7] = ["metric", "value", "unit", "measured_at", "seq", "boot", "sent_at"];
const ENVELOPE: [&str; 4] = ["sent_at", "seq", "boot", "readings"];
const SHAPE: &str = r#"expected {"metric": "spo2", "value": 97, "unit": "%", "measured_at": "2026-11-22T06:00:00Z"}"#;

pub(crate) fn parse(payload: &[u8]) -> Result<Parsed, Refused> {
    if payload.is_empty() {
        return Err(Refused(Reason::Empty, format!("the message is empty; {SHAPE}")));
    }
    let value: Value = serde_json::from_slice(payload).map_err(|error| Refused(Reason::Malformed, format!("not JSON: {error}; {SHAPE}")))?;
    let (mut outer, values, single) = match value {
        Value::Array(values) => (Map::new(), values, false),
        Value::Object(mut object) => match object.remove("readings") {
            Some(Value::Array(values)) => {
                known(&object, &ENVELOPE)?;
                (object, values, false)
            }
            Some(_) => return Err(Refused(Reason::Malformed, "`readings` is not an array".to_owned())),
            None => {
                let outer = object.get("sent_at").map(|sent_at| Map::from_iter([("sent_at".to_owned(), sent_at.clone())])).unwrap_or_default();
                (outer, vec![Value::Object(object)], true)
            }
        },
        _ => return Err(Refused(Reason::Malformed, format!("neither an object nor an array; {SHAPE}"))),
    };
    if values.is_empty() {
        return Err(Refused(Reason::Empty, "there is no reading in it".to_owned()));
    }
    let sent_at = time(outer.remove("sent_at").as_ref(), "sent_at")?;
    let (seq, boot) = (whole(outer.get("seq"), "seq")?, whole(outer.get("boot"), "boot")?);
    Ok(Parsed { sent_at, seq, boot, entries: values.into_iter().map(|value| entry(value, single)).collect() })
}

fn entry(value: Value, single: bool) -> Entry {
    let bytes = if single { Vec::new() } else { value.to_string().into_bytes() };
    let metric = value.get("metric").and_then(Value::as_str).and_then(|name| name.parse().ok());
    let stamped_at = time(value.get("measured_at"), "measured_at").ok().flatten();
    Entry { bytes, metric, stamped_at, read: read(value) }
}

fn read(value: Value) -> Result<Read, Refused> {
    let Value::Object(object) = value else { return Err(Refused(Reason::Malformed, format!("a reading is an object; {SHAPE}"))) };
    known(&object, &READING)?;
    let name = object.get("metric").and_then(Value::as_str).ok_or_else(|| Refused(Reason::Malformed, format!("`metric` is missing; {SHAPE}")))?;
    let metric: Metric = name.parse().map_err(|error: schemas::UnknownMetric| Refused(Reason::UnknownMetric, error.to_string()))?;
    if metric == Metric::Canary {
        return Err(Refused(Reason::UnknownMetric, "`canary` is Vigil's own; a device cannot measure it".to_owned()));
    }
    let unit = match object.get("unit") {
        None | Some(Value::Null) => None,
        Some(Value::String(unit)) => Some(unit.clone()),
        Some(_) => return Err(Refused(Reason::UnitMismatch, "`unit` is not text".to_owned())),
    };
    let Some(sent) = object.get("value").and_then(Value::as_f64) else {
        let what = object.get("value").map_or("missing", |value| if value.is_null() { "null" } else { "not a number" });
        return Err(Refused(Reason::NotANumber, format!("{metric}: `value` is {what}; leave the reading out when nothing was measured")));
    };
    let value = metric.convert(sent, unit.as_deref()).map_err(|error| {
        let reason = match error {
            schemas::UnitError::Unknown { .. } | schemas::UnitError::Mismatch { .. } => Reason::UnitMismatch,
            schemas::UnitError::Implausible { .. } => Reason::Implausible,
            schemas::UnitError::NotANumber { .. } => Reason::NotANumber,
        };
        Refused(reason, error.to_string())
    })?;
    Ok(Read {
        metric,
        value_as_sent: sent,
        unit_as_sent: unit,
        value,
        stamped_at: time(object.get("measured_at"), "measured_at")?,
        seq: whole(object.get("seq"), "seq")?,
        boot: whole(object.get("boot"), "boot")?,
    })
}

/// A key that is spelled otherwise would be a time or a unit that is silently missing.
fn known(object: &Map<String, Value>, keys: &[&str]) -> Result<(), Refused> {
    match object.keys().find(|key| !keys.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(Refused(Reason::Malformed, format!("unknown key `{}`; known are {}", key.chars().take(32).collect::<String>(), keys.join(", ")))),
    }
}

/// RFC 3339, or whole milliseconds since 1970.
fn time(value: Option<&Value>, key: &str) -> Result<Option<EventTime>, Refused> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => EventTime::parse(text).map(Some).map_err(|error| Refused(Reason::BadTime, format!("{key}: {error}"))),
        Some(number) => match number.as_i64().and_then(|ms| ms.checked_mul(1000)) {
            Some(micros) => Ok(Some(EventTime(micros))),
            None => Err(Refused(Reason::BadTime, format!("{key}: neither RFC 3339 nor whole milliseconds since 1970"))),
        },
    }
}

fn whole(value: Option<&Value>, key: &str) -> Result<Option<u64>, Refused> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| Refused(Reason::Malformed, format!("`{key}` is not a whole number from 0"))),
    }
}
