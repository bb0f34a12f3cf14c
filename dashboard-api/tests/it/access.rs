//! Who may what: nobody without credentials, each role its part, each cookie only from our own page.

use std::collections::BTreeSet;

use reqwest::{Method, Response, StatusCode};
use schemas::Micros;
use serde_json::{Value, json};

use crate::{PASSWORD, Site, episode, now, problem};

/// Every operation of the document, with an address that could be one: a new endpoint cannot be forgotten.
fn operations() -> Vec<(Method, String, bool)> {
    let document: Value = serde_json::from_str(&dashboard_api::openapi()).unwrap();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = if path.contains("wards") {
                "w7".to_owned()
            } else if path.contains("alerts") {
                episode("ada", 1).alert.to_string()
            } else {
                "ada".to_owned()
            };
            let open = operation.get("security").is_some_and(|security| security.as_array().unwrap().iter().any(|one| one.as_object().unwrap().is_empty()));
            found.push((method.to_uppercase().parse().unwrap(), path.replace("{id}", &id), open));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_without_credentials() {
    let site = Site::start().await;
    let open: BTreeSet<String> = operations().into_iter().filter(|(_, _, open)| *open).map(|(method, path, _)| format!("{method} {path}")).collect();
    let expected =
        ["GET /livez", "GET /metrics", "GET /readyz", "GET /take/{token}", "POST /api/v1/session", "POST /api/v1/session/link", "POST /take/{token}"];
    assert_eq!(open, expected.map(str::to_owned).into(), "what is open is decided here");
    let expired = site.store.new_api_token("ito", "old", &["admin"], now(), Some(now() - Micros::seconds(1))).await.unwrap().1.to_string();
    for (method, path, open) in operations() {
        if open {
            continue;
        }
        let body = || site.ask(method.clone(), &path).json(&json!({}));
        problem(body().send().await.unwrap(), StatusCode::UNAUTHORIZED).await;
        for token in ["vigil_wrong", "", &"x".repeat(5000), &expired] {
            problem(body().bearer_auth(token).send().await.unwrap(), StatusCode::UNAUTHORIZED).await;
        }
        problem(body().basic_auth("ito", Some(PASSWORD)).send().await.unwrap(), StatusCode::UNAUTHORIZED).await;
        problem(body().header("cookie", "vigil_session=wrong").header("sec-fetch-site", "same-origin").send().await.unwrap(), StatusCode::UNAUTHORIZED).await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_and_scope_has_its_part() {
    let site = Site::start().await;
    site.store.upsert_episode(&episode("ada", 1)).await.unwrap();
    let document = "/api/v1/openapi.json";
    let counts: BTreeSet<&str> = [
        "GET /api/v1/session",
        "DELETE /api/v1/session",
        "GET /api/v1/wards",
        "GET /api/v1/openapi.json",
        "GET /api/v1/reports/precision",
        "GET /api/v1/reports/delays",
        "GET /api/v1/troubles",
    ]
    .into();
    let asks = |path: &str| ["/jobs", "/backtests", "/exports", "/queries"].iter().any(|part| path.contains(part));
    let acts = |method: &Method, path: &str| *method != Method::GET && path != "/api/v1/session";
    for (user, scope) in [("lu", "admin"), ("ito", "read"), ("ito", "write"), ("ana", "admin"), ("ana", "metrics")] {
        let token = site.token_of(user, &[scope]).await;
        for (method, path, open) in operations() {
            if open {
                continue;
            }
            let name = format!("{method} {path}");
            let response = site.ask(method.clone(), &path).bearer_auth(&token).json(&json!({})).send().await.unwrap();
            let allowed = match (user, scope) {
                (_, "read" | "write") | ("lu" | "ito", _) if path.ends_with("/approve") => false,
                ("lu", _) => counts.contains(&*name) || asks(&path),
                (_, "read") => !acts(&method, &path) && !asks(&path),
                (_, "write") => !asks(&path),
                (_, "metrics") => path == "/api/v1/session" || path == document,
                _ => true,
            };
            assert_eq!(response.status() != StatusCode::FORBIDDEN, allowed, "{user} {scope} {name}: {}", response.status());
        }
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_analyst_is_told_nobodys_name() {
    let site = Site::start().await;
    let token = site.token_of("lu", &["admin"]).await;
    for (method, path, open) in operations() {
        if open || method != Method::GET || path.ends_with("/events") {
            continue;
        }
        let text = site.ask(method, &path).bearer_auth(&token).send().await.unwrap().text().await.unwrap();
        assert!(!text.contains("OKAFOR") && !text.contains("\"ada\""), "{path}: {text}");
    }
    site.stop().await;
}

async fn sign_in(site: &Site, name: &str, password: &str) -> Response {
    site.ask(Method::POST, "/api/v1/session").json(&json!({"name": name, "password": password})).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_makes_a_session_that_ends_when_asked() {
    let site = Site::start().await;
    site.store.set_password("ito", PASSWORD).await.unwrap();
    problem(sign_in(&site, "ito", "wrong horse battery").await, StatusCode::UNAUTHORIZED).await;
    problem(sign_in(&site, "nobody", PASSWORD).await, StatusCode::UNAUTHORIZED).await;
    let response = sign_in(&site, "ito", PASSWORD).await;
    assert_eq!(response.status(), StatusCode::OK);
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("vigil_session="), "{cookie}");
    for flag in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(flag), "{flag} in {cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains("Domain"), "{cookie}");
    let session: Value = response.json().await.unwrap();
    assert_eq!((&session["user"], &session["role"]), (&json!("ito"), &json!("clinician")));
    assert_eq!(session["installation"], site.store.installation().await.unwrap().id);
    assert_eq!(session["wards"][0]["id"], "w7");
    assert_eq!(session["wards"][0]["patients"], 2);

    let pair = cookie.split(';').next().unwrap().to_owned();
    let with = |method: Method, path: &str| site.ask(method, path).header("cookie", &pair);
    assert_eq!(with(Method::GET, "/api/v1/patients").send().await.unwrap().status(), StatusCode::OK);
    // a request that changes something must come from our own page
    for (name, value) in [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "http://evil.example"), ("x-nothing", "1")] {
        problem(with(Method::DELETE, "/api/v1/session").header(name, value).send().await.unwrap(), StatusCode::FORBIDDEN).await;
    }
    assert_eq!(with(Method::GET, "/api/v1/session").send().await.unwrap().status(), StatusCode::OK, "it did not end");
    let ended = with(Method::DELETE, "/api/v1/session").header("origin", format!("http://{}", site.address)).send().await.unwrap();
    assert_eq!(ended.status(), StatusCode::NO_CONTENT);
    assert!(ended.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    problem(with(Method::GET, "/api/v1/session").send().await.unwrap(), StatusCode::UNAUTHORIZED).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_site_cannot_sign_a_browser_in() {
    let site = Site::start().await;
    site.store.set_password("ito", PASSWORD).await.unwrap();
    let body = json!({"name": "ito", "password": PASSWORD});
    let forged = site.ask(Method::POST, "/api/v1/session").header("sec-fetch-site", "cross-site").json(&body).send().await.unwrap();
    problem(forged, StatusCode::FORBIDDEN).await;
    // a form cannot send JSON
    let form = site.ask(Method::POST, "/api/v1/session").header("content-type", "text/plain").body(body.to_string()).send().await.unwrap();
    problem(form, StatusCode::UNSUPPORTED_MEDIA_TYPE).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_signs_in_once() {
    let site = Site::start().await;
    let link = site.store.new_one_time_link("ana", now() + Micros::minutes(5)).await.unwrap();
    let old = site.store.new_one_time_link("ana", now() - Micros::seconds(1)).await.unwrap();
    let used = |token: String| site.ask(Method::POST, "/api/v1/session/link").json(&json!({"token": token})).send();
    problem(used(old.to_string()).await.unwrap(), StatusCode::UNAUTHORIZED).await;
    let first = used(link.to_string()).await.unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    assert!(first.headers().contains_key("set-cookie"));
    assert_eq!(first.json::<Value>().await.unwrap()["role"], "admin");
    problem(used(link.to_string()).await.unwrap(), StatusCode::UNAUTHORIZED).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_is_slowed_down_for_a_name_and_leaves_others_alone() {
    let site = Site::start().await;
    for user in ["ito", "ana"] {
        site.store.set_password(user, PASSWORD).await.unwrap();
    }
    let mut refused = None;
    for _ in 0..8 {
        let response = sign_in(&site, "ito", "a wrong password").await;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(response);
            break;
        }
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    let refused = refused.expect("the sixth guess is refused");
    assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    problem(refused, StatusCode::TOO_MANY_REQUESTS).await;
    problem(sign_in(&site, "ito", PASSWORD).await, StatusCode::TOO_MANY_REQUESTS).await;
    // what succeeds is no guess, however often
    for _ in 0..8 {
        assert_eq!(sign_in(&site, "ana", PASSWORD).await.status(), StatusCode::OK);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_while_it_is_used() {
    let site = Site::start().await;
    let soon_over = now() + Micros::seconds(90);
    let token = site.store.new_session("ito", now(), soon_over).await.unwrap();
    let cookie = format!("vigil_session={}", *token);
    let response = site.ask(Method::GET, "/api/v1/session").header("cookie", &cookie).send().await.unwrap();
    let expires_at = schemas::EventTime::parse(response.json::<Value>().await.unwrap()["expires_at"].as_str().unwrap()).unwrap();
    assert!(expires_at - now() > Micros::minutes(59), "an hour from its last request");
    let stored = site.store.session(&token, now()).await.unwrap().unwrap();
    assert_eq!(stored.expires_at, expires_at);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_for_this_machine_or_a_token() {
    let site = Site::start().await;
    let text = site.ask(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(text.contains("vigil_dashboard_requests_total{method=\"GET\",route=\"/readyz\",status=\"200\"}"), "{text}");
    assert!(!text.contains("OKAFOR") && !text.contains("/ada"), "a metric names nobody");
    let proxied = site.ask(Method::GET, "/metrics").header("x-forwarded-for", "192.0.2.1").send().await.unwrap();
    problem(proxied, StatusCode::UNAUTHORIZED).await;
    problem(site.get("/metrics").await, StatusCode::FORBIDDEN).await;
    let token = site.token_of("ana", &["metrics"]).await;
    let scraped = site.ask(Method::GET, "/metrics").header("x-forwarded-for", "192.0.2.1").bearer_auth(token).send().await.unwrap();
    assert_eq!(scraped.status(), StatusCode::OK);
    site.stop().await;
}
