//! Snapshots as objects: `snapshots/{partition}/{next}`, immutable, created if absent.

use std::io;

use engine::Engine;
use schemas::{Offset, Partition};

use crate::objects::Objects;

/// How many snapshots of a partition are kept.
pub const KEPT: usize = 3;

fn folder(partition: Partition) -> String {
    format!("snapshots/{partition}")
}

/// The newest readable snapshot of `config.partition`, by name, and the engine in it; `None`: begin at the beginning. Blocking.
///
/// # Errors
/// When the objects cannot be read; a damaged snapshot is no error, it gives way to the one before.
pub fn newest_snapshot(objects: &dyn Objects, config: engine::Config) -> io::Result<Option<(String, Engine)>> {
    for name in objects.list(&folder(config.partition))?.into_iter().rev() {
        let bytes = match objects.read(&name) {
            Ok(bytes) => bytes,
            // pruned meanwhile, by who has the partition
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match Engine::restore(config, &bytes) {
            Ok(engine) => return Ok(Some((name, engine))),
            Err(error) => tracing::error!(%name, %error, "a snapshot cannot be used, the one before is taken"),
        }
    }
    Ok(None)
}

/// Publishes a snapshot at `next` and removes those before it that are no longer needed. Blocking.
///
/// P6 is the caller's: every output caused before `next` is durable.
pub(crate) fn save(objects: &dyn Objects, partition: Partition, next: Offset, bytes: &[u8]) -> io::Result<()> {
    let name = format!("{}/{:020}", folder(partition), next.0);
    if !objects.create(&name, bytes)? && objects.read(&name)? != bytes {
        // a damaged one, or another version's: what was replayed to `next` stands in its place
        objects.remove(&name)?;
        objects.create(&name, bytes)?;
    }
    let names = objects.list(&folder(partition))?;
    // never what has a higher number: it is not ours
    for old in names.iter().rev().filter(|old| **old < name).skip(KEPT - 1) {
        match objects.remove(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
