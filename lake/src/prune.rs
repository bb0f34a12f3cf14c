//! Versions that nobody needs any more, and the files that only they had.

use std::collections::BTreeSet;

use schemas::{EventTime, Micros};

use crate::error::CuratedError;
use crate::lake::Lake;
use crate::manifest::{self, Manifest};

/// What stays.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    pub now: EventTime,
    /// At least so many of the newest versions; never less than one.
    pub versions: usize,
    /// And those that are younger: a reader that listed the files of one has so long to read them.
    pub age: Micros,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub versions: Vec<u64>,
    pub files: u64,
    pub bytes: u64,
}

/// Blocking. With `dry`, only says what it would take away.
///
/// # Errors
/// When a manifest that stays cannot be read: then nothing is taken away, because nobody knows what it needs.
pub fn prune(lake: &Lake, keep: Keep, dry: bool) -> Result<Pruned, CuratedError> {
    let _held = lake.hold()?;
    without(lake, &keep, dry)
}

/// By who holds the lake already.
pub(crate) fn without(lake: &Lake, keep: &Keep, dry: bool) -> Result<Pruned, CuratedError> {
    let numbers = manifest::versions(lake)?;
    let (mut needed, mut pruned) = (BTreeSet::new(), Pruned::default());
    for (place, number) in numbers.iter().rev().enumerate() {
        let manifest = Manifest::read(lake, *number)?;
        if place < keep.versions.max(1) || keep.now - manifest.created_at < keep.age {
            needed.extend(manifest.files().map(|file| file.name.clone()));
            needed.insert(manifest.name());
        } else {
            pruned.versions.push(*number);
        }
    }
    pruned.versions.sort_unstable();
    let mut gone: Vec<String> = lake.walk("curated")?.into_iter().filter(|name| is_ours(name) && !needed.contains(name)).collect();
    // a manifest goes before its files: what it names is always there
    gone.sort_by_key(|name| !name.starts_with("curated/manifests/"));
    for name in gone {
        pruned.files += 1;
        pruned.bytes += lake.objects().size(&name).map_err(|error| lake.io(error))?;
        if !dry {
            lake.objects().remove(&name).map_err(|error| lake.io(error))?;
        }
    }
    Ok(pruned)
}

/// What a person put there is not ours to take away.
fn is_ours(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        ["curated", "manifests", file] => file.ends_with(".json"),
        ["curated", "raw", file] => file.ends_with(".ndjson"),
        ["curated", table, .., file] => crate::tables::Table::ALL.iter().any(|of| of.name() == *table) && file.ends_with(".parquet"),
        _ => false,
    }
}
