//! A job, as it is kept.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use schemas::EventTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = JobKind)]
pub(crate) enum Kind {
    Backtest,
    Export,
    Query,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backtest => "backtest",
            Self::Export => "export",
            Self::Query => "query",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = JobState)]
pub(crate) enum State {
    /// For somebody else to approve it.
    Waiting,
    Queued,
    Running,
    Done,
    Failed,
}

impl State {
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = JobFile)]
pub(crate) struct File {
    #[schema(example = "readings.parquet")]
    pub name: String,
    pub bytes: u64,
}

/// Of how much, in which unit.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Progress {
    pub done: u64,
    pub total: u64,
    pub unit: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub id: String,
    pub kind: Kind,
    pub state: State,
    pub person: String,
    pub identified: bool,
    pub approved_by: Option<String>,
    pub created_at: EventTime,
    pub started_at: Option<EventTime>,
    pub ended_at: Option<EventTime>,
    pub expires_at: EventTime,
    pub attempts: u32,
    pub error: Option<String>,
    pub result: Value,
    pub files: Vec<File>,
    pub request: Value,
    pub arguments: Vec<String>,
    #[serde(skip)]
    pub progress: Option<Progress>,
}

impl Job {
    pub fn path(folder: &Path) -> PathBuf {
        folder.join("job.json")
    }

    pub fn read(folder: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(Self::path(folder))?)?)
    }

    /// Whole or not at all, and there after a power cut.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let half = folder.join("job.json.half");
        let mut file = fs::File::create(&half)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&half, Self::path(folder))?;
        fs::File::open(folder)?.sync_all()
    }
}
