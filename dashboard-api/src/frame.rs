//! What stands around every answer: the request's id, a deadline, caught panics, problems as bodies, the headers that keep a browser safe,
//! and what is counted.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;

use crate::names;
use crate::problem::Problem;

/// Beside an answer that a person reads in a browser: it is no problem's body, whatever its status.
#[derive(Clone)]
pub(crate) struct Shown;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Until the head of the answer; a stream goes on for as long as it wants.
const DEADLINE: Duration = Duration::from_secs(30);

/// The page's own files and nothing else; nobody may frame it.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub(crate) async fn frame(request: Request, next: Next) -> Response {
    let id: String = store::secrets::random_id().chars().take(16).collect();
    let started = Instant::now();
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "page".to_owned(), |path| path.as_str().to_owned());
    let api = request.uri().path().starts_with("/api/");

    let answered = tokio::time::timeout(DEADLINE, AssertUnwindSafe(next.run(request)).catch_unwind()).await;
    let response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!(request_id = %id, method, %route, "a request handler panicked");
            Problem::internal("report this with the request id").into_response()
        }
        Err(_) => {
            tracing::warn!(request_id = %id, method, %route, "a request took too long");
            Problem::unavailable("the answer took longer than 30 s", "try again; if it stays so, look at /readyz").into_response()
        }
    };
    let mut response = as_problem(response, &id);

    let status = response.status();
    metrics::counter!(names::REQUESTS, "method" => method, "route" => route.clone(), "status" => status.as_u16().to_string()).increment(1);
    metrics::histogram!(names::REQUEST_SECONDS, "route" => route.clone()).record(started.elapsed().as_secs_f64());
    tracing::debug!(request_id = %id, method, %route, status = status.as_u16(), ms = started.elapsed().as_millis() as u64, "answered");

    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    if api || !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// A label that whoever asks cannot make up.
fn known(method: &Method) -> &'static str {
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS]
        .iter()
        .zip(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
        .find(|(one, _)| *one == method)
        .map_or("other", |(_, name)| name)
}

/// A refusal that is not of ours (405, a path that is not UTF-8 …) gets the same shape.
fn as_problem(response: Response, id: &str) -> Response {
    if let Some(problem) = response.extensions().get::<Problem>() {
        return problem.render(id);
    }
    let status = response.status();
    let ours = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let shown = response.extensions().get::<Shown>().is_some();
    if !(status.is_client_error() || status.is_server_error()) || ours || shown {
        return response;
    }
    let remedy = match status {
        StatusCode::METHOD_NOT_ALLOWED => "use a method that the header `allow` names",
        StatusCode::PAYLOAD_TOO_LARGE => "send at most 256 KiB",
        _ => "see /api/v1/openapi.json for what is possible",
    };
    let mut rendered = Problem::of_status(status, format!("the request was refused: {status}"), remedy).render(id);
    for (name, value) in response.headers() {
        if !rendered.headers().contains_key(name) && name != axum::http::header::CONTENT_LENGTH {
            rendered.headers_mut().insert(name.clone(), value.clone());
        }
    }
    rendered
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::middleware::from_fn;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    async fn ask(path: &str) -> StatusCode {
        let router = Router::new()
            .route("/boom", get(async || -> &'static str { panic!("OKAFOR, Ada") }))
            .route("/text", get(async || (StatusCode::IM_A_TEAPOT, "OKAFOR, Ada")))
            .layer(from_fn(frame));
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let (status, id) = (response.status(), response.headers()["x-request-id"].clone());
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let body: serde_json::Value = serde_json::from_slice(&to_bytes(response.into_body(), 10_000).await.unwrap()).unwrap();
        assert_eq!(body["request_id"], id.to_str().unwrap());
        assert!(!body.to_string().contains("OKAFOR"), "what went wrong inside stays inside");
        status
    }

    #[tokio::test]
    async fn a_panic_and_a_stray_text_end_as_problems() {
        assert_eq!(ask("/boom").await, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(ask("/text").await, StatusCode::IM_A_TEAPOT);
    }
}
