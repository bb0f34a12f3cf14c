//! `vigil device watch`: what becomes of a device's messages, as they come. For whoever connects one.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use reqwest::StatusCode;
use schemas::DeviceId;
use serde_json::{Map, Value};

use super::serve;
use crate::config::Config;
use crate::exit::{Unreachable, Usage};
use crate::output::{self, Format};

const EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct Watch {
    pub id: String,
    /// A token that may read: `vigil user token NAME --label watch` prints one
    #[arg(long, env = "VIGIL_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The dashboard's address, such as https://vigil.example; as the configuration says, when left out
    #[arg(long)]
    pub url: Option<String>,
    /// Prints what is known, and ends
    #[arg(long)]
    pub once: bool,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

pub async fn run(args: Watch) -> anyhow::Result<()> {
    let device = DeviceId::parse(&args.id)?;
    let token = args.token.ok_or_else(|| Usage("VIGIL_TOKEN is not set: `vigil user token NAME --label watch` prints a token".to_owned()))?;
    crate::telemetry::cryptography();
    let base = match args.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => Config::load(&args.config)?.dashboard_url(None),
    };
    let url = format!("{base}/api/v1/devices/{device}/messages");
    let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let stop = serve::on_signal()?;
    let mut known = HashSet::new();
    loop {
        let messages = ask(&client, &url, &token).await?;
        let ids = messages.iter().filter_map(|message| Some(message.get("id")?.as_str()?.to_owned())).collect::<HashSet<_>>();
        let new: Vec<Map<String, Value>> =
            messages.into_iter().filter(|message| message.get("id").and_then(Value::as_str).is_none_or(|id| !known.contains(id))).collect();
        known = ids;
        match output::format() {
            Format::Table => new.iter().try_for_each(line)?,
            Format::Json | Format::Ndjson => output::print(&new)?,
        }
        if args.once {
            return Ok(());
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn ask(client: &reqwest::Client, url: &str, token: &str) -> anyhow::Result<Vec<Map<String, Value>>> {
    let answer = client.get(url).bearer_auth(token).send().await.map_err(|error| {
        let error = error.without_url();
        Unreachable(format!("the dashboard does not answer ({error}); is `vigil serve` running?"))
    })?;
    let status = answer.status();
    let body: Value = answer.json().await.context("the dashboard's answer is no JSON")?;
    if status != StatusCode::OK {
        let said = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        anyhow::bail!("{} {}; {}", status.as_u16(), said("detail"), said("remedy"));
    }
    let messages = body.get("messages").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(messages.into_iter().filter_map(|message| message.as_object().cloned()).collect())
}

/// `2026-11-25T17:00:00Z  accepted  senml  spo2  measured 2026-11-25T16:59:58Z, clock corrected by 3600 s`
fn line(message: &Map<String, Value>) -> std::io::Result<()> {
    use std::io::Write;
    let text = |key: &str| message.get(key).and_then(Value::as_str);
    let mut line = [text("received_at"), text("verdict"), text("format"), text("metric")].into_iter().flatten().collect::<Vec<_>>().join("  ");
    if let Some(at) = text("measured_at") {
        line += &format!("  measured {at}");
    }
    match (text("clock"), message.get("clock_shift_s").and_then(Value::as_i64)) {
        (_, Some(seconds)) => line += &format!(", clock corrected by {seconds} s"),
        (Some("unstamped"), None) => line += ", without a time of its own",
        _ => {}
    }
    if message.get("test").and_then(Value::as_bool) == Some(true) {
        line += ", under test";
    }
    if let (Some(reason), Some(detail)) = (text("reason"), text("detail")) {
        line += &format!("  {reason}: {detail}");
    }
    writeln!(std::io::stdout(), "{line}")
}
