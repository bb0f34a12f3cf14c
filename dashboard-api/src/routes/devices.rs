//! Devices, and what was refused of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use schemas::{DeviceId, PatientId, Reason};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::App;
use crate::auth::MayRead;
use crate::dead::{DeadView, KEPT};
use crate::messages::MessageView;
use crate::problem::Problem;
use crate::sent::Asked;
use crate::view::Time;

#[derive(Serialize, ToSchema)]
pub(crate) struct Devices {
    devices: Vec<Device>,
}

#[derive(Serialize, ToSchema)]
pub(crate) enum DeviceState {
    #[serde(rename = "never heard")]
    NeverHeard,
    #[serde(rename = "live")]
    Live,
    /// Longer than twice the expected interval of all it measures.
    #[serde(rename = "silent")]
    Silent,
    #[serde(rename = "revoked")]
    Revoked,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Device {
    #[schema(value_type = String)]
    id: DeviceId,
    model: String,
    /// Its readings are in no rule and no count.
    test: bool,
    #[schema(value_type = Option<String>, required = true)]
    hub: Option<DeviceId>,
    created_at: Time,
    #[schema(required = true)]
    revoked_at: Option<Time>,
    /// No reading of it can be older.
    min_time: Time,
    /// Whose it is now.
    #[schema(value_type = Option<String>, required = true)]
    patient: Option<PatientId>,
    state: DeviceState,
    /// When its newest reading was received.
    #[schema(required = true)]
    heard_at: Option<Time>,
}

/// Every device, and whose it is.
#[utoipa::path(get, path = "/api/v1/devices", tag = "devices", responses((status = 200, body = Devices)))]
pub(crate) async fn devices(State(app): State<Arc<App>>, MayRead(who): MayRead) -> Result<Json<Devices>, Problem> {
    let view = app.store.registry_view().await?;
    let now = crate::now();
    let wearers: HashMap<DeviceId, PatientId> =
        view.assignments.into_iter().filter(|assignment| assignment.covers(now)).map(|assignment| (assignment.device, assignment.patient)).collect();
    app.auditor.record(&who, "read.devices", None, "").await?;
    let device = |device: store::registry::Device| {
        let heard = app.hub.heard(&device.id);
        let state = match (device.revoked_at, heard) {
            (Some(_), _) => DeviceState::Revoked,
            (None, None) => DeviceState::NeverHeard,
            (None, Some(heard)) if now <= heard.fresh_until => DeviceState::Live,
            (None, Some(_)) => DeviceState::Silent,
        };
        Device {
            patient: wearers.get(&device.id).cloned(),
            heard_at: heard.map(|heard| heard.at.into()),
            id: device.id,
            model: device.model,
            test: device.test,
            hub: device.hub,
            created_at: device.created_at.into(),
            revoked_at: device.revoked_at.map(Time),
            min_time: device.min_time.into(),
            state,
        }
    };
    Ok(Json(Devices { devices: view.devices.into_iter().map(device).collect() }))
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Messages {
    /// Under test now: what comes is in no rule and no count.
    test: bool,
    /// Oldest first, the last 32 entries of messages since the server started.
    messages: Vec<MessageView>,
}

/// What became of a device's last messages: for whoever connects one. No accepted value is shown; a refusal may quote what it refuses.
#[utoipa::path(get, path = "/api/v1/devices/{id}/messages", tag = "devices", params(("id" = String, Path)), responses((status = 200, body = Messages)))]
pub(crate) async fn messages(State(app): State<Arc<App>>, MayRead(who): MayRead, Path(id): Path<String>) -> Result<Json<Messages>, Problem> {
    let device = device_id(&id)?;
    let view = app.store.registry_view().await?;
    let known = view.devices.iter().find(|known| known.id == device);
    let wearer = view.assignments.into_iter().find(|period| period.device == device && period.covers(crate::now())).map(|period| period.patient);
    let messages = app.messages.of(&device);
    if known.is_none() && messages.is_empty() {
        return Err(Problem::not_found("device", device.as_str()));
    }
    let test = known.is_some_and(|known| known.test);
    app.auditor.record(&who, "read.device-messages", wearer.as_ref(), device.as_str()).await?;
    Ok(Json(Messages { test, messages }))
}

fn device_id(text: &str) -> Result<DeviceId, Problem> {
    DeviceId::parse(text).map_err(|error| Problem::invalid(format!("device: {error}"), "use the id that a list of devices gives"))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// `unassigned`, `malformed` …
    reason: Option<String>,
    device: Option<String>,
    /// 100 unless told, 1,000 at most.
    limit: Option<u32>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLetters {
    /// Newest first.
    dead_letters: Vec<DeadView>,
    /// By reason, of the last 1,000.
    #[schema(value_type = BTreeMap<String, u32>)]
    counts: BTreeMap<&'static str, u32>,
}

/// What was refused of late, and why.
#[utoipa::path(get, path = "/api/v1/dead-letters", tag = "devices", params(Query), responses((status = 200, body = DeadLetters)))]
pub(crate) async fn dead_letters(State(app): State<Arc<App>>, MayRead(who): MayRead, Asked(query): Asked<Query>) -> Result<Json<DeadLetters>, Problem> {
    let reason: Option<Reason> =
        query.reason.as_deref().map(str::parse).transpose().map_err(|error: String| {
            Problem::invalid(format!("reason: {}", error.chars().take(300).collect::<String>()), "use one of those, or leave it out")
        })?;
    if let Some(device) = &query.device {
        device_id(device)?;
    }
    let limit = query.limit.unwrap_or(100).clamp(1, KEPT as u32) as usize;
    let (dead_letters, counts) = app.dead.newest(reason, query.device.as_deref(), limit);
    app.auditor.record(&who, "read.dead-letters", None, query.device.unwrap_or_default()).await?;
    Ok(Json(DeadLetters { dead_letters, counts }))
}
