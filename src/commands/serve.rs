//! `vigil serve` and the single roles.

use std::path::PathBuf;

use clap::Args;
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

pub async fn run(args: Serve, roles: &[Role]) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    telemetry::log(&config.log)?;
    telemetry::cryptography();
    let roles_named: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), roles = roles_named.join(","), config = %args.config.display(), "starting");
    let stop = on_signal()?;
    let running = tokio::select! {
        running = Roles::start(&config, roles, telemetry::metrics()?) => running?,
        () = stop.cancelled() => return Ok(()),
    };
    let address = |address: Option<std::net::SocketAddr>| address.map_or_else(|| "none".to_owned(), |address| address.to_string());
    let bound = &running.bound;
    tracing::info!(mqtt = address(bound.mqtt), mqtt_tls = address(bound.mqtt_tls), dashboard = address(bound.dashboard), "ready");
    running.run(stop).await?;
    tracing::info!("done");
    Ok(())
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
