//! What is said when something is refused: RFC 9457, always with what to do about it.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use store::StoreError;
use utoipa::ToSchema;

/// A refusal. It becomes a body where the request's id is known: see [`crate::frame`].
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    remedy: String,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// How a problem stands in the body, for the document.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem, description = "RFC 9457. Some problems have members of their own: `current` (a version), `acknowledged`.")]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct ProblemBody {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    detail: String,
    /// What to do.
    remedy: String,
    /// The same as the header `x-request-id`.
    request_id: String,
}

impl Problem {
    pub fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status, kind, title, detail: detail.into(), remedy: remedy.into(), members: Map::new(), headers: Vec::new() }
    }

    /// One that only its status tells apart.
    pub fn of_status(status: StatusCode, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(status, "about:blank", status.canonical_reason().unwrap_or("Error"), detail, remedy)
    }

    pub fn unauthenticated(detail: &str) -> Self {
        let remedy = "sign in, or send `Authorization: Bearer vigil_…`";
        Self::new(StatusCode::UNAUTHORIZED, "/problems/unauthenticated", "Not signed in", detail, remedy)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"vigil\""))
    }

    pub fn forbidden(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "/problems/forbidden", "Not allowed", detail, remedy)
    }

    pub fn not_found(what: &str, id: &str) -> Self {
        let shown: String = id.chars().take(64).collect();
        Self::new(StatusCode::NOT_FOUND, "/problems/not-found", "Not found", format!("{what} `{shown}` does not exist"), "check the id")
    }

    pub fn invalid(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "/problems/invalid", "Not valid", detail, remedy)
    }

    pub fn unavailable(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "/problems/unavailable", "Not available just now", detail, remedy)
            .header(RETRY_AFTER, HeaderValue::from_static("2"))
    }

    pub fn internal(remedy: &str) -> Self {
        Self::of_status(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be answered", remedy)
    }

    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    #[must_use]
    pub fn member(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }

    pub fn render(&self, request_id: &str) -> Response {
        let mut body = json!({
            "type": self.kind, "title": self.title, "status": self.status.as_u16(), "detail": self.detail, "remedy": self.remedy, "request_id": request_id,
        });
        if let Value::Object(object) = &mut body {
            for (name, value) in &self.members {
                object.insert(name.clone(), value.clone());
            }
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let (detail, remedy) = (error.to_string(), error.remedy());
        match &error {
            StoreError::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, "/problems/not-found", "Not found", detail, remedy),
            StoreError::Exists { .. } | StoreError::Conflict(_) | StoreError::Overlap { .. } => {
                Self::new(StatusCode::CONFLICT, "/problems/conflict", "Not possible in this state", detail, remedy)
            }
            StoreError::VersionMismatch { current } => {
                Self::new(StatusCode::PRECONDITION_FAILED, "/problems/changed", "Changed in the meantime", detail, remedy).member("current", json!(current))
            }
            StoreError::Invalid { .. } => Self::invalid(detail, remedy),
            _ if error.is_transient() => {
                tracing::warn!(%error, source = error.source_text(), "the store does not answer");
                Self::unavailable(detail, remedy)
            }
            _ => {
                tracing::error!(%error, source = error.source_text(), "the store failed");
                Self::internal(remedy)
            }
        }
    }
}

/// The database's own words; they name no patient, because every value is bound.
trait SourceText {
    fn source_text(&self) -> String;
}

impl SourceText for StoreError {
    fn source_text(&self) -> String {
        std::error::Error::source(self).map(ToString::to_string).unwrap_or_default()
    }
}
