//! Alerts: listed, looked at, acknowledged, and given back.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::ETAG;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemas::{AlertId, EventTime};
use serde::Deserialize;
use serde_json::json;
use store::StoreError;
use store::episodes::{Act, Action, Episode, EpisodeCursor, EpisodeFilter, Hop};
use store::notifications::State as Sending;
use utoipa::{IntoParams, ToSchema};

use super::actions::{not_too_long, until};
use crate::App;
use crate::auth::{MayAct, MayRead, micros};
use crate::problem::Problem;
use crate::sent::{Asked, Sent, alert_id, if_match, patient_id};
use crate::view::{Acknowledged, Alert, AlertDetail, Alerts, HistoryView, NotificationView, StateWord};

/// Pages of the store that one request looks through for what is acknowledged or not.
const LOOKED: usize = 10;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    #[param(inline)]
    state: Option<StateWord>,
    ward: Option<String>,
    patient: Option<String>,
    acknowledged: Option<bool>,
    /// 100 unless told, 500 at most.
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// `{}` when there is nothing to say.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acknowledgement {
    note: Option<String>,
    /// After which an alert that is still open is paged again; the installation's `alerts.acknowledged_for` unless told.
    minutes: Option<u32>,
}

fn shown(app: &App, episode: &Episode) -> Alert {
    Alert::new(episode, app.hub.person(&episode.patient).as_deref())
}

fn tag(version: u64) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{version}\"")).ok()
}

/// Alerts, newest heard first.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "alerts", params(Query), responses((status = 200, body = Alerts)))]
pub(crate) async fn list(State(app): State<Arc<App>>, MayRead(who): MayRead, Asked(query): Asked<Query>) -> Result<Json<Alerts>, Problem> {
    if let Some(ward) = &query.ward {
        app.known_ward(ward)?;
    }
    let patient = query.patient.as_deref().map(patient_id).transpose()?;
    let cursor: Option<EpisodeCursor> = query.cursor.as_deref().map(str::parse).transpose()?;
    let limit = query.limit.unwrap_or(100).clamp(1, 500);
    let filter = EpisodeFilter { state: query.state.map(Into::into), ward: query.ward.clone(), patient: patient.clone(), ..EpisodeFilter::default() };
    let (alerts, next) = page(&app, &filter, query.acknowledged, cursor, limit).await?;
    let detail = query.ward.map(|ward| format!("ward {ward}")).unwrap_or_default();
    app.auditor.record(&who, "read.alerts", patient.as_ref(), detail).await?;
    Ok(Json(Alerts { server_time: crate::now().into(), alerts, next: next.map(|cursor| cursor.to_string()) }))
}

async fn page(
    app: &App,
    filter: &EpisodeFilter,
    acknowledged: Option<bool>,
    mut cursor: Option<EpisodeCursor>,
    limit: u32,
) -> Result<(Vec<Alert>, Option<EpisodeCursor>), Problem> {
    let Some(wanted) = acknowledged else {
        let (episodes, next) = app.store.episodes(filter, cursor, limit).await?;
        return Ok((episodes.iter().map(|episode| shown(app, episode)).collect(), next));
    };
    let mut alerts = Vec::new();
    for _ in 0..LOOKED {
        let (episodes, next) = app.store.episodes(filter, cursor, 500).await?;
        for episode in episodes {
            if episode.acknowledged.is_some() == wanted {
                alerts.push(shown(app, &episode));
            }
            if alerts.len() == limit as usize {
                return Ok((alerts, Some(EpisodeCursor { heard_at: episode.heard_at, alert: episode.alert })));
            }
        }
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    Ok((alerts, cursor))
}

/// One alert, with what happened to it; the ETag is for `if-match`.
#[utoipa::path(get, path = "/api/v1/alerts/{id}", tag = "alerts", params(("id" = String, Path)),
    responses((status = 200, body = AlertDetail, headers(("etag" = String)))))]
pub(crate) async fn one(State(app): State<Arc<App>>, MayRead(who): MayRead, Path(id): Path<String>) -> Result<Response, Problem> {
    let alert = alert_id(&id)?;
    let episode = app.store.episode(alert).await?;
    let history = app.store.history(alert).await?;
    let notifications = app.store.notifications(alert).await?;
    let timers = app.store.timers(alert).await?;
    let hops = app.store.hops(alert).await?;
    app.auditor.record(&who, "read.alert", Some(&episode.patient), id).await?;
    if hops.seen.is_none() {
        app.store.stamp(alert, Hop::Seen, crate::now()).await?;
    }
    let due = notifications.iter().filter(|n| matches!(n.state, Sending::Due | Sending::Sending)).map(|n| n.next_at);
    let next_page: Option<EventTime> = due.chain(timers.iter().filter(|timer| !timer.done).map(|timer| timer.due)).min();
    let detail = AlertDetail {
        alert: shown(&app, &episode),
        history: history.into_iter().map(|h| HistoryView { at: h.at.into(), what: h.what.as_str(), by: h.by, note: h.note }).collect(),
        notifications: notifications
            .into_iter()
            .map(|n| NotificationView {
                id: n.id,
                kind: n.kind,
                channel: n.channel,
                state: n.state.as_str(),
                attempts: n.attempts,
                changed_at: n.changed_at.into(),
                last_error: n.last_error,
                person: n.person,
                receipt: n.receipt,
            })
            .collect(),
        next_page: next_page.map(Into::into),
        hops: hops.into(),
    };
    let mut response = Json(detail).into_response();
    if let Some(tag) = tag(episode.version) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

/// Takes an alert: its pages stop. An alert that has ended can be taken as well: somebody has seen it.
#[utoipa::path(post, path = "/api/v1/alerts/{id}/acknowledgements", tag = "alerts",
    params(("id" = String, Path), ("if-match" = Option<String>, Header, description = "the version that was seen")), request_body = Acknowledgement,
    responses((status = 201, body = Alert, headers(("etag" = String))), (status = 409, description = "somebody has acknowledged it: `acknowledged`"),
        (status = 412, description = "changed in the meantime: `current`, and `acknowledged` when somebody was first")))]
pub(crate) async fn acknowledge(
    State(app): State<Arc<App>>,
    MayAct(who): MayAct,
    Path(id): Path<String>,
    headers: HeaderMap,
    Sent(asked): Sent<Acknowledgement>,
) -> Result<Response, Problem> {
    let alert = alert_id(&id)?;
    let version = if_match(&headers)?;
    let note = note_of(asked.note.as_deref())?;
    not_too_long(asked.minutes)?;
    let patient = app.store.episode(alert).await?.patient;
    // asked for, not done: what came of it stands in the alert's own history
    app.auditor.record(&who, "alert.acknowledge", Some(&patient), id).await?;
    let now = crate::now();
    let action = Action::Acknowledge { until: Some(until(&app, asked.minutes, now)) };
    match app.store.act(&Act { alert, by: who.name(), note, now, if_match: version, request: None, action }).await {
        Ok(episode) => Ok(taken(&app, StatusCode::CREATED, &episode)),
        Err(error) => Err(refused(&app, alert, error).await),
    }
}

/// Takes an acknowledgement back: only by who gave it, within 10 s. An open alert is paged again.
#[utoipa::path(delete, path = "/api/v1/alerts/{id}/acknowledgements", tag = "alerts", params(("id" = String, Path)),
    responses((status = 200, body = Alert, headers(("etag" = String))), (status = 409, description = "not yours, not there, or too late")))]
pub(crate) async fn take_back(State(app): State<Arc<App>>, MayAct(who): MayAct, Path(id): Path<String>) -> Result<Response, Problem> {
    let alert = alert_id(&id)?;
    let patient = app.store.episode(alert).await?.patient;
    app.auditor.record(&who, "alert.unacknowledge", Some(&patient), id).await?;
    let now = crate::now();
    match app.store.give_back_alert(alert, who.name(), now, now + micros(app.repage_after)).await {
        Ok(episode) => Ok(taken(&app, StatusCode::OK, &episode)),
        Err(error) => Err(refused(&app, alert, error).await),
    }
}

/// `None` when there is nothing to say.
pub(super) fn note_of(note: Option<&str>) -> Result<Option<&str>, Problem> {
    let note = note.map(str::trim).filter(|note| !note.is_empty());
    if note.is_some_and(|note| note.chars().count() > 1000) {
        return Err(Problem::invalid("the note has more than 1,000 characters", "say it shorter"));
    }
    Ok(note)
}

pub(super) fn taken(app: &App, status: StatusCode, episode: &Episode) -> Response {
    let mut response = (status, Json(shown(app, episode))).into_response();
    if let Some(tag) = tag(episode.version) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// Says who was first, so that the second person need not ask.
pub(super) async fn refused(app: &App, alert: AlertId, error: StoreError) -> Problem {
    let said = matches!(error, StoreError::VersionMismatch { .. } | StoreError::Conflict(_));
    let problem = Problem::from(error);
    if !said {
        return problem;
    }
    match app.store.episode(alert).await {
        Ok(episode) => problem.member("acknowledged", json!(Acknowledged::of(&episode))),
        Err(_) => problem,
    }
}
