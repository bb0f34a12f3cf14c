//! The page's files, and what stands around every answer.

use reqwest::{Method, StatusCode};

use crate::{Site, problem};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_of_the_page_are_its_index_and_files_are_files() {
    let site = Site::start().await;
    let mut tags = Vec::new();
    for path in ["/", "/sign-in", "/patients/ada/vitals", "/wards/w7?sort=name"] {
        let page = site.ask(Method::GET, path).send().await.unwrap();
        assert_eq!(page.status(), StatusCode::OK, "{path}");
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8", "{path}");
        assert_eq!(page.headers()["cache-control"], "no-cache", "{path}");
        tags.push(page.headers()["etag"].to_str().unwrap().to_owned());
        let text = page.text().await.unwrap();
        assert!(text.to_lowercase().starts_with("<!doctype html>"), "{path}");
        for file in text.split("\"/assets/").skip(1).filter_map(|rest| rest.split('"').next()) {
            let asset = site.ask(Method::GET, &format!("/assets/{file}")).send().await.unwrap();
            assert_eq!(asset.status(), StatusCode::OK, "{file}");
            assert_eq!(asset.headers()["cache-control"], "public, max-age=31536000, immutable", "{file}");
            let kind = asset.headers()["content-type"].to_str().unwrap();
            assert!(!kind.starts_with("text/html"), "{file} is {kind}");
        }
    }
    tags.dedup();
    assert_eq!(tags.len(), 1);
    let unchanged = site.ask(Method::GET, "/").header("if-none-match", &tags[0]).send().await.unwrap();
    assert_eq!(unchanged.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(unchanged.text().await.unwrap(), "");
    let packed = site.ask(Method::GET, "/").header("accept-encoding", "br, gzip").send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_eq!(packed.bytes().await.unwrap()[..2], [0x1f, 0x8b]);
    // a script that is gone must not be answered with a page
    problem(site.ask(Method::GET, "/assets/gone-1234.js").send().await.unwrap(), StatusCode::NOT_FOUND).await;
    problem(site.ask(Method::GET, "/favicon.png").send().await.unwrap(), StatusCode::NOT_FOUND).await;
    problem(site.ask(Method::POST, "/").send().await.unwrap(), StatusCode::METHOD_NOT_ALLOWED).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_safe_for_a_browser_and_the_apis_are_not_kept() {
    let site = Site::start().await;
    for path in ["/", "/livez", "/api/v1/wards", "/api/v1/patients", "/api/v1/nothing"] {
        let response = site.get(path).await;
        let headers = response.headers();
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(headers["x-request-id"].len(), 16, "{path}");
        if path.starts_with("/api/") {
            assert_eq!(headers["cache-control"], "no-store", "{path}");
        }
    }
    let packed = site.ask(Method::GET, "/api/v1/openapi.json").bearer_auth(&site.token).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_the_server_itself_have_the_same_shape() {
    let site = Site::start().await;
    problem(site.get("/api/v1/nothing").await, StatusCode::NOT_FOUND).await;
    let wrong = site.ask(Method::PATCH, "/api/v1/wards").bearer_auth(&site.token).send().await.unwrap();
    assert_eq!(wrong.headers()["allow"], "GET,HEAD");
    problem(wrong, StatusCode::METHOD_NOT_ALLOWED).await;
    let session = || site.ask(Method::POST, "/api/v1/session").header("content-type", "application/json");
    problem(session().body("{").send().await.unwrap(), StatusCode::BAD_REQUEST).await;
    problem(session().body("{\"name\": 5}").send().await.unwrap(), StatusCode::UNPROCESSABLE_ENTITY).await;
    problem(session().body("{\"name\": \"a\", \"password\": \"b\", \"more\": 1}").send().await.unwrap(), StatusCode::UNPROCESSABLE_ENTITY).await;
    problem(session().body(format!("{{\"name\": \"{}\"}}", "x".repeat(300 << 10))).send().await.unwrap(), StatusCode::PAYLOAD_TOO_LARGE).await;
    problem(site.ask(Method::POST, "/api/v1/session").body("{}").send().await.unwrap(), StatusCode::UNSUPPORTED_MEDIA_TYPE).await;
    problem(site.get("/api/v1/patients/%ff").await, StatusCode::BAD_REQUEST).await;
    site.stop().await;
}
