//! What a supervisor and a monitor ask. None of it names a patient.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;
use crate::auth::may_read_metrics;
use crate::listen::Peer;
use crate::problem::Problem;

const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Serialize, ToSchema)]
pub(crate) struct Alive {
    alive: bool,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Ready {
    ready: bool,
    checks: Checks,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Checks {
    store: bool,
    journal: bool,
    /// What is shown has come to where the journal was at the start.
    follower: bool,
    follower_lag_ms: u64,
    draining: bool,
}

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = 200, body = Alive)))]
pub(crate) async fn livez() -> Json<Alive> {
    Json(Alive { alive: true })
}

/// Whether pages may be served from here.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses((status = 200, body = Ready), (status = 503, body = Ready)))]
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let (store, journal) = tokio::join!(tokio::time::timeout(PATIENCE, app.store.ping()), tokio::time::timeout(PATIENCE, app.journal.healthy()));
    let checks = Checks {
        store: matches!(store, Ok(Ok(()))),
        journal: matches!(journal, Ok(Ok(()))),
        follower: app.pulse.caught_up(),
        follower_lag_ms: app.pulse.lag_ms(),
        draining: app.readiness.is_draining(),
    };
    let ready = checks.store && checks.journal && checks.follower && !checks.draining;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready, checks })).into_response()
}

/// Prometheus text. From this machine (and not through a proxy), or with a token of the scope `metrics`.
#[utoipa::path(get, path = "/metrics", tag = "health", security(("token" = []), ()), responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(State(app): State<Arc<App>>, ConnectInfo(peer): ConnectInfo<Peer>, headers: HeaderMap) -> Result<Response, Problem> {
    may_read_metrics(&app, &headers, peer.address).await?;
    let Some(handle) = &app.metrics else {
        return Err(Problem::of_status(StatusCode::NOT_FOUND, "this process keeps no metrics", "start it with `vigil serve` or `vigil dashboard-api`"));
    };
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render()).into_response())
}
