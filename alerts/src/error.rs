//! What ends the role, and what it only waits for.

use journal::{AppendError, OpenError, ReadError};
use store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum AlertsError {
    #[error("journal.partitions = {configured}, and the journal has {journal}: set it to {journal}")]
    Partitions { configured: u32, journal: u32 },
    #[error("alerts.repage_after = 0: a page that is repeated without a pause helps nobody; write a time such as \"5 min\"")]
    RepageAfter,
    #[error("the channel {channel}: {why}")]
    Channel { channel: String, why: String },
    #[error("the secret of the webhook {webhook} is not usable: {why}")]
    Secret { webhook: String, why: &'static str },
    #[error("no provider of TLS is installed in this process: install rustls's before the alerts role is made")]
    NoTlsProvider,
    #[error("the store: {0}; {remedy}", remedy = .0.remedy())]
    Store(#[from] StoreError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("an input was not stored: {0}")]
    Append(#[from] AppendError),
    #[error("a worker ended badly")]
    Worker(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Id(#[from] schemas::IdError),
}

impl AlertsError {
    /// Whether waiting may be enough.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Open(error) => matches!(error, OpenError::Unreachable { .. } | OpenError::Failed(_)),
            Self::Read(error) => matches!(error, ReadError::Failed(_)),
            Self::Append(error) => matches!(error, AppendError::Failed(_) | AppendError::DiskFull),
            _ => false,
        }
    }
}
