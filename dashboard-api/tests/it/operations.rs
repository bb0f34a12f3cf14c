//! A process without a dashboard answers its supervisor and its monitor.

use std::net::SocketAddr;
use std::sync::Arc;

use dashboard_api::Operations;
use journal::Journal;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{Plan, now, recorder, soon};

#[tokio::test]
async fn a_process_without_a_dashboard_says_how_it_is() {
    let plan = Plan::new().await;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let operations = Operations::bind(any, Arc::new(plan.journal.clone()), plan.store.clone(), recorder()).await.unwrap();
    let taken = Operations::bind(operations.address(), Arc::new(plan.journal.clone()), plan.store.clone(), recorder()).await.unwrap_err();
    assert!(taken.to_string().starts_with("--operations = 127.0.0.1:") && taken.to_string().ends_with("choose a free address"), "{taken}");

    let (site, readiness, stop) = (format!("http://{}", operations.address()), operations.readiness(), CancellationToken::new());
    let running = tokio::spawn(operations.run(stop.clone()));
    let client = Client::new();
    let ask = async |path: &str| client.get(format!("{site}{path}")).send().await.unwrap();
    assert_eq!(ask("/livez").await.status(), StatusCode::OK);
    let ready = ask("/readyz").await;
    assert_eq!(ready.status(), StatusCode::OK);
    let ready: Value = ready.json().await.unwrap();
    assert_eq!(ready["checks"]["journal"], true);
    assert!(ready["checks"].get("follower").is_none(), "nothing is followed here");

    assert_eq!(ask("/metrics").await.status(), StatusCode::OK);
    let proxied = || client.get(format!("{site}/metrics")).header("x-forwarded-for", "192.0.2.1");
    assert_eq!(proxied().send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let (_, token) = plan.store.new_api_token("ana", "monitor", &["metrics"], now(), None).await.unwrap();
    assert_eq!(proxied().bearer_auth(token.as_str()).send().await.unwrap().status(), StatusCode::OK);

    readiness.set_draining();
    assert_eq!(ask("/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    plan.journal.close().await;
    let unready: Value = ask("/readyz").await.json().await.unwrap();
    assert_eq!(unready["checks"]["journal"], false);
    stop.cancel();
    soon("the end", running).await.unwrap().unwrap();
}
