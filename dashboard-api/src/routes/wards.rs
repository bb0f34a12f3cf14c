//! Wards, with what is open in them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::App;
use crate::auth::MayCount;
use crate::view::Wards;

/// All wards with their counts; nobody is named.
#[utoipa::path(get, path = "/api/v1/wards", tag = "wards", responses((status = 200, body = Wards)))]
pub(crate) async fn wards(State(app): State<Arc<App>>, MayCount(_): MayCount) -> Json<Wards> {
    Json(Wards { wards: app.hub.ward_views() })
}
