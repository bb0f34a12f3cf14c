//! `vigil rule shadow-report`: day by day, what rules on trial raised beside the live rules that look at the same.

mod compare;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use engine::{Rule, RuleBook, RuleKind};
use journal::Topic;
use processor::lake;
use processor::objects::{LocalObjects, Objects};
use schemas::{EventTime, Micros, Offset, Partition, RuleId, Transition};
use serde_json::json;
use store::audit::AuditEntry;

use self::compare::{Alerts, Pair};
use crate::config::Config;
use crate::exit::{Usage, usage};
use crate::installation::{self, console, now};
use crate::output;

/// Of today and the days before it.
const DAYS: i64 = 7;
/// An alert that was raised longer before the period is not known to be open in it.
const BEFORE: Micros = Micros::days(7);

#[derive(Debug, Args)]
pub struct ShadowReport {
    /// Rules on trial; all that are, when left out. One that is live by now is looked at as it was on trial
    rules: Vec<String>,
    /// The live rules to hold them against; those on the same metrics, when left out
    #[arg(long)]
    against: Vec<String>,
    /// What was heard from here on (RFC 3339); the last seven days, when left out
    #[arg(long)]
    from: Option<String>,
    /// What was heard before this (RFC 3339); to the lake's end, when left out
    #[arg(long)]
    to: Option<String>,
    #[arg(long, default_value = "vigil.toml")]
    config: PathBuf,
}

pub async fn run(args: ShadowReport) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    let store = installation::open_store(&config).await?;
    let rules = store.rules().await?.context("no rules were ever loaded; `vigil rule load FILE` does so")?;
    let book = engine::compile(&rules.toml)?;
    let pairs = pairs(&book, &args.rules, &args.against)?;
    let from = args.from.as_deref().map(EventTime::parse).transpose()?.unwrap_or_else(|| book.zone.days_before(now(), DAYS - 1));
    let to = args.to.as_deref().map(EventTime::parse).transpose()?.unwrap_or(EventTime::MAX);
    usage(from < to, || format!("--from {from} is not before --to {to}"))?;
    // before anything is read
    let entry = AuditEntry { at: now(), person: console(), action: "read.alerts".to_owned(), patient: None, detail: format!("rule shadow-report from {from}") };
    store.audit(&entry).await?;
    store.close().await;

    let folder = config.path(&config.lake.path);
    let partitions = config.journal.partitions;
    // what never ran has archived nothing
    let alerts = if folder.is_dir() { tokio::task::spawn_blocking(move || read(&folder, partitions, from - BEFORE)).await?? } else { Alerts::default() };
    let days = compare::compare(&alerts, &pairs, &book.zone, from, to);
    let rows = days.iter().map(|day| {
        json!({
            "day": day.day, "rule": day.rule, "against": day.against, "shadow": day.shadow, "live": day.live, "both": day.both,
            "only_shadow": day.shadow - day.both, "only_live": day.only_live, "patients": day.patients, "earlier_s": day.earlier.map(Micros::as_seconds),
        })
    });
    Ok(output::print(&rows.filter_map(|row| row.as_object().cloned()).collect::<Vec<_>>())?)
}

/// Each rule on trial, and what it is held against.
fn pairs(book: &RuleBook, asked: &[String], against: &[String]) -> anyhow::Result<Vec<Pair>> {
    let known = |id: &String| -> anyhow::Result<&Rule> {
        let found = book.rules.iter().find(|rule| rule.id.as_str() == id);
        Ok(found.ok_or_else(|| Usage(format!("the rules in force have no `{id}`; `vigil rule show` prints them")))?)
    };
    let tried: Vec<&Rule> = match asked {
        [] => book.rules.iter().filter(|rule| rule.is_shadow()).collect(),
        asked => asked.iter().map(known).collect::<Result<_, _>>()?,
    };
    usage(!tried.is_empty(), || "no rule is on trial: give one state = \"shadow\", or name one that was".to_owned())?;
    let named: BTreeSet<RuleId> = against.iter().map(|id| known(id).map(|rule| rule.id.clone())).collect::<Result<_, _>>()?;
    let beside = |rule: &Rule| -> BTreeSet<RuleId> {
        let live = book.rules.iter().filter(|other| !other.is_shadow() && same_kind(rule, other) && other.id != rule.id);
        live.filter(|other| other.metrics().iter().any(|metric| rule.metrics().contains(metric))).map(|other| other.id.clone()).collect()
    };
    Ok(tried.into_iter().map(|rule| Pair { rule: rule.id.clone(), against: if named.is_empty() { beside(rule) } else { named.clone() } }).collect())
}

/// Not being heard is held against not being heard.
fn same_kind(a: &Rule, b: &Rule) -> bool {
    matches!(a.kind, RuleKind::Silent { .. }) == matches!(b.kind, RuleKind::Silent { .. })
}

/// Every alert that the lake knows of, from the files of that day on.
fn read(folder: &Path, partitions: u32, from: EventTime) -> anyhow::Result<Alerts> {
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::open(folder).with_context(|| format!("cannot open the lake {}", folder.display()))?);
    let begin = from.to_string();
    let date = begin.split('T').next().unwrap_or_default();
    let mut alerts = Alerts::default();
    for partition in (0..partitions).map(Partition) {
        let files = lake::files(&*objects, Topic::Alerts, partition)?;
        let Some(first) = files.iter().find(|file| file.date.as_str() >= date).map(|file| file.first) else { continue };
        for records in lake::records(objects.clone(), Topic::Alerts, partition, first)? {
            for record in records? {
                let at = |offset: Offset| format!("vigil.alerts, partition {partition}, offset {offset}: not a transition that this version can read");
                alerts.hear(partition, Transition::decode(&record.value).with_context(|| at(record.offset))?);
            }
        }
    }
    Ok(alerts)
}
