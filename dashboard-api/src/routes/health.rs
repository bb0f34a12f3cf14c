//! What a supervisor and a monitor ask. None of it names a patient.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use journal::Journal;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use store::Store;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::auth::may_read_metrics;
use crate::listen::Peer;
use crate::problem::Problem;
use crate::{App, Readiness};

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
    draining: bool,
    /// What is shown has come to where the journal was at the start; not where nothing is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    follower: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    follower_lag_ms: Option<u64>,
}

impl Checks {
    pub async fn of(store: &Store, journal: &dyn Journal, readiness: &Readiness) -> Self {
        let (store, journal) = tokio::join!(timeout(PATIENCE, store.ping()), timeout(PATIENCE, journal.healthy()));
        let draining = readiness.is_draining();
        Self { store: matches!(store, Ok(Ok(()))), journal: matches!(journal, Ok(Ok(()))), draining, follower: None, follower_lag_ms: None }
    }

    pub fn answer(self) -> Response {
        let ready = self.store && self.journal && !self.draining && self.follower != Some(false);
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(Ready { ready, checks: self })).into_response()
    }
}

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = 200, body = Alive)))]
pub(crate) async fn livez() -> Json<Alive> {
    Json(Alive { alive: true })
}

/// Whether pages may be served from here.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses((status = 200, body = Ready), (status = 503, body = Ready)))]
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let checks = Checks::of(&app.store, &*app.journal, &app.readiness).await;
    Checks { follower: Some(app.pulse.caught_up()), follower_lag_ms: Some(app.pulse.lag_ms()), ..checks }.answer()
}

/// Prometheus text. From this machine (and not through a proxy), or with a token of the scope `metrics`.
#[utoipa::path(get, path = "/metrics", tag = "health", security(("token" = []), ()), responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(State(app): State<Arc<App>>, ConnectInfo(peer): ConnectInfo<Peer>, headers: HeaderMap) -> Result<Response, Problem> {
    may_read_metrics(&app.store, &headers, peer.address).await?;
    let Some(handle) = &app.metrics else {
        return Err(Problem::of_status(StatusCode::NOT_FOUND, "this process keeps no metrics", "start it with `vigil serve` or `vigil dashboard-api`"));
    };
    Ok(exposition(handle))
}

pub(crate) fn exposition(handle: &PrometheusHandle) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render()).into_response()
}
