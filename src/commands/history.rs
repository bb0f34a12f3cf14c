//! What `rule backtest` and `rule sweep` ask of the lake: which inputs, whose, and what is known to have happened.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use jiff::tz::TimeZone;
use processor::backtest::{Labelled, Plan, Progress, Question, WarmUp};
use processor::objects::{LocalObjects, Objects};
use schemas::{Arrived, EventTime, PatientId};
use store::Store;
use store::audit::AuditEntry;
use tempfile::TempDir;

use super::serve;
use crate::config::{Config, Span};
use crate::exit::{Usage, usage};
use crate::installation::{self, console, micros, now};
use crate::output::Bar;
use crate::recorded;

#[derive(Debug, Args)]
pub struct History {
    /// Counts what arrived from here on (RFC 3339); from the lake's beginning, when left out
    #[arg(long)]
    from: Option<String>,
    /// Reads what arrived before this (RFC 3339); to the lake's end, when left out
    #[arg(long)]
    to: Option<String>,
    /// How much before --from is read and not counted, so that alerts stand as they would have stood; "all": from the lake's beginning
    #[arg(long, default_value = "1 day")]
    warm_up: String,
    /// Only these patients: a file with an id a line
    #[arg(long, conflicts_with = "ward")]
    patients: Option<PathBuf>,
    /// Only patients who are in this ward now
    #[arg(long)]
    ward: Option<String>,
    /// Events that should have been seen coming: CSV with the columns patient and time (RFC 3339)
    #[arg(long)]
    labels: Option<PathBuf>,
    /// How long before such an event an alert is about it
    #[arg(long, default_value = "24 h")]
    window: String,
    /// For the hours of the day: an IANA name; the ward's own with --ward, else UTC
    #[arg(long)]
    timezone: Option<String>,
    /// Another lake than the installation's: its folder. No result is kept then
    #[arg(long)]
    lake: Option<PathBuf>,
    /// No lake but a recording, each value arriving when it was stored: CSV, also gzipped, as `vigil replay` plays it. No result is kept then
    #[arg(long, conflicts_with_all = ["lake", "ward"])]
    recording: Option<PathBuf>,
    #[arg(long, default_value = "vigil.toml")]
    config: PathBuf,
}

/// A lake, and what is asked of it.
pub struct Opened {
    pub objects: Arc<dyn Objects>,
    pub plan: Plan,
    pub question: Question,
    /// Whose result it is to be recorded with; `None` for a lake of elsewhere.
    pub store: Option<Store>,
    /// A recording's lake, gone with this.
    _folder: Option<TempDir>,
}

impl History {
    pub async fn open(&self) -> anyhow::Result<Opened> {
        let elsewhere = self.lake.is_some() || self.recording.is_some();
        // a lake of elsewhere needs no installation
        let config = if elsewhere && !self.config.exists() { Config::default() } else { Config::load(&self.config)? };
        let (objects, made) = self.objects(&config)?;
        let store = if elsewhere { None } else { Some(installation::open_store(&config).await?) };
        let engine = engine::Config { horizon: micros(config.engine.horizon.0), window: micros(config.engine.window.0), ..engine::Config::default() };
        let plan = Plan {
            from: self.from.as_deref().map(Arrived::parse).transpose()?.unwrap_or(Arrived::MIN),
            to: self.to.as_deref().map(Arrived::parse).transpose()?.unwrap_or(Arrived::MAX),
            warm_up: if self.from.is_none() || self.warm_up == "all" { WarmUp::All } else { WarmUp::Span(micros(span("--warm-up", &self.warm_up)?)) },
            patients: self.cohort(store.as_ref()).await?,
            ..Plan::new(engine)
        };
        usage(plan.from < plan.to, || format!("--from {} is not before --to {}", plan.from, plan.to))?;
        let question = Question {
            labels: self.labels.as_deref().map(labels).transpose()?,
            window: micros(span("--window", &self.window)?),
            zone: self.zone(store.as_ref()).await?,
        };
        Ok(Opened { objects, plan, question, store, _folder: made })
    }

    fn objects(&self, config: &Config) -> anyhow::Result<(Arc<dyn Objects>, Option<TempDir>)> {
        if let Some(recording) = &self.recording {
            let folder = tempfile::tempdir().context("cannot make a folder for the recording's lake")?;
            let (objects, kept) = recorded::keep(recording, folder.path())?;
            let mut said = std::io::stderr();
            writeln!(said, "{} values of {} patients; {} more would have been refused", kept.values, kept.patients, kept.refused)?;
            return Ok((objects, Some(folder)));
        }
        let folder = self.lake.clone().unwrap_or_else(|| config.path(&config.lake.path));
        usage(folder.join("raw").is_dir(), || format!("{} holds no lake: there is no folder `raw` in it", folder.display()))?;
        let objects = LocalObjects::open(&folder).with_context(|| format!("cannot open the lake {}", folder.display()))?;
        Ok((Arc::new(objects), None))
    }

    async fn cohort(&self, store: Option<&Store>) -> anyhow::Result<Option<BTreeSet<PatientId>>> {
        if let Some(file) = &self.patients {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            let ids = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            let patients = ids.map(PatientId::parse).collect::<Result<BTreeSet<_>, _>>().with_context(|| format!("{} has an id a line", file.display()))?;
            usage(!patients.is_empty(), || format!("{} names nobody", file.display()))?;
            return Ok(Some(patients));
        }
        let Some(ward) = &self.ward else { return Ok(None) };
        let store = store.ok_or_else(|| Usage("--ward needs the installation whose ward it is: leave out --lake, or name --patients".to_owned()))?;
        store.ward(ward).await?;
        Ok(Some(store.patients(Some(ward)).await?.into_iter().map(|patient| patient.id).collect()))
    }

    async fn zone(&self, store: Option<&Store>) -> anyhow::Result<TimeZone> {
        let name = match (&self.timezone, &self.ward, store) {
            (Some(name), ..) => name.clone(),
            (None, Some(ward), Some(store)) => store.ward(ward).await?.timezone,
            _ => return Ok(TimeZone::UTC),
        };
        TimeZone::get(&name).map_err(|_| Usage(format!("--timezone {name}: it is a name such as Europe/Lisbon")).into())
    }
}

impl Opened {
    /// Something over the lake, with a bar on a terminal; a signal cancels it. That it was read stands in the audit before anything of it is shown.
    pub async fn run<T, E, F>(&self, what: &str, work: F) -> anyhow::Result<T>
    where
        F: FnOnce(&Arc<dyn Objects>, &Plan, &Question, &Progress) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        if let Some(store) = &self.store {
            let whose = self.plan.patients.as_ref().map_or_else(|| "every patient".to_owned(), |patients| format!("{} patients", patients.len()));
            let entry = AuditEntry { at: now(), person: console(), action: "read.history".to_owned(), patient: None, detail: format!("{what} over {whose}") };
            store.audit(&entry).await?;
        }
        let progress = Arc::new(Progress::default());
        let (objects, plan, question, told) = (self.objects.clone(), self.plan.clone(), self.question.clone(), progress.clone());
        let mut work = tokio::task::spawn_blocking(move || work(&objects, &plan, &question, &told));
        let stop = serve::on_signal()?;
        let mut bar = Bar::new("bytes");
        let outcome = loop {
            tokio::select! {
                done = &mut work => break done?,
                () = stop.cancelled() => {
                    progress.cancel();
                    break work.await?;
                }
                () = tokio::time::sleep(Duration::from_millis(100)) => {
                    let (done, total) = progress.bytes();
                    bar.at(done, total);
                }
            }
        };
        bar.end();
        Ok(outcome?)
    }
}

pub fn span(option: &str, text: &str) -> Result<Duration, Usage> {
    Span::parse(text).map(|span| span.0).map_err(|error| Usage(format!("{option}: {error}")))
}

/// A CSV of patient and time; other columns are passed over.
fn labels(file: &Path) -> anyhow::Result<Vec<Labelled>> {
    let mut csv = csv::Reader::from_path(file).with_context(|| format!("cannot read {}", file.display()))?;
    let header = csv.headers()?.clone();
    let column = |name: &str| header.iter().position(|found| found == name).ok_or_else(|| Usage(format!("{}: column `{name}` is missing", file.display())));
    let (patient, time) = (column("patient")?, column("time")?);
    let mut labels = Vec::new();
    for row in csv.records() {
        let row = row?;
        let at = || format!("{}, line {}", file.display(), row.position().map_or(0, csv::Position::line));
        let cell = |column: usize| row.get(column).unwrap_or_default();
        labels.push(Labelled { patient: PatientId::parse(cell(patient)).with_context(at)?, time: EventTime::parse(cell(time)).with_context(at)? });
    }
    usage(!labels.is_empty(), || format!("{} holds no event", file.display()))?;
    Ok(labels)
}
