//! Logs: to stderr, as text or JSON. Never a patient's data: names are wrapped in `schemas::Private`, ids appear at debug only.

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// `VIGIL_LOG` wins over the file.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let filter = std::env::var("VIGIL_LOG").unwrap_or_else(|_| log.filter.clone());
    let filter = EnvFilter::try_new(&filter).with_context(|| format!("log.filter = \"{filter}\" is not a filter such as \"info,ingest=debug\""))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    }
    .map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}
