//! A folder for somebody else: data of a cohort, with or without identities, and the papers that say what it is.
//!
//! It promises that the folder is there whole or not at all, that one version and one request make the same bytes of data, and that with a profile other
//! than `identified` nothing reaches a file but through [`identity::views`].

mod anonymity;
mod form;
mod identity;
mod papers;

use std::fs::File;
use std::io::{BufWriter, Read};
use std::path::Path;

use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use schemas::{EventTime, Metric};
use sha2::{Digest, Sha256};

use crate::error::CuratedError;
use crate::lake::Lake;
use crate::manifest::Manifest;
use crate::progress::Progress;
use crate::query::{self, Limits, QueryError};
use crate::tables::Table;
use crate::write::{Shape, Writer};

pub use anonymity::Anonymity;
pub use form::{Every, Form, Gaps};
pub use identity::{Cohort, Profile, ProjectKey, Seen, Through, columns};
pub use papers::{Exported, known};

/// Rows that are written at a time, so that the same rows make the same bytes.
const PIECE: usize = 8192;
/// Rows that are written to learn how large one is.
const SAMPLE: usize = 20_000;

/// What is wanted, and who answers for it.
#[derive(Clone, Debug)]
pub struct Request {
    pub project: String,
    pub purpose: String,
    pub requester: String,
    pub approver: String,
    pub through: Through,
    pub cohort: Cohort,
    pub tables: Vec<Table>,
    pub form: Form,
    pub every: Option<Every>,
    pub shape: Shape,
    /// Bytes that sorting and grouping may hold.
    pub memory: usize,
    pub now: EventTime,
}

/// One table of the export.
struct Part {
    table: Table,
    sql: String,
    what: Vec<(String, String)>,
    rows: u64,
    bytes: u64,
}

/// An export that is known to be possible.
pub struct Prepared {
    request: Request,
    manifest: Manifest,
    views: SessionContext,
    patients: usize,
    anonymity: Option<Anonymity>,
    parts: Vec<Part>,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Done {
    pub patients: usize,
    pub rows: u64,
    pub bytes: u64,
    pub content: String,
}

/// What is seen of a version through a profile.
pub(crate) struct Seeing {
    pub views: SessionContext,
    pub patients: usize,
    pub anonymity: Option<Anonymity>,
}

/// # Errors
/// When the lake cannot be read, or the cohort is not there.
pub(crate) async fn see(lake: &Lake, manifest: &Manifest, limits: &Limits, through: &Through, cohort: &Cohort) -> Result<Seeing, QueryError> {
    let tables = query::context(lake, manifest, limits).await?;
    let views = query::empty(limits)?;
    let mut cohort = identity::cohort(&tables, cohort).await?;
    let (told, anonymity) = match through.profile {
        Profile::ExpertDetermination => {
            let (told, anonymity) = anonymity::anonymous(&mut cohort, through.k);
            (told, Some(anonymity))
        }
        _ => Default::default(),
    };
    identity::views(&tables, &views, through, &cohort, &told).await?;
    Ok(Seeing { views, patients: cohort.len(), anonymity })
}

/// Opens the version, chooses the cohort and counts what will be written.
///
/// # Errors
/// When the lake cannot be read, or what is wanted is not there.
pub async fn prepare(lake: &Lake, manifest: Manifest, request: Request) -> Result<Prepared, QueryError> {
    // sums depend on the order of what is added: one after the other, they are the same each time
    let threads = if request.form == Form::Wide || request.every.is_some() { 1 } else { Limits::default().threads };
    let limits = Limits { memory: request.memory, threads, ..Limits::default() };
    let Seeing { views, patients, anonymity } = see(lake, &manifest, &limits, &request.through, &request.cohort).await?;
    let mut parts = Vec::new();
    for table in &request.tables {
        let seen = identity::columns(request.through.profile, *table)
            .ok_or_else(|| QueryError::Cohort(format!("the table {} names no patient, and is had with the profile identified only", table.name())))?;
        let formed = if *table == Table::Readings {
            let metrics = metrics(&views, &request).await?;
            let mut formed = form::readings(request.through.profile, &seen, request.form, request.every, &metrics);
            if let Some(every) = request.every {
                let steps = number(&views, &form::longest(request.through.profile, every.step)).await?;
                formed.sql = formed.sql.replace("{steps}", &steps.to_string());
            }
            formed
        } else {
            form::Formed {
                sql: format!("SELECT * FROM \"{}\"", table.name()),
                columns: seen.iter().map(|seen| (seen.name.clone(), seen.what.clone())).collect(),
            }
        };
        let rows = number(&views, &format!("SELECT count(*) AS n FROM ({})", formed.sql)).await?;
        let bytes = size(&views, &formed.sql, rows, request.shape).await?;
        parts.push(Part { table: *table, sql: formed.sql, what: formed.columns, rows, bytes });
    }
    Ok(Prepared { request, manifest, views, patients, anonymity, parts })
}

async fn number(context: &SessionContext, sql: &str) -> Result<u64, QueryError> {
    use arrow::array::AsArray as _;
    let batches = context.sql(sql).await?.collect().await?;
    let batch = batches.iter().find(|batch| batch.num_rows() > 0);
    Ok(batch.map(|batch| batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0)).and_then(|n| u64::try_from(n).ok()).unwrap_or_default())
}

/// Those asked for, or those that are there.
async fn metrics(context: &SessionContext, request: &Request) -> Result<Vec<Metric>, QueryError> {
    use arrow::array::AsArray as _;
    if !request.through.metrics.is_empty() {
        return Ok(request.through.metrics.clone());
    }
    let mut found = Vec::new();
    for batch in context.sql("SELECT DISTINCT metric FROM readings ORDER BY metric").await?.collect().await? {
        let names = batch.column(0).as_string::<i32>();
        found.extend(names.iter().flatten().filter_map(|name| Metric::ALL.into_iter().find(|metric| metric.name() == name)));
    }
    Ok(found)
}

/// About how many bytes, from the first rows that come.
async fn size(context: &SessionContext, sql: &str, rows: u64, shape: Shape) -> Result<u64, QueryError> {
    let sample = context.sql(&format!("SELECT * FROM ({sql}) LIMIT {SAMPLE}")).await?.collect().await?;
    let Some(first) = sample.first() else { return Ok(0) };
    let mut bytes = Vec::new();
    let mut writer = Writer::new(shape, &mut bytes, first.schema())?;
    let mut count = 0;
    for piece in &sample {
        count += piece.num_rows() as u64;
        writer.write(piece)?;
    }
    writer.end()?;
    Ok(if count == 0 { 0 } else { (bytes.len() as f64 / count as f64 * rows as f64) as u64 })
}

impl Prepared {
    pub fn patients(&self) -> usize {
        self.patients
    }

    pub fn anonymity(&self) -> Option<&Anonymity> {
        self.anonymity.as_ref()
    }

    /// Rows of all tables, and about how many bytes.
    pub fn estimate(&self) -> (u64, u64) {
        self.parts.iter().fold((0, 0), |(rows, bytes), part| (rows + part.rows, bytes + part.bytes))
    }

    /// Writes the folder, which must not be there yet. What is there when it is stopped half way is taken away again.
    ///
    /// # Errors
    /// When it cannot be written, or is cancelled.
    pub async fn write(self, folder: &Path, progress: &Progress) -> Result<Done, QueryError> {
        let cannot = |source| QueryError::Lake(CuratedError::Io { folder: folder.to_owned(), source });
        if folder.exists() {
            return Err(cannot(std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it is there already: name a folder that is not")));
        }
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let half = tempfile::Builder::new().prefix(".vigil-export-").tempdir_in(parent).map_err(cannot)?;
        progress.expect(self.estimate().0);
        let mut files = Vec::new();
        for part in &self.parts {
            files.push(self.part(part, half.path(), progress).await.map_err(|error| match error {
                QueryError::Lake(CuratedError::Io { source, .. }) => cannot(source),
                error => error,
            })?);
        }
        let (rows, bytes) = files.iter().fold((0, 0), |(rows, bytes), file: &Exported| (rows + file.rows, bytes + file.bytes));
        let (csv, markdown) = papers::dictionary(&files);
        let slip = papers::Slip::new(&self.request, &self.manifest, self.patients, self.anonymity.clone(), files);
        let paper = |name: &str, text: &str| std::fs::write(half.path().join(name), text).map_err(cannot);
        paper("dictionary.csv", &csv)?;
        paper("dictionary.md", &markdown)?;
        paper("README.md", &slip.readme())?;
        if let Some(anonymity) = &self.anonymity {
            paper("k-anonymity.json", &json(anonymity)?)?;
        }
        paper("manifest.json", &json(&slip)?)?;
        // a folder that is there but empty is replaced by rename: that is not ours to do
        let half = half.keep();
        std::fs::rename(&half, folder).map_err(cannot)?;
        Ok(Done { patients: self.patients, rows, bytes, content: slip.content })
    }

    async fn part(&self, part: &Part, folder: &Path, progress: &Progress) -> Result<Exported, QueryError> {
        let frame = self.views.sql(&part.sql).await?;
        let order: Vec<String> = (1..=frame.schema().fields().len()).map(|place| place.to_string()).collect();
        let mut stream = self.views.sql(&format!("SELECT * FROM ({}) ORDER BY {}", part.sql, order.join(", "))).await?.execute_stream().await?;
        let schema: SchemaRef = stream.schema();
        let name = format!("{}.{}", part.table.name(), self.request.shape.extension());
        let path = folder.join(&name);
        let io = |source| QueryError::Lake(CuratedError::Io { folder: folder.to_owned(), source });
        let file = File::create(&path).map_err(io)?;
        let mut writer = Writer::new(self.request.shape, BufWriter::new(&file), schema.clone())?;
        let mut pieces = BatchCoalescer::new(schema.clone(), PIECE);
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            progress.go_on()?;
            rows += batch.num_rows() as u64;
            progress.done(batch.num_rows() as u64);
            pieces.push_batch(batch).map_err(datafusion::error::DataFusionError::from)?;
            while let Some(piece) = pieces.next_completed_batch() {
                writer.write(&piece)?;
            }
        }
        pieces.finish_buffered_batch().map_err(datafusion::error::DataFusionError::from)?;
        while let Some(piece) = pieces.next_completed_batch() {
            writer.write(&piece)?;
        }
        writer.end()?;
        file.sync_all().map_err(io)?;
        let (bytes, sha256) = digest(&path).map_err(io)?;
        let columns = schema.fields().iter().map(|field| {
            let what = part.what.iter().find(|(name, _)| name == field.name()).map(|(_, what)| what.clone()).unwrap_or_default();
            papers::Described { name: field.name().clone(), of: field.data_type().to_string(), what }
        });
        Ok(Exported { table: part.table.name().to_owned(), file: name, rows, bytes, sha256, columns: columns.collect() })
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, QueryError> {
    serde_json::to_string_pretty(value).map_err(|error| QueryError::Sql(error.to_string()))
}

fn digest(path: &Path) -> std::io::Result<(u64, String)> {
    let (mut file, mut hash, mut bytes, mut piece) = (File::open(path)?, Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            let digest = hash.finalize();
            return Ok((bytes, digest.iter().map(|byte| format!("{byte:02x}")).collect()));
        }
        bytes += read as u64;
        hash.update(&piece[..read]);
    }
}
