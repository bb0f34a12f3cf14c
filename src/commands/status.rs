//! `vigil status`: what the store holds, and whether the dashboard answers.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value, json};
use store::episodes::{EpisodeFilter, State};

use crate::config::Config;
use crate::exit::Unreachable;
use crate::installation::{self, now};
use crate::output;

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct Status {
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

pub async fn run(args: Status) -> anyhow::Result<()> {
    crate::telemetry::cryptography();
    let config = Config::load(&args.config)?;
    let store = installation::open_store(&config).await?;
    let mut rows = Vec::new();
    let mut row = |what: &str, state: String| rows.push(object(what, state));
    row("installation", config.installation.clone());
    row("wards", store.wards().await?.len().to_string());
    row("patients", store.patients(None).await?.len().to_string());
    row("devices", store.devices().await?.len().to_string());
    row("rules", store.rules().await?.map_or_else(|| "none".to_owned(), |rules| format!("version {}", rules.version)));
    let (open, more) = store.episodes(&EpisodeFilter { state: Some(State::Open), ..EpisodeFilter::default() }, None, 500).await?;
    let unowned = open.iter().filter(|episode| episode.acknowledged.is_none()).count();
    row("open alerts", format!("{}{}, {unowned} unacknowledged", open.len(), if more.is_some() { " or more" } else { "" }));
    row("settings on their way", store.outbox_waiting().await?.to_string());
    let canary = store.metas("canary_at.").await?.into_iter().filter_map(|(_, at)| at.parse().ok().map(schemas::EventTime)).min();
    row("last evaluation seen", canary.map_or_else(|| "never".to_owned(), |at| format!("{} ago", now() - at)));
    for trouble in store.troubles().await?.into_iter().filter(|trouble| trouble.over_at.is_none()) {
        row("wrong with Vigil itself", format!("{}, since {}", trouble.what, trouble.since));
    }
    store.close().await;
    let url = config.dashboard_url(None);
    let ready = ready(&url).await;
    row(
        "dashboard",
        match &ready {
            Ok(state) => format!("{url} {state}"),
            Err(error) => format!("{url} {error:#}"),
        },
    );
    output::print(&rows)?;
    ready.map(drop).map_err(|error| Unreachable(format!("the dashboard at {url} does not answer ({error:#}); is `vigil serve` running?")).into())
}

async fn ready(url: &str) -> anyhow::Result<String> {
    let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let answer = client.get(format!("{url}/readyz")).send().await.context("is not reached")?;
    Ok(if answer.status().is_success() { "ready".to_owned() } else { format!("not ready: {}", answer.text().await?) })
}

fn object(what: &str, state: String) -> Map<String, Value> {
    json!({"item": what, "state": state}).as_object().cloned().unwrap_or_default()
}
