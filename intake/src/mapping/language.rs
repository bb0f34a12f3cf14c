//! TOML to a mapping, or the line that is wrong.

use std::collections::BTreeMap;
use std::ops::Range;

use schemas::{DeviceId, Metric};
use serde::Deserialize;
use serde_json_path::JsonPath;
use toml::Spanned;

use super::{Fixed, Level, Mapping, MappingError, Meaning, Members, Path, Pattern, Time, TimeAs, UnitIs, Whom};
use crate::parsed::{self, cut};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Spanned<String>,
    #[serde(default)]
    about: String,
    #[serde(default)]
    topics: Vec<Spanned<String>>,
    each: Option<Spanned<String>>,
    device: Option<Spanned<String>>,
    #[serde(default)]
    devices: BTreeMap<String, Spanned<String>>,
    time: Option<Spanned<String>>,
    time_as: Option<Spanned<String>>,
    time_missing: Option<Spanned<String>>,
    #[serde(default)]
    reading: Vec<FixedFile>,
    members: Option<MembersFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FixedFile {
    metric: Spanned<String>,
    value: Spanned<String>,
    unit: Option<Spanned<String>>,
    scale: Option<Spanned<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MembersFile {
    of: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    ignore: Vec<String>,
    #[serde(default)]
    names: BTreeMap<String, NameFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NameFile {
    metric: Spanned<String>,
    unit: Option<Spanned<String>>,
    scale: Option<Spanned<f64>>,
}

/// The text that the spans point into.
struct Text<'a>(&'a str);

impl Text<'_> {
    fn error(&self, span: Range<usize>, detail: impl Into<String>) -> MappingError {
        let before = self.0.get(..span.start).unwrap_or(self.0);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = self.0.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let key = line.split('=').next().unwrap_or_default().trim().trim_matches(['[', ']']);
        MappingError { line: before.matches('\n').count() + 1, key: cut(key), detail: detail.into() }
    }

    fn path(&self, text: &Spanned<String>) -> Result<Path, MappingError> {
        let written = text.get_ref();
        let from_message = match written.chars().next() {
            Some('$') => true,
            Some('@') => false,
            _ => {
                return Err(self.error(text.span(), format!("`{}` is no path; start at the item with `@.name`, or at the message with `$.name`", cut(written))));
            }
        };
        let path = JsonPath::parse(&format!("${}", &written[1..])).map_err(|error| {
            self.error(text.span(), format!("`{}` is no JSONPath (RFC 9535): {}; write it like `@.values.spo2`", cut(written), cut(error.message())))
        })?;
        Ok(Path { text: written.clone(), from_message, path })
    }

    fn meaning(&self, metric: &Spanned<String>, unit: Option<&Spanned<String>>, scale: Option<&Spanned<f64>>) -> Result<Meaning, MappingError> {
        let named: Metric = parsed::metric_named(metric.get_ref()).map_err(|refused| self.error(metric.span(), refused.1))?;
        let unit = match unit {
            None => UnitIs::Own,
            Some(unit) if unit.get_ref().starts_with(['@', '$']) => UnitIs::At(self.path(unit)?),
            Some(unit) if named.units().iter().any(|known| known.name == unit.get_ref()) => UnitIs::Literal(unit.get_ref().clone()),
            Some(unit) => {
                let known: Vec<_> = named.units().iter().map(|unit| unit.name).collect();
                return Err(self.error(unit.span(), format!("`{}` is no unit of {named}; expected one of {}", cut(unit.get_ref()), known.join(", "))));
            }
        };
        let scale = match scale {
            None => 1.0,
            Some(scale) if scale.get_ref().is_finite() && *scale.get_ref() != 0.0 => *scale.get_ref(),
            Some(scale) => return Err(self.error(scale.span(), "a scale is a number other than 0, such as 0.1")),
        };
        Ok(Meaning { metric: named, unit, scale })
    }

    fn pattern(&self, text: &Spanned<String>) -> Result<Pattern, MappingError> {
        let wrong = |detail: &str| self.error(text.span(), format!("`{}` {detail}", cut(text.get_ref())));
        let mut levels = Vec::new();
        for level in text.get_ref().split('/') {
            levels.push(match level {
                "{device}" => Level::Device,
                "+" => Level::Any,
                "" => return Err(wrong("has an empty level; write it like tele/{device}/SENSOR")),
                same if same.contains(['+', '#', '{', '}']) => return Err(wrong("has a level that is neither text, `{device}` nor `+`")),
                same => Level::Same(same.to_owned()),
            });
        }
        if levels.iter().filter(|level| **level == Level::Device).count() > 1 {
            return Err(wrong("names the device twice"));
        }
        if matches!(levels.first(), Some(Level::Any | Level::Device)) || text.get_ref().starts_with('$') {
            return Err(wrong("must start with a level of its own, not with `+`, `{device}` or `$`"));
        }
        // `v1/devices/{device}/vitals…` never gets to a mapping
        let own = [Level::Same("v1".to_owned()), Level::Same("devices".to_owned()), Level::Any, Level::Same("vitals".to_owned())];
        let overlaps = |(own, level): (&Level, &Level)| own == level || *own == Level::Any || matches!(level, Level::Any | Level::Device);
        if levels.len() >= own.len() && own.iter().zip(&levels).all(overlaps) {
            return Err(wrong("is Vigil's own; name this mapping in it instead: v1/devices/{device}/vitals/m/{name}"));
        }
        Ok(Pattern(levels))
    }
}

pub(super) fn parse(toml: &str) -> Result<Mapping, MappingError> {
    let text = Text(toml);
    let file: File = toml::from_str(toml).map_err(|error| text.error(error.span().unwrap_or_default(), error.message().trim().replace('\n', ", ")))?;
    let name = file.name.get_ref();
    if DeviceId::parse(name).is_err() {
        return Err(text.error(file.name.span(), format!("`{}` is no name; it may hold letters, digits, `.`, `_` and `-`", cut(name))));
    }
    let each = match &file.each {
        None => JsonPath::parse("$").map_err(|error| text.error(0..0, error.to_string()))?,
        Some(each) if each.get_ref().starts_with('$') => text.path(each)?.path,
        Some(each) => return Err(text.error(each.span(), "it starts at the message: `$`, `$.readings`, `$.*`")),
    };
    let mut mapping = Mapping {
        name: name.clone(),
        about: file.about,
        topics: file.topics.iter().map(|topic| text.pattern(topic)).collect::<Result<_, _>>()?,
        each,
        device: match &file.device {
            None => Whom::Topic,
            Some(key) if key.get_ref() == "key" => Whom::Key,
            Some(path) => Whom::At(text.path(path)?),
        },
        devices: file.devices.iter().map(|(name, device)| devices(&text, name, device)).collect::<Result<_, _>>()?,
        time: time(&text, file.time.as_ref(), file.time_as.as_ref(), file.time_missing.as_ref())?,
        readings: file
            .reading
            .iter()
            .map(|reading| {
                let meaning = text.meaning(&reading.metric, reading.unit.as_ref(), reading.scale.as_ref())?;
                Ok(Fixed { meaning, value: text.path(&reading.value)? })
            })
            .collect::<Result<_, MappingError>>()?,
        members: file.members.as_ref().map(|members| self::members(&text, members)).transpose()?,
        beside: Vec::new(),
    };
    if mapping.readings.is_empty() && mapping.members.is_none() {
        return Err(text.error(file.name.span(), "the mapping reads nothing; add a [[reading]] with `metric` and `value`, or [members]"));
    }
    if file.each.as_ref().is_some_and(|each| each.get_ref() != "$") {
        mapping.beside = beside(&text, &mapping, file.name.span())?;
    }
    Ok(mapping)
}

/// A refused item is kept with what it needs of the message, so that it can be read again: that must be little.
fn beside(text: &Text<'_>, mapping: &Mapping, span: Range<usize>) -> Result<Vec<String>, MappingError> {
    let meanings = mapping.readings.iter().map(|reading| &reading.meaning).chain(mapping.members.iter().flat_map(|members| members.names.values()));
    let mut paths: Vec<&Path> = meanings.filter_map(|meaning| if let UnitIs::At(path) = &meaning.unit { Some(path) } else { None }).collect();
    paths.extend(mapping.readings.iter().map(|reading| &reading.value));
    paths.extend(mapping.time.as_ref().map(|time| &time.at));
    paths.extend(if let Whom::At(path) = &mapping.device { Some(path) } else { None });
    let member = |path: &&Path| {
        let name = path.text.strip_prefix("$.").filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_'));
        let deep =
            || text.error(span.clone(), format!("`{}` goes too deep: beside `each`, only a member of the message itself is read, `$.name`", cut(&path.text)));
        name.map(str::to_owned).ok_or_else(deep)
    };
    paths.iter().filter(|path| path.from_message).map(member).collect()
}

fn devices(text: &Text<'_>, name: &str, device: &Spanned<String>) -> Result<(String, DeviceId), MappingError> {
    let id = DeviceId::parse(device.get_ref()).map_err(|error| text.error(device.span(), error.to_string()))?;
    Ok((name.to_owned(), id))
}

fn time(
    text: &Text<'_>,
    at: Option<&Spanned<String>>,
    read_as: Option<&Spanned<String>>,
    missing: Option<&Spanned<String>>,
) -> Result<Option<Time>, MappingError> {
    let Some(at) = at else {
        return match read_as.or(missing) {
            None => Ok(None),
            Some(alone) => Err(text.error(alone.span(), "there is no `time`; add the path of the time")),
        };
    };
    let read_as = match read_as.map(|word| (word.get_ref().as_str(), word.span())) {
        None => TimeAs::Either,
        Some(("rfc3339", _)) => TimeAs::Rfc3339,
        Some(("ms", _)) => TimeAs::Milliseconds,
        Some(("s", _)) => TimeAs::Seconds,
        Some((other, span)) => return Err(text.error(span, format!("`{}` is none of `rfc3339`, `ms` and `s`", cut(other)))),
    };
    let or_received = match missing.map(|word| (word.get_ref().as_str(), word.span())) {
        None | Some(("refuse", _)) => false,
        Some(("received", _)) => true,
        Some((other, span)) => return Err(text.error(span, format!("`{}` is neither `refuse` nor `received`", cut(other)))),
    };
    Ok(Some(Time { at: text.path(at)?, read_as, or_received }))
}

fn members(text: &Text<'_>, file: &MembersFile) -> Result<Members, MappingError> {
    let of: Vec<Path> = file.of.get_ref().iter().map(|path| text.path(path)).collect::<Result<_, _>>()?;
    if of.is_empty() || of.iter().any(|path| path.from_message) {
        return Err(text.error(file.of.span(), "name the objects from the item: [\"@.values\", \"@\"]"));
    }
    let names = file.names.iter().map(|(name, name_file)| {
        let meaning = text.meaning(&name_file.metric, name_file.unit.as_ref(), name_file.scale.as_ref())?;
        Ok((name.clone(), meaning))
    });
    Ok(Members { of, ignore: file.ignore.clone(), names: names.collect::<Result<_, MappingError>>()? })
}
