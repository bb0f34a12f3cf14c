//! What analysts ask for and come back to: back-tests, exports, questions to the lake.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemas::{EventTime, PatientId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use utoipa::ToSchema;

use crate::App;
use crate::auth::{MayApprove, MayAsk, Principal, Right};
use crate::jobs::{Asked, File, Job, Kind, Refused, State as JobState};
use crate::problem::Problem;
use crate::sent::Sent;
use crate::view::Time;

/// The profile that hides nobody.
const IDENTIFIED: &str = "identified";
const PIECE: usize = 256 << 10;

#[derive(Serialize, ToSchema)]
pub(crate) struct JobView {
    pub id: String,
    pub kind: Kind,
    pub state: JobState,
    pub requested_by: String,
    /// Of an export: who allowed it.
    #[schema(required = true)]
    pub approved_by: Option<String>,
    pub created_at: Time,
    #[schema(required = true)]
    pub started_at: Option<Time>,
    #[schema(required = true)]
    pub ended_at: Option<Time>,
    /// Then it is deleted, with its files.
    pub expires_at: Time,
    /// Jobs that are begun before it.
    pub ahead: usize,
    /// While it runs, and can tell.
    #[schema(required = true)]
    pub progress: Option<ProgressView>,
    /// Why it failed.
    #[schema(required = true)]
    pub error: Option<String>,
    /// What it says of itself: of an export rows, bytes, patients, version and `content`, the digest of its data.
    #[schema(value_type = Object)]
    pub result: Value,
    pub files: Vec<File>,
    /// As it was sent.
    #[schema(value_type = Object)]
    pub request: Value,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ProgressView {
    pub done: u64,
    pub total: u64,
    #[schema(example = "rows")]
    pub unit: String,
    #[schema(required = true)]
    pub per_second: Option<f64>,
    /// Seconds that it still takes at that rate.
    #[schema(required = true)]
    pub eta_s: Option<f64>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct JobList {
    pub server_time: Time,
    /// The newest first.
    pub jobs: Vec<JobView>,
}

impl JobView {
    fn new(app: &App, job: Job) -> Self {
        let ahead = app.jobs.ahead(&job);
        let since = job.started_at.map(|started| (crate::now() - started).0 as f64 / 1e6);
        let progress = job.progress.filter(|_| job.state == JobState::Running).map(|progress| {
            let rate = since.filter(|seconds| *seconds > 0.0 && progress.done > 0).map(|seconds| progress.done as f64 / seconds);
            let left = progress.total.saturating_sub(progress.done) as f64;
            ProgressView { done: progress.done, total: progress.total, unit: progress.unit, per_second: rate, eta_s: rate.map(|rate| left / rate) }
        });
        Self {
            id: job.id,
            kind: job.kind,
            state: job.state,
            requested_by: job.person,
            approved_by: job.approved_by,
            created_at: job.created_at.into(),
            started_at: job.started_at.map(Into::into),
            ended_at: job.ended_at.map(Into::into),
            expires_at: job.expires_at.into(),
            ahead,
            progress,
            error: job.error,
            result: job.result,
            files: job.files,
            request: job.request,
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::TooMany(_) | Refused::Full(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "/problems/too-many", "Too many at once", detail, "wait until one is done, or DELETE one of them")
            }
            Refused::NotWaiting(_) => {
                Self::new(StatusCode::CONFLICT, "/problems/conflict", "Not possible in this state", detail, "GET the job, to see what it is")
            }
            Refused::Own => Self::forbidden(detail, "another administrator approves it"),
            Refused::Unknown => Self::new(StatusCode::NOT_FOUND, "/problems/not-found", "Not found", detail, "it may have expired: GET /api/v1/jobs has yours"),
            Refused::Io(error) => {
                tracing::error!(%error, "a job was not kept");
                Self::unavailable("the job cannot be kept", "free disk space where dashboard.jobs lies; see the log")
            }
        }
    }
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BacktestRequest {
    /// The rules under trial, as a rule file (TOML); without them those that stand in the log, each from when it came.
    rules: Option<String>,
    /// Other rules, or an earlier version, side by side.
    against: Option<String>,
    /// Side by side with the rules that stand in the log.
    #[serde(default)]
    against_log: bool,
    /// Counts what arrived from here on; from the lake's beginning, when left out.
    #[schema(example = "2026-10-01T00:00:00Z")]
    from: Option<String>,
    /// Reads what arrived before this.
    to: Option<String>,
    /// How much before `from` is read and not counted: `1 day`, or `all`.
    warm_up: Option<String>,
    /// Only these.
    #[serde(default)]
    patients: Vec<String>,
    /// Only patients who are in this ward now.
    ward: Option<String>,
    /// Events that should have been seen coming.
    #[serde(default)]
    labels: Vec<LabelledEvent>,
    /// How long before such an event an alert is about it: `24 h`.
    window: Option<String>,
    /// For the hours of the day: an IANA name.
    timezone: Option<String>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LabelledEvent {
    patient: String,
    time: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportRequest {
    /// Whose pseudonyms: the same project has the same.
    #[schema(example = "sepsis")]
    project: String,
    /// What it is for; stands in the export and in the audit log.
    purpose: String,
    /// `safe-harbor` unless told; `limited-dataset`, `expert-determination`, `identified`.
    profile: Option<String>,
    /// With `expert-determination`.
    k: Option<u32>,
    /// `readings` and `patients` unless told.
    #[serde(default)]
    tables: Vec<String>,
    ward: Option<String>,
    #[serde(default)]
    patients: Vec<String>,
    /// By event time.
    from: Option<String>,
    until: Option<String>,
    #[serde(default)]
    metrics: Vec<String>,
    #[serde(default)]
    wide: bool,
    /// Readings at even steps: `1 h`.
    every: Option<String>,
    /// `leave`, `null` or `carry`.
    gaps: Option<String>,
    carry_for: Option<String>,
    /// `parquet` unless told; `csv`, `ndjson`, `arrow`.
    r#as: Option<String>,
    /// A version of the lake, or a time; the newest unless told.
    as_of: Option<String>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueryRequest {
    #[schema(example = "SELECT patient, avg(value) AS mean FROM readings WHERE metric = 'spo2' GROUP BY patient")]
    sql: String,
    /// What is seen: `safe-harbor`, `limited-dataset` or `expert-determination`. Only an administrator may leave it out, and sees who is who.
    profile: Option<String>,
    /// Whose pseudonyms.
    project: Option<String>,
    /// More than these are refused; 1,000,000 unless told.
    rows: Option<u64>,
    /// It is stopped after this: `60 s` unless told.
    timeout: Option<String>,
    /// `ndjson` unless told; `csv`, `parquet`.
    r#as: Option<String>,
    as_of: Option<String>,
}

/// `--name=value`: whatever the value begins with, it is one.
struct Options(Vec<String>);

impl Options {
    fn of(command: &[&str]) -> Self {
        Self(command.iter().map(|&word| word.to_owned()).collect())
    }

    fn set(&mut self, name: &str, value: Option<&str>) {
        self.0.extend(value.map(|value| format!("--{name}={value}")));
    }

    fn list(&mut self, name: &str, values: &[String]) {
        self.set(name, (!values.is_empty()).then(|| values.join(",")).as_deref());
    }

    fn flag(&mut self, name: &str, set: bool) {
        self.0.extend(set.then(|| format!("--{name}")));
    }
}

/// A file with an id a line.
fn ids(patients: &[String]) -> Result<Option<(&'static str, String)>, Problem> {
    for id in patients {
        PatientId::parse(id).map_err(|error| Problem::invalid(format!("patients: {error}"), "send the ids of patients"))?;
    }
    Ok((!patients.is_empty()).then(|| ("patients.txt", patients.join("\n"))))
}

fn rules(key: &str, toml: &str) -> Result<(), Problem> {
    engine::compile(toml).map(drop).map_err(|wrong| Problem::invalid(format!("{key}: {wrong}"), "`vigil rule check` says the same of the file"))
}

/// Begins a back-test: what rules would have told of the history in the lake, and what that would have cost. Its result is the file `report.json`; who may see patients has `alerts.csv` as well.
#[utoipa::path(post, path = "/api/v1/backtests", tag = "jobs", request_body = BacktestRequest,
    responses((status = 202, description = "it waits, or runs: `location` says where to look", body = JobView)))]
pub(crate) async fn backtest(State(app): State<Arc<App>>, MayAsk(who): MayAsk, Sent(sent): Sent<BacktestRequest>) -> Result<Response, Problem> {
    let identified = who.may(Right::Patients).is_ok();
    let (mut options, mut files) = (Options::of(&["rule", "backtest", "--json"]), Vec::new());
    for (key, name, toml) in [("rules", "rules.toml", &sent.rules), ("against", "against.toml", &sent.against)] {
        let Some(toml) = toml else { continue };
        rules(key, toml)?;
        files.push((name, toml.clone()));
    }
    options.0.extend(sent.rules.as_ref().map(|_| "rules.toml".to_owned()));
    options.set("against", sent.against.as_ref().map(|_| "against.toml"));
    options.flag("against-log", sent.against_log);
    for (name, value) in
        [("from", &sent.from), ("to", &sent.to), ("warm-up", &sent.warm_up), ("ward", &sent.ward), ("window", &sent.window), ("timezone", &sent.timezone)]
    {
        options.set(name, value.as_deref());
    }
    files.extend(ids(&sent.patients)?);
    options.set("patients", (!sent.patients.is_empty()).then_some("patients.txt"));
    if !sent.labels.is_empty() {
        let mut csv = "patient,time\n".to_owned();
        for label in &sent.labels {
            let patient = PatientId::parse(&label.patient).map_err(|error| Problem::invalid(format!("labels: {error}"), "send the ids of patients"))?;
            let time = EventTime::parse(&label.time).map_err(|error| Problem::invalid(format!("labels: {error}"), "write times as 2026-11-22T06:00:00Z"))?;
            csv.push_str(&format!("{patient},{time}\n"));
        }
        files.push(("labels.csv", csv));
        options.set("labels", Some("labels.csv"));
    }
    options.set("alerts", identified.then_some("out/alerts.csv"));
    begin(&app, &who, Kind::Backtest, identified, json!(sent), options, files).await
}

/// Asks for an export, which another administrator approves. Its files are the data, a dictionary, a manifest and a README.
#[utoipa::path(post, path = "/api/v1/exports", tag = "jobs", request_body = ExportRequest,
    responses((status = 202, description = "it waits for approval: `location` says where to look", body = JobView)))]
pub(crate) async fn export(State(app): State<Arc<App>>, MayAsk(who): MayAsk, Sent(sent): Sent<ExportRequest>) -> Result<Response, Problem> {
    let identified = sent.profile.as_deref() == Some(IDENTIFIED);
    if identified {
        who.may(Right::Patients)?;
    }
    if sent.purpose.trim().is_empty() {
        return Err(Problem::invalid("purpose: it says nothing", "say what the export is for"));
    }
    let mut options = Options::of(&["export", "out"]);
    options.set("requester", Some(who.name()));
    options.set("project", Some(&sent.project));
    options.set("purpose", Some(&sent.purpose));
    for (name, value) in [
        ("profile", &sent.profile),
        ("ward", &sent.ward),
        ("from", &sent.from),
        ("until", &sent.until),
        ("every", &sent.every),
        ("gaps", &sent.gaps),
        ("carry-for", &sent.carry_for),
        ("as", &sent.r#as),
        ("as-of", &sent.as_of),
    ] {
        options.set(name, value.as_deref());
    }
    options.set("k", sent.k.map(|k| k.to_string()).as_deref());
    options.list("tables", &sent.tables);
    options.list("metrics", &sent.metrics);
    options.flag("wide", sent.wide);
    let files = Vec::from_iter(ids(&sent.patients)?);
    options.set("patients", (!files.is_empty()).then_some("patients.txt"));
    begin(&app, &who, Kind::Export, identified, json!(sent), options, files).await
}

/// Asks the lake in SQL, read-only. The answer is the file `answer.ndjson`, `.csv` or `.parquet`.
#[utoipa::path(post, path = "/api/v1/queries", tag = "jobs", request_body = QueryRequest,
    responses((status = 202, description = "it waits, or runs: `location` says where to look", body = JobView)))]
pub(crate) async fn query(State(app): State<Arc<App>>, MayAsk(who): MayAsk, Sent(sent): Sent<QueryRequest>) -> Result<Response, Problem> {
    let identified = sent.profile.as_deref().is_none_or(|profile| profile == IDENTIFIED);
    if identified && who.may(Right::Approve).is_err() {
        return Err(Problem::forbidden("a query that hides nobody is an administrator's", "send a profile, such as safe-harbor, and a project"));
    }
    let shape = sent.r#as.as_deref().unwrap_or("ndjson");
    if !["ndjson", "csv", "parquet"].contains(&shape) {
        return Err(Problem::invalid(format!("as: {shape}"), "send ndjson, csv or parquet"));
    }
    let mut options = Options::of(&["sql"]);
    for (name, value) in [("profile", &sent.profile), ("project", &sent.project), ("timeout", &sent.timeout), ("as-of", &sent.as_of)] {
        options.set(name, value.as_deref());
    }
    options.set("rows", sent.rows.map(|rows| rows.to_string()).as_deref());
    options.set("output", Some(&format!("out/answer.{shape}")));
    // whatever it begins with, it is the query
    options.0.extend(["--".to_owned(), sent.sql.clone()]);
    begin(&app, &who, Kind::Query, identified, json!(sent), options, Vec::new()).await
}

async fn begin(
    app: &Arc<App>,
    who: &Principal,
    kind: Kind,
    identified: bool,
    request: Value,
    Options(arguments): Options,
    files: Vec<(&'static str, String)>,
) -> Result<Response, Problem> {
    let seen = if identified { "patients are seen" } else { "nobody is named" };
    app.auditor.record(who, "job.ask", None, format!("{}, {seen}", kind.as_str())).await?;
    let asked = Asked { kind, person: who.name().to_owned(), identified, approval: kind == Kind::Export, request, arguments, files };
    let here = app.clone();
    let job = off(move || here.jobs.ask(asked)).await?;
    let location = HeaderValue::try_from(format!("/api/v1/jobs/{}", job.id)).unwrap_or(HeaderValue::from_static("/api/v1/jobs"));
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(JobView::new(app, job))).into_response())
}

/// What writes to the disk, off the runtime.
async fn off<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refused> + Send + 'static) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => {
            tracing::error!(%error, "a job was not kept");
            Err(Problem::internal("try again; see the log"))
        }
    }
}

/// Own ones; an administrator's are all.
fn found(app: &App, who: &Principal, id: &str) -> Result<Job, Problem> {
    let job = app.jobs.get(id).filter(|job| job.person == who.name() || who.may(Right::Approve).is_ok()).ok_or(Refused::Unknown)?;
    // whoever lost the right since they asked
    if job.identified {
        who.may(Right::Patients)?;
    }
    Ok(job)
}

/// The jobs that you asked for; for an administrator, everybody's.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", responses((status = 200, body = JobList)))]
pub(crate) async fn list(State(app): State<Arc<App>>, MayAsk(who): MayAsk) -> Json<JobList> {
    let all = who.may(Right::Approve).is_ok();
    let jobs = app.jobs.list().into_iter().filter(|job| all || job.person == who.name()).map(|job| JobView::new(&app, job)).collect();
    Json(JobList { server_time: crate::now().into(), jobs })
}

/// How far a job is, and what came of it.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path)), responses((status = 200, body = JobView)))]
pub(crate) async fn one(State(app): State<Arc<App>>, MayAsk(who): MayAsk, Path(id): Path<String>) -> Result<Json<JobView>, Problem> {
    let job = found(&app, &who, &id)?;
    Ok(Json(JobView::new(&app, job)))
}

/// Ends a job that runs or waits, and deletes what came of it.
#[utoipa::path(delete, path = "/api/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path)), responses((status = 204, description = "it is gone")))]
pub(crate) async fn remove(State(app): State<Arc<App>>, MayAsk(who): MayAsk, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let job = found(&app, &who, &id)?;
    app.auditor.record(&who, "job.remove", None, format!("{} {}, {}", job.kind.as_str(), job.id, job.state.as_str())).await?;
    let here = app.clone();
    off(move || here.jobs.remove(&job.id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Allows an export that somebody else asked for.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/approve", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, description = "it waits for its turn, or runs", body = JobView), (status = 409, description = "it does not wait for approval")))]
pub(crate) async fn approve(State(app): State<Arc<App>>, MayApprove(who): MayApprove, Path(id): Path<String>) -> Result<Json<JobView>, Problem> {
    let job = found(&app, &who, &id)?;
    app.auditor.record(&who, "job.approve", None, format!("{} {} of {}", job.kind.as_str(), job.id, job.person)).await?;
    let (here, person) = (app.clone(), who.name().to_owned());
    let job = off(move || here.jobs.approve(&id, &person)).await?;
    Ok(Json(JobView::new(&app, job)))
}

/// A file of a job that is done.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/files/{name}", tag = "jobs", params(("id" = String, Path), ("name" = String, Path)),
    responses((status = 200, description = "the file", content_type = "application/octet-stream", body = String)))]
pub(crate) async fn file(State(app): State<Arc<App>>, MayAsk(who): MayAsk, Path((id, name)): Path<(String, String)>) -> Result<Response, Problem> {
    let job = found(&app, &who, &id)?;
    let path = app.jobs.file(&job, &name).ok_or_else(|| Problem::not_found("the file", &name))?;
    app.auditor.record(&who, "job.read", None, format!("{} {}, {name}", job.kind.as_str(), job.id)).await?;
    let gone = |error| {
        tracing::warn!(job = job.id, %error, "a job's file cannot be read");
        Problem::from(Refused::Unknown)
    };
    let mut file = tokio::fs::File::open(path).await.map_err(gone)?;
    let bytes = file.metadata().await.map_err(gone)?.len();
    let pieces = async_stream::stream! {
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            match (&mut file).take(PIECE as u64).read_to_end(&mut piece).await {
                Ok(0) => return,
                Ok(_) => yield Ok(Bytes::from(piece)),
                Err(error) => {
                    yield Err(error);
                    return;
                }
            }
        }
    };
    let kind = match name.rsplit('.').next() {
        Some("json") => "application/json",
        Some("csv") => "text/csv; charset=utf-8",
        Some("md") => "text/markdown; charset=utf-8",
        Some("ndjson") => "application/x-ndjson",
        _ => "application/octet-stream",
    };
    let attached = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")).unwrap_or(HeaderValue::from_static("attachment"));
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(kind)), (CONTENT_DISPOSITION, attached), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, [(CONTENT_LENGTH, HeaderValue::from(bytes))], Body::from_stream(pieces)).into_response())
}
