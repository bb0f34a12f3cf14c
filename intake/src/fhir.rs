//! FHIR R4: an Observation or a Bundle of them. Every component is an entry of its own; what stands around them (a Patient, a Device) is not
//! read, because the topic names the device and the registry the patient.

use schemas::{Acvpu, EventTime, Metric, Reason};
use serde_json::{Map, Value, json};

use crate::parsed::{self, AROUND, Entry, Parsed, Read, Refused, Source, Stamp, cut};

const SHAPE: &str = r#"expected {"resourceType": "Observation", …} or {"resourceType": "Bundle", …}"#;
const LOINC: &str = "http://loinc.org";
const SNOMED: &str = "http://snomed.info/sct";
const UCUM: &str = "http://unitsofmeasure.org";
/// ISO/IEEE 11073-10101, and HL7's older name of it.
const MDC: [&str; 2] = ["urn:iso:std:iso:11073:10101", "urn:oid:2.16.840.1.113883.6.24"];
/// MDC's units (partition 4) by their UCUM code.
const MDC_UNITS: [(&str, &str); 11] = [
    ("262688", "%"),
    ("263872", "g"),
    ("263875", "kg"),
    ("263904", "[lb_av]"),
    ("264274", "mg/dL"),
    ("264864", "/min"),
    ("264928", "/min"),
    ("265987", "kPa"),
    ("266016", "mm[Hg]"),
    ("266866", "mmol/L"),
    ("268192", "Cel"),
];

type Object = Map<String, Value>;

pub(crate) fn parse(payload: &[u8], received_at: EventTime) -> Result<Parsed, Refused> {
    let resource = match parsed::json(payload, SHAPE)? {
        Value::Object(resource) => resource,
        _ => return Err(Refused::malformed(format!("a resource is an object; {SHAPE}"))),
    };
    let mut entries = Vec::new();
    match kind(&resource) {
        "Observation" => {
            observation(&resource, received_at, &mut entries)?;
            if let [only] = entries.as_mut_slice() {
                only.source = Source::Whole;
            }
        }
        "Bundle" => {
            for entry in resource.get("entry").and_then(Value::as_array).into_iter().flatten() {
                parsed::countable(entries.len())?;
                match entry.get("resource").and_then(Value::as_object) {
                    Some(resource) if kind(resource) == "Observation" => observation(resource, received_at, &mut entries)?,
                    Some(resource) if kind(resource) != "Bundle" => {}
                    _ => entries.push(Entry {
                        source: Source::Json(json!({ "resourceType": "Bundle", "entry": [entry] })),
                        device: None,
                        metric: None,
                        stamped_at: None,
                        read: Err(Refused::malformed("an entry of the Bundle holds no resource that is read; send Observations")),
                    }),
                }
            }
            if entries.is_empty() {
                return Err(Refused::empty("there is no Observation in the Bundle"));
            }
        }
        other => return Err(Refused::malformed(format!("`{}` is neither an Observation nor a Bundle; {SHAPE}", cut(other)))),
    }
    Ok(Parsed { entries, ..Parsed::default() })
}

fn kind(resource: &Object) -> &str {
    resource.get("resourceType").and_then(Value::as_str).unwrap_or_default()
}

/// Its own value, if it has one or nothing else, and every component.
fn observation(observation: &Object, received_at: EventTime, entries: &mut Vec<Entry>) -> Result<(), Refused> {
    let components: Vec<&Value> = observation.get("component").and_then(Value::as_array).into_iter().flatten().collect();
    parsed::countable(entries.len() + components.len())?;
    let around: Object = observation.iter().filter(|(key, _)| is_around(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    if components.len() > 1 && !parsed::is_small(&around) {
        let detail = format!("its time and status take more than {AROUND} bytes, and would be repeated with each component; shorten them");
        let source = Source::Json(Value::Object(observation.clone()));
        entries.push(Entry { source, device: None, metric: None, stamped_at: None, read: Err(Refused::malformed(detail)) });
        return Ok(());
    }
    let stamp = time(observation, received_at);
    let standing = stands(observation);
    let mut push = |part: &Object, source: Object| {
        let metric = metric(part);
        let read = metric.clone().and_then(|metric| {
            understood(part)?;
            standing.clone().map_err(|why| Refused::not_measured(metric, why))?;
            let (sent, unit) = quantity(part, metric)?;
            let read = parsed::measured(metric, sent, Some(&unit.ours), stamp.clone()?)?;
            Ok(Read { unit_as_sent: Some(unit.sent), ..read })
        });
        entries.push(Entry {
            source: Source::Json(Value::Object(source)),
            device: None,
            metric: metric.ok(),
            stamped_at: stamp.as_ref().ok().and_then(|stamp| stamp.stamped_at()),
            read,
        });
    };
    if components.is_empty() || observation.keys().any(|key| key.starts_with("value")) {
        let mut alone = observation.clone();
        alone.remove("component");
        push(observation, alone);
    }
    for component in components {
        let mut alone = around.clone();
        alone.insert("component".to_owned(), Value::Array(vec![component.clone()]));
        let none = Object::new();
        push(component.as_object().unwrap_or(&none), alone);
    }
    Ok(())
}

/// What an observation says of all its components.
fn is_around(key: &str) -> bool {
    key.starts_with("effective") || ["resourceType", "status", "modifierExtension"].contains(&key)
}

/// Whether what it says still stands, or why not.
fn stands(observation: &Object) -> Result<(), String> {
    if observation.contains_key("modifierExtension") {
        return Err("a `modifierExtension` changes its meaning, and none is understood".to_owned());
    }
    match observation.get("status").and_then(Value::as_str) {
        Some("final" | "amended" | "corrected" | "preliminary") => Ok(()),
        Some("entered-in-error") => Err("its status is entered-in-error; if it was sent before, void that reading".to_owned()),
        Some(status @ ("registered" | "cancelled" | "unknown")) => Err(format!("its status is {status}; send it when it is final")),
        Some(status) => Err(format!("its status is `{}`, which FHIR R4 does not know", cut(status))),
        None => Err("its status is missing; send `final`".to_owned()),
    }
}

fn understood(part: &Object) -> Result<(), Refused> {
    if part.contains_key("modifierExtension") {
        return Err(Refused::malformed("a `modifierExtension` changes its meaning, and none is understood; leave it out"));
    }
    Ok(())
}

fn codings(part: &Object) -> impl Iterator<Item = (&str, &str)> {
    part.get("code").into_iter().flat_map(codings_of)
}

/// The system and code of each coding of a concept.
fn codings_of(concept: &Value) -> impl Iterator<Item = (&str, &str)> {
    concept.get("coding").and_then(Value::as_array).into_iter().flatten().map(|coding| {
        let text = |key| coding.get(key).and_then(Value::as_str).unwrap_or_default();
        (text("system"), text("code"))
    })
}

/// All codes that are known must mean the same.
fn metric(part: &Object) -> Result<Metric, Refused> {
    let mut found: Option<(Metric, &str)> = None;
    for (system, code) in codings(part) {
        let metric = match system {
            LOINC => Metric::from_loinc(code),
            SNOMED => Metric::from_snomed(code),
            system if MDC.contains(&system) => code.parse().ok().and_then(Metric::from_mdc),
            _ => None,
        };
        let Some(metric) = metric else { continue };
        match found {
            Some((other, first)) if other != metric => {
                return Err(Refused::unknown_metric(format!("its codes disagree: {} is {other}, {} is {metric}; send one", cut(first), cut(code))));
            }
            _ => found = Some((metric, code)),
        }
    }
    if let Some((metric, _)) = found {
        return Ok(metric);
    }
    let codes: Vec<String> = codings(part).map(|(_, code)| cut(code)).take(4).collect();
    let text = part.get("code").and_then(|code| code.get("text")).and_then(Value::as_str);
    let named = if codes.is_empty() { text.map(cut).unwrap_or_default() } else { codes.join(", ") };
    Err(Refused::unknown_metric(format!("`{named}` is no LOINC, MDC or SNOMED code of a vital sign that is read")))
}

struct Unit {
    sent: String,
    ours: String,
}

fn quantity(part: &Object, metric: Metric) -> Result<(f64, Unit), Refused> {
    if let Some(reason) = part.get("dataAbsentReason") {
        let coded = reason.get("coding").and_then(|codings| codings.get(0)).and_then(|coding| coding.get("code"));
        let why = coded.or_else(|| reason.get("text")).and_then(Value::as_str).unwrap_or("unknown");
        return Err(Refused::not_measured(metric, format!("dataAbsentReason {}", cut(why))));
    }
    if let (Metric::Consciousness, Some(concept)) = (metric, part.get("valueCodeableConcept")) {
        return level(concept);
    }
    let Some(quantity) = part.get("valueQuantity").and_then(Value::as_object) else {
        let other = part.keys().find(|key| key.starts_with("value"));
        return Err(match other {
            Some(other) => Refused(Reason::NotANumber, format!("{metric} is given as `{}`; send `valueQuantity`", cut(other))),
            None => Refused::not_measured(metric, "it has no value; give a `dataAbsentReason` or leave it out"),
        });
    };
    let sent = match quantity.get("value") {
        Some(Value::Number(number)) => number.as_f64().unwrap_or(f64::NAN),
        Some(other) => return Err(Refused::not_measured(metric, format!("its value is {}, not a number", cut(&other.to_string())))),
        None => return Err(Refused::not_measured(metric, "its quantity has no value")),
    };
    if let Some(comparator) = quantity.get("comparator").and_then(Value::as_str) {
        return Err(Refused(Reason::NotANumber, format!("{metric} is given as a bound, {} {sent}; send the value", cut(comparator))));
    }
    let unit = unit(quantity, metric)?;
    for (_, code) in codings(part).filter(|(system, _)| *system == LOINC) {
        parsed::code_allows(code, metric, &unit.ours)?;
    }
    Ok((sent, unit))
}

/// A coded answer, as the number of its level. All codes that are known must mean the same.
fn level(concept: &Value) -> Result<(f64, Unit), Refused> {
    let metric = Metric::Consciousness;
    let mut found: Option<(Acvpu, &str)> = None;
    for (system, code) in codings_of(concept) {
        let level = match system {
            SNOMED => Acvpu::from_snomed(code),
            LOINC => Acvpu::from_loinc(code),
            _ => None,
        };
        let Some(level) = level else { continue };
        match found {
            Some((other, first)) if other != level => {
                let detail = format!("{metric}: its codes disagree: {} is {other}, {} is {level}; send one", cut(first), cut(code));
                return Err(Refused(Reason::NotANumber, detail));
            }
            _ => found = Some((level, code)),
        }
    }
    if let Some((level, code)) = found {
        return Ok((level.value(), Unit { sent: code.to_owned(), ours: metric.codes().ucum.to_owned() }));
    }
    let codes: Vec<String> = codings_of(concept).map(|(_, code)| cut(code)).take(4).collect();
    let detail = format!(
        "{metric}: `{}` is no answer that is read; send SNOMED 248234008 (alert), 130987000 (acute confusion), 300202002 (voice), 450847001 (pain) or \
         422768004 (unresponsive)",
        codes.join(", ")
    );
    Err(Refused(Reason::NotANumber, detail))
}

fn unit(quantity: &Object, metric: Metric) -> Result<Unit, Refused> {
    let text = |key| quantity.get(key).and_then(Value::as_str).filter(|text: &&str| !text.is_empty());
    let ours = match (text("system"), text("code")) {
        (Some(UCUM), Some(code)) => ucum(code, metric),
        (Some(system), Some(code)) if MDC.contains(&system) => MDC_UNITS.iter().find(|(mdc, _)| *mdc == code).map_or(code, |(_, ucum)| *ucum).to_owned(),
        (Some(system), Some(_)) => {
            return Err(Refused(
                Reason::UnitMismatch,
                format!("{metric}: units of `{}` are not read; send UCUM (system {UCUM}), `{}`", cut(system), metric.codes().ucum),
            ));
        }
        (_, code) => match code.or(text("unit")) {
            Some(written) => written.to_owned(),
            None => {
                return Err(Refused(Reason::UnitMismatch, format!("{metric}: the unit is missing; send system {UCUM} and code `{}`", metric.codes().ucum)));
            }
        },
    };
    let sent = text("code").or(text("unit")).unwrap_or_default();
    Ok(Unit { sent: sent.to_owned(), ours })
}

/// In UCUM what stands in braces is a remark: `{beats}/min` is `/min`.
fn ucum(code: &str, metric: Metric) -> String {
    if metric.units().iter().any(|unit| unit.name == code) {
        return code.to_owned();
    }
    let mut plain = String::with_capacity(code.len());
    let mut depth = 0_u32;
    for c in code.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            c if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    match plain.as_str() {
        "" => "1".to_owned(),
        "min-1" => "/min".to_owned(),
        _ => plain,
    }
}

/// A period stands at its end, or at its start while it has none. A day stands at its beginning: see [`parsed::day`].
fn time(observation: &Object, received_at: EventTime) -> Result<Stamp, Refused> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let period = observation.get("effectivePeriod");
    let found = [
        ("effectiveDateTime", text(observation.get("effectiveDateTime"))),
        ("effectiveInstant", text(observation.get("effectiveInstant"))),
        ("effectivePeriod.end", text(period.and_then(|period| period.get("end")))),
        ("effectivePeriod.start", text(period.and_then(|period| period.get("start")))),
    ];
    let Some((key, written)) = found.into_iter().find_map(|(key, text)| Some((key, text?))) else {
        return Err(Refused::bad_time("it does not say when; send `effectiveDateTime`"));
    };
    if let Some(day) = parsed::day(&written, received_at) {
        return Ok(Stamp::At(day));
    }
    parsed::instant(&written, key).map(Stamp::At)
}
