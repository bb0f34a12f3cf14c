//! How a command ends: 0 done, 1 failed, 2 usage, 3 bad configuration, 4 a dependency cannot be reached, 6 the lake is not what it says.

use std::process::ExitCode;

use dashboard_api::DashboardError;
use ingest::GatewayError;
use journal::OpenError;
use lake::CuratedError;
use schemas::{IdError, TimeError};
use store::StoreError;

use crate::config::ConfigError;

/// Something Vigil needs and cannot reach: Kafka, PostgreSQL, a gateway.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub String);

/// An argument that cannot be what was meant.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// A lake was verified, and so much is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("the lake is not what it says: {0} findings")]
pub struct Unsound(pub usize);

/// Refuses an argument, in the words that say what it should be.
pub fn usage(good: bool, otherwise: impl FnOnce() -> String) -> Result<(), Usage> {
    if good { Ok(()) } else { Err(Usage(otherwise())) }
}

/// The exit code of an error, by what lies at its root.
pub fn code(error: &anyhow::Error) -> ExitCode {
    for cause in error.chain() {
        if cause.is::<Usage>() || cause.is::<IdError>() || cause.is::<TimeError>() {
            return ExitCode::from(2);
        }
        if cause.is::<ConfigError>() || is_configuration(cause) {
            return ExitCode::from(3);
        }
        if cause.is::<Unsound>() {
            return ExitCode::from(6);
        }
        if matches!(cause.downcast_ref(), Some(CuratedError::OtherInstallation { .. })) {
            return ExitCode::from(3);
        }
        if cause.is::<Unreachable>() || matches!(cause.downcast_ref(), Some(StoreError::Unavailable(_))) {
            return ExitCode::from(4);
        }
    }
    ExitCode::from(1)
}

/// What a key of the configuration would put right.
fn is_configuration(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(
        cause.downcast_ref(),
        Some(OpenError::Partitions { .. } | OpenError::OtherInstallation { .. } | OpenError::Unsafe { .. } | OpenError::Property { .. })
    ) || matches!(cause.downcast_ref(), Some(StoreError::OtherPartitions { .. } | StoreError::OtherInstallation { .. } | StoreError::Address(_)))
        || matches!(cause.downcast_ref(), Some(GatewayError::Pem { .. } | GatewayError::MaxPacket(_)))
        || matches!(cause.downcast_ref(), Some(DashboardError::Tls(_)))
}

/// What to do about it, where the error itself does not say so.
pub fn remedy(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| cause.downcast_ref().map(StoreError::remedy)).filter(|remedy| !format!("{error:#}").contains(remedy))
}
