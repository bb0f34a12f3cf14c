//! `vigil oncall rehearse`: a night before it comes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use alerts::oncall::{Finding, OnCall, Rehearsal};
use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value, json};
use store::Store;

use super::{in_force, moment, reach, read, row};
use crate::config::Config;
use crate::installation::{self, now};
use crate::output;

#[derive(Debug, Args)]
pub struct Rehearse {
    /// The on-call file to rehearse; the one in force, when left out
    pub file: Option<PathBuf>,
    /// 07:00 (the next), 2026-11-27T07:00 on the wall, or RFC 3339 with a zone
    #[arg(long)]
    pub until: String,
    #[arg(long, default_value = "now")]
    pub from: String,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

pub async fn run(args: Rehearse) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    let store = installation::open_store(&config).await?;
    let oncall = match &args.file {
        Some(file) => read(file)?.1,
        None => in_force(&store).await?,
    };
    let what = raised(&store).await?;
    store.close().await;
    let reach = reach(&config)?;
    let from = moment(&oncall, "--from", &args.from, now())?;
    let until = moment(&oncall, "--until", &args.until, from)?;
    anyhow::ensure!(from < until, "--until {} is not after {}", oncall.wall(until), oncall.wall(from));
    let found = oncall.rehearse(&what, from, until, |channel| reach.fails(channel));
    let mut rows = Vec::new();
    for under in &found.policies {
        let rules = under.rules.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let detail = format!("{} patients, {} rules: {rules}", under.patients, under.rules.len());
        rows.push(told("rehearsed", &under.policy, &oncall.wall(from), &oncall.wall(until), &detail));
    }
    rows.extend(found.findings.iter().map(|finding| said(&oncall, finding)));
    output::print(&rows)?;
    let (rules, patients) = (what.rules.len(), what.patients.values().sum::<usize>());
    anyhow::ensure!(found.findings.is_empty(), "{} findings for {rules} rules and {patients} patients", found.findings.len());
    anyhow::ensure!(found.pairs > 0, "there is nothing to rehearse: {rules} live rules and {patients} monitored patients");
    Ok(())
}

/// The live rules, and the monitored patients of each ward.
async fn raised(store: &Store) -> anyhow::Result<Rehearsal> {
    let rules = store.rules().await?.context("no rules were ever loaded; `vigil rule load FILE` does so")?;
    let book = engine::compile(&rules.toml)?;
    let live = book.rules.iter().filter(|rule| !rule.is_shadow() && rule.id.as_str() != schemas::CANARY_RULE);
    let mut patients = BTreeMap::new();
    for patient in store.patients(None).await?.into_iter().filter(|patient| patient.monitored) {
        *patients.entry(Some(patient.ward)).or_insert(0) += 1;
    }
    Ok(Rehearsal { rules: live.map(|rule| (rule.id.to_string(), rule.priority)).collect(), patients })
}

fn said(oncall: &OnCall, finding: &Finding) -> Map<String, Value> {
    let wall = |at| oncall.wall(at);
    match finding {
        Finding::Uncovered { policy, last_resort: true, gap } => told("uncovered", policy, &wall(gap.from), &wall(gap.until), "only the last resort is paged"),
        Finding::Uncovered { policy, last_resort: false, gap } => {
            told("uncovered", policy, &wall(gap.from), &wall(gap.until), "nobody is paged, not even a last resort")
        }
        Finding::Unreachable { person, gap, why } => told("unreachable", person, &wall(gap.from), &wall(gap.until), why),
        Finding::EmptyStep { policy, step, gap } => told("empty_step", policy, &wall(gap.from), &wall(gap.until), &format!("step {step} reaches nobody")),
        Finding::NeverReached { policy, step, why } => told("never_reached", policy, "", "", &format!("the turn of step {step} never comes: {why}")),
    }
}

fn told(finding: &str, of: &str, from: &str, until: &str, detail: &str) -> Map<String, Value> {
    row(json!({"finding": finding, "of": of, "from": from, "until": until, "detail": detail}))
}
