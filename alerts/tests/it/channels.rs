//! The channels beside webhook and mail, each against a receiver on a real socket; Alertmanager against itself, where it is installed.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use alerts::{Alertmanager, Config, PagerDuty, Sms};
use schemas::TransitionKind;
use serde_json::Value;
use store::notifications::{Notification, State};
use url::Url;

use crate::receiver::{Answer, Receiver};
use crate::{LONG, P0, Running, SECRETS, arc, config, eventually, memory, now, raised, say, sqlite, then, told};

fn sms(url: &str) -> Sms {
    let form = [("To", "{to}"), ("From", "+351200000000"), ("Body", "{text}")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    Sms {
        name: "twilio".to_owned(),
        url: url.parse().unwrap(),
        to: vec!["+351911111111".to_owned()],
        form: BTreeMap::from(form),
        user: "AC1".to_owned(),
        password: Some("s3cret".to_owned().into()),
        receipt: "sid".to_owned(),
        per_minute: None,
    }
}

fn form(body: &[u8]) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(body).into_owned().collect()
}

async fn sent(store: &store::Store, alert: schemas::AlertId, kind: &str) -> Notification {
    eventually(kind, || async { told(store, alert, kind).await.pop().filter(|n| n.state == State::Sent) }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_message_says_nothing_of_the_patient_and_a_pause_that_is_asked_for_is_kept() {
    let fresh = sqlite().await.unwrap();
    let receiver = Receiver::start([Answer::Later(429, 2), Answer::Body(201, r#"{"sid": "SM123"}"#)]).await;
    let journal = memory();
    let running = Running::start(&Config { sms: vec![sms(&receiver.url)], ..config(LONG) }, arc(&journal), &fresh.store);
    let t = raised(1);
    say(&journal, P0, std::slice::from_ref(&t)).await;
    let page = sent(&fresh.store, t.alert, "page").await;
    running.stop().await;
    let received = receiver.received();
    assert_eq!((page.channel.as_str(), page.receipt.as_deref(), received.len()), ("sms:+351911111111", Some("SM123"), 2));
    assert!(received[1].at - received[0].at >= std::time::Duration::from_millis(1900), "{:?}", received[1].at - received[0].at);
    for one in &received {
        let fields = form(&one.body);
        assert_eq!((fields["To"].as_str(), fields["From"].as_str()), ("+351911111111", "+351200000000"));
        let begins = format!("Patient alert {}, high, Ward Seven https://vigil.example/take/", t.alert.code());
        assert!(fields["Body"].starts_with(&begins), "{}", fields["Body"]);
        assert_eq!(one.headers["idempotency-key"], page.key, "one key for every attempt");
        assert_eq!(one.headers["authorization"], "Basic QUMxOnMzY3JldA==");
        let text = String::from_utf8_lossy(&one.raw).to_lowercase();
        for secret in SECRETS {
            assert!(!text.contains(&secret.to_lowercase()), "{secret} left the house: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_alert_is_one_incident_in_pagerduty_from_trigger_to_resolve() {
    let fresh = sqlite().await.unwrap();
    let answer = Answer::Body(202, r#"{"status": "success", "message": "Event processed", "dedup_key": "k"}"#);
    let receiver = Receiver::start([answer; 8]).await;
    let pager = PagerDuty { name: "ward".to_owned(), url: receiver.url.parse().unwrap(), routing_key: "R0UTING\n".to_owned().into() };
    let journal = memory();
    let running = Running::start(&Config { pagerduty: vec![pager], ..config(LONG) }, arc(&journal), &fresh.store);
    let t = raised(1);
    say(&journal, P0, std::slice::from_ref(&t)).await;
    sent(&fresh.store, t.alert, "page").await;
    fresh.store.take_alert(t.alert, "silva", None, now(), None).await.unwrap();
    sent(&fresh.store, t.alert, "acknowledged").await;
    say(&journal, P0, &[then(&t, TransitionKind::Cleared, 2)]).await;
    sent(&fresh.store, t.alert, "cleared").await;
    running.stop().await;
    let events: Vec<Value> = receiver.received().iter().map(crate::receiver::Received::json).collect();
    let said: Vec<_> = events.iter().map(|event| event["event_action"].as_str().unwrap()).collect();
    assert_eq!(said, ["trigger", "acknowledge", "resolve"]);
    assert!(events.iter().all(|event| event["dedup_key"] == t.alert.to_string() && event["routing_key"] == "R0UTING"), "{events:?}");
    assert_eq!(events[0]["payload"]["severity"], "critical");
    assert_eq!(events[0]["payload"]["summary"], format!("Patient alert {}, high, Ward Seven", t.alert.code()));
    for one in receiver.received() {
        let text = String::from_utf8_lossy(&one.raw).to_lowercase();
        assert!(SECRETS.iter().all(|secret| !text.contains(&secret.to_lowercase())), "{text}");
    }
}

/// Alertmanager itself, with nothing behind it. It is killed when it is dropped.
struct Real(Child, Url, #[expect(dead_code, reason = "its folder")] tempfile::TempDir);

impl Drop for Real {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

async fn alertmanager() -> Option<Real> {
    let program = std::env::var("VIGIL_TEST_ALERTMANAGER").unwrap_or_else(|_| "alertmanager".to_owned());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("c.yml"), "route: {receiver: none}\nreceivers: [{name: none}]\n").unwrap();
    // a port that was free a moment ago: it takes no 0 that it would tell of
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(program);
    command.arg(format!("--config.file={}", folder.path().join("c.yml").display()));
    command.arg(format!("--storage.path={}", folder.path().display())).arg("--cluster.listen-address=");
    command.arg(format!("--web.listen-address=127.0.0.1:{port}")).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(child) = command.spawn() else {
        println!(
            "skipped: no Alertmanager; VIGIL_TEST_ALERTMANAGER names its program (go install github.com/prometheus/alertmanager/cmd/alertmanager@v0.28.1)"
        );
        return None;
    };
    let real = Real(child, format!("http://127.0.0.1:{port}").parse().unwrap(), folder);
    eventually("Alertmanager answers", || async { alerts_of(&real.1).await }).await;
    Some(real)
}

async fn alerts_of(url: &Url) -> Option<Vec<Value>> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let answer = reqwest::get(url.join("/api/v2/alerts").unwrap()).await.ok()?.text().await.ok()?;
    serde_json::from_str(&answer).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alertmanager_has_an_alert_as_long_as_it_is_open() {
    let Some(real) = alertmanager().await else { return };
    let fresh = sqlite().await.unwrap();
    let one = Alertmanager { name: "site".to_owned(), url: real.1.clone(), user: String::new(), password: None };
    let journal = memory();
    let running = Running::start(&Config { alertmanagers: vec![one], ..config(LONG) }, arc(&journal), &fresh.store);
    let t = raised(1);
    say(&journal, P0, std::slice::from_ref(&t)).await;
    let open = eventually("the alert in Alertmanager", || async { alerts_of(&real.1).await.and_then(|mut all| all.pop()) }).await;
    assert_eq!(open["labels"]["alert"], t.alert.to_string());
    assert_eq!((open["labels"]["severity"].as_str(), open["labels"]["ward"].as_str()), (Some("critical"), Some("Ward Seven")));
    assert_eq!(open["annotations"]["summary"], format!("Patient alert {}, high, Ward Seven", t.alert.code()));
    say(&journal, P0, &[then(&t, TransitionKind::Cleared, 2)]).await;
    eventually("no alert in Alertmanager", || async { alerts_of(&real.1).await.filter(Vec::is_empty) }).await;
    running.stop().await;
}

#[test]
fn a_form_that_says_nothing_is_refused_with_the_remedy() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let journal = memory();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let fresh = sqlite().await.unwrap();
        let wrong = |field: &str, value: &str| {
            let mut sms = sms("https://sms.example/");
            sms.form.insert(field.to_owned(), value.to_owned());
            let config = Config { sms: vec![sms], ..config(LONG) };
            alerts::Alerts::new(config, arc(&journal), fresh.store.clone()).map(drop).unwrap_err().to_string()
        };
        assert!(wrong("Body", "hello").contains("{text}"));
        assert!(wrong("Extra", "{patient}").contains("{patient}"), "no word of the patient can be put into a form");
    });
}
