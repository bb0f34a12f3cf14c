//! The page's files, in the binary. A file whose name holds its hash never changes; every other path of the page is `index.html`.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::problem::Problem;

pub(crate) struct Asset {
    path: &'static str,
    kind: &'static str,
    etag: &'static str,
    bytes: &'static [u8],
    gzip: Option<&'static [u8]>,
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Where Vite puts what carries its hash in its name.
const HASHED: &str = "/assets/";

/// For every path that is no endpoint.
pub(crate) async fn serve(request: Request) -> Response {
    let path = request.uri().path();
    if path.starts_with("/api/") || path == "/api" {
        return Problem::of_status(StatusCode::NOT_FOUND, "there is no such endpoint", "see /api/v1/openapi.json for those there are").into_response();
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Problem::of_status(StatusCode::METHOD_NOT_ALLOWED, "the page is only read", "use GET").into_response();
    }
    let found = ASSETS.iter().find(|asset| asset.path == path);
    // a file that is gone must not become a page: a browser would take it for a script
    let is_file = path.starts_with(HASHED) || path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    let asset = match found.or_else(|| ASSETS.iter().find(|asset| asset.path == "/index.html" && !is_file)) {
        Some(asset) => asset,
        None => {
            return Problem::of_status(StatusCode::NOT_FOUND, "the page has no such file", "load the page again: it may be of another version").into_response();
        }
    };
    answer(asset, request.headers())
}

fn answer(asset: &'static Asset, asked: &HeaderMap) -> Response {
    let known = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let unchanged = known.map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == asset.etag || tag == "*");
    let accepts = asked.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let gzip = asset.gzip.filter(|_| accepts.map(str::trim).any(|coding| coding == "gzip" || (coding.starts_with("gzip;") && !coding.ends_with("q=0"))));

    let body = if unchanged { Body::empty() } else { Body::from(Bytes::from_static(gzip.unwrap_or(asset.bytes))) };
    let mut response = Response::new(body);
    *response.status_mut() = if unchanged { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let headers = response.headers_mut();
    let cache = if asset.path.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(ETAG, HeaderValue::from_static(asset.etag));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    if gzip.is_some() && !unchanged {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}
