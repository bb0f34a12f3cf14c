//! Vigil's own JSON: one reading, an array of them, or `{"sent_at", "seq", "boot", "readings": […]}`.

use schemas::{EventTime, Reason};
use serde_json::{Map, Value};

use crate::parsed::{self, Entry, Parsed, Read, Refused, Source, Stamp};

const READING: [&str; 7] = ["metric", "value", "unit", "measured_at", "seq", "boot", "sent_at"];
const ENVELOPE: [&str; 4] = ["sent_at", "seq", "boot", "readings"];
const SHAPE: &str = r#"expected {"metric": "spo2", "value": 97, "unit": "%", "measured_at": "2026-11-22T06:00:00Z"}"#;

pub(crate) fn parse(payload: &[u8]) -> Result<Parsed, Refused> {
    let (mut outer, values, single) = match parsed::json(payload, SHAPE)? {
        Value::Array(values) => (Map::new(), values, false),
        Value::Object(mut object) => match object.remove("readings") {
            Some(Value::Array(values)) => {
                known(&object, &ENVELOPE)?;
                (object, values, false)
            }
            Some(_) => return Err(Refused::malformed("`readings` is not an array")),
            None => {
                let outer = object.get("sent_at").map(|sent_at| Map::from_iter([("sent_at".to_owned(), sent_at.clone())])).unwrap_or_default();
                (outer, vec![Value::Object(object)], true)
            }
        },
        _ => return Err(Refused::malformed(format!("neither an object nor an array; {SHAPE}"))),
    };
    if values.is_empty() {
        return Err(Refused::empty("there is no reading in it"));
    }
    parsed::countable(values.len())?;
    let sent_at = time(outer.remove("sent_at").as_ref(), "sent_at")?;
    let (seq, boot) = (whole(outer.get("seq"), "seq")?, whole(outer.get("boot"), "boot")?);
    Ok(Parsed { sent_at, seq, boot, entries: values.into_iter().map(|value| entry(value, single)).collect() })
}

fn entry(value: Value, single: bool) -> Entry {
    let read = read(&value);
    let (metric, stamped_at) = match &read {
        Ok(read) => (Some(read.metric), read.stamp.stamped_at()),
        // what is wrong with it may be something else
        Err(_) => {
            let metric = value.get("metric").and_then(Value::as_str).and_then(|name| name.parse().ok());
            (metric, time(value.get("measured_at"), "measured_at").ok().flatten())
        }
    };
    Entry { source: if single { Source::Whole } else { alone(value) }, device: None, metric, stamped_at, read }
}

/// One reading of several. Without its array `readings` and `sent_at` would speak of the message.
fn alone(value: Value) -> Source {
    match value.get("readings").or(value.get("sent_at")) {
        Some(_) => Source::Json(Value::Array(vec![value])),
        None => Source::element(value),
    }
}

fn read(value: &Value) -> Result<Read, Refused> {
    let Value::Object(object) = value else { return Err(Refused::malformed(format!("a reading is an object; {SHAPE}"))) };
    known(object, &READING)?;
    let name = object.get("metric").and_then(Value::as_str).ok_or_else(|| Refused::malformed(format!("`metric` is missing; {SHAPE}")))?;
    let metric = parsed::metric_named(name)?;
    let unit = match object.get("unit") {
        None | Some(Value::Null) => None,
        Some(Value::String(unit)) => Some(unit.clone()),
        Some(_) => return Err(Refused(Reason::UnitMismatch, "`unit` is not text".to_owned())),
    };
    let Some(sent) = object.get("value").and_then(Value::as_f64) else {
        let what = object.get("value").map_or("missing", |value| if value.is_null() { "null" } else { "not a number" });
        return Err(Refused(Reason::NotANumber, format!("{metric}: `value` is {what}; leave the reading out when nothing was measured")));
    };
    Ok(Read {
        metric,
        value_as_sent: sent,
        value: metric.convert(sent, unit.as_deref())?,
        unit_as_sent: unit,
        stamp: time(object.get("measured_at"), "measured_at")?.map_or(Stamp::RECEIVED, Stamp::At),
        seq: whole(object.get("seq"), "seq")?,
        boot: whole(object.get("boot"), "boot")?,
    })
}

/// A key that is spelled otherwise would be a time or a unit that is silently missing.
fn known(object: &Map<String, Value>, keys: &[&str]) -> Result<(), Refused> {
    match object.keys().find(|key| !keys.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(Refused::malformed(format!("unknown key `{}`; known are {}", key.chars().take(32).collect::<String>(), keys.join(", ")))),
    }
}

/// RFC 3339, or whole milliseconds since 1970.
pub(crate) fn time(value: Option<&Value>, key: &str) -> Result<Option<EventTime>, Refused> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => parsed::instant(text, key).map(Some),
        Some(number) => match number.as_i64().and_then(|ms| ms.checked_mul(1000)) {
            Some(micros) => Ok(Some(EventTime(micros))),
            None => Err(Refused(Reason::BadTime, format!("{key}: neither RFC 3339 nor whole milliseconds since 1970"))),
        },
    }
}

fn whole(value: Option<&Value>, key: &str) -> Result<Option<u64>, Refused> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| Refused::malformed(format!("`{key}` is not a whole number from 0"))),
    }
}
