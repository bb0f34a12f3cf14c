//! A version of `curated`: which files it is made of. It is written last, once, and never changed.

use std::collections::BTreeMap;

use schemas::{EventTime, Offset, Partition};
use serde::{Deserialize, Serialize};

use crate::error::CuratedError;
use crate::file::{DataFile, sha256};
use crate::lake::Lake;
use crate::tables::{SCHEMA_VERSION, Table};

/// How a manifest is written; counts up when an older Vigil could not read it.
const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub version: u64,
    pub schema_version: u32,
    pub created_at: EventTime,
    pub installation: String,
    /// The version of Vigil that wrote it.
    pub vigil: String,
    /// The newest rules that the log had.
    pub rules_version: Option<i64>,
    /// What came more than so many microseconds late is marked `beyond_horizon`.
    pub horizon: i64,
    /// SHA-256 over the names and digests of its files: the same data give the same hash.
    pub content: String,
    /// What of `raw` is in it: by topic and partition, the offset with which the next compaction begins.
    pub raw: BTreeMap<String, BTreeMap<Partition, Offset>>,
    /// Lists of the files of `raw` that were read, with their digests.
    pub ledgers: Vec<DataFile>,
    pub tables: BTreeMap<String, Contents>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    pub rows: u64,
    pub bytes: u64,
    pub files: Vec<DataFile>,
}

impl Contents {
    pub(crate) fn of(files: Vec<DataFile>) -> Self {
        Self { rows: files.iter().map(|file| file.rows).sum(), bytes: files.iter().map(|file| file.bytes).sum(), files }
    }
}

#[derive(Deserialize)]
struct Peek {
    format: u32,
}

fn name(version: u64) -> String {
    format!("curated/manifests/{version:08}.json")
}

fn number(name: &str) -> Option<u64> {
    name.rsplit_once('/')?.1.strip_suffix(".json")?.parse().ok()
}

impl Manifest {
    pub(crate) fn new(version: u64, created_at: EventTime, installation: String, horizon: i64) -> Self {
        Self {
            format: FORMAT,
            version,
            schema_version: SCHEMA_VERSION,
            created_at,
            installation,
            vigil: env!("CARGO_PKG_VERSION").to_owned(),
            rules_version: None,
            horizon,
            content: String::new(),
            raw: BTreeMap::new(),
            ledgers: Vec::new(),
            tables: BTreeMap::new(),
        }
    }

    pub fn name(&self) -> String {
        name(self.version)
    }

    pub fn table(&self, table: Table) -> &[DataFile] {
        self.tables.get(table.name()).map_or(&[], |contents| &contents.files)
    }

    pub fn rows(&self, table: Table) -> u64 {
        self.tables.get(table.name()).map_or(0, |contents| contents.rows)
    }

    /// Every file that this version needs.
    pub fn files(&self) -> impl Iterator<Item = &DataFile> {
        self.tables.values().flat_map(|contents| &contents.files).chain(&self.ledgers)
    }

    pub(crate) fn next(&self, topic: &str, partition: Partition) -> Option<Offset> {
        self.raw.get(topic)?.get(&partition).copied()
    }

    pub(crate) fn hash(&self) -> String {
        let lines: String = self
            .tables
            .iter()
            .flat_map(|(table, contents)| contents.files.iter().map(move |file| format!("{table} {} {} {}\n", file.name, file.rows, file.sha256)))
            .collect();
        sha256(lines.as_bytes())
    }

    /// Makes it the newest version.
    pub(crate) fn publish(&mut self, lake: &Lake) -> Result<(), CuratedError> {
        self.content = self.hash();
        let text = serde_json::to_vec_pretty(self).map_err(|error| CuratedError::Damaged { name: self.name(), reason: error.to_string() })?;
        if lake.create(&self.name(), &text)? { Ok(()) } else { Err(CuratedError::Overtaken(self.version)) }
    }

    pub(crate) fn read(lake: &Lake, version: u64) -> Result<Self, CuratedError> {
        let name = name(version);
        let bytes = lake.read(&name).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => CuratedError::NoVersion(version.to_string()),
            _ => lake.io(error),
        })?;
        let damaged = |reason: serde_json::Error| CuratedError::Damaged { name: name.clone(), reason: reason.to_string() };
        let Peek { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if format != FORMAT {
            return Err(CuratedError::Format { name, found: format, known: FORMAT });
        }
        let manifest: Self = serde_json::from_slice(&bytes).map_err(damaged)?;
        if manifest.schema_version != SCHEMA_VERSION {
            return Err(CuratedError::Format { name, found: manifest.schema_version, known: SCHEMA_VERSION });
        }
        Ok(manifest)
    }
}

/// Which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsOf {
    Newest,
    Version(u64),
    /// The newest that there was then.
    Time(EventTime),
}

impl std::str::FromStr for AsOf {
    type Err = schemas::TimeError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Version).or_else(|_| EventTime::parse(text).map(Self::Time))
    }
}

/// The numbers of the versions that the lake has, the newest last.
///
/// # Errors
/// When the lake cannot be listed.
pub fn versions(lake: &Lake) -> Result<Vec<u64>, CuratedError> {
    let names = lake.objects().list("curated/manifests").map_err(|error| lake.io(error))?;
    Ok(names.iter().filter_map(|name| number(name)).collect())
}

/// # Errors
/// When there is no such version, or it is of another installation than `wanted`.
pub fn open(lake: &Lake, as_of: &AsOf, wanted: Option<&str>) -> Result<Manifest, CuratedError> {
    let numbers = versions(lake)?;
    let newest = *numbers.last().ok_or(CuratedError::NotCompacted)?;
    let manifest = match as_of {
        AsOf::Newest => Manifest::read(lake, newest)?,
        AsOf::Version(version) => Manifest::read(lake, *version)?,
        AsOf::Time(time) => {
            let mut found = None;
            for version in numbers.into_iter().rev() {
                let manifest = Manifest::read(lake, version)?;
                if manifest.created_at <= *time {
                    found = Some(manifest);
                    break;
                }
            }
            found.ok_or_else(|| CuratedError::NoVersion(format!("as of {time}")))?
        }
    };
    match wanted {
        Some(wanted) if wanted != manifest.installation => Err(CuratedError::OtherInstallation { found: manifest.installation, wanted: wanted.to_owned() }),
        _ => Ok(manifest),
    }
}
