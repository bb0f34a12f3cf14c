//! What is wrong with Vigil itself reaches people, and that nothing is reaches the dead-man's switch.

use std::time::Duration;

use alerts::{Config, Watch, Webhook};
use schemas::{AlertId, DeviceId, EventTime, Micros, PatientId, Transition};
use store::Store;
use store::registry::{Assignment, Device, Patient};

use crate::receiver::{Answer, Received, Receiver};
use crate::{Fresh, LONG, P0, PARTITIONS, Running, arc, config, eventually, memory, now, raised, say};

crate::on_both! {
    evaluation_that_stops_is_told_until_it_goes_on_and_the_heartbeat_stays_away
    a_page_that_reaches_nobody_is_told
    two_processes_tell_once
    a_hub_that_is_away_is_one_incident
}

fn hook(name: &str, receiver: &Receiver) -> Webhook {
    Webhook::new(name, receiver.url.parse().unwrap(), None).unwrap()
}

fn watch() -> Watch {
    Watch { every: Duration::from_millis(20), evaluated_within: Micros::seconds(1), again_after: Micros::seconds(1), ..Watch::default() }
}

/// As if every partition's canary had come out then.
async fn sing(store: &Store, at: EventTime) {
    for partition in 0..PARTITIONS {
        store.set_meta(&format!("canary_at.{partition}"), &at.0.to_string()).await.unwrap();
    }
}

fn kinds(received: &[Received]) -> Vec<String> {
    received.iter().map(|one| one.json()["type"].as_str().unwrap().to_owned()).collect()
}

async fn evaluation_that_stops_is_told_until_it_goes_on_and_the_heartbeat_stays_away(fresh: Fresh) {
    let (ops, ward, switch) = (Receiver::start([]).await, Receiver::start([]).await, Receiver::start([]).await);
    let watch = Watch { channels: vec!["webhook:ops".to_owned()], heartbeat: Some(switch.url.parse().unwrap()), ..watch() };
    let config = Config { webhooks: vec![hook("ops", &ops), hook("ward", &ward)], watch, ..config(LONG) };
    // the engine is not there: what is fed never comes out
    let running = Running::start(&config, arc(&memory()), &fresh.store);
    let told = eventually("two tellings", || async { Some(ops.received()).filter(|received| received.len() >= 2) }).await;
    assert_eq!(&kinds(&told)[..2], ["alert.page", "alert.repage"]);
    let (first, again) = (told[0].json(), told[1].json());
    assert_eq!((&first["data"]["technical"], &first["data"]["priority"], &first["data"]["alert"]), (&true.into(), &"high".into(), &again["data"]["alert"]));
    assert_eq!(first["data"]["rule_name"], "EVALUATION STOPPED in 2 of 2 partitions since it was installed: patients there are not watched");
    assert!(told[1].at - told[0].at >= Duration::from_millis(900), "not before it is time");
    assert_ne!(told[0].id(), told[1].id(), "each is a message of its own");
    assert_eq!(switch.received().len(), 0, "nobody is told that all is well");
    assert!(fresh.store.troubles().await.unwrap()[0].what.starts_with("EVALUATION STOPPED"));

    sing(&fresh.store, now() + Micros::minutes(10)).await;
    let over = eventually("the end", || async { ops.received().into_iter().find(|one| one.json()["type"] == "alert.cleared") }).await;
    assert_eq!((&over.json()["data"]["alert"], &over.json()["data"]["state"]), (&first["data"]["alert"], &"cleared".into()));
    eventually("the heartbeat", || async { (switch.received().len() == 1).then_some(()) }).await;
    eventually("nothing is left", || async { fresh.store.troubles().await.unwrap().is_empty().then_some(()) }).await;
    running.stop().await;
    assert_eq!(kinds(&ops.received()).iter().filter(|kind| *kind == "alert.cleared").count(), 1);
    assert_eq!(ward.received().len(), 0, "the ward is not told");
}

/// Its receiver is broken, and so is the channel; when it works again, both are told.
async fn a_page_that_reaches_nobody_is_told(fresh: Fresh) {
    sing(&fresh.store, now() + Micros::minutes(10)).await;
    let receiver = Receiver::start([Answer::Status(500); 3]).await;
    let watch = Watch { reached_within: Micros(500_000), ..watch() };
    let journal = memory();
    let running = Running::start(&Config { webhooks: vec![hook("pager", &receiver)], watch, ..config(LONG) }, arc(&journal), &fresh.store);
    say(&journal, P0, &[raised(1)]).await;
    let trouble = eventually("the trouble", || async { fresh.store.troubles().await.unwrap().into_iter().find(|trouble| trouble.name == "pages") }).await;
    assert_eq!(trouble.what, "a page has reached nobody for 0 s");
    eventually("the page", || async { receiver.received().iter().find(|one| one.json()["data"]["rule"] == "spo2-low").map(drop) }).await;
    eventually("nothing is left", || async { fresh.store.troubles().await.unwrap().is_empty().then_some(()) }).await;
    running.stop().await;
}

async fn two_processes_tell_once(fresh: Fresh) {
    let receiver = Receiver::start([]).await;
    let watch = Watch { again_after: Micros::hours(1), ..watch() };
    let config = Config { webhooks: vec![hook("ops", &receiver)], watch, ..config(LONG) };
    let (journal, other) = (memory(), Store::open(&fresh.url).await.unwrap());
    let (one, two) = (Running::start(&config, arc(&journal), &fresh.store), Running::start(&config, arc(&journal), &other));
    eventually("the telling", || async { receiver.received().pop().map(drop) }).await;
    eventually("it is remembered", || async { fresh.store.troubles().await.unwrap().iter().any(|trouble| trouble.tellings == 1).then_some(()) }).await;
    one.stop().await;
    two.stop().await;
    other.close().await;
    assert_eq!(receiver.received().len(), 1);
}

/// Silent patients make an alert each, and page nobody; what they have in common is told once.
async fn a_hub_that_is_away_is_one_incident(fresh: Fresh) {
    let store = &fresh.store;
    sing(store, now() + Micros::minutes(10)).await;
    let device = |id: &str, hub: Option<&str>| Device {
        id: DeviceId::parse(id).unwrap(),
        model: String::new(),
        test: false,
        hub: hub.map(|hub| DeviceId::parse(hub).unwrap()),
        created_at: now(),
        revoked_at: None,
        min_time: now(),
    };
    store.add_device(&device("hub-1", None)).await.unwrap();
    let somebody = store.patient(&crate::patient()).await.unwrap();
    let (receiver, journal) = (Receiver::start([]).await, memory());
    let mut silent = Vec::new();
    for n in 0..10 {
        let (patient, name) = (PatientId::parse(&format!("p{n}")).unwrap(), format!("d{n}"));
        store.add_patient(&Patient { id: patient.clone(), ..somebody.clone() }).await.unwrap();
        store.add_device(&device(&name, (n < 4).then_some("hub-1"))).await.unwrap();
        store
            .assign(&Assignment { device: DeviceId::parse(&name).unwrap(), patient: patient.clone(), from: now() - Micros::days(1), until: None })
            .await
            .unwrap();
        let alert = AlertId([n; 16]);
        silent.push(Transition { alert, patient, technical: true, pages: false, ..raised(i64::from(n)) });
    }
    let watch = Watch { again_after: Micros::hours(1), ..watch() };
    let running = Running::start(&Config { webhooks: vec![hook("ops", &receiver)], watch, ..config(LONG) }, arc(&journal), store);
    say(&journal, P0, &silent[..4]).await;
    let told = |n: usize| {
        let receiver = &receiver;
        async move { eventually("a telling", || async { receiver.received().get(n).map(Received::json) }).await }
    };
    let first = told(0).await;
    assert_eq!(first["data"]["rule_name"], "4 of 4 patients behind the hub hub-1 are silent: look at the hub before you look at each");
    say(&journal, P0, &silent[4..5]).await;
    let mut second = [told(1).await, told(2).await];
    second.sort_by_key(|one| one["type"].as_str().unwrap().to_owned());
    assert_eq!(
        (&second[0]["type"], &second[0]["data"]["alert"]),
        (&"alert.cleared".into(), &first["data"]["alert"]),
        "the hub is not what they have in common"
    );
    assert_eq!(
        second[1]["data"]["rule_name"],
        "5 of 10 patients with a device are silent: look at the gateway, the network and the broker before you look at each"
    );
    running.stop().await;
    assert_eq!(receiver.received().len(), 3, "nobody was paged for each");
}

#[tokio::test]
async fn a_channel_that_is_not_there_is_refused() {
    let fresh = crate::sqlite().await.unwrap();
    let watch = Watch { channels: vec!["webhook:opps".to_owned()], ..watch() };
    let alerts = alerts::Alerts::new(Config { watch, ..config(LONG) }, arc(&memory()), fresh.store.clone()).unwrap();
    let error = alerts.run(tokio_util::sync::CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("webhook:opps"), "{error}");
}
