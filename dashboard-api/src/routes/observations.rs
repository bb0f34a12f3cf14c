//! What a person saw, or was told over the telephone: it goes through the log like any other reading, marked as typed, and can be taken back as
//! entered in error.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use futures::future::try_join_all;
use journal::Topic;
use schemas::{Acvpu, EventTime, Input, Metric, Micros, Offset, PatientId, Reading, ReadingId, Typed, Void, partition_of};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::App;
use crate::auth::MayAct;
use crate::problem::Problem;
use crate::sent::{Sent, patient_id, reading_id};
use crate::view::Time;

/// Values in one request.
const MOST: usize = 16;
/// How far ahead of ours a clock may be, as with devices.
const AHEAD: Micros = Micros::minutes(2);
/// How far back the journal reaches.
const BACK: Micros = Micros::days(30);
/// How long an answer waits until what was stored is shown.
const SHOWN: Duration = Duration::from_secs(2);

/// What was seen at one time.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Observed {
    /// Not when it is typed: when it was so.
    #[schema(value_type = String, format = DateTime)]
    measured_at: EventTime,
    /// 1 to 16, each of another metric.
    values: Vec<ObservedValue>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ObservedValue {
    #[schema(example = "consciousness")]
    metric: String,
    /// A number; of consciousness `A`, `C`, `V`, `P` or `U`; of oxygen_flow also `air`.
    value: Said,
    /// The metric's own, when it is left out; whatever devices may send is read.
    #[schema(example = "mmHg")]
    unit: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Said {
    Number(f64),
    Word(String),
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Entered {
    pub server_time: Time,
    pub observations: Vec<EnteredValue>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct EnteredValue {
    /// With it the value can be voided.
    pub id: String,
    #[schema(value_type = String, example = "consciousness")]
    pub metric: Metric,
    /// In the metric's own unit.
    pub value: f64,
    #[schema(example = "A")]
    pub text: String,
    pub unit: &'static str,
    pub observed_at: Time,
    pub received_at: Time,
    pub author: String,
    /// So much older than the newest of its metric that it is shown, and no rule looks at it.
    pub beyond_horizon: bool,
}

/// Enters what was seen. It is stored when this answers; the same request with the same `idempotency-key` is stored once, whatever became of
/// the answer. A metric, a value, a unit or a time that cannot be is refused, and then nothing of the request is stored.
#[utoipa::path(post, path = "/api/v1/patients/{id}/observations", tag = "patients",
    params(("id" = String, Path), ("idempotency-key" = String, Header, description = "1 to 64 letters, digits, `-`, `_`, `.`: another for each thing that was seen")),
    request_body = Observed,
    responses((status = 201, body = Entered), (status = 409, description = "the key stands for another value, or for one that was voided"),
        (status = 428, description = "idempotency-key is missing")))]
pub(crate) async fn enter(
    State(app): State<Arc<App>>,
    MayAct(who): MayAct,
    Path(id): Path<String>,
    headers: HeaderMap,
    Sent(observed): Sent<Observed>,
) -> Result<(StatusCode, Json<Entered>), Problem> {
    let patient = patient_id(&id)?;
    app.known_patient(&patient)?;
    let key = key(&headers)?;
    let now = crate::now();
    let readings = check(&observed, Typed { patient: &patient, author: who.name(), key }, now)?;
    for reading in &readings {
        let known = app.follower.find(&patient, reading.id).await.map_err(|_| Problem::internal("try again"))?;
        if known.is_some_and(|(_, known)| known.value.to_bits() != reading.value.to_bits()) {
            return Err(taken(reading.metric, "stands for another value already"));
        }
    }
    let metrics: Vec<&str> = readings.iter().map(|reading| reading.metric.name()).collect();
    app.auditor.record(&who, "observation.enter", Some(&patient), format!("{} of {}", metrics.join(", "), observed.measured_at)).await?;
    let inputs = readings.iter().map(|reading| Input::Reading(reading.clone())).collect();
    let last = append(&app, &patient, inputs).await?;
    let shown = app.follower.reached(&patient, last, SHOWN).await;
    let mut observations = Vec::with_capacity(readings.len());
    for reading in readings {
        let known = app.follower.find(&patient, reading.id).await.map_err(|_| Problem::internal("try again"))?;
        if shown && known.is_none() {
            return Err(taken(reading.metric, "was voided since"));
        }
        let newest = app.follower.latest_at(&patient, reading.metric).await.map_err(|_| Problem::internal("try again"))?;
        observations.push(EnteredValue {
            id: reading.id.to_string(),
            metric: reading.metric,
            value: reading.value,
            text: reading.metric.text(reading.value),
            unit: reading.metric.display_unit(),
            observed_at: reading.at.into(),
            received_at: known.map_or(reading.received_at, |(_, known)| known.received_at).into(),
            author: reading.author,
            beyond_horizon: newest.is_some_and(|newest| newest - reading.at > app.engine.horizon),
        });
    }
    Ok((StatusCode::CREATED, Json(Entered { server_time: crate::now().into(), observations })))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VoidReason {
    /// What is wrong with it; 1 to 500 characters.
    #[schema(example = "another patient's cuff")]
    reason: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Voided {
    pub id: String,
    #[schema(value_type = String)]
    pub metric: Metric,
    pub observed_at: Time,
    pub reason: String,
    pub author: String,
}

/// Takes a reading back as entered in error, whoever or whatever sent it. It is no longer shown and no rule looks at it; windows and alerts
/// that rested on it are amended or withdrawn, and who was called is told. A resend does not bring it back.
#[utoipa::path(post, path = "/api/v1/patients/{id}/observations/{reading}/void", tag = "patients",
    params(("id" = String, Path), ("reading" = String, Path, description = "its `id`")), request_body = VoidReason,
    responses((status = 200, body = Voided), (status = 404, description = "not among the readings that are shown: voided already, or of some hours ago")))]
pub(crate) async fn void(
    State(app): State<Arc<App>>,
    MayAct(who): MayAct,
    Path((id, reading)): Path<(String, String)>,
    Sent(VoidReason { reason }): Sent<VoidReason>,
) -> Result<Json<Voided>, Problem> {
    let patient = patient_id(&id)?;
    app.known_patient(&patient)?;
    let reading = reading_id(&reading)?;
    let reason = reason.trim().to_owned();
    if !(1..=500).contains(&reason.chars().count()) {
        return Err(Problem::invalid("`reason` has not 1 to 500 characters", "say in a few words what is wrong with the reading"));
    }
    let known = app.follower.find(&patient, reading).await.map_err(|_| Problem::internal("try again"))?;
    let Some((metric, known)) = known else { return Err(not_shown(reading)) };
    app.auditor.record(&who, "observation.void", Some(&patient), format!("{} of {}", metric.name(), known.at)).await?;
    let void = Void { reading, patient: patient.clone(), metric, at: known.at, reason, author: who.name().to_owned(), moved_to: None };
    let last = append(&app, &patient, vec![Input::Void(void.clone())]).await?;
    app.follower.reached(&patient, last, SHOWN).await;
    Ok(Json(Voided { id: reading.to_string(), metric, observed_at: known.at.into(), reason: void.reason, author: void.author }))
}

fn not_shown(reading: ReadingId) -> Problem {
    let detail = format!("reading `{reading}` is not among those that are shown of this patient");
    Problem::new(
        StatusCode::NOT_FOUND,
        "/problems/not-found",
        "Not found",
        detail,
        "it was voided already, or is of some hours ago; GET …/vitals shows what is there",
    )
}

fn taken(metric: Metric, what: &str) -> Problem {
    let detail = format!("the `idempotency-key` {what}: {metric}");
    Problem::new(StatusCode::CONFLICT, "/problems/conflict", "Not possible in this state", detail, "send what is new under another key")
}

fn key(headers: &HeaderMap) -> Result<&str, Problem> {
    let remedy = "send 1 to 64 letters, digits, `-`, `_` or `.`, new for each thing that was seen and the same when it is sent again";
    let Some(key) = headers.get("idempotency-key") else {
        return Err(Problem::of_status(StatusCode::PRECONDITION_REQUIRED, "`idempotency-key` is missing", remedy));
    };
    let good = |key: &&str| (1..=64).contains(&key.len()) && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    key.to_str().ok().filter(good).ok_or_else(|| Problem::of_status(StatusCode::BAD_REQUEST, "`idempotency-key` is no key", remedy))
}

/// All of it, or nothing.
fn check(observed: &Observed, typed: Typed<'_>, now: EventTime) -> Result<Vec<Reading>, Problem> {
    let at = observed.measured_at;
    if at > now + AHEAD {
        return Err(Problem::invalid(format!("measured_at: {at} is in the future"), "send when it was seen; this server's time is in the header `date`"));
    }
    if at < now - BACK {
        return Err(Problem::invalid(format!("measured_at: {at} is more than 30 days ago"), "enter what was seen within 30 days"));
    }
    if !(1..=MOST).contains(&observed.values.len()) {
        return Err(Problem::invalid(format!("values: {} of them", observed.values.len()), "send 1 to 16, each of another metric"));
    }
    let mut readings: Vec<Reading> = Vec::with_capacity(observed.values.len());
    for (place, value) in observed.values.iter().enumerate() {
        let (metric, number) = understood(value).map_err(|(detail, remedy)| Problem::invalid(format!("values[{place}]: {detail}"), remedy))?;
        if readings.iter().any(|reading| reading.metric == metric) {
            return Err(Problem::invalid(format!("values[{place}]: {metric} is there twice"), "send one of the two, or each with its own time"));
        }
        let unit = value.unit.as_deref();
        let sent = if let Said::Number(sent) = value.value { sent } else { number };
        let reading = typed.reading(metric, number, (sent, unit.unwrap_or_default()), at, now);
        readings.push(reading.map_err(|_| Problem::internal("try again"))?);
    }
    Ok(readings)
}

fn understood(observed: &ObservedValue) -> Result<(Metric, f64), (String, String)> {
    let metric: Metric = observed.metric.parse().map_err(|error| (format!("{error}"), format!("use one of {}", Metric::ALL.map(Metric::name).join(", "))))?;
    if metric == Metric::Canary {
        return Err((format!("`{metric}` is not a metric"), format!("use one of {}", Metric::ALL.map(Metric::name).join(", "))));
    }
    match (metric, &observed.value) {
        (Metric::Consciousness, Said::Word(word)) => {
            word.parse::<Acvpu>().map(|level| (metric, level.value())).map_err(|error| (error.to_string(), "send one of the letters".to_owned()))
        }
        (Metric::Consciousness, Said::Number(_)) => Err(("consciousness is no number".to_owned(), "send A, C, V, P or U".to_owned())),
        (Metric::OxygenFlow, Said::Word(word)) if word.eq_ignore_ascii_case("air") => Ok((metric, 0.0)),
        (Metric::OxygenFlow, Said::Word(_)) => Err(("oxygen_flow is a number or `air`".to_owned(), "send the flow in L/min, or `air`".to_owned())),
        (_, Said::Word(_)) => Err((format!("{metric} is no word"), format!("send a number in {}", metric.codes().ucum))),
        (_, Said::Number(number)) => {
            let converted = metric.convert(*number, observed.unit.as_deref());
            converted.map(|value| (metric, value)).map_err(|error| (error.to_string(), "correct the value or its unit".to_owned()))
        }
    }
}

/// Where the last of them stands, once all are durable.
async fn append(app: &App, patient: &PatientId, inputs: Vec<Input>) -> Result<Offset, Problem> {
    let partition = partition_of(patient.as_bytes(), app.journal.partitions());
    let full = |_| Problem::unavailable("the journal takes nothing just now; nothing was stored", "send the same again");
    let receipts = inputs.iter().map(|input| app.journal.append(Topic::Inputs, partition, patient.as_bytes(), input.encode()).map_err(full));
    let receipts = receipts.collect::<Result<Vec<_>, _>>()?;
    let offsets = try_join_all(receipts).await.map_err(|error| {
        tracing::error!(%error, "what a person entered was not stored");
        Problem::unavailable("the journal did not confirm it: it may be stored or not", "send the same again, with the same key")
    })?;
    Ok(offsets.into_iter().max().unwrap_or(Offset(0)))
}
