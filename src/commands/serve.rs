//! `vigil serve` and the single roles.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::roles::{Role, Roles};
use crate::telemetry;

#[derive(Debug, Args)]
pub struct Serve {
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub struct One {
    #[command(flatten)]
    pub serve: Serve,
    /// Answers /livez, /readyz and /metrics here: this process has no dashboard. /metrics is for this machine, or for a token of scope `metrics`
    #[arg(long, value_name = "ADDRESS")]
    pub operations: Option<SocketAddr>,
}

pub async fn run(args: Serve, roles: &[Role], operations: Option<SocketAddr>) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    telemetry::log(&config.log)?;
    telemetry::cryptography();
    let roles_named: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), roles = roles_named.join(","), config = %args.config.display(), "starting");
    open_files();
    let stop = on_signal()?;
    let running = tokio::select! {
        running = Roles::start(&config, roles, operations, telemetry::metrics()?) => running?,
        () = stop.cancelled() => return Ok(()),
    };
    let address = |address: Option<SocketAddr>| address.map_or_else(|| "none".to_owned(), |address| address.to_string());
    let bound = &running.bound;
    tracing::info!(
        mqtt = address(bound.mqtt),
        mqtt_tls = address(bound.mqtt_tls),
        dashboard = address(bound.dashboard),
        operations = address(bound.operations),
        "ready"
    );
    running.run(stop).await?;
    tracing::info!("done");
    Ok(())
}

/// A connection is an open file: as many as may be, not as many as a shell gives.
fn open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, limit = limit.current, "the limit of open files could not be raised");
    }
}

/// A publish that is under way at the end has two seconds more.
pub async fn grace(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
}

/// Cancelled by TERM or INT.
pub fn on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}
