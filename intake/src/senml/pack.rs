//! A pack to resolved records, exactly as RFC 8428 (4.6) has it.

use ciborium::Value as Cbor;
use schemas::{EventTime, Micros};
use serde_json::{Map, Value as Json};

use super::Encoding;
use crate::parsed::{self, Refused, cut};

const SHAPE: &str = r#"expected [{"n": "urn:dev:mac:0024befffe804ff1:spo2", "u": "%", "v": 97}]"#;
/// Below it a time counts from now (4.5.3).
const RELATIVE: i64 = 1 << 28;
/// The version that we read; a higher one must not be used (4.4).
const VERSION: f64 = 10.0;
/// A resolved name stands in every dead letter of the pack.
const LONGEST_NAME: usize = 256;
/// And so does a base unit.
const LONGEST_UNIT: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Number(f64),
    Text(String),
    Bool(bool),
    Data(String),
    /// Only an integral over time.
    Sum(f64),
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    Absolute(EventTime),
    /// From now.
    Relative(Micros),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resolved {
    pub name: String,
    pub unit: Option<String>,
    pub time: Time,
    pub content: Content,
}

/// One field of a record, whatever the encoding.
enum Field {
    Number(f64),
    Text(String),
    Bool(bool),
    Other,
}

/// CBOR's integers in place of labels (6).
const LABELS: [(i128, &str); 15] = [
    (-6, "bs"),
    (-5, "bv"),
    (-4, "bu"),
    (-3, "bt"),
    (-2, "bn"),
    (-1, "bver"),
    (0, "n"),
    (1, "u"),
    (2, "v"),
    (3, "vs"),
    (4, "vb"),
    (5, "s"),
    (6, "t"),
    (7, "ut"),
    (8, "vd"),
];

#[derive(Default)]
struct Base {
    name: String,
    time: i64,
    unit: Option<String>,
    value: Option<f64>,
    sum: Option<f64>,
    version: Option<f64>,
}

pub(super) fn resolve(payload: &[u8], encoding: Encoding) -> Result<Vec<Resolved>, Refused> {
    let records = match encoding {
        Encoding::Json => from_json(payload)?,
        Encoding::Cbor => from_cbor(payload)?,
    };
    parsed::countable(records.len())?;
    let mut base = Base::default();
    let mut resolved = Vec::with_capacity(records.len());
    for fields in records {
        resolved.extend(record(fields, &mut base)?);
    }
    if resolved.is_empty() { Err(Refused::empty("there is no record with a value in it")) } else { Ok(resolved) }
}

/// Takes the base fields into `base`; `None` when the record has no others.
fn record(fields: Vec<(String, Field)>, base: &mut Base) -> Result<Option<Resolved>, Refused> {
    let (mut name, mut unit, mut time, mut content, mut sum, mut plain) = (String::new(), None, 0, Content::Nothing, None, false);
    for (label, field) in fields {
        plain |= matches!(label.as_str(), "n" | "u" | "t" | "v" | "vs" | "vb" | "vd" | "s");
        let value = match (label.as_str(), field) {
            ("bn", Field::Text(text)) => {
                base.name = text;
                continue;
            }
            ("bu", Field::Text(text)) => {
                if text.len() > LONGEST_UNIT {
                    return Err(Refused::malformed(format!("`bu` is {} bytes long; a unit has at most {LONGEST_UNIT}", text.len())));
                }
                base.unit = Some(text);
                continue;
            }
            ("bt", Field::Number(seconds)) => {
                base.time = micros(seconds)?;
                continue;
            }
            ("bv", Field::Number(number)) => {
                base.value = Some(number);
                continue;
            }
            ("bs", Field::Number(number)) => {
                base.sum = Some(number);
                continue;
            }
            ("bver", Field::Number(version)) => {
                if !(1.0..=VERSION).contains(&version) || base.version.is_some_and(|first| first != version) {
                    return Err(Refused::malformed(format!("`bver` is {version}; one version from 1 to {VERSION} is read")));
                }
                base.version = Some(version);
                continue;
            }
            ("n", Field::Text(text)) => {
                name = text;
                continue;
            }
            ("u", Field::Text(text)) => {
                unit = Some(text);
                continue;
            }
            ("t", Field::Number(seconds)) => {
                time = micros(seconds)?;
                continue;
            }
            ("s", Field::Number(number)) => {
                sum = Some(number);
                continue;
            }
            ("v", Field::Number(number)) => Content::Number(number),
            ("vs", Field::Text(text)) => Content::Text(text),
            ("vb", Field::Bool(bool)) => Content::Bool(bool),
            ("vd", Field::Text(data)) => Content::Data(data),
            ("bn" | "bu" | "bt" | "bv" | "bs" | "bver" | "n" | "u" | "t" | "s" | "v" | "vs" | "vb" | "vd", _) => {
                return Err(Refused::malformed(format!("`{label}` is not of its type; {SHAPE}")));
            }
            (label, _) if label.ends_with('_') => {
                return Err(Refused::malformed(format!("`{}` must be understood, and is not; leave it out", cut(label))));
            }
            _ => continue,
        };
        if content != Content::Nothing {
            return Err(Refused::malformed("a record has two values; send one record for each"));
        }
        content = value;
    }
    if !plain {
        return Ok(None);
    }
    // of a value and a base value the missing one counts as zero, and so of a sum and a base sum (4.5.4)
    content = match content {
        Content::Number(number) => Content::Number(number + base.value.unwrap_or_default()),
        Content::Nothing if sum.is_some() => Content::Sum(sum.unwrap_or_default() + base.sum.unwrap_or_default()),
        Content::Nothing => base.value.map(Content::Number).or(base.sum.map(Content::Sum)).unwrap_or(Content::Nothing),
        other => other,
    };
    let name = format!("{}{name}", base.name);
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.' | '/' | '_');
    if name.len() > LONGEST_NAME || !name.chars().all(legal) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Refused::malformed(format!(
            "`{}` is no name: a letter or digit, then letters, digits and - : . / _, {LONGEST_NAME} in all; set `bn` or `n`",
            cut(&name)
        )));
    }
    let time = base.time.saturating_add(time);
    let time = if time < RELATIVE * 1_000_000 { Time::Relative(Micros(time)) } else { Time::Absolute(EventTime(time)) };
    Ok(Some(Resolved { name, unit: unit.or_else(|| base.unit.clone()), time, content }))
}

fn micros(seconds: f64) -> Result<i64, Refused> {
    let micros = (seconds * 1e6).round();
    if micros.abs() < 9e18 { Ok(micros as i64) } else { Err(Refused::bad_time(format!("{seconds} s is no time"))) }
}

fn from_json(payload: &[u8]) -> Result<Vec<Vec<(String, Field)>>, Refused> {
    let Json::Array(records) = parsed::json(payload, SHAPE)? else { return Err(Refused::malformed(format!("a pack is an array; {SHAPE}"))) };
    let field = |value| match value {
        Json::Number(number) => number.as_f64().map_or(Field::Other, Field::Number),
        Json::String(text) => Field::Text(text),
        Json::Bool(bool) => Field::Bool(bool),
        _ => Field::Other,
    };
    let record = |record| match record {
        Json::Object(object) => Ok(object.into_iter().map(|(label, value)| (label, field(value))).collect()),
        _ => Err(Refused::malformed(format!("a record is an object; {SHAPE}"))),
    };
    records.into_iter().map(record).collect()
}

fn from_cbor(mut payload: &[u8]) -> Result<Vec<Vec<(String, Field)>>, Refused> {
    if payload.is_empty() {
        return Err(Refused::empty("the message is empty; expected a SenML pack in CBOR"));
    }
    let pack: Cbor = ciborium::de::from_reader_with_recursion_limit(&mut payload, 16)
        .map_err(|error| Refused::malformed(format!("not CBOR: {}", cut(&error.to_string()))))?;
    if !payload.is_empty() {
        return Err(Refused::malformed(format!("{} bytes after the pack", payload.len())));
    }
    let Cbor::Array(records) = pack else { return Err(Refused::malformed("a pack is a CBOR array of maps")) };
    let record = |record| match record {
        Cbor::Map(fields) => fields.into_iter().map(|(label, value)| Ok((cbor_label(label)?, cbor_field(value)))).collect(),
        _ => Err(Refused::malformed("a record is a CBOR map")),
    };
    records.into_iter().map(record).collect()
}

fn cbor_label(label: Cbor) -> Result<String, Refused> {
    match label {
        Cbor::Text(text) => Ok(text),
        Cbor::Integer(number) => {
            let number = i128::from(number);
            // an integer that the RFC has not given out is a field that we need not understand
            Ok(LABELS.iter().find(|(known, _)| *known == number).map_or_else(|| number.to_string(), |(_, label)| (*label).to_owned()))
        }
        _ => Err(Refused::malformed("a label is a CBOR integer or text")),
    }
}

fn cbor_field(value: Cbor) -> Field {
    match value {
        Cbor::Integer(number) => Field::Number(i128::from(number) as f64),
        Cbor::Float(number) => Field::Number(number),
        Cbor::Text(text) => Field::Text(text),
        Cbor::Bool(bool) => Field::Bool(bool),
        // binary data is kept only to be named in a dead letter
        Cbor::Bytes(bytes) => Field::Text(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        // a decimal fraction: [exponent, mantissa]
        Cbor::Tag(4, pair) => match pair.as_array().map(Vec::as_slice) {
            Some([Cbor::Integer(exponent), Cbor::Integer(mantissa)]) => {
                let text = format!("{}e{}", i128::from(*mantissa), i128::from(*exponent));
                text.parse().map_or(Field::Other, Field::Number)
            }
            _ => Field::Other,
        },
        _ => Field::Other,
    }
}

impl Resolved {
    /// A pack of this record alone.
    pub fn written(&self, encoding: Encoding, received_at: EventTime) -> Vec<u8> {
        let micros = match self.time {
            Time::Absolute(at) => at.0,
            // what is so long ago would be read as a time from now
            Time::Relative(span) if (received_at + span).0 < RELATIVE * 1_000_000 => span.0,
            Time::Relative(span) => (received_at + span).0,
        };
        let seconds = micros as f64 / 1e6;
        let mut fields: Vec<(i128, Cbor)> = vec![(0, Cbor::Text(self.name.clone())), (6, Cbor::Float(seconds))];
        fields.extend(self.unit.clone().map(|unit| (1, Cbor::Text(unit))));
        fields.extend(match &self.content {
            Content::Number(number) => Some((2, Cbor::Float(*number))),
            Content::Text(text) => Some((3, Cbor::Text(text.clone()))),
            Content::Bool(bool) => Some((4, Cbor::Bool(*bool))),
            Content::Data(data) => Some((8, Cbor::Text(data.clone()))),
            Content::Sum(sum) => Some((5, Cbor::Float(*sum))),
            Content::Nothing => None,
        });
        match encoding {
            Encoding::Json => {
                let label = |number| LABELS.iter().find(|(known, _)| *known == number).map_or("", |(_, label)| *label);
                let value = |value| match value {
                    Cbor::Float(number) => Json::from(number),
                    Cbor::Text(text) => Json::from(text),
                    Cbor::Bool(bool) => Json::from(bool),
                    _ => Json::Null,
                };
                let object: Map<String, Json> = fields.into_iter().map(|(number, field)| (label(number).to_owned(), value(field))).collect();
                Json::Array(vec![Json::Object(object)]).to_string().into_bytes()
            }
            Encoding::Cbor => {
                let integer = |number: i128| Cbor::Integer(ciborium::value::Integer::try_from(number).unwrap_or_else(|_| 0.into()));
                let record = Cbor::Map(fields.into_iter().map(|(number, field)| (integer(number), field)).collect());
                let mut bytes = Vec::new();
                // nothing of it can fail to be written to memory
                if ciborium::into_writer(&Cbor::Array(vec![record]), &mut bytes).is_err() {
                    bytes.clear();
                }
                bytes
            }
        }
    }
}
