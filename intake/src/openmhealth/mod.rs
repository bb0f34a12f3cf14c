//! Open mHealth and IEEE 1752.1: a data point (header and body), a bare body, or an array of them.
//!
//! A header names schema and version, and the version decides what is required. A bare body is read when any version of its schema allows it.

mod schema;

use schemas::{EventTime, Metric, Micros, Reason};
use serde_json::{Map, Value};

use schema::{OF_A_VALUE, Quantity, SCHEMAS, STATISTICS, STEPS, Schema, Version, WORDS};

use crate::parsed::{self, Entry, Parsed, Read, Refused, Source, Stamp, cut};

const SHAPE: &str = r#"expected {"heart_rate": {"value": 60, "unit": "beats/min"}, "effective_time_frame": {"date_time": "2026-11-22T06:00:00Z"}}"#;

pub(crate) fn parse(payload: &[u8], received_at: EventTime) -> Result<Parsed, Refused> {
    let (points, single) = match parsed::json(payload, SHAPE)? {
        Value::Array(points) => (points, false),
        point => (vec![point], true),
    };
    if points.is_empty() {
        return Err(Refused::empty("there is no data point in it"));
    }
    parsed::countable(points.len())?;
    let mut entries = Vec::with_capacity(points.len());
    for point in points {
        let source = |point: &Value| if single { Source::Whole } else { Source::element(point.clone()) };
        let failed = |refused| Entry { source: source(&point), device: None, metric: None, stamped_at: None, read: Err(refused) };
        match read_point(&point, received_at) {
            Ok(reads) => entries.extend(reads.into_iter().map(|(metric, stamp, read)| Entry {
                source: source(&point),
                device: None,
                metric: Some(metric),
                stamped_at: stamp.stamped_at(),
                read,
            })),
            Err(refused) => entries.push(failed(refused)),
        }
    }
    Ok(Parsed { entries, ..Parsed::default() })
}

type Reads = Vec<(Metric, Stamp, Result<Read, Refused>)>;

/// A document that breaks its schema is refused as one; of a sound one each value stands for itself.
fn read_point(point: &Value, received_at: EventTime) -> Result<Reads, Refused> {
    let Value::Object(point) = point else { return Err(Refused::malformed(format!("a data point is an object; {SHAPE}"))) };
    if point.contains_key("header") || point.contains_key("body") {
        let Some(Value::Object(header)) = point.get("header") else { return Err(Refused::malformed("a data point has a `header`, an object")) };
        let Some(Value::Object(body)) = point.get("body") else { return Err(Refused::malformed("a data point has a `body`, an object")) };
        let (schema, version) = named(header)?;
        return read_body(body, schema, version, received_at);
    }
    let schema = SCHEMAS.iter().find(|schema| schema.quantities.iter().any(|quantity| quantity.required && point.contains_key(quantity.key)));
    let Some(schema) = schema else {
        return Err(Refused::unknown_metric(format!(
            "none of {} is in it; {SHAPE}",
            SCHEMAS.iter().map(|schema| schema.quantities[0].key).collect::<Vec<_>>().join(", ")
        )));
    };
    let mut newest = Ok(Vec::new());
    for (number, version) in schema.versions.iter().enumerate() {
        match read_body(point, schema, version, received_at) {
            Ok(reads) => return Ok(reads),
            Err(refused) if number == 0 => newest = Err(refused),
            Err(_) => {}
        }
    }
    newest
}

fn named(header: &Map<String, Value>) -> Result<(&'static Schema, &'static Version), Refused> {
    let text = |object: &Map<String, Value>, key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    // Open mHealth's words and IEEE 1752.1's
    if ["id", "uuid"].iter().all(|key| text(header, key).is_none()) {
        return Err(Refused::malformed("the header has no `id` (Open mHealth) or `uuid` (IEEE 1752.1)"));
    }
    let created = ["creation_date_time", "source_creation_date_time"].iter().find_map(|key| Some((key, text(header, key)?)));
    let Some((key, created)) = created else { return Err(Refused::malformed("the header has no `creation_date_time`")) };
    parsed::instant(&created, key)?;
    words(header)?;
    if let Some(provenance) = header.get("acquisition_provenance") {
        let Some(provenance) = provenance.as_object().filter(|provenance| text(provenance, "source_name").is_some()) else {
            return Err(Refused::malformed("`acquisition_provenance` has no `source_name`"));
        };
        words(provenance)?;
    }
    let id = header.get("schema_id").and_then(Value::as_object);
    let Some((namespace, name, version)) = id.and_then(|id| Some((text(id, "namespace")?, text(id, "name")?, text(id, "version")?))) else {
        return Err(Refused::malformed("the header's `schema_id` has not all of `namespace`, `name` and `version`"));
    };
    let schema = SCHEMAS.iter().find(|schema| schema.name == name && ["omh", "ieee"].contains(&namespace.as_str()));
    let Some(schema) = schema else {
        let known: Vec<_> = SCHEMAS.iter().map(|schema| schema.name).collect();
        return Err(Refused::unknown_metric(format!("`{}:{}` is no schema that is read; known are {}", cut(&namespace), cut(&name), known.join(", "))));
    };
    match schema.versions.iter().find(|known| known.name == version) {
        Some(version) => Ok((schema, version)),
        None => {
            let known: Vec<_> = schema.versions.iter().map(|version| version.name).collect();
            Err(Refused(Reason::UnknownFormat, format!("{name} has no version `{}` that is read; known are {}", cut(&version), known.join(", "))))
        }
    }
}

fn read_body(body: &Map<String, Value>, schema: &Schema, version: &Version, received_at: EventTime) -> Result<Reads, Refused> {
    words(body)?;
    if let Some(statistic) = body.get("descriptive_statistic") {
        match statistic.as_str() {
            Some(known) if OF_A_VALUE.contains(&known) => {}
            Some(known) if STATISTICS.contains(&known) => {
                return Err(Refused::not_measured(schema.quantities[0].metric, format!("a {known} is a statistic; send the readings themselves")));
            }
            _ => return Err(Refused::malformed(format!("`descriptive_statistic` {} is none that the schema knows", cut(&statistic.to_string())))),
        }
    }
    let mut values = Vec::with_capacity(2);
    for quantity in schema.quantities {
        match body.get(quantity.key) {
            Some(value) => values.push((quantity.metric, unit_value(value, quantity, version)?)),
            None if quantity.required => return Err(Refused::malformed(format!("`{}` is missing", quantity.key))),
            None => {}
        }
    }
    let stamp = time_frame(body.get("effective_time_frame"), schema, version, received_at)?;
    Ok(values.into_iter().map(|(metric, (sent, unit))| (metric, stamp, parsed::measured(metric, sent, unit, stamp))).collect())
}

fn unit_value<'a>(value: &'a Value, quantity: &Quantity, version: &Version) -> Result<(f64, Option<&'a str>), Refused> {
    let bare = quantity.key == STEPS && version.name != "3.0";
    if bare {
        let sent = value.as_f64().ok_or_else(|| Refused(Reason::NotANumber, format!("`{STEPS}` is not a number")))?;
        return Ok((sent, None));
    }
    let sent = value.get("value").and_then(Value::as_f64);
    let sent = sent.ok_or_else(|| Refused(Reason::NotANumber, format!("`{}` has no `value` that is a number", quantity.key)))?;
    let unit = value.get("unit").and_then(Value::as_str).unwrap_or_default();
    if quantity.units.contains(&unit) {
        Ok((sent, Some(unit)))
    } else {
        Err(Refused(Reason::UnitMismatch, format!("{} {sent} {}; expected one of {}", quantity.metric, cut(unit), quantity.units.join(", "))))
    }
}

/// An interval stands at its end. A date and a part of the day is only that day: see [`parsed::day`].
fn time_frame(frame: Option<&Value>, schema: &Schema, version: &Version, received_at: EventTime) -> Result<Stamp, Refused> {
    const KEY: &str = "effective_time_frame";
    let Some(frame) = frame else {
        let missing = || Refused::bad_time(format!("`{KEY}` is missing; {} {} requires it", schema.name, version.name));
        return if version.timed { Err(missing()) } else { Ok(Stamp::RECEIVED) };
    };
    let steps = schema.name == "step-count" && version.name != "1.0";
    match (frame.get("date_time"), frame.get("time_interval")) {
        (Some(_), None) if steps => Err(Refused::bad_time(format!("{KEY}: steps are counted over a `time_interval`, not at a `date_time`"))),
        (Some(Value::String(at)), None) => parsed::instant(at, KEY).map(Stamp::At),
        (None, Some(interval)) => end_of(interval, version, received_at).map(Stamp::At),
        _ => Err(Refused::bad_time(format!("{KEY}: expected either `date_time` or `time_interval`"))),
    }
}

fn end_of(interval: &Value, version: &Version, received_at: EventTime) -> Result<EventTime, Refused> {
    let time = |key: &str| interval.get(key).and_then(Value::as_str).map(|text| parsed::instant(text, key)).transpose();
    let (start, end) = (time("start_date_time")?, time("end_date_time")?);
    let duration = interval.get("duration").map(duration).transpose()?;
    match (start, end, duration) {
        (Some(_), Some(end), None) | (None, Some(end), Some(_)) => return Ok(end),
        (Some(start), None, Some(duration)) => return Ok(start + duration),
        _ => {}
    }
    let text = |key: &str| interval.get(key).and_then(Value::as_str);
    if let (Some(date), Some("morning" | "afternoon" | "evening" | "night"), true) = (text("date"), text("part_of_day"), version.part_of_day)
        && let Some(start) = parsed::day(date, received_at)
    {
        return Ok(start);
    }
    Err(Refused::bad_time("time_interval: expected two of `start_date_time`, `end_date_time` and `duration`"))
}

fn duration(value: &Value) -> Result<Micros, Refused> {
    let seconds = match value.get("unit").and_then(Value::as_str) {
        Some("ps") => 1e-12,
        Some("ns") => 1e-9,
        Some("us") => 1e-6,
        Some("ms") => 1e-3,
        Some("sec") => 1.0,
        Some("min") => 60.0,
        Some("h") => 3600.0,
        Some("d") => 86_400.0,
        Some("wk") => 604_800.0,
        _ => return Err(Refused::bad_time("duration: expected a unit from ps, ns, us, ms, sec, min, h, d and wk; months and years have no fixed length")),
    };
    let micros = value.get("value").and_then(Value::as_f64).map(|value| (value * seconds * 1e6).round());
    match micros {
        Some(micros) if micros.abs() < 9e18 => Ok(Micros(micros as i64)),
        _ => Err(Refused::bad_time("duration: `value` is not a number of that unit")),
    }
}

fn words(object: &Map<String, Value>) -> Result<(), Refused> {
    for (key, allowed) in WORDS {
        if let Some(value) = object.get(key)
            && !value.as_str().is_some_and(|word| allowed.contains(&word))
        {
            return Err(Refused::malformed(format!("`{key}` is {}; expected one of {}", cut(&value.to_string()), allowed.join(", "))));
        }
    }
    Ok(())
}
