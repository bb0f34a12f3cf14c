//! `vigil replay FILE`: plays recorded vitals as a hub does over MQTT, in the order in which they were stored, and keeps a ledger.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use futures::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use schemas::EventTime;
use serde_json::json;

use super::serve;
use crate::device::{self, Account, Device, Verdict, WINDOW};
use crate::exit::usage;
use crate::installation::now;
use crate::ledger::{Entry, Ledger};
use crate::output;
use crate::recording::{self, Recorded};

/// How long a publish may wait for its PUBACK before the command gives up: a broker may be started again meanwhile.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
pub struct Replay {
    /// Recorded vitals: CSV, also gzipped; Vigil's columns or MIMIC-III's CHARTEVENTS
    pub file: PathBuf,
    /// How many hours of the recording pass in an hour; 0 is as fast as the PUBACKs come
    #[arg(long, default_value_t = 3600.0)]
    pub speed: f64,
    /// The gateway
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub to: String,
    /// The hub that speaks for the recorded devices
    #[arg(long)]
    pub user: String,
    /// The hub's password
    #[arg(long, env = "VIGIL_DEVICE_PASSWORD", hide_env_values = true, allow_hyphen_values = true)]
    pub password: String,
    /// When the last value of each patient was sent (RFC 3339); now, when left out
    #[arg(long)]
    pub end: Option<String>,
    /// Keeps every publish and every PUBACK here, fsynced
    #[arg(long)]
    pub ledger: Option<PathBuf>,
}

pub async fn run(args: Replay) -> anyhow::Result<()> {
    usage(args.speed >= 0.0 && args.speed.is_finite(), || format!("--speed {}: it is a positive number, or 0 for as fast as possible", args.speed))?;
    let mut rows = recording::read(&args.file)?;
    let end = match &args.end {
        Some(text) => EventTime::parse(text)?,
        None => now(),
    };
    recording::shift_to(&mut rows, end);
    let (host, port) = device::address(&args.to)?;
    device::reach(&args.to).await?;
    let account = Account { host, port, user: args.user.clone(), password: args.password.clone() };
    let device = Device::connect(&account, &args.user);
    let (ledger, writer) = Ledger::open(args.ledger.as_deref())?;

    let bar = progress(rows.len() as u64);
    let began = Instant::now();
    let first = rows.first().map_or(end, |row| row.stored_at);
    let (mut accepted, mut refused) = (0u64, 0u64);
    let stop = serve::on_signal()?;
    // told to end: what is under way has a moment for its PUBACK, nothing more is begun
    let mut verdicts = stream::iter(rows.iter().enumerate())
        .then(|(seq, row)| async move {
            if let Some(due) = due(began, row.stored_at - first, args.speed) {
                tokio::time::sleep_until(due.into()).await;
            }
            (seq as u64, row)
        })
        .take_until(stop.cancelled())
        .map(|(seq, row)| publish(&device, &ledger, seq, row))
        .buffered(WINDOW)
        .take_until(serve::grace(&stop))
        .boxed_local();
    while let Some(verdict) = verdicts.next().await {
        match verdict? {
            Verdict::Accepted => accepted += 1,
            Verdict::Refused(_) => refused += 1,
        }
        bar.inc(1);
    }
    drop(verdicts);
    bar.finish_and_clear();
    device.disconnect().await;
    drop(ledger);
    writer.finish()?;
    let seconds = began.elapsed().as_secs_f64();
    let row = json!({"published": accepted + refused, "accepted": accepted, "refused": refused, "seconds": (seconds * 1000.0).round() / 1000.0});
    output::print_one(&row)?;
    Ok(())
}

async fn publish(device: &Device, ledger: &Ledger, seq: u64, row: &Recorded) -> anyhow::Result<Verdict> {
    let topic = format!("v1/devices/{}/vitals", row.device);
    // `sent_at` is true: were it the recording's, the gateway would find a clock that is steadily slow
    let payload = json!({"sent_at": now(), "readings": [{
        "metric": row.metric, "value": row.value, "unit": row.unit, "measured_at": row.measured_at, "seq": seq,
    }]})
    .to_string();
    ledger.write(Entry::Publish { seq, topic: topic.clone(), payload: payload.clone() })?;
    let verdict = tokio::time::timeout(PATIENCE, device.publish(&topic, Bytes::from(payload))).await.context("no PUBACK within 5 minutes")??;
    let refused = match &verdict {
        Verdict::Accepted => None,
        Verdict::Refused(reason) => Some(reason.clone()),
    };
    ledger.write(Entry::Puback { seq, refused })?;
    Ok(verdict)
}

fn due(began: Instant, since_first: schemas::Micros, speed: f64) -> Option<Instant> {
    (speed > 0.0).then(|| began + Duration::from_secs_f64((since_first.0.max(0) as f64 / 1e6 / speed).min(1e9)))
}

fn progress(total: u64) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} {per_sec} {eta}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(total), target).with_style(style)
}
