//! `vigil sql`: questions to the lake's curated layer.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::lake::export::{Through, columns};
use ::lake::{Limits, Shape, Table, Writer, query};
use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use store::audit::AuditEntry;
use tempfile::NamedTempFile;

use super::export::profile;
use super::history::span;
use super::lake::{At, Version, known, objects};
use super::serve;
use crate::exit::Usage;
use crate::installation::{self, console, micros, now};
use crate::output::{self, Format};
use crate::project;

#[derive(Debug, Args)]
pub struct Sql {
    /// A query, such as "SELECT patient, avg(value) FROM readings GROUP BY 1"; `-` reads it from the standard input
    #[arg(required_unless_present = "describe")]
    query: Option<String>,
    /// Describes a table's columns instead; without a name, lists the tables
    #[arg(long, value_name = "TABLE", num_args = 0..=1, default_missing_value = "", conflicts_with = "query")]
    describe: Option<String>,
    /// Writes the answer to a file: .parquet, .csv or .ndjson
    #[arg(long)]
    output: Option<PathBuf>,
    /// More rows than these are refused
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// It is stopped after this
    #[arg(long, default_value = "60 s")]
    timeout: String,
    /// MiB that the query may hold; what is larger goes to temporary files where it can
    #[arg(long, default_value_t = 1024)]
    memory: usize,
    /// What somebody who may not know who is who sees: safe-harbor, limited-dataset or expert-determination (docs/export.md)
    #[arg(long)]
    profile: Option<String>,
    /// Whose pseudonyms
    #[arg(long, requires = "profile")]
    project: Option<String>,
    #[command(flatten)]
    as_of: Version,
    #[command(flatten)]
    at: At,
}

pub async fn run(args: Sql) -> anyhow::Result<()> {
    if let Some(table) = &args.describe {
        return Ok(output::print(&described(table, args.profile.as_deref())?)?);
    }
    let mut sql = args.query.unwrap_or_default();
    if sql == "-" {
        sql.clear();
        std::io::stdin().read_to_string(&mut sql).context("the query, from the standard input")?;
    }
    let shape = |path: &PathBuf| Shape::of(path).ok_or_else(|| Usage(format!("--output {}: its name ends with .parquet, .csv or .ndjson", path.display())));
    let shape = args.output.as_ref().map(shape).transpose()?;
    let time = Duration::from_micros(u64::try_from(micros(span("--timeout", &args.timeout)?).0).unwrap_or(0));
    let memory = args.memory.checked_mul(1 << 20).filter(|bytes| *bytes > 0);
    let memory = memory.ok_or_else(|| Usage(format!("--memory {}: it is a number of MiB, such as 1024", args.memory)))?;
    let found = args.at.find()?;
    let manifest = found.open(&args.as_of.get()?)?;
    let through = match (&args.profile, &args.project) {
        (Some(name), Some(project)) => Some(Through::new(profile(name)?, project::key(&found.config, project)?)),
        (Some(_), None) => return Err(Usage("--profile: --project says whose pseudonyms they are".to_owned()).into()),
        _ => None,
    };
    if found.ours {
        let store = installation::open_store(&found.config).await?;
        let detail = format!("SQL over version {} of the lake, {}", manifest.version, args.profile.as_deref().unwrap_or("identified"));
        store.audit(&AuditEntry { at: now(), person: console(), action: "read.lake".to_owned(), patient: None, detail }).await?;
        store.close().await;
    }
    let stop = serve::on_signal()?;
    let asked = async {
        let mut answer = query(&found.lake, &manifest, &sql, through, Limits { time, memory, rows: args.rows, ..Limits::default() }).await?;
        match (&args.output, shape) {
            (Some(path), Some(shape)) => into_file(&mut answer, path, shape).await,
            _ if output::format() == Format::Table => {
                let mut pieces = Vec::new();
                while let Some(piece) = answer.next().await? {
                    pieces.push(piece);
                }
                let rows: usize = pieces.iter().map(arrow::array::RecordBatch::num_rows).sum();
                let table = arrow::util::pretty::pretty_format_batches_with_schema(answer.schema().clone(), &pieces)?;
                Ok(writeln!(std::io::stdout(), "{table}\n{rows} rows, version {}", manifest.version)?)
            }
            _ => {
                let mut writer = Writer::new(Shape::Ndjson, std::io::BufWriter::new(std::io::stdout()), answer.schema().clone())?;
                while let Some(piece) = answer.next().await? {
                    writer.write(&piece)?;
                }
                Ok(writer.end()?)
            }
        }
    };
    tokio::select! {
        done = asked => done,
        () = stop.cancelled() => anyhow::bail!("stopped"),
    }
}

/// Under its name only when it is whole.
async fn into_file(answer: &mut ::lake::Answer, path: &Path, shape: Shape) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot = || format!("{} cannot be written", path.display());
    let file = NamedTempFile::new_in(folder).with_context(cannot)?;
    let mut writer = Writer::new(shape, std::io::BufWriter::new(file.as_file()), answer.schema().clone()).with_context(cannot)?;
    let mut rows = 0;
    while let Some(piece) = answer.next().await? {
        rows += piece.num_rows();
        writer.write(&piece).with_context(cannot)?;
    }
    writer.end().with_context(cannot)?;
    file.as_file().sync_all().with_context(cannot)?;
    file.persist(path).with_context(cannot)?;
    let row = json!({"file": path, "rows": rows});
    if std::io::stdout().is_terminal() || output::asked().is_some() { Ok(output::tell(&row, format_args!("{}: {rows} rows", path.display()))?) } else { Ok(()) }
}

fn described(table: &str, through: Option<&str>) -> Result<Vec<serde_json::Map<String, serde_json::Value>>, Usage> {
    if table.is_empty() {
        return Ok(objects(Table::public().map(|table| json!({"table": table.name(), "what": table.what()}))));
    }
    let table = known(table)?;
    if let Some(name) = through {
        let seen = columns(profile(name)?, table).ok_or_else(|| Usage(format!("--profile {name}: {} names no patient, and is not seen", table.name())))?;
        return Ok(objects(seen.iter().map(|column| json!({"column": column.name, "what": column.what}))));
    }
    let row = |column: &::lake::tables::Column| json!({"column": column.name, "type": column.data_type().to_string(), "nullable": column.is_nullable(), "what": column.what});
    Ok(objects(table.columns().iter().map(row)))
}
