//! A shift: it is begun, patients are taken, and given on to somebody who says that they have them. A page for it comes later.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemas::{Arrived, EventTime, PatientId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::episodes::{EpisodeFilter, State as EpisodeState};
use store::shifts::{Answer, Handover, Pin, Shift};
use utoipa::ToSchema;

use crate::App;
use crate::auth::{MayAct, MayRead, Principal};
use crate::problem::Problem;
use crate::sent::{Sent, patient_id};
use crate::view::{Alert, PatientRow, Time};

/// Patients that one request names.
const MANY: usize = 200;
/// Alerts of one patient that are shown of a shift.
const ALERTS: u32 = 100;
const TEXT: usize = 2000;

#[derive(Serialize, ToSchema)]
pub(crate) struct ShiftView {
    pub server_time: Time,
    pub id: String,
    pub ward: String,
    pub started_at: Time,
    /// Those whom you look after.
    pub patients: Vec<ShiftPatient>,
    /// Those whom somebody wants to give you.
    pub offered_to_you: Vec<ShiftPatient>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ShiftPatient {
    /// Paused and silent stand here, beside the newest values.
    pub patient: PatientRow,
    /// Since when they are yours; `null`: not yet.
    #[schema(required = true)]
    pub yours_since: Option<Time>,
    /// Of which you were told, or told somebody, and which has no answer.
    #[schema(required = true)]
    pub handover: Option<HandoverView>,
    pub open: Vec<Alert>,
    /// Those that are open and snoozed; their ends stand in them.
    pub snoozed: Vec<Alert>,
    /// Raised since the shift began, over or not.
    pub raised: Vec<Alert>,
    /// Over since the shift began.
    pub over: Vec<Alert>,
    pub pins: Vec<PinView>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct HandoverView {
    pub id: String,
    pub from: String,
    pub to: String,
    pub note: String,
    pub offered_at: Time,
}

impl From<Handover> for HandoverView {
    fn from(offer: Handover) -> Self {
        Self { id: offer.id, from: offer.giver, to: offer.taker, note: offer.note, offered_at: offer.offered_at.into() }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct PinView {
    pub id: String,
    pub author: String,
    pub text: String,
    pub pinned_at: Time,
}

impl From<Pin> for PinView {
    fn from(pin: Pin) -> Self {
        Self { id: pin.id, author: pin.author, text: pin.text, pinned_at: pin.pinned_at.into() }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct WardShift {
    pub server_time: Time,
    pub ward: String,
    pub on_shift: Vec<OnShift>,
    /// Who are monitored, and whom nobody looks after.
    pub without: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct OnShift {
    pub person: String,
    pub since: Time,
    /// Ids, of this ward.
    pub patients: Vec<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShiftBeginning {
    #[schema(example = "w7")]
    ward: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShiftEnd {
    /// Why patients who are yours are left to nobody. Without it a shift ends only when none is.
    left_to_nobody_because: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Taking {
    patients: Vec<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Giving {
    /// Somebody who is on shift.
    to: String,
    patients: Vec<String>,
    /// What they should know.
    note: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HandoverAnswer {
    accept: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPin {
    #[schema(example = "hears badly: ring twice")]
    text: String,
}

fn text(name: &str, text: &str) -> Result<String, Problem> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > TEXT {
        return Err(Problem::invalid(format!("{name}: it says nothing, or more than {TEXT} characters"), "say it in a few words"));
    }
    Ok(text.to_owned())
}

fn patients(app: &App, ids: &[String]) -> Result<Vec<PatientId>, Problem> {
    if ids.is_empty() || ids.len() > MANY {
        return Err(Problem::invalid(format!("patients: {} of them", ids.len()), format!("send 1 to {MANY}")));
    }
    let known = |id: &String| {
        let patient = patient_id(id)?;
        app.known_patient(&patient)?;
        Ok(patient)
    };
    ids.iter().map(known).collect::<Result<BTreeSet<_>, Problem>>().map(Vec::from_iter)
}

async fn running(app: &App, who: &Principal) -> Result<Shift, Problem> {
    let none = || Problem::new(StatusCode::NOT_FOUND, "/problems/not-found", "Not found", "you are not on shift", "begin one: POST /api/v1/shift");
    app.store.shift_of(who.name()).await?.ok_or_else(none)
}

/// What somebody has to know of a patient who takes over, or has had them since `since`.
async fn shown(
    app: &App,
    patient: &PatientId,
    began: EventTime,
    yours_since: Option<EventTime>,
    offer: Option<Handover>,
) -> Result<Option<ShiftPatient>, Problem> {
    let (Some(shown), Some(person)) = (app.hub.shown(patient), app.hub.person(patient)) else { return Ok(None) };
    let now = crate::now();
    let view = |filter: EpisodeFilter| async move { app.store.episodes(&filter, None, ALERTS).await };
    let of = EpisodeFilter { patient: Some(patient.clone()), ..EpisodeFilter::default() };
    let (open, _) = view(EpisodeFilter { state: Some(EpisodeState::Open), ..of.clone() }).await?;
    let (newest, _) = view(of).await?;
    let is_snoozed = |episode: &&store::episodes::Episode| episode.care.snoozed.as_ref().is_some_and(|snooze| snooze.until > now);
    let alert = |episode: &store::episodes::Episode| Alert::new(episode, Some(&person));
    Ok(Some(ShiftPatient {
        patient: shown.row(),
        yours_since: yours_since.map(Into::into),
        handover: offer.map(Into::into),
        snoozed: open.iter().filter(is_snoozed).map(alert).collect(),
        open: open.iter().filter(|episode| !is_snoozed(episode)).map(alert).collect(),
        raised: newest.iter().filter(|episode| episode.heard_at >= Arrived(began.0)).map(alert).collect(),
        over: newest.iter().filter(|episode| episode.cleared_at.is_some_and(|cleared| cleared >= began)).map(alert).collect(),
        pins: app.store.pins(patient).await?.into_iter().map(Into::into).collect(),
    }))
}

async fn view(app: &App, who: &Principal, shift: Shift) -> Result<ShiftView, Problem> {
    let (charges, mut offers) = (app.store.charges_of(who.name()).await?, app.store.handovers_of(who.name()).await?);
    let (mut mine, mut to_me) = (Vec::new(), Vec::new());
    for charge in charges {
        let place = offers.iter().position(|offer| offer.patient == charge.patient);
        let offer = place.map(|place| offers.swap_remove(place));
        app.auditor.record(who, "read.shift", Some(&charge.patient), "").await?;
        mine.extend(shown(app, &charge.patient, shift.started_at, Some(charge.since), offer).await?);
    }
    offers.retain(|offer| offer.taker == who.name());
    for offer in offers {
        app.auditor.record(who, "read.shift", Some(&offer.patient), "offered").await?;
        to_me.extend(shown(app, &offer.patient.clone(), shift.started_at, None, Some(offer)).await?);
    }
    Ok(ShiftView {
        server_time: crate::now().into(),
        id: shift.id,
        ward: shift.ward,
        started_at: shift.started_at.into(),
        patients: mine,
        offered_to_you: to_me,
    })
}

/// Your shift: whom you look after, what changed since it began, and whom somebody wants to give you.
#[utoipa::path(get, path = "/api/v1/shift", tag = "shift", responses((status = 200, body = ShiftView), (status = 404, description = "you are not on shift")))]
pub(crate) async fn mine(State(app): State<Arc<App>>, MayRead(who): MayRead) -> Result<Json<ShiftView>, Problem> {
    let shift = running(&app, &who).await?;
    Ok(Json(view(&app, &who, shift).await?))
}

/// Begins your shift in a ward.
#[utoipa::path(post, path = "/api/v1/shift", tag = "shift", request_body = ShiftBeginning,
    responses((status = 201, body = ShiftView), (status = 409, description = "you are on shift already")))]
pub(crate) async fn begin(
    State(app): State<Arc<App>>,
    MayAct(who): MayAct,
    Sent(sent): Sent<ShiftBeginning>,
) -> Result<(StatusCode, Json<ShiftView>), Problem> {
    app.known_ward(&sent.ward)?;
    let shift = Shift { id: store::secrets::random_id(), person: who.name().to_owned(), ward: sent.ward, started_at: crate::now() };
    app.auditor.record(&who, "shift.begin", None, format!("ward {}", shift.ward)).await?;
    app.store.begin_shift(&shift).await?;
    Ok((StatusCode::CREATED, Json(view(&app, &who, shift).await?)))
}

/// Ends your shift, when nobody is yours any more.
#[utoipa::path(post, path = "/api/v1/shift/end", tag = "shift", request_body = ShiftEnd,
    responses((status = 204, description = "it is over"), (status = 409, description = "patients are yours: the member `patients` has their ids")))]
pub(crate) async fn end(State(app): State<Arc<App>>, MayAct(who): MayAct, Sent(sent): Sent<ShiftEnd>) -> Result<StatusCode, Problem> {
    let left = sent.left_to_nobody_because.as_deref().map(|why| text("left_to_nobody_because", why)).transpose()?;
    app.auditor.record(&who, "shift.end", None, left.clone().unwrap_or_default()).await?;
    let theirs = app.store.end_shift(who.name(), crate::now(), left.as_deref()).await?;
    if theirs.is_empty() {
        return Ok(StatusCode::NO_CONTENT);
    }
    let detail = format!("{} patients are yours, and would be nobody's", theirs.len());
    let remedy = "give them on (POST /api/v1/shift/handover) and wait until they are taken, or say why nobody needs to: left_to_nobody_because";
    Err(Problem::new(StatusCode::CONFLICT, "/problems/conflict", "Not possible in this state", detail, remedy).member("patients", json!(theirs)))
}

/// You look after these patients from now on; none of them, when somebody else has one.
#[utoipa::path(post, path = "/api/v1/shift/patients", tag = "shift", request_body = Taking,
    responses((status = 204, description = "they are yours"), (status = 409, description = "others have some: the member `taken` says who has whom")))]
pub(crate) async fn take(State(app): State<Arc<App>>, MayAct(who): MayAct, Sent(sent): Sent<Taking>) -> Result<StatusCode, Problem> {
    let patients = patients(&app, &sent.patients)?;
    for patient in &patients {
        app.auditor.record(&who, "shift.take", Some(patient), "").await?;
    }
    let others = app.store.take_patients(who.name(), &patients, crate::now()).await?;
    if others.is_empty() {
        return Ok(StatusCode::NO_CONTENT);
    }
    let taken: Vec<_> = others.iter().map(|charge| json!({"patient": charge.patient, "person": charge.person})).collect();
    let detail = format!("{} of them are somebody else's already", others.len());
    let remedy = "leave them out, or ask who has them to hand them over";
    Err(Problem::new(StatusCode::CONFLICT, "/problems/conflict", "Not possible in this state", detail, remedy).member("taken", json!(taken)))
}

/// Offers patients of yours to somebody who is on shift; they stay yours until each is accepted.
#[utoipa::path(post, path = "/api/v1/shift/handover", tag = "shift", request_body = Giving,
    responses((status = 200, description = "the offers, one for each patient", body = Vec<HandoverView>)))]
pub(crate) async fn give(State(app): State<Arc<App>>, MayAct(who): MayAct, Sent(sent): Sent<Giving>) -> Result<Json<Vec<HandoverView>>, Problem> {
    let (patients, note, now) = (patients(&app, &sent.patients)?, text("note", &sent.note)?, crate::now());
    let offer = |patient: PatientId| Handover {
        id: store::secrets::random_id(),
        patient,
        giver: who.name().to_owned(),
        taker: sent.to.clone(),
        note: note.clone(),
        offered_at: now,
    };
    let offers: Vec<Handover> = patients.into_iter().map(offer).collect();
    for offer in &offers {
        app.auditor.record(&who, "shift.offer", Some(&offer.patient), format!("to {}", offer.taker)).await?;
    }
    app.store.offer_patients(&offers).await?;
    Ok(Json(offers.into_iter().map(Into::into).collect()))
}

/// Whether you take the patient who was offered to you.
#[utoipa::path(post, path = "/api/v1/handovers/{id}", tag = "shift", params(("id" = String, Path)), request_body = HandoverAnswer,
    responses((status = 204, description = "they are yours, or stay whose they were"), (status = 409, description = "they are no longer theirs to give")))]
pub(crate) async fn answer(
    State(app): State<Arc<App>>,
    MayAct(who): MayAct,
    Path(id): Path<String>,
    Sent(sent): Sent<HandoverAnswer>,
) -> Result<StatusCode, Problem> {
    answered(&app, &who, &id, if sent.accept { Answer::Accepted } else { Answer::Declined }).await
}

/// Takes an offer of yours back.
#[utoipa::path(delete, path = "/api/v1/handovers/{id}", tag = "shift", params(("id" = String, Path)), responses((status = 204, description = "it is taken back")))]
pub(crate) async fn take_back(State(app): State<Arc<App>>, MayAct(who): MayAct, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    answered(&app, &who, &id, Answer::Withdrawn).await
}

async fn answered(app: &App, who: &Principal, id: &str, answer: Answer) -> Result<StatusCode, Problem> {
    let offer = app.store.answer_handover(id, who.name(), answer, crate::now()).await?;
    app.auditor.record(who, "shift.answer", Some(&offer.patient), format!("{} from {}", answer.as_str(), offer.giver)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who is on shift in a ward, who has whom, and whom nobody has.
#[utoipa::path(get, path = "/api/v1/wards/{id}/shift", tag = "shift", params(("id" = String, Path)), responses((status = 200, body = WardShift)))]
pub(crate) async fn of_ward(State(app): State<Arc<App>>, MayRead(who): MayRead, Path(ward): Path<String>) -> Result<Json<WardShift>, Problem> {
    app.known_ward(&ward)?;
    app.auditor.record(&who, "read.shift", None, format!("ward {ward}")).await?;
    let (shifts, charges) = (app.store.shifts_of_ward(&ward).await?, app.store.charges_in(&ward).await?);
    let mut people: Vec<OnShift> =
        shifts.into_iter().map(|shift| OnShift { person: shift.person, since: shift.started_at.into(), patients: Vec::new() }).collect();
    for charge in &charges {
        // somebody of another ward may have a patient of this one
        match people.iter_mut().find(|on| on.person == charge.person) {
            Some(on) => on.patients.push(charge.patient.to_string()),
            None => people.push(OnShift { person: charge.person.clone(), since: charge.since.into(), patients: vec![charge.patient.to_string()] }),
        }
    }
    let had: BTreeSet<&PatientId> = charges.iter().map(|charge| &charge.patient).collect();
    let rows = app.hub.moment(Some(&ward)).rows();
    let without = rows.iter().filter(|row| row.monitored && !had.contains(&row.id)).map(|row| row.id.to_string()).collect();
    Ok(Json(WardShift { server_time: crate::now().into(), ward, on_shift: people, without }))
}

/// Pins a note beside a patient: it stands in every handover until somebody takes it away.
#[utoipa::path(post, path = "/api/v1/patients/{id}/pins", tag = "shift", params(("id" = String, Path)), request_body = NewPin, responses((status = 201, body = PinView)))]
pub(crate) async fn pin(
    State(app): State<Arc<App>>,
    MayAct(who): MayAct,
    Path(id): Path<String>,
    Sent(sent): Sent<NewPin>,
) -> Result<(StatusCode, Json<PinView>), Problem> {
    let patient = patient_id(&id)?;
    app.known_patient(&patient)?;
    let new = Pin { id: store::secrets::random_id(), patient, author: who.name().to_owned(), text: text("text", &sent.text)?, pinned_at: crate::now() };
    app.auditor.record(&who, "pin.add", Some(&new.patient), "").await?;
    app.store.pin(&new).await?;
    Ok((StatusCode::CREATED, Json(new.into())))
}

/// Takes a pinned note away.
#[utoipa::path(delete, path = "/api/v1/pins/{id}", tag = "shift", params(("id" = String, Path)), responses((status = 204, description = "it is gone")))]
pub(crate) async fn unpin(State(app): State<Arc<App>>, MayAct(who): MayAct, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let patient = app.store.unpin(&id, who.name(), crate::now()).await?;
    app.auditor.record(&who, "pin.remove", Some(&patient), "").await?;
    Ok(StatusCode::NO_CONTENT)
}
