//! Over TLS 1.3 the cookie is Secure and named so that no other host can set it.

use reqwest::{Client, StatusCode, Version};
use serde_json::json;

use crate::{PASSWORD, Plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_over_tls_is_bound_to_this_host() {
    let mut plan = Plan::new().await;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (plan.folder.path().join("cert.pem"), plan.folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    plan.config.tls = Some((certificate.clone(), key));
    plan.store.set_password("ito", PASSWORD).await.unwrap();
    let (store, journal) = (plan.store.clone(), plan.journal.clone());
    let objects = std::sync::Arc::new(processor::objects::LocalObjects::open(plan.objects()).unwrap());
    let bound = dashboard_api::Dashboard::bind(plan.config.clone(), std::sync::Arc::new(journal), store, objects, None).await.unwrap();
    let (address, stop) = (bound.address(), tokio_util::sync::CancellationToken::new());
    let running = tokio::spawn(bound.run(stop.clone()));

    let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let client = Client::builder().tls_certs_only([root]).resolve("localhost", address).build().unwrap();
    let url = |path: &str| format!("https://localhost:{}{path}", address.port());
    let response = client.post(url("/api/v1/session")).json(&json!({"name": "ito", "password": PASSWORD})).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.version(), Version::HTTP_11);
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("__Host-vigil_session="), "{cookie}");
    for flag in ["Secure", "HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(flag), "{flag} in {cookie}");
    }
    let pair = cookie.split(';').next().unwrap();
    assert_eq!(client.get(url("/api/v1/session")).header("cookie", pair).send().await.unwrap().status(), StatusCode::OK);
    // the name of a plain session is not taken here
    let plain = pair.replace("__Host-", "");
    assert_eq!(client.get(url("/api/v1/session")).header("cookie", plain).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    // plain HTTP gets nothing
    assert!(Client::new().get(format!("http://{address}/livez")).send().await.is_err());
    stop.cancel();
    crate::soon("the end", running).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_certificate_says_which_file() {
    let mut plan = Plan::new().await;
    let file = plan.folder.path().join("nothing.pem");
    std::fs::write(&file, "nothing").unwrap();
    plan.config.tls = Some((file.clone(), file));
    let objects = std::sync::Arc::new(processor::objects::LocalObjects::open(plan.objects()).unwrap());
    let error = dashboard_api::Dashboard::bind(plan.config, std::sync::Arc::new(plan.journal), plan.store, objects, None).await.unwrap_err();
    assert!(error.to_string().contains("nothing.pem"), "{error}");
}
