//! `vigil certify DEVICE`: leads a vendor's device through the list, and writes what came of it.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use schemas::{DeviceId, EventTime};
use serde_json::{Value, json};
use store::Store;
use store::audit::AuditEntry;
use store::registry::Device;
use tokio_util::sync::CancellationToken;

use super::serve;
use crate::certify::report::{Ended, Report, Run};
use crate::certify::stage::{Examined, Stage};
use crate::certify::{Examiner, Order, Pace};
use crate::config::{Config, Span};
use crate::exit::{Usage, usage};
use crate::installation::{self, console, micros, now};
use crate::output::{self, Format};
use crate::{roles, telemetry};

/// How often it is asked what comes next.
const EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub struct Certify {
    /// The device, as it is registered; of those behind a hub, the hub
    pub id: String,
    /// Plain TCP, which the device should not use; as ingest.listen says, when left out
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// TLS 1.3; as ingest.listen_tls says, when left out
    #[arg(long)]
    pub listen_tls: Option<SocketAddr>,
    /// Where certify-ID-TIME.md and .json are written
    #[arg(long, default_value = ".")]
    pub out: PathBuf,
    /// It ends by then, whatever has been seen
    #[arg(long, default_value = "10 min", value_parser = Span::parse)]
    pub within: Span,
    /// How long the gateway is away; three times the device's interval at least
    #[arg(long, default_value = "60 s", value_parser = Span::parse)]
    pub outage: Span,
    /// For the device to connect and send again after a connection was lost
    #[arg(long, default_value = "2 min", value_parser = Span::parse)]
    pub patience: Span,
    /// Messages that are heard before a PUBACK is withheld
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub messages: u64,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

pub async fn run(args: Certify) -> anyhow::Result<()> {
    telemetry::cryptography();
    let mut config = Config::load(&args.config)?;
    let store = installation::open_store(&config).await?;
    let device = known(&store, &args.id).await?;
    config.ingest.listen.0 = args.listen.or(config.ingest.listen.0);
    config.ingest.listen_tls.0 = args.listen_tls.or(config.ingest.listen_tls.0);
    usage(config.ingest.listen_tls.0.is_some(), || {
        "--listen-tls ADDRESS is missing, and ingest.listen_tls is empty: a device must connect over TLS".to_owned()
    })?;
    let stop = serve::on_signal()?;
    let pace = Pace { messages: args.messages, outage: micros(args.outage.0), patience: micros(args.patience.0) };
    let examined = Examined::new(Examiner::new(pace));
    let gateway = ingest::Config { bridges: Vec::new(), ..roles::ingest(&config)? };
    let mut stage = Stage::open(gateway, store.clone(), device.id.clone(), examined.clone()).await?;
    let (plain, tls) = stage.addresses();
    let shown = |address: Option<SocketAddr>| address.map_or_else(|| "none".to_owned(), |address| address.to_string());
    say(&format!("{}: mqtt={} mqtt_tls={}, for this device alone", device.id, shown(plain), shown(tls)))?;
    let began_at = now();
    let led = lead(&mut stage, &examined, began_at + micros(args.within.0), &stop).await;
    let closed = stage.end().await;
    // what is known is written, whatever ended it
    let ended = led.as_ref().map_or(Ended::Interrupted, |ended| *ended);
    let report = {
        let mut examiner = examined.lock();
        examiner.said().iter().try_for_each(|line| say(line))?;
        let run = Run { device: device.id, model: device.model, began_at, ended_at: now(), ended };
        Report::new(run, &pace, &examiner)
    };
    let files = write(&report, &args.out)?;
    let entry = AuditEntry {
        at: now(),
        person: console(),
        action: "device.certify".to_owned(),
        patient: None,
        detail: format!("{} {}", report.device, report.outcome()),
    };
    store.audit(&entry).await?;
    store.close().await;
    show(&report, &files)?;
    led.and(closed)?;
    anyhow::ensure!(report.passed, "{} has {}", report.device, report.outcome());
    Ok(())
}

async fn known(store: &Store, id: &str) -> anyhow::Result<Device> {
    let device = store.device(&DeviceId::parse(id)?).await?;
    if let Some(hub) = &device.hub {
        return Err(Usage(format!("{id} is behind hub {hub}, which connects for it: `vigil certify {hub}`")).into());
    }
    anyhow::ensure!(device.revoked_at.is_none(), "device {id} is revoked: register the one that is to be certified under another id");
    Ok(device)
}

/// Until everything has its verdict, the time is over, or somebody stops it.
async fn lead(stage: &mut Stage, examined: &Examined, deadline: EventTime, stop: &CancellationToken) -> anyhow::Result<Ended> {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Interrupted),
            _ = ticks.tick() => {}
        }
        let (order, said) = {
            let mut examiner = examined.lock();
            (examiner.next(now()), examiner.said())
        };
        said.iter().try_for_each(|line| say(line))?;
        match order {
            None => {}
            Some(Order::LosePuback) => stage.lose_puback(),
            Some(Order::GoAway) => stage.go_away().await?,
            Some(Order::ComeBack) => stage.come_back().await?,
            Some(Order::Finish) => return Ok(Ended::Complete),
        }
        if now() >= deadline {
            return Ok(Ended::OutOfTime);
        }
    }
}

/// Progress goes to stderr: stdout is the report's.
fn say(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stderr(), "{}  {line}", jiff::Timestamp::now().strftime("%H:%M:%SZ"))
}

/// Writes both files; their paths.
fn write(report: &Report, folder: &Path) -> anyhow::Result<[PathBuf; 2]> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let time = jiff::Timestamp::from_microsecond(report.began_at.0)?.strftime("%Y-%m-%dT%H%M%SZ").to_string();
    let files = ["md", "json"].map(|kind| folder.join(format!("certify-{}-{time}.{kind}", report.device)));
    let texts = [report.markdown(), format!("{:#}\n", serde_json::to_value(report)?)];
    for (file, text) in files.iter().zip(texts) {
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(files)
}

fn show(report: &Report, files: &[PathBuf; 2]) -> anyhow::Result<()> {
    if output::format() != Format::Table {
        let mut row = serde_json::to_value(report)?;
        row["files"] = json!(files);
        return Ok(output::print_one(&row)?);
    }
    let row = |line: &crate::certify::report::Line| {
        let title = if line.required { line.title.to_owned() } else { format!("{} (a note)", line.title) };
        json!({"item": title, "verdict": line.verdict.word(), "what was seen": line.saw})
    };
    let rows: Vec<_> = report.items.iter().map(row).filter_map(|row: Value| row.as_object().cloned()).collect();
    output::print(&rows)?;
    let mut out = std::io::stdout();
    for line in report.items.iter().filter(|line| line.required && !line.remedy.is_empty()) {
        writeln!(out, "{}: {}", line.title, line.remedy)?;
    }
    Ok(writeln!(out, "\n{}: {}\n{}\n{}", report.device, report.outcome(), files[0].display(), files[1].display())?)
}
