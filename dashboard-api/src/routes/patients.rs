//! Patients with their newest values.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use store::episodes::EpisodeFilter;

use crate::App;
use crate::auth::MayRead;
use crate::problem::Problem;
use crate::routes::settings::current;
use crate::sent::patient_id;
use crate::view::{Alert, PatientDetail, Patients, SettingsView};

/// Every patient.
#[utoipa::path(get, path = "/api/v1/patients", tag = "patients", responses((status = 200, body = Patients)))]
pub(crate) async fn all(State(app): State<Arc<App>>, MayRead(who): MayRead) -> Result<Json<Patients>, Problem> {
    app.auditor.record(&who, "read.patients", None, "all wards").await?;
    Ok(Json(Patients { server_time: crate::now().into(), patients: app.hub.moment(None).rows() }))
}

/// The patients of a ward.
#[utoipa::path(get, path = "/api/v1/wards/{id}/patients", tag = "patients", params(("id" = String, Path)), responses((status = 200, body = Patients)))]
pub(crate) async fn of_ward(State(app): State<Arc<App>>, MayRead(who): MayRead, Path(ward): Path<String>) -> Result<Json<Patients>, Problem> {
    app.known_ward(&ward)?;
    app.auditor.record(&who, "read.patients", None, format!("ward {ward}")).await?;
    Ok(Json(Patients { server_time: crate::now().into(), patients: app.hub.moment(Some(&ward)).rows() }))
}

/// One patient, with settings and alerts.
#[utoipa::path(get, path = "/api/v1/patients/{id}", tag = "patients", params(("id" = String, Path)), responses((status = 200, body = PatientDetail)))]
pub(crate) async fn one(State(app): State<Arc<App>>, MayRead(who): MayRead, Path(id): Path<String>) -> Result<Json<PatientDetail>, Problem> {
    let patient = patient_id(&id)?;
    let person = app.known_patient(&patient)?;
    let settings = current(&app, &person).await?;
    let filter = EpisodeFilter { patient: Some(patient.clone()), ..EpisodeFilter::default() };
    let (episodes, _) = app.store.episodes(&filter, None, 100).await?;
    let shown = app.hub.shown(&patient).ok_or_else(|| Problem::not_found("patient", &id))?;
    app.auditor.record(&who, "read.patient", Some(&patient), "").await?;
    Ok(Json(PatientDetail {
        row: shown.row(),
        settings: SettingsView::from(&settings),
        alerts: episodes.iter().map(|episode| Alert::new(episode, Some(&person))).collect(),
    }))
}
