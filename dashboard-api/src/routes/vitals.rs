//! The samples behind a chart.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use schemas::{EventTime, Metric};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::App;
use crate::auth::MayRead;
use crate::problem::Problem;
use crate::sent::{Asked, instant, patient_id};
use crate::view::{SampleView, Vitals};

/// Samples in one answer.
const MOST: usize = 10_000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// `spo2`, `heart_rate` …
    metric: Option<String>,
    /// Measured at or after; RFC 3339.
    from: Option<String>,
    /// Measured at or before; RFC 3339.
    to: Option<String>,
    /// The newest so many; 5,000 unless told, 10,000 at most.
    limit: Option<u32>,
}

/// Samples of one metric, from what this server holds in memory: some hours. `complete_since` says from when on none is missing.
#[utoipa::path(get, path = "/api/v1/patients/{id}/vitals", tag = "patients", params(("id" = String, Path), Query), responses((status = 200, body = Vitals)))]
pub(crate) async fn vitals(
    State(app): State<Arc<App>>,
    MayRead(who): MayRead,
    Path(id): Path<String>,
    Asked(query): Asked<Query>,
) -> Result<Json<Vitals>, Problem> {
    let patient = patient_id(&id)?;
    app.known_patient(&patient)?;
    let metric = metric(query.metric.as_deref())?;
    let from = instant("from", query.from.as_deref())?.unwrap_or(EventTime::MIN);
    let to = instant("to", query.to.as_deref())?.unwrap_or(EventTime::MAX);
    if from > to {
        return Err(Problem::invalid("`from` is after `to`", "exchange them"));
    }
    let limit = query.limit.unwrap_or(5_000).clamp(1, MOST as u32) as usize;
    let stretch = app.follower.samples(&patient, metric, from, to, limit).await.map_err(|_| Problem::internal("try again"))?;
    app.auditor.record(&who, "read.vitals", Some(&patient), metric.name()).await?;
    Ok(Json(Vitals {
        server_time: crate::now().into(),
        metric,
        unit: metric.display_unit(),
        samples: stretch.samples.iter().map(SampleView::from).collect(),
        complete_since: stretch.complete_since.map(Into::into),
    }))
}

fn metric(name: Option<&str>) -> Result<Metric, Problem> {
    let known = || format!("use one of {}", Metric::ALL.map(Metric::name).join(", "));
    let name = name.ok_or_else(|| Problem::invalid("`metric` is missing", known()))?;
    name.parse().map_err(|_| Problem::invalid(format!("`{}` is no metric", name.chars().take(64).collect::<String>()), known()))
}
