//! SQL over a version, by DataFusion. It reads, and cannot do anything else: no statement but a query is planned, and no table but ours is known.
//!
//! A query runs on threads of its own. One that joins for ever never gives them back, so they are not waited for: whoever asked is answered when the
//! time is up, and the process ends without them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::error::CuratedError;
use crate::export::{self, Cohort, Through};
use crate::lake::Lake;
use crate::manifest::Manifest;
use crate::tables::Table;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub time: Duration,
    /// Bytes that operators may hold.
    pub memory: usize,
    /// More rows than these are an error, and no answer that looks whole.
    pub rows: u64,
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { time: Duration::from_secs(60), memory: 1 << 30, rows: 1_000_000, threads }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error(transparent)]
    Lake(#[from] CuratedError),
    #[error("this is read-only: a query begins with SELECT, WITH, VALUES or EXPLAIN; {0}")]
    Writes(String),
    #[error("{0}")]
    Sql(String),
    #[error("{0}")]
    Cohort(String),
    #[error("a file of the lake cannot be read: {0}; `vigil lake verify` says which")]
    Damaged(String),
    #[error("it was stopped after {} s, its limit: narrow it by patient or date, or raise --timeout", .0.as_secs_f64())]
    Time(Duration),
    #[error("it needs more than {} MiB of memory, its limit: group less, narrow it by patient or date, or raise --memory ({reason})", limit >> 20)]
    Memory { limit: usize, reason: String },
    #[error("it needs more memory than its limit: raise --memory, or export less at a time ({0})")]
    Exhausted(String),
    #[error("it has more than {0} rows, its limit: add LIMIT, aggregate, or raise --rows")]
    Rows(u64),
    #[error("cancelled")]
    Cancelled,
    #[error("no threads can be had for it: {0}")]
    Threads(std::io::Error),
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::IoError(source) => Self::Damaged(source.to_string()),
            DataFusionError::ParquetError(reason) => Self::Damaged(reason.to_string()),
            DataFusionError::ResourcesExhausted(reason) => Self::Exhausted(reason.lines().next().unwrap_or_default().to_owned()),
            _ => Self::Sql(error.strip_backtrace()),
        }
    }
}

/// An answer that comes piece by piece.
pub struct Answer {
    schema: SchemaRef,
    pieces: mpsc::Receiver<Result<RecordBatch, QueryError>>,
    runtime: Option<tokio::runtime::Runtime>,
    deadline: Instant,
    limits: Limits,
    rows: u64,
}

impl Drop for Answer {
    fn drop(&mut self) {
        // never waited for: see above
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Answer {
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next piece; `None` at its end. Dropping the answer cancels it.
    ///
    /// # Errors
    /// When a limit is reached, or the query fails.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        match tokio::time::timeout_at(self.deadline.into(), self.pieces.recv()).await {
            Err(_) => Err(QueryError::Time(self.limits.time)),
            Ok(None) => Ok(None),
            Ok(Some(piece)) => {
                let piece = piece?;
                self.rows += piece.num_rows() as u64;
                if self.rows > self.limits.rows { Err(QueryError::Rows(self.limits.rows)) } else { Ok(Some(piece)) }
            }
        }
    }
}

fn failed(error: DataFusionError, limits: &Limits) -> QueryError {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(reason) => {
            QueryError::Memory { limit: limits.memory, reason: reason.lines().next().unwrap_or_default().to_owned() }
        }
        DataFusionError::Plan(reason) if reason.contains("not supported") || reason.contains("not allowed") => QueryError::Writes(reason.clone()),
        DataFusionError::Plan(reason) if reason.starts_with("table '") => {
            let known: Vec<&str> = Table::public().map(Table::name).chain(["current_windows"]).collect();
            QueryError::Sql(format!("{}: the tables are {}", reason.replace("vigil.curated.", ""), known.join(", ")))
        }
        DataFusionError::ParquetError(reason) => QueryError::Damaged(reason.to_string()),
        _ => QueryError::Sql(error.strip_backtrace()),
    }
}

/// Begins a query, and answers when the form of its answer is known. `through`: what people who may not know who is who may see.
///
/// # Errors
/// When it is no query, names what is not there, or is not planned within its time.
pub async fn query(lake: &Lake, manifest: &Manifest, sql: &str, through: Option<Through>, limits: Limits) -> Result<Answer, QueryError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(limits.threads).thread_name("query").enable_all().build();
    let runtime = runtime.map_err(QueryError::Threads)?;
    let deadline = Instant::now() + limits.time;
    let (tell, pieces) = mpsc::channel(4);
    let (planned, plan) = tokio::sync::oneshot::channel();
    let (lake, manifest, sql) = (lake.clone(), manifest.clone(), sql.to_owned());
    runtime.spawn(async move {
        let seen = async {
            let Some(through) = &through else { return context(&lake, &manifest, &limits).await };
            let seen = export::see(&lake, &manifest, &limits, through, &Cohort::All).await?.views;
            current(&seen).await?;
            Ok(seen)
        };
        let context = match seen.await {
            Ok(context) => context,
            Err(error) => return drop(planned.send(Err(error))),
        };
        let only_queries = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let answer = async { context.sql_with_options(&sql, only_queries).await?.execute_stream().await };
        let mut stream = match answer.await {
            Ok(stream) => stream,
            Err(error) => return drop(planned.send(Err(failed(error, &limits)))),
        };
        if planned.send(Ok(stream.schema())).is_err() {
            return;
        }
        while let Some(piece) = stream.next().await {
            // whoever asked has gone
            if tell.send(piece.map_err(|error| failed(error, &limits))).await.is_err() {
                return;
            }
        }
    });
    let mut answer = Answer { schema: Arc::new(arrow::datatypes::Schema::empty()), pieces, runtime: Some(runtime), deadline, limits, rows: 0 };
    answer.schema = match tokio::time::timeout_at(deadline.into(), plan).await {
        Err(_) => return Err(QueryError::Time(limits.time)),
        Ok(Err(_)) => return Err(QueryError::Cancelled),
        Ok(Ok(planned)) => planned?,
    };
    Ok(answer)
}

/// A context that knows no table, within limits.
pub(crate) fn empty(limits: &Limits) -> Result<SessionContext, QueryError> {
    let pool: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(limits.memory));
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::OsTmpDirectory);
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).with_disk_manager_builder(disk).build_arc()?;
    let mut config =
        SessionConfig::new().with_target_partitions(limits.threads).with_information_schema(true).with_default_catalog_and_schema("vigil", "curated");
    // patients and devices are asked for by name: a filter that is pushed into the scan reads only their pages
    config.options_mut().execution.parquet.pushdown_filters = true;
    config.options_mut().execution.parquet.reorder_filters = true;
    // of several sorts side by side the first that merges what it spilled takes the memory, and the others end in an error
    config.options_mut().optimizer.repartition_sorts = false;
    // what merging takes beside the rows that it merges: of many columns with text as much as they take themselves
    config.options_mut().execution.sort_spill_reservation_bytes = limits.memory / 2;
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

/// What a query may see, and no more.
pub(crate) async fn context(lake: &Lake, manifest: &Manifest, limits: &Limits) -> Result<SessionContext, QueryError> {
    let context = empty(limits)?;
    for table in Table::public() {
        context.register_table(TableReference::bare(table.name()), source(lake, manifest, table)?)?;
    }
    current(&context).await?;
    Ok(context)
}

async fn current(context: &SessionContext) -> Result<(), QueryError> {
    let current = context.sql("SELECT * FROM windows WHERE current").await?;
    context.register_table(TableReference::bare("current_windows"), current.into_view())?;
    Ok(())
}

fn source(lake: &Lake, manifest: &Manifest, table: Table) -> Result<Arc<dyn datafusion::catalog::TableProvider>, DataFusionError> {
    let schema: SchemaRef = table.schema();
    let files = manifest.table(table);
    if files.is_empty() {
        return Ok(Arc::new(datafusion::datasource::empty::EmptyTable::new(schema)));
    }
    let root = lake.root().canonicalize()?;
    let urls = files.iter().map(|file| ListingTableUrl::parse(root.join(&file.name).display().to_string())).collect::<Result<Vec<_>, _>>()?;
    let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
    let config = ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options).with_schema(schema);
    Ok(Arc::new(ListingTable::try_new(config)?))
}
