//! `vigil export`: a folder for somebody else, with or without identities.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ::lake::export::{Cohort, Every, Form, Gaps, Profile, Request, Through, known, prepare};
use ::lake::{Shape, Table};
use anyhow::Context as _;
use clap::Args;
use schemas::{EventTime, Metric};
use serde_json::json;
use store::audit::AuditEntry;

use super::history::span;
use super::lake::{At, Version, known as table, watched};
use crate::exit::{Usage, usage};
use crate::installation::{self, console, micros, now};
use crate::{output, project};

#[derive(Debug, Args)]
pub struct Export {
    /// The folder to make
    folder: PathBuf,
    /// Whose pseudonyms: the same project has the same, another's tell nothing of them
    #[arg(long)]
    project: String,
    /// What it is for; stands in the export and in the audit log
    #[arg(long)]
    purpose: String,
    /// Who asked for it
    #[arg(long)]
    requester: String,
    /// Who allowed it: somebody else
    #[arg(long)]
    approver: String,
    /// safe-harbor, limited-dataset, expert-determination or identified
    #[arg(long, default_value = "safe-harbor")]
    profile: String,
    /// Of the profile expert-determination: nobody shares what is told of them with fewer patients, themselves counted
    #[arg(long, default_value_t = 5)]
    k: usize,
    #[arg(long, value_delimiter = ',', default_value = "readings,patients")]
    tables: Vec<String>,
    /// Only patients of this ward
    #[arg(long, conflicts_with = "patients")]
    ward: Option<String>,
    /// Only these patients: a file with one id a line
    #[arg(long)]
    patients: Option<PathBuf>,
    /// Only what happened then or later (RFC 3339)
    #[arg(long)]
    from: Option<String>,
    /// Only what happened before
    #[arg(long)]
    until: Option<String>,
    /// Only these, such as spo2,heart_rate
    #[arg(long, value_delimiter = ',')]
    metrics: Vec<String>,
    /// A row of readings is a time, each metric a column
    #[arg(long)]
    wide: bool,
    /// Readings at even steps, such as "1 hour": mean, least, greatest, and how many
    #[arg(long)]
    every: Option<String>,
    /// Where nothing was measured in a step: leave (no row), null, or carry (the mean before, for --carry-for)
    #[arg(long, default_value = "leave", requires = "every")]
    gaps: String,
    #[arg(long, requires = "every")]
    carry_for: Option<String>,
    /// parquet, csv, ndjson or arrow
    #[arg(long = "as", default_value = "parquet")]
    shape: String,
    /// MiB that sorting may hold; what is larger goes to temporary files
    #[arg(long, default_value_t = 512)]
    memory: usize,
    /// Only says how many rows and about how many bytes it would be
    #[arg(long)]
    estimate: bool,
    #[command(flatten)]
    as_of: Version,
    #[command(flatten)]
    at: At,
}

pub async fn run(args: Export) -> anyhow::Result<()> {
    let profile = profile(&args.profile)?;
    for (option, text) in [("--purpose", &args.purpose), ("--requester", &args.requester), ("--approver", &args.approver)] {
        usage(!text.trim().is_empty(), || format!("{option} says nothing: who reads the export wants to know"))?;
    }
    usage(args.requester.trim() != args.approver.trim(), || format!("--approver {}: somebody else than the requester allows it", args.approver))?;
    usage(args.k > 0, || "--k 0: it is 1 or more".to_owned())?;
    let tables = args.tables.iter().map(|name| table(name)).collect::<Result<BTreeSet<Table>, _>>()?;
    let possible = known(profile);
    for table in &tables {
        let all = || possible.iter().map(|table| table.name()).collect::<Vec<_>>().join(", ");
        usage(possible.contains(table), || format!("--tables {}: it names no patient; with --profile {} there are {}", table.name(), profile.name(), all()))?;
    }
    let shape = Shape::of(Path::new(&format!("x.{}", args.shape))).ok_or_else(|| Usage(format!("--as {}: it is parquet, csv, ndjson or arrow", args.shape)))?;
    let memory = args.memory.checked_mul(1 << 20).filter(|bytes| *bytes > 0);
    let memory = memory.ok_or_else(|| Usage(format!("--memory {}: it is a number of MiB, such as 512", args.memory)))?;
    let (from, until) = (time("--from", args.from.as_deref())?, time("--until", args.until.as_deref())?);
    usage(from.zip(until).is_none_or(|(from, until)| from < until), || "--from is not before --until".to_owned())?;
    let every = every(args.every.as_deref(), &args.gaps, args.carry_for.as_deref())?;
    let metrics = args.metrics.iter().map(|name| metric(name)).collect::<Result<Vec<_>, _>>()?;
    let found = args.at.find()?;
    let manifest = found.open(&args.as_of.get()?)?;
    let key = project::key(&found.config, &args.project)?;
    let request = Request {
        project: args.project.clone(),
        purpose: args.purpose.clone(),
        requester: args.requester.clone(),
        approver: args.approver.clone(),
        through: Through { profile, key, from, until, metrics, k: args.k },
        cohort: cohort(args.ward, args.patients.as_deref())?,
        tables: tables.into_iter().collect(),
        form: if args.wide { Form::Wide } else { Form::Long },
        every,
        shape,
        memory,
        now: now(),
    };
    usage(args.estimate || !args.folder.exists(), || format!("{} is there already: name a folder that is not", args.folder.display()))?;
    let version = manifest.version;
    let prepared = prepare(&found.lake, manifest, request).await?;
    let (rows, bytes) = prepared.estimate();
    let patients = prepared.patients();
    let about = format!("{rows} rows of {patients} patients, about {}", indicatif::HumanBytes(bytes));
    if args.estimate {
        return Ok(output::tell(&json!({"patients": patients, "rows": rows, "bytes": bytes, "version": version}), about)?);
    }
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        std::io::Write::write_all(&mut std::io::stderr(), format!("{about}\n").as_bytes())?;
    }
    let detail = format!(
        "project {}, profile {}, version {version}, {patients} patients, {rows} rows, for {}, requested by {}, approved by {}",
        args.project,
        profile.name(),
        args.purpose,
        args.requester,
        args.approver
    );
    // who exports has said so before anything is written
    let store = installation::open_store(&found.config).await?;
    store.audit(&AuditEntry { at: now(), person: console(), action: "lake.export".to_owned(), patient: None, detail }).await?;
    store.close().await;
    let folder = args.folder.clone();
    let handle = tokio::runtime::Handle::current();
    let done = watched("rows", move |progress| handle.block_on(prepared.write(&folder, progress))).await?;
    let row = json!({"folder": args.folder, "patients": done.patients, "rows": done.rows, "bytes": done.bytes, "content": done.content, "version": version});
    let words =
        format!("{}: {} rows of {} patients, {}; content {}", args.folder.display(), done.rows, done.patients, indicatif::HumanBytes(done.bytes), done.content);
    Ok(output::tell(&row, words)?)
}

pub fn profile(name: &str) -> Result<Profile, Usage> {
    let all = || Profile::ALL.map(Profile::name).join(", ");
    Profile::parse(name).ok_or_else(|| Usage(format!("--profile {name}: it is one of {}", all())))
}

fn metric(name: &str) -> Result<Metric, Usage> {
    let all = || Metric::ALL.into_iter().filter(|metric| *metric != Metric::Canary).map(Metric::name).collect::<Vec<_>>().join(", ");
    let found = Metric::ALL.into_iter().find(|metric| metric.name() == name && *metric != Metric::Canary);
    found.ok_or_else(|| Usage(format!("--metrics {name}: it is one of {}", all())))
}

fn time(option: &str, text: Option<&str>) -> Result<Option<EventTime>, Usage> {
    text.map(|text| EventTime::parse(text).map_err(|error| Usage(format!("{option} {text}: {error}")))).transpose()
}

fn every(step: Option<&str>, gaps: &str, carry_for: Option<&str>) -> Result<Option<Every>, Usage> {
    let Some(step) = step else { return Ok(None) };
    let length = micros(span("--every", step)?);
    if length.0 < 1_000_000 {
        return Err(Usage(format!("--every {step}: a step has a second or more")));
    }
    let gaps = match (gaps, carry_for) {
        ("leave", None) => Gaps::Leave,
        ("null", None) => Gaps::Null,
        ("carry", Some(length)) => Gaps::Carry(micros(span("--carry-for", length)?)),
        ("carry", None) => return Err(Usage("--gaps carry: --carry-for says for how long, such as \"6 hours\"".to_owned())),
        ("leave" | "null", Some(_)) => return Err(Usage("--carry-for goes with --gaps carry".to_owned())),
        _ => return Err(Usage(format!("--gaps {gaps}: it is leave, null or carry"))),
    };
    Ok(Some(Every { step: length, gaps }))
}

fn cohort(ward: Option<String>, patients: Option<&Path>) -> anyhow::Result<Cohort> {
    let Some(file) = patients else { return Ok(ward.map_or(Cohort::All, Cohort::Ward)) };
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let patients: BTreeSet<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect();
    usage(!patients.is_empty(), || format!("{} names nobody", file.display()))?;
    Ok(Cohort::Patients(patients))
}
