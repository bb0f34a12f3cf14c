//! What a client sends, taken apart: a refusal says which part is wrong.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use schemas::{AlertId, EventTime, PatientId, ReadingId};
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// A body of JSON.
pub(crate) struct Sent<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => {
                let (status, detail) = (rejection.status(), rejection.body_text());
                let remedy = match status {
                    StatusCode::UNSUPPORTED_MEDIA_TYPE => "send JSON, with content-type: application/json",
                    StatusCode::PAYLOAD_TOO_LARGE => "send at most 256 KiB",
                    StatusCode::UNPROCESSABLE_ENTITY => return Err(Problem::invalid(detail, "see /api/v1/openapi.json for what the body holds")),
                    _ => "correct the JSON and send it again",
                };
                Err(Problem::of_status(status, detail, remedy))
            }
        }
    }
}

/// The part after `?`.
pub(crate) struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::invalid(rejection.body_text(), "see /api/v1/openapi.json for what may stand after `?`")),
        }
    }
}

pub(crate) fn patient_id(text: &str) -> Result<PatientId, Problem> {
    PatientId::parse(text).map_err(|error| Problem::invalid(format!("the patient's id: {error}"), "use the `id` that a list of patients gives"))
}

pub(crate) fn reading_id(text: &str) -> Result<ReadingId, Problem> {
    text.parse().map_err(|error| Problem::invalid(format!("the reading's id: {error}"), "use the `id` that stands beside the value"))
}

/// A time after `?`.
pub(crate) fn instant(key: &str, text: Option<&str>) -> Result<Option<EventTime>, Problem> {
    let parse = |text| EventTime::parse(text).map_err(|error| Problem::invalid(format!("`{key}`: {error}"), "write `+` as `%2B` in an address, or use Z"));
    text.map(parse).transpose()
}

pub(crate) fn alert_id(text: &str) -> Result<AlertId, Problem> {
    text.parse().map_err(|error| Problem::invalid(format!("the alert's id: {error}"), "use the `id` that a list of alerts gives"))
}

/// What `Idempotency-Key` holds.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().map(|text| text.trim().trim_matches('"')).filter(|key| (1..=64).contains(&key.len()));
    key.map(Some).ok_or_else(|| Problem::of_status(StatusCode::BAD_REQUEST, "`idempotency-key` holds no key", "send 1 to 64 characters, such as a new UUID"))
}

/// The version of `If-Match: "3"`; `None` without the header.
/// A proxy that compresses makes an ETag weak; the version in it is the same.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(None) };
    let version = value.to_str().ok().and_then(|text| text.trim().trim_start_matches("W/").trim_matches('"').parse().ok());
    version
        .map(Some)
        .ok_or_else(|| Problem::of_status(StatusCode::BAD_REQUEST, "`if-match` holds no version", "send the ETag as it was given, such as if-match: \"3\""))
}
