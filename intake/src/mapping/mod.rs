//! Mappings: where in somebody's JSON the device, the time, the values and their units stand. TOML, no code; `docs/formats.md` teaches it.

mod language;
mod read;

use std::collections::BTreeMap;

use schemas::{DeviceId, Metric};
use serde_json::Value;
use serde_json_path::JsonPath;

/// The mappings that come with Vigil.
const SHIPPED: [&str; 4] = [
    include_str!("../../../mappings/thingsboard-telemetry.toml"),
    include_str!("../../../mappings/thingsboard-gateway.toml"),
    include_str!("../../../mappings/tasmota.toml"),
    include_str!("../../../mappings/zigbee2mqtt.toml"),
];

/// A mapping that cannot be used. It names the line, the key and what to write there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: `{key}`: {detail}")]
pub struct MappingError {
    /// From 1.
    pub line: usize,
    pub key: String,
    pub detail: String,
}

/// One vendor's JSON, ready to be read.
#[derive(Clone, Debug)]
pub struct Mapping {
    name: String,
    about: String,
    topics: Vec<Pattern>,
    /// Where the items are; an array among them is an item per element.
    each: JsonPath,
    device: Whom,
    devices: BTreeMap<String, DeviceId>,
    time: Option<Time>,
    readings: Vec<Fixed>,
    members: Option<Members>,
    /// Members of the message that items need beside them.
    beside: Vec<String>,
}

/// `tele/{device}/SENSOR`: a level as it is, any level, or the device's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(Vec<Level>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Same(String),
    Any,
    Device,
}

/// Whom an item speaks of.
#[derive(Clone, Debug)]
enum Whom {
    /// The topic's device, or the connection itself.
    Topic,
    /// The name of the message's member in which the item stands.
    Key,
    At(Path),
}

#[derive(Clone, Debug)]
struct Path {
    text: String,
    /// From the message (`$`), not from the item (`@`).
    from_message: bool,
    path: JsonPath,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimeAs {
    /// RFC 3339 text, or whole milliseconds since 1970.
    Either,
    Rfc3339,
    Milliseconds,
    Seconds,
}

#[derive(Clone, Debug)]
struct Time {
    at: Path,
    read_as: TimeAs,
    /// Without it, it was measured when it was received.
    or_received: bool,
}

#[derive(Clone, Debug)]
enum UnitIs {
    Own,
    Literal(String),
    At(Path),
}

/// What a value means.
#[derive(Clone, Debug)]
struct Meaning {
    metric: Metric,
    unit: UnitIs,
    scale: f64,
}

#[derive(Clone, Debug)]
struct Fixed {
    meaning: Meaning,
    value: Path,
}

/// An object of which every member is a reading, its name the metric's.
#[derive(Clone, Debug)]
struct Members {
    /// The first that is there.
    of: Vec<Path>,
    ignore: Vec<String>,
    names: BTreeMap<String, Meaning>,
}

impl Mapping {
    /// Reads the TOML of a mapping.
    pub fn parse(toml: &str) -> Result<Self, MappingError> {
        language::parse(toml)
    }
    /// By which topics and commands name it.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// For people: whose JSON it reads.
    pub fn about(&self) -> &str {
        &self.about
    }
    /// The topics that it reads, as they were written.
    pub fn topics(&self) -> impl Iterator<Item = String> {
        self.topics.iter().map(ToString::to_string)
    }
    /// Whether this is one of its topics, and which level of it names the device.
    fn reads<'t>(&self, topic: &'t str) -> Option<Option<&'t str>> {
        self.topics.iter().find_map(|pattern| pattern.matches(topic))
    }
}

impl Pattern {
    fn matches<'t>(&self, topic: &'t str) -> Option<Option<&'t str>> {
        let mut device = None;
        let mut levels = topic.split('/');
        for level in &self.0 {
            let found = levels.next()?;
            match level {
                Level::Same(same) if same != found => return None,
                Level::Device => device = Some(found),
                Level::Same(_) | Level::Any => {}
            }
        }
        levels.next().is_none().then_some(device)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, level) in self.0.iter().enumerate() {
            let slash = if number == 0 { "" } else { "/" };
            let level = match level {
                Level::Same(same) => same,
                Level::Any => "+",
                Level::Device => "{device}",
            };
            write!(f, "{slash}{level}")?;
        }
        Ok(())
    }
}

impl Path {
    fn find<'a>(&self, message: &'a Value, item: &'a Value) -> Vec<&'a Value> {
        self.path.query(if self.from_message { message } else { item }).all()
    }
}

/// All mappings of an installation.
#[derive(Clone, Debug, Default)]
pub struct Mappings(Vec<Mapping>);

impl Mappings {
    /// Those that come with Vigil. An error is a fault of the build.
    pub fn shipped() -> Result<Self, MappingError> {
        SHIPPED.into_iter().map(Mapping::parse).collect::<Result<_, _>>().map(Self)
    }
    /// Adds one; it takes the place of an older one of the same name, and its topics come first.
    pub fn add(&mut self, mapping: Mapping) {
        self.0.retain(|known| known.name != mapping.name);
        self.0.insert(0, mapping);
    }
    pub fn named(&self, name: &str) -> Option<&Mapping> {
        self.0.iter().find(|mapping| mapping.name == name)
    }
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.0.iter()
    }
    /// The mapping of a topic, and the level that names the device.
    pub(crate) fn of_topic<'t>(&self, topic: &'t str) -> Option<(&Mapping, Option<&'t str>)> {
        self.0.iter().find_map(|mapping| Some((mapping, mapping.reads(topic)?)))
    }
}
