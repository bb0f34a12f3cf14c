//! How a command ends: 0 done, 1 failed, 2 usage (clap's), 3 bad configuration, 4 a dependency cannot be reached.

use std::process::ExitCode;

use crate::config::ConfigError;

/// Something Vigil needs and cannot reach: Kafka, PostgreSQL, a gateway.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub String);

/// The exit code of an error, by what lies at its root.
pub fn code(error: &anyhow::Error) -> ExitCode {
    for cause in error.chain() {
        if cause.is::<ConfigError>() {
            return ExitCode::from(3);
        }
        if cause.is::<Unreachable>() {
            return ExitCode::from(4);
        }
    }
    ExitCode::from(1)
}
