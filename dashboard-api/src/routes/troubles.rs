//! What is wrong with Vigil itself, and who is at it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemas::Micros;
use serde::{Deserialize, Serialize};
use store::troubles::Trouble;
use utoipa::ToSchema;

use crate::App;
use crate::auth::{MayAct, MayCount};
use crate::problem::Problem;
use crate::sent::Sent;
use crate::view::Time;

/// Minutes for which nobody is told again, at most: a night's work.
const LONGEST: u32 = 8 * 60;

#[derive(Serialize, ToSchema)]
pub(crate) struct Troubles {
    pub server_time: Time,
    /// Oldest first.
    pub troubles: Vec<TroubleView>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct TroubleView {
    #[schema(example = "channel:sms:+351210000000")]
    pub name: String,
    pub since: Time,
    /// In words; no patient is named.
    pub what: String,
    /// `null` while nobody could be told.
    #[schema(required = true)]
    pub told_at: Option<Time>,
    /// How often somebody was.
    pub tellings: u32,
    /// Who is at it; `null`: nobody is.
    #[schema(required = true)]
    pub acknowledged: Option<TroubleTaken>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct TroubleTaken {
    pub by: String,
    /// Then it is told again, if it lasts.
    pub until: Time,
}

impl From<Trouble> for TroubleView {
    fn from(trouble: Trouble) -> Self {
        let Trouble { name, since, what, told_at, tellings, acknowledged, .. } = trouble;
        let now = crate::now();
        let taken = acknowledged.filter(|(_, until)| *until > now).map(|(by, until)| TroubleTaken { by, until: until.into() });
        Self { name, since: since.into(), what, told_at: told_at.map(Into::into), tellings, acknowledged: taken }
    }
}

/// What is wrong with Vigil itself just now: evaluation that stopped, pages that reach nobody, a broken channel, a full disk, a hub that is away.
#[utoipa::path(get, path = "/api/v1/troubles", tag = "troubles", responses((status = 200, body = Troubles)))]
pub(crate) async fn list(State(app): State<Arc<App>>, MayCount(_): MayCount) -> Result<Json<Troubles>, Problem> {
    let troubles = app.store.troubles().await?.into_iter().filter(|trouble| trouble.over_at.is_none()).map(Into::into).collect();
    Ok(Json(Troubles { server_time: crate::now().into(), troubles }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TroubleTaking {
    #[schema(example = "evaluation")]
    name: String,
    /// 1 to 480.
    #[schema(example = 60)]
    minutes: u32,
}

/// Somebody is at it: until then nobody is told of it again. One that is over and comes back is told anew.
#[utoipa::path(post, path = "/api/v1/troubles/acknowledge", tag = "troubles", request_body = TroubleTaking,
    responses((status = 204, description = "nobody is told again before then"), (status = 404, description = "there is none of this name just now")))]
pub(crate) async fn acknowledge(State(app): State<Arc<App>>, MayAct(who): MayAct, Sent(taking): Sent<TroubleTaking>) -> Result<StatusCode, Problem> {
    if !(1..=LONGEST).contains(&taking.minutes) {
        return Err(Problem::invalid(format!("minutes: {}", taking.minutes), format!("send 1 to {LONGEST}")));
    }
    let until = crate::now() + Micros::minutes(i64::from(taking.minutes));
    app.auditor.record(&who, "trouble.acknowledge", None, format!("{} until {until}", taking.name)).await?;
    if app.store.trouble_is_acknowledged(&taking.name, who.name(), until).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    let detail = format!("no trouble `{}` lasts just now", taking.name);
    Err(Problem::new(StatusCode::NOT_FOUND, "/problems/not-found", "Not found", detail, "GET /api/v1/troubles has those that do"))
}
