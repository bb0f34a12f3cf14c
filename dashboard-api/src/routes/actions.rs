//! What people do about an alert, besides acknowledging it: one path, and the action in the body.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use schemas::{EventTime, Micros};
use serde::{Deserialize, Serialize};
use store::episodes::{Act, Action, Word};
use utoipa::ToSchema;

use super::alerts::{note_of, refused, taken};
use crate::App;
use crate::auth::{MayAct, micros};
use crate::problem::Problem;
use crate::sent::{Sent, alert_id, idempotency_key, if_match};
use crate::view::Alert;

#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, tag = "action", rename_all = "snake_case")]
pub(crate) enum AlertAction {
    /// Somebody looks after the patient. After `minutes` an alert that is still open is paged again.
    Acknowledge {
        minutes: Option<u32>,
        note: Option<String>,
    },
    /// It is mine, also when somebody else had it.
    Claim {
        minutes: Option<u32>,
        note: Option<String>,
    },
    /// It is `to`'s, who is paged until they take it.
    Assign {
        to: String,
        note: Option<String>,
    },
    /// It is nobody's again, and is paged.
    Release {
        note: Option<String>,
    },
    /// No pages for `minutes`; the note says why. At most 30 min for a high alert, 2 h for a medium one, 12 h for a low one.
    Snooze {
        minutes: u32,
        note: String,
    },
    Wake {
        note: Option<String>,
    },
    Note {
        note: String,
    },
    /// Somebody was called.
    Contact {
        with: String,
        reached: bool,
        note: Option<String>,
    },
    /// What it turned out to be; of an open alert only while somebody has it.
    Judge {
        verdict: VerdictWord,
        note: Option<String>,
    },
}

#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Verdict)]
pub(crate) enum VerdictWord {
    /// The patient needed somebody.
    True,
    /// No measurement of the patient: movement, a loose sensor.
    Artefact,
    /// Real, known, and nothing to be done.
    Expected,
    /// The device was at fault.
    Device,
}

impl From<VerdictWord> for Word {
    fn from(word: VerdictWord) -> Self {
        match word {
            VerdictWord::True => Self::True,
            VerdictWord::Artefact => Self::Artefact,
            VerdictWord::Expected => Self::Expected,
            VerdictWord::Device => Self::Device,
        }
    }
}

impl AlertAction {
    const fn word(&self) -> &'static str {
        match self {
            Self::Acknowledge { .. } => "alert.acknowledge",
            Self::Claim { .. } => "alert.claim",
            Self::Assign { .. } => "alert.assign",
            Self::Release { .. } => "alert.release",
            Self::Snooze { .. } => "alert.snooze",
            Self::Wake { .. } => "alert.wake",
            Self::Note { .. } => "alert.note",
            Self::Contact { .. } => "alert.contact",
            Self::Judge { .. } => "alert.judge",
        }
    }

    /// Whether it changes what somebody else may have changed: a note or a call is only added.
    const fn replaces(&self) -> bool {
        !matches!(self, Self::Note { .. } | Self::Contact { .. })
    }

    fn note(&self) -> Option<&str> {
        match self {
            Self::Acknowledge { note, .. } | Self::Claim { note, .. } | Self::Assign { note, .. } | Self::Release { note } => note.as_deref(),
            Self::Wake { note } | Self::Contact { note, .. } | Self::Judge { note, .. } => note.as_deref(),
            Self::Snooze { note, .. } | Self::Note { note } => Some(note),
        }
    }

    fn action(&self, app: &App, now: EventTime) -> Action {
        let end = |minutes: &Option<u32>| Some(until(app, *minutes, now));
        match self {
            Self::Acknowledge { minutes, .. } => Action::Acknowledge { until: end(minutes) },
            Self::Claim { minutes, .. } => Action::Claim { until: end(minutes) },
            Self::Assign { to, .. } => Action::Assign { to: to.clone() },
            Self::Release { .. } => Action::Release,
            Self::Snooze { minutes, .. } => Action::Snooze { until: now + Micros::minutes(i64::from(*minutes)) },
            Self::Wake { .. } => Action::Wake,
            Self::Note { .. } => Action::Note,
            Self::Contact { with, reached, .. } => Action::Contact { with: with.trim().chars().take(200).collect(), reached: *reached },
            Self::Judge { verdict, .. } => Action::Judge { word: (*verdict).into() },
        }
    }
}

/// The longest acknowledgement: a shift.
const LONGEST: u32 = 12 * 60;

/// When an acknowledgement ends.
pub(super) fn until(app: &App, minutes: Option<u32>, now: EventTime) -> EventTime {
    now + minutes.map_or_else(|| micros(app.acknowledged_for), |minutes| Micros::minutes(i64::from(minutes)))
}

pub(super) fn not_too_long(minutes: Option<u32>) -> Result<(), Problem> {
    match minutes {
        Some(minutes) if !(1..=LONGEST).contains(&minutes) => {
            Err(Problem::invalid(format!("an acknowledgement of {minutes} min"), "between 1 and 720 min: no longer than a shift"))
        }
        _ => Ok(()),
    }
}

/// Does something about an alert. What replaces what another may have changed needs `if-match`; under an `idempotency-key` a request may be
/// repeated, and is done once.
#[utoipa::path(post, path = "/api/v1/alerts/{id}/actions", tag = "alerts",
    params(("id" = String, Path), ("if-match" = Option<String>, Header, description = "the version that was seen; not needed for note and contact"),
        ("idempotency-key" = Option<String>, Header, description = "up to 64 characters, a new one for each request")),
    request_body = AlertAction,
    responses((status = 200, body = Alert, headers(("etag" = String))), (status = 409, description = "not possible in its state"),
        (status = 412, description = "changed in the meantime: `current`, and `acknowledged` when somebody has it"), (status = 428, description = "`if-match` is missing")))]
pub(crate) async fn act(
    State(app): State<Arc<App>>,
    MayAct(who): MayAct,
    Path(id): Path<String>,
    headers: HeaderMap,
    Sent(asked): Sent<AlertAction>,
) -> Result<Response, Problem> {
    let alert = alert_id(&id)?;
    let seen = if_match(&headers)?;
    if seen.is_none() && asked.replaces() {
        return Err(Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "/problems/precondition-required",
            "The version is missing",
            "without `if-match` two people could overwrite each other",
            "read the alert and send its ETag as `if-match`",
        ));
    }
    if let AlertAction::Acknowledge { minutes, .. } | AlertAction::Claim { minutes, .. } = &asked {
        not_too_long(*minutes)?;
    }
    let note = note_of(asked.note())?;
    let key = idempotency_key(&headers)?;
    let fingerprint = format!("{id} {}", serde_json::to_string(&asked).unwrap_or_default());
    let fingerprint = store::secrets::fingerprint(fingerprint.as_bytes());
    let patient = app.store.episode(alert).await?.patient;
    // asked for, not done: what came of it stands in the alert's own history
    app.auditor.record(&who, asked.word(), Some(&patient), id).await?;
    let now = crate::now();
    let (by, action) = (who.name(), asked.action(&app, now));
    let act = Act { alert, by, note, now, if_match: seen, request: key.map(|key| (key, fingerprint.as_str())), action };
    match app.store.act(&act).await {
        Ok(episode) => Ok(taken(&app, StatusCode::OK, &episode)),
        Err(error) => Err(refused(&app, alert, error).await),
    }
}
