//! `vigil simulate`: devices against any gateway, each with its own connection and password.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::serve;
use crate::device::{self, Account, Device, Verdict};
use crate::exit::usage;
use crate::installation::{micros, now};
use crate::output;
use crate::ward::Patient;

/// Simulated seconds between two measurements of a monitor.
const EVERY_S: f64 = 10.0;

#[derive(Debug, Args)]
pub struct Simulate {
    /// The gateway
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub to: String,
    /// Who publishes: lines of {"device": …, "password": …}, as `vigil device add --format ndjson` prints them
    #[arg(long)]
    pub devices: PathBuf,
    /// How many of them deteriorate
    #[arg(long, default_value_t = 3)]
    pub deteriorating: usize,
    /// How many seconds pass in a second
    #[arg(long, default_value_t = 1.0)]
    pub speed: f64,
    /// Ends after this many seconds
    #[arg(long, default_value_t = 60.0)]
    pub seconds: f64,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Whose part is played, and how.
pub struct Fleet {
    pub accounts: Vec<Account>,
    pub deteriorating: usize,
    pub speed: f64,
    pub seed: u64,
    /// How many seconds of the ward's life had passed before: each device uploads them first, as one that was out of reach.
    pub before_s: f64,
}

#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub accepted: u64,
    pub refused: u64,
}

#[derive(Deserialize)]
struct Credential {
    device: String,
    password: String,
}

pub async fn run(args: Simulate) -> anyhow::Result<()> {
    let (host, port) = device::address(&args.to)?;
    let text = std::fs::read_to_string(&args.devices).with_context(|| format!("cannot read {}", args.devices.display()))?;
    let accounts = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let credential: Credential = serde_json::from_str(line).context("--devices holds lines of {\"device\": …, \"password\": …}")?;
            Ok(Account { host: host.clone(), port, user: credential.device, password: credential.password })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    usage(args.speed > 0.0 && args.speed.is_finite(), || format!("--speed {}: it is a positive number", args.speed))?;
    device::reach(&args.to).await?;
    let stop = serve::on_signal()?;
    let ends = stop.clone();
    let limit = Duration::from_secs_f64(args.seconds.clamp(0.0, 1e9));
    tokio::spawn(async move {
        tokio::time::sleep(limit).await;
        ends.cancel();
    });
    let tally = play(Fleet { accounts, deteriorating: args.deteriorating, speed: args.speed, seed: args.seed, before_s: 0.0 }, stop).await?;
    let row = json!({"accepted": tally.accepted, "refused": tally.refused});
    output::print_one(&row)?;
    Ok(())
}

/// Publishes for every device until `stop`; what is under way then still gets its PUBACK.
pub async fn play(fleet: Fleet, stop: CancellationToken) -> anyhow::Result<Tally> {
    let began = Instant::now();
    let mut devices = JoinSet::new();
    let count = fleet.accounts.len().max(1) as f64;
    for (index, account) in fleet.accounts.into_iter().enumerate() {
        let patient = Patient::new(fleet.seed, index, fleet.deteriorating);
        // devices do not beat together: each starts at its own place in the interval
        let life = Life { began, before_s: fleet.before_s, phase_s: EVERY_S * index as f64 / count, speed: fleet.speed };
        devices.spawn(monitor(account, patient, life, stop.clone()));
    }
    let mut tally = Tally::default();
    while let Some(one) = devices.join_next().await {
        let one = one.context("a simulated device ended badly")??;
        tally.accepted += one.accepted;
        tally.refused += one.refused;
    }
    Ok(tally)
}

/// How a device's time runs.
struct Life {
    began: Instant,
    before_s: f64,
    phase_s: f64,
    speed: f64,
}

async fn monitor(account: Account, mut patient: Patient, life: Life, stop: CancellationToken) -> anyhow::Result<Tally> {
    let topic = format!("v1/devices/{}/vitals", account.user);
    let device = Device::connect(&account, &account.user);
    let mut tally = Tally::default();
    for seq in 0u64.. {
        let at = life.phase_s + EVERY_S * seq as f64;
        let since = at - life.before_s;
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until((life.began + Duration::from_secs_f64(since.max(0.0) / life.speed)).into()) => {}
        }
        // before the beginning a second was a second
        let ago = if since < 0.0 { Duration::from_secs_f64(-since) + life.began.elapsed() } else { Duration::ZERO };
        let payload = message(patient.measure(at), seq, ago);
        tokio::select! {
            () = serve::grace(&stop) => break,
            verdict = device.publish(&topic, payload) => match verdict? {
                Verdict::Accepted => tally.accepted += 1,
                Verdict::Refused(_) => tally.refused += 1,
            },
        }
    }
    device.disconnect().await;
    Ok(tally)
}

fn message(vitals: crate::ward::Vitals, seq: u64, ago: Duration) -> Bytes {
    let now = now();
    let measured_at = now - micros(ago);
    let reading = |metric: &str, value: f64, unit: &str| json!({"metric": metric, "value": value, "unit": unit, "measured_at": measured_at});
    let readings = [
        reading("heart_rate", vitals.heart_rate, "/min"),
        reading("spo2", vitals.spo2, "%"),
        reading("respiratory_rate", vitals.respiratory_rate, "/min"),
        reading("temperature", vitals.temperature, "Cel"),
    ];
    Bytes::from(json!({"sent_at": now, "seq": seq, "readings": readings}).to_string())
}
