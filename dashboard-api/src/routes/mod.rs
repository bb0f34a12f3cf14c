//! The endpoints, and how they hang together.

mod actions;
mod alerts;
mod devices;
mod events;
mod explanations;
pub(crate) mod health;
mod jobs;
mod links;
mod news2;
mod observations;
mod patients;
mod reports;
mod session;
mod settings;
mod shift;
mod troubles;
mod vitals;
mod wards;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::compression::CompressionLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::{SignedIn, authenticate};
use crate::{App, frame, openapi, page};

/// The largest body that is read.
const BODY: usize = 256 << 10;

/// What needs no session: signing in, and what a supervisor asks.
fn open() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(session::sign_in))
        .routes(routes!(session::use_link))
        .routes(routes!(links::show, links::take))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// Everything else.
fn closed() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(session::session, session::sign_out))
        .routes(routes!(wards::wards))
        .routes(routes!(patients::of_ward))
        .routes(routes!(patients::all))
        .routes(routes!(patients::one))
        .routes(routes!(vitals::vitals))
        .routes(routes!(observations::enter))
        .routes(routes!(observations::void))
        .routes(routes!(news2::news2))
        .routes(routes!(settings::read, settings::write))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::one))
        .routes(routes!(alerts::acknowledge, alerts::take_back))
        .routes(routes!(actions::act))
        .routes(routes!(shift::mine, shift::begin))
        .routes(routes!(shift::end))
        .routes(routes!(shift::take))
        .routes(routes!(shift::give))
        .routes(routes!(shift::answer, shift::take_back))
        .routes(routes!(shift::of_ward))
        .routes(routes!(shift::pin))
        .routes(routes!(shift::unpin))
        .routes(routes!(troubles::list))
        .routes(routes!(troubles::acknowledge))
        .routes(routes!(reports::precision))
        .routes(routes!(reports::labels))
        .routes(routes!(reports::delays))
        .routes(routes!(jobs::backtest))
        .routes(routes!(jobs::export))
        .routes(routes!(jobs::query))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::one, jobs::remove))
        .routes(routes!(jobs::approve))
        .routes(routes!(jobs::file))
        .routes(routes!(explanations::explanation))
        .routes(routes!(devices::devices))
        .routes(routes!(devices::messages))
        .routes(routes!(devices::dead_letters))
        .routes(routes!(events::events))
        .routes(routes!(describe))
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "document", responses((status = 200, description = "OpenAPI 3.1")))]
async fn describe(_: SignedIn) -> Response {
    static TEXT: OnceLock<String> = OnceLock::new();
    ([(CONTENT_TYPE, "application/json")], TEXT.get_or_init(crate::openapi).as_str()).into_response()
}

pub(crate) fn document() -> utoipa::openapi::OpenApi {
    let (_, mut document) = OpenApiRouter::<Arc<App>>::with_openapi(openapi::document()).merge(open()).merge(closed()).split_for_parts();
    openapi::complete(&mut document);
    document
}

pub(crate) fn router(app: Arc<App>) -> Router {
    let (open, _) = open().split_for_parts();
    let (closed, _) = closed().split_for_parts();
    let closed = closed.layer(from_fn_with_state(app.clone(), authenticate));
    open.merge(closed).fallback(page::serve).layer(DefaultBodyLimit::max(BODY)).layer(from_fn(frame::frame)).layer(CompressionLayer::new()).with_state(app)
}
