//! `vigil device watch`: what becomes of a device's messages, as they come. For whoever connects one.

use std::collections::HashSet;
use std::time::Duration;

use clap::Args;
use schemas::DeviceId;
use serde_json::{Map, Value};

use super::api::{Access, Api};
use super::serve;
use crate::output::{self, Format};

const EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct Watch {
    pub id: String,
    /// Prints what is known, and ends
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    pub access: Access,
}

pub async fn run(args: Watch) -> anyhow::Result<()> {
    let device = DeviceId::parse(&args.id)?;
    let api = Api::new(args.access, "watch")?;
    let path = format!("/devices/{device}/messages");
    let stop = serve::on_signal()?;
    let mut known = HashSet::new();
    loop {
        let messages = ask(&api, &path).await?;
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

async fn ask(api: &Api, path: &str) -> anyhow::Result<Vec<Map<String, Value>>> {
    let messages = api.get(path).await?.get("messages").and_then(Value::as_array).cloned().unwrap_or_default();
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
