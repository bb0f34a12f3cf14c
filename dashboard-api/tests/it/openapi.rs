//! The document that is checked in is the one the server gives.

use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::{Site, problem};

fn checked_in() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json")
}

#[test]
fn the_checked_in_document_is_the_servers() {
    let made = dashboard_api::openapi();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(checked_in(), &made).unwrap();
    }
    let found = std::fs::read_to_string(checked_in()).unwrap_or_default();
    assert!(found == made, "dashboard-api/openapi.json is not what the code says; UPDATE=1 cargo test -p dashboard-api openapi writes it anew");
}

#[test]
fn it_is_openapi_3_1_and_every_operation_says_how_it_refuses() {
    let document: Value = serde_json::from_str(&dashboard_api::openapi()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            let refusal = &operation["responses"]["default"]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(refusal, "#/components/schemas/Problem", "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path} says nothing of itself");
        }
    }
    assert_eq!(operations, 53);
    // every reference leads somewhere
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name} is not described");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_gives_it_to_who_is_signed_in() {
    let site = Site::start().await;
    problem(site.ask(Method::GET, "/api/v1/openapi.json").send().await.unwrap(), StatusCode::UNAUTHORIZED).await;
    let given = site.json("/api/v1/openapi.json").await;
    assert_eq!(given, serde_json::from_str::<Value>(&dashboard_api::openapi()).unwrap());
    site.stop().await;
}
