//! `vigil lake`: the lake's curated layer.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use ::lake::rows::{AssignmentRow, EpisodeRow, PatientRow, date_of};
use ::lake::{AsOf, CuratedError, FromStore, Keep, Lake, Manifest, Progress, Table, Wanted, Whom, manifest};
use clap::{Args, Subcommand};
use schemas::{EventTime, PatientId};
use serde_json::{Map, Value, json};
use store::Store;
use store::audit::AuditEntry;
use store::episodes::EpisodeFilter;
use store::erasures::Erasure;

use super::history::span;
use super::serve;
use crate::config::Config;
use crate::exit::{Unsound, Usage, usage};
use crate::installation::{self, console, micros, now};
use crate::output::{self, Bar, Format};

#[derive(Debug, Subcommand)]
pub enum LakeCommand {
    /// Puts what has arrived into the curated layer, as a new version; readers of the versions before are not disturbed
    Compact {
        /// Makes everything again from raw
        #[arg(long)]
        anew: bool,
        #[command(flatten)]
        at: At,
    },
    /// Prints where the files of a table lie, one a line
    Files {
        /// readings, windows, wear …; `vigil lake tables` lists them
        table: String,
        #[command(flatten)]
        as_of: Version,
        #[command(flatten)]
        at: At,
    },
    /// Lists the tables
    Tables {
        #[command(flatten)]
        as_of: Version,
        #[command(flatten)]
        at: At,
    },
    /// Lists the versions
    Versions {
        #[command(flatten)]
        at: At,
    },
    /// Reads all of the lake and says what is wrong; ends with 6 if something is
    Verify {
        #[command(flatten)]
        at: At,
    },
    /// Takes a patient out of every file and every version; says what it touched. Not out of the journal, the store, or what was exported
    Erase {
        patient: PatientId,
        /// Who wants it, and why; stands in the audit log
        #[arg(long)]
        reason: String,
        /// Only counts
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        at: At,
    },
    /// Takes away old versions, and files that only they had
    Prune {
        /// So many of the newest stay
        #[arg(long, default_value_t = 10)]
        keep: usize,
        /// And those that are younger
        #[arg(long, default_value = "7 days")]
        younger: String,
        /// Only says what it would take away
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        at: At,
    },
}

/// Which lake.
#[derive(Debug, Clone, Args)]
pub struct At {
    /// Another lake than the installation's: its folder
    #[arg(long)]
    pub lake: Option<PathBuf>,
    #[arg(long, default_value = "vigil.toml")]
    pub config: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct Version {
    /// The version of then: its number, or a time (RFC 3339); the newest, when left out
    #[arg(long)]
    pub as_of: Option<String>,
}

impl Version {
    pub fn get(&self) -> Result<AsOf, Usage> {
        let not = |text: &String| Usage(format!("--as-of {text}: it is the number of a version, or a time such as 2026-11-22T06:00:00Z"));
        self.as_of.as_ref().map_or(Ok(AsOf::Newest), |text| text.parse().map_err(|_| not(text)))
    }
}

/// A lake, and the installation that it should be of; `None` for one of elsewhere.
pub struct Found {
    pub lake: Lake,
    pub config: Config,
    pub ours: bool,
}

impl Found {
    pub fn installation(&self) -> Option<&str> {
        self.ours.then_some(self.config.installation.as_str())
    }

    pub fn open(&self, as_of: &AsOf) -> Result<Manifest, CuratedError> {
        manifest::open(&self.lake, as_of, self.installation())
    }
}

impl At {
    pub fn find(&self) -> anyhow::Result<Found> {
        let ours = self.lake.is_none();
        let config = if !ours && !self.config.exists() { Config::default() } else { Config::load(&self.config)? };
        let folder = self.lake.clone().unwrap_or_else(|| config.path(&config.lake.path));
        Ok(Found { lake: Lake::open(folder)?, config, ours })
    }
}

pub async fn run(command: LakeCommand) -> anyhow::Result<()> {
    match command {
        LakeCommand::Compact { anew, at } => compact(at, anew).await,
        LakeCommand::Files { table, as_of, at } => {
            let table = known(&table)?;
            let found = at.find()?;
            let manifest = found.open(&as_of.get()?)?;
            let files = manifest.table(table).iter();
            if output::format() == Format::Table || output::asked().is_none() {
                // as other programs want them
                let lines = files.map(|file| format!("{}\n", found.lake.path(&file.name).display())).collect::<String>();
                return Ok(std::io::Write::write_all(&mut std::io::stdout(), lines.as_bytes())?);
            }
            let row = |file: &::lake::DataFile| json!({"file": found.lake.path(&file.name), "rows": file.rows, "bytes": file.bytes, "sha256": file.sha256});
            Ok(output::print(&objects(files.map(row)))?)
        }
        LakeCommand::Tables { as_of, at } => {
            let manifest = at.find()?.open(&as_of.get()?)?;
            let row = |table: Table| {
                let files = manifest.table(table);
                let bytes: u64 = files.iter().map(|file| file.bytes).sum();
                json!({"table": table.name(), "rows": manifest.rows(table), "bytes": bytes, "files": files.len(), "what": table.what()})
            };
            Ok(output::print(&objects(Table::public().map(row)))?)
        }
        LakeCommand::Versions { at } => {
            let found = at.find()?;
            let mut rows = Vec::new();
            for version in manifest::versions(&found.lake)? {
                let manifest = found.open(&AsOf::Version(version))?;
                let (readings, files) = (manifest.rows(Table::Readings), manifest.files().count());
                rows.push(json!({"version": version, "created_at": manifest.created_at, "readings": readings, "files": files, "content": manifest.content}));
            }
            Ok(output::print(&objects(rows.into_iter()))?)
        }
        LakeCommand::Verify { at } => verify(at).await,
        LakeCommand::Erase { patient, reason, dry_run, at } => erase(at, patient, reason, dry_run).await,
        LakeCommand::Prune { keep, younger, dry_run, at } => {
            let keep = Keep { now: now(), versions: keep, age: micros(span("--younger", &younger)?) };
            let found = at.find()?;
            let pruned = tokio::task::spawn_blocking(move || ::lake::prune(&found.lake, keep, dry_run)).await??;
            let row = json!({"versions": pruned.versions, "files": pruned.files, "bytes": pruned.bytes, "dry_run": dry_run});
            let would = if dry_run { "would take" } else { "took" };
            let words = format!("{would} away {} versions, {} files, {} bytes", pruned.versions.len(), pruned.files, pruned.bytes);
            Ok(output::tell(&row, words)?)
        }
    }
}

pub fn known(table: &str) -> Result<Table, Usage> {
    let all = || Table::public().map(Table::name).collect::<Vec<_>>().join(", ");
    Table::parse(table).ok_or_else(|| Usage(format!("there is no table `{table}`: it is one of {}", all())))
}

pub fn objects(rows: impl Iterator<Item = Value>) -> Vec<Map<String, Value>> {
    rows.filter_map(|row| row.as_object().cloned()).collect()
}

async fn compact(at: At, anew: bool) -> anyhow::Result<()> {
    let found = at.find()?;
    let store = if found.ours {
        let store = installation::open_store(&found.config).await?;
        let known = from_store(&store).await?;
        store.close().await;
        Some(known)
    } else {
        None
    };
    // a lake of elsewhere keeps the name it has
    let installation = match manifest::open(&found.lake, &AsOf::Newest, None) {
        Ok(manifest) if !found.ours => manifest.installation,
        _ => found.config.installation.clone(),
    };
    let wanted = Wanted { installation, now: now(), horizon: micros(found.config.engine.horizon.0), anew, store };
    let lake = found.lake.clone();
    let done = watched("records", move |progress| ::lake::compact(&lake, &wanted, progress)).await?;
    let readings = done.manifest.rows(Table::Readings);
    let row = json!({
        "version": done.manifest.version, "unchanged": done.unchanged, "records": done.records, "days": done.days, "readings": readings,
        "content": done.manifest.content,
    });
    let state = if done.unchanged { "nothing new since" } else { "wrote" };
    let words = format!("{state} version {}: {readings} readings; {} records read, {} days written", done.manifest.version, done.records, done.days);
    Ok(output::tell(&row, words)?)
}

async fn erase(at: At, patient: PatientId, reason: String, dry_run: bool) -> anyhow::Result<()> {
    usage(!reason.trim().is_empty(), || "--reason says nothing: who reads the audit log wants to know".to_owned())?;
    let found = at.find()?;
    let mut devices = Vec::new();
    if found.ours {
        let store = installation::open_store(&found.config).await?;
        let assignments = store.assignments_of_patient(&patient).await?;
        let open: Vec<String> = assignments.iter().filter(|one| one.until.is_none()).map(|one| one.device.to_string()).collect();
        let list = open.join(", ");
        usage(dry_run || open.is_empty(), || {
            format!("{patient} wears {list}: end that first (`vigil device assign` without --patient), or what is measured tomorrow is in the lake again")
        })?;
        devices = assignments.into_iter().map(|one| (one.device, one.from, one.until)).collect();
        if !dry_run {
            let (at, person) = (now(), console());
            let entry = AuditEntry { at, person: person.clone(), action: "lake.erase".to_owned(), patient: Some(patient.clone()), detail: reason.clone() };
            store.audit(&entry).await?;
            store.put_erasure(&Erasure { patient: patient.clone(), erased_at: at, person, reason }).await?;
        }
        store.close().await;
    }
    let installation = match manifest::open(&found.lake, &AsOf::Newest, None) {
        Ok(manifest) if !found.ours => manifest.installation,
        _ => found.config.installation.clone(),
    };
    let wanted = Wanted { installation, now: now(), horizon: micros(found.config.engine.horizon.0), anew: false, store: None };
    let (lake, whom) = (found.lake.clone(), Whom { patient: patient.clone(), devices });
    let erased = watched("files", move |progress| ::lake::erase(&lake, &whom, &wanted, dry_run, progress)).await?;
    let counts = |of: &std::collections::BTreeMap<String, u64>| of.iter().map(|(name, count)| format!("{count} of {name}")).collect::<Vec<_>>().join(", ");
    let words = match (erased.is_empty(), dry_run) {
        (true, _) => format!("nothing of {patient} is in this lake"),
        (false, true) => {
            format!("it would empty records in raw ({}), and take away rows ({}) and every older version", counts(&erased.raw_records), counts(&erased.rows))
        }
        (false, false) => format!(
            "emptied records of raw in {} files ({}), took away rows ({}); {} older versions are gone\nnot touched: the journal (until journal.retention), the processor's snapshots, the store, and whatever was exported",
            erased.raw_files,
            counts(&erased.raw_records),
            counts(&erased.rows),
            erased.versions.len()
        ),
    };
    let mut row = serde_json::to_value(&erased)?;
    row["dry_run"] = dry_run.into();
    Ok(output::tell(&row, words)?)
}

async fn verify(at: At) -> anyhow::Result<()> {
    let found = at.find()?;
    let (lake, installation) = (found.lake.clone(), found.installation().map(ToOwned::to_owned));
    let verified = watched("files", move |progress| ::lake::verify(&lake, installation.as_deref(), progress)).await?;
    if output::format() == Format::Table {
        for finding in &verified.findings {
            std::io::Write::write_all(&mut std::io::stdout(), format!("{}: {}\n", finding.what, finding.wrong).as_bytes())?;
        }
    }
    let words = format!(
        "{} files of raw with {} records, {} versions, {} files of curated with {} readings and {} voided ones; {} orphans; {} findings",
        verified.raw_files,
        verified.raw_records,
        verified.versions,
        verified.files,
        verified.readings,
        verified.voided,
        verified.orphans,
        verified.findings.len()
    );
    output::tell(&serde_json::to_value(&verified)?, words)?;
    if verified.findings.is_empty() { Ok(()) } else { Err(Unsound(verified.findings.len()).into()) }
}

/// Something long, off the runtime, with a bar on a terminal; a signal cancels it.
pub async fn watched<T: Send + 'static, E: std::error::Error + Send + Sync + 'static>(
    unit: &'static str,
    work: impl FnOnce(&Progress) -> Result<T, E> + Send + 'static,
) -> anyhow::Result<T> {
    let progress = Arc::new(Progress::default());
    let told = progress.clone();
    let mut work = tokio::task::spawn_blocking(move || work(&told));
    let stop = serve::on_signal()?;
    let mut bar = Bar::new(unit);
    let outcome = loop {
        tokio::select! {
            done = &mut work => break done?,
            () = stop.cancelled(), if !progress.is_cancelled() => progress.cancel(),
            () = tokio::time::sleep(std::time::Duration::from_millis(100)) => {
                let (done, total) = progress.get();
                bar.at(done, total);
            }
        }
    };
    bar.end();
    Ok(outcome?)
}

/// What the store knows that the log does not say.
pub async fn from_store(store: &Store) -> anyhow::Result<FromStore> {
    let mut known = FromStore::default();
    let erased: BTreeSet<String> = store.erasures().await?.into_iter().map(|erasure| erasure.patient.to_string()).collect();
    for patient in store.patients(None).await?.into_iter().filter(|patient| !erased.contains(patient.id.as_str())) {
        let born = EventTime::parse(&format!("{}T00:00:00Z", patient.born.reveal())).ok().map(date_of);
        let (ward, sex) = (patient.ward, patient.sex.as_str().to_owned());
        known.patients.push(PatientRow { patient: patient.id.to_string(), ward, sex, born, enrolled_at: patient.created_at });
    }
    let view = store.registry_view().await?;
    for assignment in view.assignments.into_iter().filter(|assignment| !erased.contains(assignment.patient.as_str())) {
        let device = view.devices.iter().find(|device| device.id == assignment.device);
        known.assignments.push(AssignmentRow {
            device: assignment.device.to_string(),
            patient: assignment.patient.to_string(),
            from: assignment.from,
            until: assignment.until,
            model: device.map(|device| device.model.clone()).unwrap_or_default(),
            test: device.is_some_and(|device| device.test),
        });
    }
    let mut after = None;
    loop {
        let (page, next) = store.episodes(&EpisodeFilter::default(), after, 500).await?;
        known.episodes.extend(page.into_iter().filter(|episode| !erased.contains(episode.patient.as_str())).map(|e| EpisodeRow {
            alert: e.alert.to_string(),
            patient: e.patient.to_string(),
            rule: e.rule.to_string(),
            priority: priority(e.priority).to_owned(),
            state: e.state.as_str().to_owned(),
            since: e.since,
            raised_at: e.raised_at,
            heard_at: e.heard_at.as_event(),
            cleared_at: e.cleared_at,
            late: e.late,
            technical: e.technical,
            test: e.test,
            acknowledged: e.acknowledged.map(|taken| (taken.at, taken.by)),
            verdict: e.care.verdict.map(|verdict| (verdict.word.as_str().to_owned(), verdict.at, verdict.by, verdict.note)),
            summary: e.summary,
        }));
        after = next;
        if after.is_none() {
            return Ok(known);
        }
    }
}

const fn priority(priority: schemas::Priority) -> &'static str {
    match priority {
        schemas::Priority::Low => "low",
        schemas::Priority::Medium => "medium",
        schemas::Priority::High => "high",
    }
}
