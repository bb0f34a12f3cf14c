//! What alerts turned out to be, and how long they took.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use schemas::{EventTime, Micros};
use serde::{Deserialize, Serialize};
use store::episodes::{Hops, Judged};
use utoipa::{IntoParams, ToSchema};

use super::actions::VerdictWord;
use crate::App;
use crate::auth::{MayCount, MayRead};
use crate::problem::Problem;
use crate::sent::Asked;
use crate::view::{PriorityWord, Time};

/// Alerts that one report of delays looks at.
const LOOKED: u32 = 100_000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Between {
    /// RFC 3339; 30 days ago unless told.
    from: Option<String>,
    /// Now unless told.
    until: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// RFC 3339; 30 days ago unless told.
    from: Option<String>,
    /// Now unless told.
    until: Option<String>,
    /// Only these; all unless told.
    #[param(inline)]
    verdict: Option<VerdictWord>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Precision {
    pub from: Time,
    pub until: Time,
    pub rules: Vec<RulePrecision>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct RulePrecision {
    pub rule: String,
    pub rule_name: String,
    pub priority: PriorityWord,
    /// Raised in that time, judged or not.
    pub alerts: u64,
    pub judged: u64,
    pub r#true: u64,
    pub artefact: u64,
    pub expected: u64,
    pub device: u64,
    /// The part of the judged ones that a patient needed; `null` while nobody judged any.
    #[schema(required = true)]
    pub precision: Option<f64>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Delays {
    pub from: Time,
    pub until: Time,
    pub hops: Vec<Delay>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Delay {
    #[schema(example = "stored")]
    pub from: &'static str,
    #[schema(example = "attempted")]
    pub to: &'static str,
    /// Alerts that came so far.
    pub alerts: usize,
    #[schema(required = true)]
    pub p50_ms: Option<f64>,
    #[schema(required = true)]
    pub p99_ms: Option<f64>,
}

fn between(from: Option<&str>, until: Option<&str>) -> Result<(EventTime, EventTime), Problem> {
    let time = |text: &str| EventTime::parse(text).map_err(|error| Problem::invalid(error.to_string(), "write RFC 3339 with a zone"));
    let until = until.map(time).transpose()?.unwrap_or_else(crate::now);
    let from = from.map(time).transpose()?.unwrap_or(until - Micros::days(30));
    Ok((from, until))
}

/// Of each rule's alerts, how many a patient needed: by the verdicts of who looked.
#[utoipa::path(get, path = "/api/v1/reports/precision", tag = "reports", params(Between), responses((status = 200, body = Precision)))]
pub(crate) async fn precision(State(app): State<Arc<App>>, _: MayCount, Asked(asked): Asked<Between>) -> Result<Json<Precision>, Problem> {
    let (from, until) = between(asked.from.as_deref(), asked.until.as_deref())?;
    let row = |one: Judged| RulePrecision {
        judged: one.judged(),
        precision: one.precision(),
        rule: one.rule.to_string(),
        rule_name: one.rule_name,
        priority: one.priority.into(),
        alerts: one.alerts,
        r#true: one.words[0],
        artefact: one.words[1],
        expected: one.words[2],
        device: one.words[3],
    };
    let rules = app.store.judged(from, until).await?.into_iter().map(row).collect();
    Ok(Json(Precision { from: from.into(), until: until.into(), rules }))
}

/// Every alert that was judged, as labels for trying a rule on history: CSV with patient, time, rule and verdict.
#[utoipa::path(get, path = "/api/v1/reports/labels.csv", tag = "reports", params(Wanted),
    responses((status = 200, description = "patient,time,rule,verdict", content_type = "text/csv", body = String)))]
pub(crate) async fn labels(State(app): State<Arc<App>>, MayRead(who): MayRead, Asked(asked): Asked<Wanted>) -> Result<Response, Problem> {
    let (from, until) = between(asked.from.as_deref(), asked.until.as_deref())?;
    app.auditor.record(&who, "export.labels", None, format!("{from} {until}")).await?;
    // none of the columns can hold a comma or a quote
    let mut csv = String::from("patient,time,rule,verdict\n");
    for label in app.store.labels(from, until, asked.verdict.map(Into::into)).await? {
        csv += &format!("{},{},{},{}\n", label.patient, label.time, label.rule, label.word);
    }
    Ok(([(CONTENT_TYPE, "text/csv; charset=utf-8")], csv).into_response())
}

/// How long alerts took from hop to hop; late ones are left out, because they were measured long before they came.
#[utoipa::path(get, path = "/api/v1/reports/delays", tag = "reports", params(Between), responses((status = 200, body = Delays)))]
pub(crate) async fn delays(State(app): State<Arc<App>>, _: MayCount, Asked(asked): Asked<Between>) -> Result<Json<Delays>, Problem> {
    let (from, until) = between(asked.from.as_deref(), asked.until.as_deref())?;
    let all: Vec<Hops> = app.store.hops_between(from, until, LOOKED).await?.into_iter().filter(|hops| !hops.late).collect();
    type At = fn(&Hops) -> Option<EventTime>;
    let hops: [(&str, At); 8] = [
        ("measured", |h| Some(h.measured)),
        ("journalled", |h| Some(h.journalled)),
        ("evaluated", |h| h.evaluated),
        ("stored", |h| h.stored),
        ("attempted", |h| h.attempted),
        ("delivered", |h| h.delivered),
        ("seen", |h| h.seen),
        ("taken", |h| h.taken),
    ];
    let mut delays: Vec<Delay> = hops.windows(2).map(|pair| delay(&all, pair[0], pair[1])).collect();
    for (a, b) in [(1, 4), (1, 5), (5, 7)] {
        delays.push(delay(&all, hops[a], hops[b]));
    }
    Ok(Json(Delays { from: from.into(), until: until.into(), hops: delays }))
}

fn delay(all: &[Hops], (from, a): (&'static str, fn(&Hops) -> Option<EventTime>), (to, b): (&'static str, fn(&Hops) -> Option<EventTime>)) -> Delay {
    let mut spans: Vec<i64> = all.iter().filter_map(|hops| Some((b(hops)? - a(hops)?).0)).collect();
    spans.sort_unstable();
    let at = |percent: usize| spans.get((spans.len().saturating_sub(1) * percent).div_ceil(100)).map(|micros| *micros as f64 / 1e3);
    Delay { from, to, alerts: spans.len(), p50_ms: at(50), p99_ms: at(99) }
}
