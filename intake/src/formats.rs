//! Which format a message is in. The topic's last level or the content type names it; nothing is guessed.

use schemas::{DeviceId, EventTime, Reason};

use crate::mapping::{Mapping, Mappings};
use crate::parsed::{self, Parsed, Refused, cut};
use crate::senml::{self, Encoding};
use crate::{fhir, json, openmhealth};

/// A way to read a payload.
#[derive(Clone, Copy, Debug)]
pub enum Format<'a> {
    Vigil,
    SenmlJson,
    SenmlCbor,
    OpenMHealth,
    Fhir,
    Mapped(&'a Mapping),
}

/// Name, as in topics and commands; content type; format. The first is what a topic without a name means.
const FORMATS: [(&str, &str, Format<'static>); 5] = [
    ("json", "application/json", Format::Vigil),
    ("senml", "application/senml+json", Format::SenmlJson),
    ("senml-cbor", "application/senml+cbor", Format::SenmlCbor),
    ("omh", "application/vnd.openmhealth+json", Format::OpenMHealth),
    ("fhir", "application/fhir+json", Format::Fhir),
];

impl Format<'static> {
    /// The names that topics and commands may use.
    pub const NAMES: [&'static str; 5] = [FORMATS[0].0, FORMATS[1].0, FORMATS[2].0, FORMATS[3].0, FORMATS[4].0];

    /// The format of that name; a mapping is found in [`Mappings::named`].
    pub fn named(name: &str) -> Option<Self> {
        FORMATS.iter().find(|(known, ..)| *known == name).map(|(.., format)| *format)
    }
}

impl Format<'_> {
    pub(crate) const fn kind(self) -> schemas::Format {
        match self {
            Self::Vigil => schemas::Format::Vigil,
            Self::SenmlJson => schemas::Format::SenmlJson,
            Self::SenmlCbor => schemas::Format::SenmlCbor,
            Self::OpenMHealth => schemas::Format::OpenMHealth,
            Self::Fhir => schemas::Format::Fhir,
            Self::Mapped(_) => schemas::Format::Mapped,
        }
    }

    /// As topics name it.
    pub(crate) fn name(self) -> String {
        let place = match self {
            Self::Mapped(mapping) => return format!("m/{}", mapping.name()),
            Self::Vigil => 0,
            Self::SenmlJson => 1,
            Self::SenmlCbor => 2,
            Self::OpenMHealth => 3,
            Self::Fhir => 4,
        };
        FORMATS[place].0.to_owned()
    }

    pub(crate) fn parse(self, payload: &[u8], received_at: EventTime) -> Result<Parsed, Refused> {
        let parsed = match self {
            Self::Vigil => json::parse(payload),
            Self::SenmlJson => senml::parse(payload, Encoding::Json),
            Self::SenmlCbor => senml::parse(payload, Encoding::Cbor),
            Self::OpenMHealth => openmhealth::parse(payload, received_at),
            Self::Fhir => fhir::parse(payload, received_at),
            Self::Mapped(mapping) => mapping.read(payload),
        }?;
        parsed::countable(parsed.entries.len())?;
        Ok(parsed)
    }
}

pub(crate) struct Route<'a> {
    /// The level of the topic that names the device; without one the connection speaks for itself.
    named: Option<&'a str>,
    pub format: Format<'a>,
}

impl Route<'_> {
    pub fn device(&self, connection: &DeviceId) -> Result<DeviceId, Refused> {
        let Some(named) = self.named else { return Ok(connection.clone()) };
        DeviceId::parse(named).map_err(|error| Refused(Reason::UnknownDevice, format!("the device in the topic: {error}")))
    }
}

/// `v1/devices/{device}/vitals`, with a format's name or a mapping's (`m/{mapping}`) after it, or a mapping's own topic.
pub(crate) fn route<'a>(topic: &'a str, content_type: &str, mappings: &'a Mappings) -> Result<Route<'a>, Refused> {
    let rest = topic.strip_prefix("v1/devices/").and_then(|rest| rest.split_once('/'));
    let Some((device, last)) = rest.filter(|(_, last)| last.starts_with("vitals")) else { return mapped(topic, mappings) };
    let format = match last.strip_prefix("vitals") {
        Some("") => of_content_type(content_type)?,
        Some(named) => match named.strip_prefix('/') {
            Some(named) => of_level(named, content_type, mappings)?,
            None => return mapped(topic, mappings),
        },
        None => return mapped(topic, mappings),
    };
    Ok(Route { named: Some(device), format })
}

fn mapped<'a>(topic: &'a str, mappings: &'a Mappings) -> Result<Route<'a>, Refused> {
    match mappings.of_topic(topic) {
        Some((mapping, named)) => Ok(Route { named, format: Format::Mapped(mapping) }),
        None => Err(Refused(Reason::UnknownTopic, format!("`{}` is no topic of devices; publish to v1/devices/{{device}}/vitals", cut(topic)))),
    }
}

fn of_level<'a>(level: &str, content_type: &str, mappings: &'a Mappings) -> Result<Format<'a>, Refused> {
    let unknown = |detail: String| Refused(Reason::UnknownFormat, detail);
    if let Some(name) = level.strip_prefix("m/") {
        return mappings.named(name).map(Format::Mapped).ok_or_else(|| {
            let known: Vec<_> = mappings.iter().map(Mapping::name).collect();
            unknown(format!("`{}` is no mapping; known are {}", cut(name), known.join(", ")))
        });
    }
    let Some(format) = Format::named(level) else {
        return Err(unknown(format!("`{}` is no format; known are {} and m/{{mapping}}", cut(level), Format::NAMES.join(", "))));
    };
    // a content type that we know and that says otherwise: one of the two is wrong, and which one is not ours to guess
    match known_content_type(content_type) {
        Some((name, _)) if name != level && name != "json" => {
            Err(unknown(format!("the topic says {level}, the content type says {}; make them agree", cut(content_type))))
        }
        _ => Ok(format),
    }
}

fn of_content_type(content_type: &str) -> Result<Format<'static>, Refused> {
    if content_type.is_empty() {
        return Ok(Format::Vigil);
    }
    known_content_type(content_type).map(|(_, format)| format).ok_or_else(|| {
        let known: Vec<_> = FORMATS.iter().map(|(_, known, _)| *known).collect();
        Refused(Reason::UnknownFormat, format!("`{}` is no content type that is read; known are {}", cut(content_type), known.join(", ")))
    })
}

fn known_content_type(content_type: &str) -> Option<(&'static str, Format<'static>)> {
    // what follows a semicolon is a parameter: fhirVersion, charset
    let essence = content_type.split(';').next()?.trim();
    FORMATS.iter().find(|(_, known, _)| known.eq_ignore_ascii_case(essence)).map(|(name, _, format)| (*name, *format))
}
