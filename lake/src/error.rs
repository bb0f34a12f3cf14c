use std::io;
use std::path::PathBuf;

use arrow::error::ArrowError;
use parquet::errors::ParquetError;
use processor::lake::LakeError;

/// What an analyst asked of the lake could not be done.
#[derive(Debug, thiserror::Error)]
pub enum CuratedError {
    #[error("the lake {}: {source}{}", folder.display(), remedy(source))]
    Io { folder: PathBuf, source: io::Error },
    #[error(transparent)]
    Raw(#[from] LakeError),
    #[error("{name} cannot be read: {reason}; `vigil lake verify` says what else is wrong, `vigil lake compact --anew` makes all of it again from raw")]
    Damaged { name: String, reason: String },
    #[error("a table cannot be written as Parquet: {0}")]
    Encode(#[from] ParquetError),
    #[error("a table cannot be written: {0}")]
    Columns(#[from] ArrowError),
    #[error("{name} is of format {found}, this version of Vigil reads {known}: use the version that wrote it, or a newer one")]
    Format { name: String, found: u32, known: u32 },
    #[error("this lake belongs to installation {found}, the configuration says {wanted}: point lake.path at this installation's own folder")]
    OtherInstallation { found: String, wanted: String },
    #[error("the lake holds nothing: is lake.path right, and does the installation run? A file of raw is written when `lake.roll_after` has passed")]
    Empty,
    #[error("the lake has no curated layer yet: `vigil lake compact` makes it")]
    NotCompacted,
    #[error("the lake has no version {0}: `vigil lake versions` lists those it has")]
    NoVersion(String),
    #[error("another compaction or prune of this lake is under way: wait until it has ended")]
    Busy,
    #[error("version {0} was written by somebody else meanwhile: compact again, if it is still wanted")]
    Overtaken(u64),
    #[error("stopped; what was written is taken up by the next compaction")]
    Cancelled,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space, and run it again: nothing that was there is touched",
        io::ErrorKind::ReadOnlyFilesystem => "; it is on a file system that is mounted read-only: reading works, for writing mount it otherwise",
        io::ErrorKind::PermissionDenied => "; run it as the user who owns the lake",
        _ => "",
    }
}
