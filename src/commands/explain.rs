//! `vigil rule explain`: why a rule had or had not raised.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use journal::{Journal, OpenError};
use processor::backtest::{self, Asked, Past, Plan, Rules, WarmUp};
use processor::objects::{LocalObjects, Objects};
use schemas::{Arrived, PatientId, RuleId};
use store::audit::AuditEntry;

use super::history::span;
use crate::config::{Config, JournalKind};
use crate::exit::usage;
use crate::installation::{self, console, micros, now};
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub struct Explain {
    #[arg(long)]
    patient: PatientId,
    #[arg(long)]
    rule: RuleId,
    /// As one could know it then (RFC 3339); now, when left out
    #[arg(long)]
    at: Option<String>,
    /// How much before --at is read; "all": from the lake's beginning
    #[arg(long, default_value = "2 days")]
    warm_up: String,
    #[arg(long, default_value = "vigil.toml")]
    config: PathBuf,
}

pub async fn run(args: Explain) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    let at = args.at.as_deref().map_or(Ok(Arrived(now().0)), Arrived::parse)?;
    usage(at.0 <= now().0, || format!("--at {at} is yet to come"))?;
    let store = installation::open_store(&config).await?;
    let entry = AuditEntry {
        at: now(),
        person: console(),
        action: "read.explanation".to_owned(),
        patient: Some(args.patient.clone()),
        detail: format!("{} at {at}", args.rule),
    };
    store.audit(&entry).await?;
    let engine = engine::Config { horizon: micros(config.engine.horizon.0), window: micros(config.engine.window.0), ..engine::Config::default() };
    let mut warm =
        Plan { warm_up: if args.warm_up == "all" { WarmUp::All } else { WarmUp::Span(micros(span("--warm-up", &args.warm_up)?)) }, ..Plan::new(engine) };
    if let Some(rules) = store.rules().await? {
        warm = warm.warm_for(&[Rules::Trial(rules.toml)])?;
    }
    store.close().await;
    let lake = config.path(&config.lake.path);
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::open(&lake).with_context(|| format!("cannot open the lake {}", lake.display()))?);
    let journal = journal(&config).await?;
    let asked = Asked { patient: args.patient, rule: args.rule, at };
    let past = backtest::explain(objects, journal, engine, config.journal.partitions, asked, warm.warm_up).await?;
    print(&past)
}

/// An embedded journal that a running installation holds is no error: what is in the lake is answered.
async fn journal(config: &Config) -> anyhow::Result<Option<Arc<dyn Journal>>> {
    if config.journal.kind == JournalKind::Embedded && !config.path(&config.journal.path).exists() {
        return Ok(None);
    }
    match installation::open_journal(config).await {
        Ok(journal) => Ok(Some(journal)),
        Err(error) if matches!(error.downcast_ref(), Some(OpenError::Locked { .. })) => {
            let url = config.dashboard_url(None);
            writeln!(
                std::io::stderr(),
                "the installation runs and has the journal to itself: what arrived in the last minutes is not in the lake yet, {url}/api/v1/explanations answers with it"
            )?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn print(past: &Past) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match output::format() {
        Format::Json => return Ok(writeln!(out, "{}", serde_json::to_string_pretty(past)?)?),
        Format::Ndjson => return Ok(writeln!(out, "{}", serde_json::to_string(past)?)?),
        Format::Table => writeln!(out, "{}", past.explanation)?,
    }
    for told in &past.told {
        let late = if told.late { ", late" } else { "" };
        let reason = if told.reason.is_empty() { String::new() } else { format!(": {}", told.reason) };
        let what = serde_json::to_value(told.what)?;
        writeln!(out, "{} for {}, heard {}{late}{reason}", what.as_str().unwrap_or_default(), told.at, told.heard_at)?;
    }
    for later in &past.later {
        writeln!(out, "not known then: {} {} measured {}, arrived {}", later.metric.label(), later.value, later.at, later.arrived_at)?;
    }
    if let Some(read_to) = past.read_to.filter(|read_to| *read_to < past.explanation.known_at) {
        writeln!(out, "nothing that arrived after {read_to} was found")?;
    }
    Ok(())
}
