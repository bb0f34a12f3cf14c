//! What analysts get: the lake's `curated` layer, made of `raw`.
//!
//! It promises that a version, once published, never changes and is whole: its manifest is written last, names every file with its digest, and old
//! versions stay until they are pruned. Each reading is in `readings` once, where its patient and event time say, or in `voided`. It must never write
//! to `raw`. Everything here blocks: call it off the runtime.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod compact;
mod erase;
mod error;
pub mod export;
mod file;
mod lake;
pub mod manifest;
mod progress;
mod prune;
mod query;
pub mod rows;
pub mod tables;
mod verify;
mod write;

pub use compact::{Compacted, FromStore, Wanted, compact};
pub use erase::{Erased, Whom, erase};
pub use error::CuratedError;
pub use file::DataFile;
pub use lake::Lake;
pub use manifest::{AsOf, Manifest};
pub use progress::Progress;
pub use prune::{Keep, Pruned, prune};
pub use query::{Answer, Limits, QueryError, query};
pub use tables::Table;
pub use verify::{Finding, Verified, verify};
pub use write::{Shape, Writer};

/// Every row of a table in a version, in the order of its files.
///
/// # Errors
/// When a file is damaged.
pub fn read<R: rows::Row>(lake: &Lake, manifest: &Manifest) -> Result<Vec<R>, CuratedError> {
    let mut rows = Vec::new();
    for file in manifest.table(R::TABLE) {
        rows.extend(file::Opened::open(lake, R::TABLE, &file.name)?.all::<R>()?);
    }
    Ok(rows)
}
