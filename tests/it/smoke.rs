//! What a newcomer does: the demonstration, the link, an alert, its acknowledgement, the end.

use std::time::Instant;

use futures::StreamExt;
use serde_json::{Value, json};

use crate::driven::{PATIENCE, Process};

/// The `data:` of the events of a stream, one by one.
async fn events(answer: reqwest::Response, mut wanted: impl FnMut(&str, &Value) -> bool) -> Value {
    let mut bytes = answer.bytes_stream();
    let mut text = String::new();
    let began = Instant::now();
    while let Some(piece) = tokio::time::timeout(PATIENCE, bytes.next()).await.expect("the stream is silent") {
        text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let line = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
            let (kind, data) = (line("event:"), line("data:"));
            let data: Value = serde_json::from_str(&data).unwrap_or_default();
            text = rest.to_owned();
            if wanted(&kind, &data) {
                return data;
            }
        }
        assert!(began.elapsed() < PATIENCE, "what was waited for did not come over the stream");
    }
    panic!("the stream ended");
}

fn open_alert(data: &Value) -> Option<Value> {
    let alerts = data["alerts"].as_array()?;
    alerts.iter().find(|alert| alert["state"] == "open" && alert["acknowledged"].is_null() && alert["technical"] == false).cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_sees_an_alert_and_acknowledges_it() {
    // another test of this process may have been first
    drop(rustls::crypto::ring::default_provider().install_default());
    let began = Instant::now();
    // the ports it is told are taken, as the usual ones may be: it finds others
    let taken: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let [listen, mqtt] = [0, 1].map(|n: usize| taken[n].local_addr().unwrap().to_string());
    let mut demo = Process::start(&["demo", "--patients", "12", "--listen", &listen, "--mqtt", &mqtt]);
    let link = demo.line("sign in").split_whitespace().last().unwrap().to_owned();
    let (site, token) = link.split_once("/sign-in#token=").unwrap();

    let client = reqwest::Client::builder().build().unwrap();
    let refused = client.get(format!("{site}/api/v1/alerts")).send().await.unwrap();
    assert_eq!(refused.status(), 401, "nothing is shown to who is not signed in");
    let page = client.get(format!("{site}/wards")).send().await.unwrap();
    assert!(page.status().is_success() && page.text().await.unwrap().contains("<title>"), "there is a page");

    let signed_in = client.post(format!("{site}/api/v1/session/link")).json(&json!({"token": token})).send().await.unwrap();
    assert!(signed_in.status().is_success(), "{}", signed_in.text().await.unwrap());
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let again = client.post(format!("{site}/api/v1/session/link")).json(&json!({"token": token})).send().await.unwrap();
    assert_eq!(again.status(), 401, "a link signs in once");

    let stream = client.get(format!("{site}/api/v1/events")).header("cookie", &cookie).send().await.unwrap();
    assert!(stream.status().is_success());
    let mut found = None;
    events(stream, |_, data| {
        found = found.take().or_else(|| open_alert(data));
        found.is_some()
    })
    .await;
    let alert = found.unwrap();
    eprintln!("the first alert came {:.1} s after the start", began.elapsed().as_secs_f64());

    let id = alert["id"].as_str().unwrap();
    let acknowledge = || {
        let request = client.post(format!("{site}/api/v1/alerts/{id}/acknowledgements")).header("cookie", &cookie).header("sec-fetch-site", "same-origin");
        request.json(&json!({"note": "at the bedside"})).send()
    };
    let acknowledged = acknowledge().await.unwrap();
    assert_eq!(acknowledged.status(), 201, "{}", acknowledged.text().await.unwrap());
    assert_eq!(acknowledge().await.unwrap().status(), 409, "it is acknowledged once");
    let stored: Value = client.get(format!("{site}/api/v1/alerts/{id}")).header("cookie", &cookie).send().await.unwrap().json().await.unwrap();
    assert_eq!(stored["acknowledged"]["by"], "admin");
    assert_eq!(stored["acknowledged"]["note"], "at the bedside");

    demo.signal("TERM");
    let status = demo.end();
    assert_eq!(status.code(), Some(0), "{:?}", demo.rest());
}
