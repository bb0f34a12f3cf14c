//! A message, read as a mapping says.

use std::sync::Arc;

use schemas::{DeviceId, EventTime, Metric, Reason};
use serde_json::{Map, Value};
use serde_json_path::PathElement;

use super::{Mapping, Meaning, Members, Time, TimeAs, UnitIs, Whom};
use crate::json;
use crate::parsed::{self, AROUND, Entry, Parsed, Refused, Source, Stamp, cut};

/// Of one item: each is a dead letter with the item in it.
const MOST: usize = 64;

/// A step on the way from the message to an item.
enum Step {
    Name(String),
    Index,
}

struct Item<'a> {
    value: &'a Value,
    way: Arc<[Step]>,
}

impl Mapping {
    pub(crate) fn read(&self, payload: &[u8]) -> Result<Parsed, Refused> {
        let message = parsed::json(payload, &format!("expected what the mapping `{}` reads", self.name))?;
        let items = self.items(&message);
        if items.is_empty() {
            return Err(Refused::empty(format!("nothing in it stands where the mapping `{}` looks", self.name)));
        }
        parsed::countable(items.len())?;
        let beside = self.beside(&message);
        let longest = items.iter().map(|item| item.way.iter().map(Step::len).sum()).max().unwrap_or(0);
        if items.len() > 1 && (longest > AROUND || !parsed::is_small(&beside)) {
            return Err(Refused::malformed(format!(
                "the names and members around its items take more than {AROUND} bytes, and would be repeated with each item"
            )));
        }
        let mut entries = Vec::new();
        for item in &items {
            self.item(&message, item, &beside, &mut entries);
            parsed::countable(entries.len())?;
        }
        Ok(Parsed { entries, ..Parsed::default() })
    }

    fn items<'a>(&self, message: &'a Value) -> Vec<Item<'a>> {
        let mut items = Vec::new();
        for node in self.each.query_located(message).iter() {
            let way = |last: Option<Step>| {
                let step = |element: &PathElement<'_>| match element {
                    PathElement::Name(name) => Step::Name((*name).to_owned()),
                    PathElement::Index(_) => Step::Index,
                };
                node.location().iter().map(step).chain(last).collect::<Arc<[_]>>()
            };
            match node.node() {
                Value::Array(elements) => {
                    let way = way(Some(Step::Index));
                    items.extend(elements.iter().map(|value| Item { value, way: way.clone() }));
                }
                value => items.push(Item { value, way: way(None) }),
            }
        }
        items
    }

    /// What items need of the message. What is larger than a word cannot be needed.
    fn beside(&self, message: &Value) -> Map<String, Value> {
        let needed = self.beside.iter().filter_map(|name| Some((name, message.get(name)?)));
        needed.filter(|(_, value)| !value.is_object() && !value.is_array()).map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn item(&self, message: &Value, item: &Item<'_>, beside: &Map<String, Value>, entries: &mut Vec<Entry>) {
        let first = entries.len();
        let mut shared = None;
        let mut source = || if item.way.is_empty() { Source::Whole } else { Source::Shared(shared.get_or_insert_with(|| alone(beside, item)).clone()) };
        let device = self.whom(message, item);
        let stamp = self.stamp(message, item.value);
        let mut push = |metric: Option<Metric>, read: Result<(Metric, f64, Option<String>), Refused>| {
            let read = device.clone().and_then(|_| {
                let (metric, value, unit) = read?;
                parsed::measured(metric, value, unit.as_deref(), stamp.clone()?)
            });
            entries.push(Entry {
                source: source(),
                device: device.as_ref().ok().cloned().flatten(),
                metric,
                stamped_at: stamp.as_ref().ok().and_then(|stamp| stamp.stamped_at()),
                read,
            });
        };
        for reading in &self.readings {
            let found = reading.value.find(message, item.value);
            if found.len() > MOST {
                push(None, Err(Refused::malformed(format!("`{}` is in it {} times; at most {MOST} are read, so use `each`", reading.value.text, found.len()))));
                continue;
            }
            for value in found {
                push(Some(reading.meaning.metric), reading.meaning.of(value, &reading.value.text, message, item.value));
            }
        }
        if let Some(members) = &self.members {
            let found = members.of.iter().find_map(|path| path.find(message, item.value).into_iter().find_map(Value::as_object));
            let found: Vec<_> = found.into_iter().flatten().filter(|(name, _)| !members.ignore.contains(name)).collect();
            if found.len() > MOST {
                push(None, Err(Refused::malformed(format!("{} values in one item; at most {MOST} are read", found.len()))));
            } else {
                for (name, value) in found {
                    let meaning = members.meaning(name);
                    push(meaning.as_ref().ok().map(|meaning| meaning.metric), meaning.and_then(|meaning| meaning.of(value, name, message, item.value)));
                }
            }
        }
        if entries.len() == first {
            let sought: Vec<&str> = self.readings.iter().map(|reading| reading.value.text.as_str()).chain(self.members.iter().map(|_| "members")).collect();
            let refused = Refused::empty(format!("nothing that the mapping `{}` reads is in it: {}", self.name, cut(&sought.join(", "))));
            entries.push(Entry { source: source(), device: None, metric: None, stamped_at: None, read: Err(refused) });
        }
    }

    fn whom(&self, message: &Value, item: &Item<'_>) -> Result<Option<DeviceId>, Refused> {
        let name = match &self.device {
            Whom::Topic => return Ok(None),
            Whom::Key => item.way.iter().find_map(|step| if let Step::Name(name) = step { Some(name.clone()) } else { None }),
            Whom::At(path) => match path.find(message, item.value).first() {
                Some(Value::String(name)) => Some(name.clone()),
                Some(Value::Number(number)) => Some(number.to_string()),
                _ => None,
            },
        };
        let Some(name) = name else {
            return Err(Refused(Reason::UnknownDevice, format!("it names no device where the mapping `{}` looks", self.name)));
        };
        if let Some(device) = self.devices.get(&name) {
            return Ok(Some(device.clone()));
        }
        let id = DeviceId::parse(&name);
        id.map(Some).map_err(|error| Refused(Reason::UnknownDevice, format!("`{}`: {error}; name it under [devices] in the mapping", cut(&name))))
    }

    fn stamp(&self, message: &Value, item: &Value) -> Result<Stamp, Refused> {
        let Some(Time { at, read_as, or_received }) = &self.time else { return Ok(Stamp::RECEIVED) };
        let value = at.find(message, item).first().copied();
        let wrong = |expected: &str| Refused::bad_time(format!("{}: expected {expected}", at.text));
        match (value, read_as) {
            (None | Some(Value::Null), _) if *or_received => Ok(Stamp::RECEIVED),
            (None | Some(Value::Null), _) => Err(wrong("a time, and there is none")),
            (Some(Value::String(text)), TimeAs::Either | TimeAs::Rfc3339) => parsed::instant(text, &at.text).map(Stamp::At),
            (Some(value @ Value::Number(_)), TimeAs::Either | TimeAs::Milliseconds) => match json::time(Some(value), &at.text)? {
                Some(at) => Ok(Stamp::At(at)),
                None => Err(wrong("whole milliseconds since 1970")),
            },
            (Some(Value::Number(number)), TimeAs::Seconds) => match number.as_f64().map(|seconds| (seconds * 1e6).round()) {
                Some(micros) if micros.abs() < 9e18 => Ok(Stamp::At(EventTime(micros as i64))),
                _ => Err(wrong("seconds since 1970")),
            },
            (Some(_), TimeAs::Either) => Err(wrong("RFC 3339 or whole milliseconds since 1970")),
            (Some(_), TimeAs::Rfc3339) => Err(wrong("RFC 3339")),
            (Some(_), TimeAs::Milliseconds) => Err(wrong("whole milliseconds since 1970")),
            (Some(_), TimeAs::Seconds) => Err(wrong("seconds since 1970")),
        }
    }
}

impl Members {
    /// What a member means: as the mapping has it, or by a metric's own name.
    fn meaning(&self, name: &str) -> Result<Meaning, Refused> {
        if let Some(meaning) = self.names.get(name) {
            return Ok(meaning.clone());
        }
        match parsed::metric_named(name) {
            Ok(metric) => Ok(Meaning { metric, unit: UnitIs::Own, scale: 1.0 }),
            Err(Refused(reason, detail)) => Err(Refused(reason, format!("{detail}; or name it in the mapping, under [members.names] or `ignore`"))),
        }
    }
}

impl Meaning {
    fn of(&self, value: &Value, place: &str, message: &Value, item: &Value) -> Result<(Metric, f64, Option<String>), Refused> {
        let Some(number) = value.as_f64() else {
            let what = if value.is_null() { "null" } else { "not a number" };
            return Err(Refused::not_measured(self.metric, format!("`{}` is {what}", cut(place))));
        };
        let unit = match &self.unit {
            UnitIs::Own => None,
            UnitIs::Literal(unit) => Some(unit.clone()),
            UnitIs::At(path) => match path.find(message, item).first().and_then(|unit| unit.as_str()) {
                Some(unit) => Some(unit.to_owned()),
                None => return Err(Refused(Reason::UnitMismatch, format!("{}: there is no unit at {}", self.metric, path.text))),
            },
        };
        Ok((self.metric, scaled(number, self.scale), unit))
    }
}

/// Tenths are divided by ten: 367 × 0.1 is not 36.7 in binary.
fn scaled(number: f64, scale: f64) -> f64 {
    let inverse = (1.0 / scale).round();
    if scale.abs() < 1.0 && (inverse * scale - 1.0).abs() < 1e-12 { number / inverse } else { number * scale }
}

/// The item where it stood, beside what it needs of the message.
fn alone(beside: &Map<String, Value>, item: &Item<'_>) -> Arc<Value> {
    let within = |inner: Value, step: &Step| match step {
        Step::Name(name) => Value::Object(Map::from_iter([(name.clone(), inner)])),
        Step::Index => Value::Array(vec![inner]),
    };
    let inner = item.way.iter().skip(1).rev().fold(item.value.clone(), within);
    Arc::new(match item.way.first() {
        Some(Step::Name(name)) => {
            let mut alone = beside.clone();
            alone.insert(name.clone(), inner);
            Value::Object(alone)
        }
        Some(Step::Index) => Value::Array(vec![inner]),
        None => inner,
    })
}

impl Step {
    fn len(&self) -> usize {
        if let Self::Name(name) = self { name.len() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::scaled;

    #[test]
    fn tenths_are_exact() {
        assert_eq!([scaled(367.0, 0.1), scaled(3671.0, 0.01), scaled(2.0, 1.5), scaled(7.0, -0.5)], [36.7, 36.71, 3.0, -3.5]);
    }
}
