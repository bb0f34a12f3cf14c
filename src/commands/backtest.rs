//! `vigil rule backtest`: rules on history.

mod words;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use processor::backtest::{self, Alert, Plan, Report, Rules};
use schemas::{Arrived, EventTime};
use serde_json::json;
use store::backtests::Backtest as Recorded;

use super::history::History;
use super::rule;
use crate::installation::{console, now};
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub struct Backtest {
    /// The rules under trial; when left out, those that stand in the log, each from when it came
    rules: Option<PathBuf>,
    /// Other rules, or an earlier version, side by side
    #[arg(long)]
    against: Option<PathBuf>,
    /// Side by side with the rules that stand in the log
    #[arg(long, conflicts_with = "against")]
    against_log: bool,
    #[command(flatten)]
    history: History,
    /// Prints the whole result as one JSON document
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Prints the burden of each rule as CSV
    #[arg(long)]
    csv: bool,
    /// Writes every alert of the period here, as CSV
    #[arg(long)]
    alerts: Option<PathBuf>,
}

pub async fn run(args: Backtest) -> anyhow::Result<()> {
    let read = |file: &PathBuf| rule::read(file).map(|(toml, _)| Rules::Trial(toml));
    let mut rules = vec![args.rules.as_ref().map_or(Ok(Rules::OfTheLog), read)?];
    if let Some(other) = &args.against {
        rules.push(read(other)?);
    } else if args.against_log {
        rules.push(Rules::OfTheLog);
    }
    let mut opened = args.history.open().await?;
    opened.plan = opened.plan.warm_for(&rules)?;
    let tried = rules.clone();
    let outcome = opened.run("rule backtest", move |objects, plan, _, progress| backtest::run(objects, plan, &tried, progress)).await?;
    let report = backtest::report(&opened.plan, &opened.question, &rules, &outcome).context("nothing was tried")?;
    if let Some(file) = &args.alerts {
        let trial = outcome.trials.first().map_or(&[][..], |trial| &trial.alerts);
        write_alerts(file, &opened.plan, trial)?;
    }
    let mut recorded = None;
    if let Some(store) = &opened.store {
        let backtest = record(&report, &console(), now())?;
        store.put_backtest(&backtest).await?;
        recorded = Some(backtest.id);
        store.close().await;
    }
    print(&args, &report, recorded.as_deref())
}

/// As it is kept.
fn record(report: &Report, person: &str, created_at: EventTime) -> anyhow::Result<Recorded> {
    Ok(Recorded {
        id: report.id(),
        created_at,
        person: person.to_owned(),
        rules_hash: report.trial.rules.clone().unwrap_or_default(),
        data_hash: report.data.hash.clone(),
        engine_version: report.engine.to_owned(),
        from: report.period.from.map(Arrived::as_event),
        to: report.period.to.map(Arrived::as_event),
        summary: serde_json::to_string(report)?,
    })
}

fn print(args: &Backtest, report: &Report, recorded: Option<&str>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if args.csv {
        return words::csv(report, out);
    }
    match output::format() {
        Format::Table if !args.json => words::write(report, recorded, &mut out)?,
        Format::Ndjson if !args.json => writeln!(out, "{}", serde_json::to_string(report)?)?,
        _ => writeln!(out, "{}", serde_json::to_string_pretty(report)?)?,
    }
    if let Some(id) = recorded.filter(|_| output::format() != Format::Table || args.json) {
        // beside the result, which is the same for everybody
        writeln!(std::io::stderr(), "{}", json!({"backtest": id}))?;
    }
    Ok(())
}

fn write_alerts(file: &PathBuf, plan: &Plan, alerts: &[Alert]) -> anyhow::Result<()> {
    let mut csv = csv::Writer::from_path(file).with_context(|| format!("cannot write {}", file.display()))?;
    csv.write_record([
        "alert",
        "patient",
        "rule",
        "priority",
        "technical",
        "shadow",
        "pages",
        "late",
        "since",
        "raised_at",
        "heard_at",
        "known_at",
        "ended_at",
        "end",
    ])?;
    for alert in alerts.iter().filter(|alert| alert.known_at >= plan.from && alert.known_at < plan.to) {
        let end = serde_json::to_value(alert.end)?;
        csv.write_record([
            alert.alert.to_string(),
            alert.patient.to_string(),
            alert.rule.to_string(),
            words::priority(alert.priority).to_owned(),
            alert.technical.to_string(),
            alert.shadow.to_string(),
            alert.pages.to_string(),
            alert.late.to_string(),
            alert.since.to_string(),
            alert.raised_at.to_string(),
            alert.heard_at.to_string(),
            alert.known_at.to_string(),
            alert.ended_at.map(|ended| ended.to_string()).unwrap_or_default(),
            end.as_str().unwrap_or_default().to_owned(),
        ])?;
    }
    Ok(csv.flush()?)
}
