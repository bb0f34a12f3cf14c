//! Settings and rules from the outbox into the inputs, at least once, whatever dies in between.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use journal::Topic;
use journal::memory::MemoryJournal;
use schemas::{Input, Micros, Partition, Settings, partition_of};
use store::Store;

use crate::spy::Spy;
use crate::{Fresh, LONG, PARTITIONS, Running, arc, config, eventually, memory, now, patient};

crate::on_both! {
    settings_and_rules_reach_where_they_belong
    killed_between_append_and_done_it_is_appended_again
    all_of_them_go_again_once_a_day
}

fn settings() -> Settings {
    Settings {
        patient: patient(),
        version: 0,
        monitored: true,
        limits: BTreeMap::from([("spo2.low".to_owned(), 88.0)]),
        limits_until: BTreeMap::new(),
        oxygen_l_min: None,
        news2_scale: 1,
        pauses: Vec::new(),
        expected_interval: BTreeMap::new(),
        enrolled_at: now(),
        author: "silva".to_owned(),
    }
}

fn home() -> Partition {
    partition_of(patient().as_bytes(), PARTITIONS)
}

/// Versions of settings and of rules in a partition, in order.
fn versions(journal: &MemoryJournal, partition: Partition) -> (Vec<u64>, Vec<u64>) {
    let (mut settings, mut rules) = (Vec::new(), Vec::new());
    for record in journal.records(Topic::Inputs, partition) {
        match Input::decode(&record.value).unwrap() {
            Input::Settings(s) => {
                assert_eq!(record.key, s.patient.as_bytes());
                settings.push(s.version);
            }
            Input::RuleSet(r) => rules.push(r.version),
            _ => {}
        }
    }
    (settings, rules)
}

async fn no_copies_due(store: &Store) {
    store.set_meta("alerts.inputs_copied_at", &now().0.to_string()).await.unwrap();
}

async fn settings_and_rules_reach_where_they_belong(fresh: Fresh) {
    let store = &fresh.store;
    no_copies_due(store).await;
    let journal = memory();
    store.put_settings(&settings(), 0, now()).await.unwrap();
    let running = Running::start(&config(LONG), arc(&journal), store);
    store.put_rules("# one", "silva", 0, now()).await.unwrap();
    store.put_settings(&settings(), 1, now()).await.unwrap();
    eventually("an empty outbox", || async { (store.outbox_waiting().await.unwrap() == 0).then_some(()) }).await;
    running.stop().await;
    for partition in (0..PARTITIONS).map(Partition) {
        let (settings, rules) = versions(&journal, partition);
        assert_eq!(rules, [1], "rules go to every partition");
        assert_eq!(settings, if partition == home() { vec![1, 2] } else { Vec::new() });
    }
}

/// The mutant reports a row done before the journal has it: then the kill loses it.
async fn killed_between_append_and_done_it_is_appended_again(fresh: Fresh) {
    let store = &fresh.store;
    no_copies_due(store).await;
    // no canary in the count
    store.set_meta("lease.canary", &format!("another {}", i64::MAX)).await.unwrap();
    let journal = memory();
    let spy = Spy::new(&journal, false);
    journal.hold();
    store.put_settings(&settings(), 0, now()).await.unwrap();
    store.put_rules("# one", "silva", 0, now()).await.unwrap();
    let running = Running::start(&config(LONG), spy.clone(), store);
    let appended = 1 + PARTITIONS as usize;
    eventually("the appends", || async { (spy.inputs.load(Ordering::SeqCst) == appended).then_some(()) }).await;
    running.kill().await;
    assert_eq!(store.outbox_waiting().await.unwrap(), 2, "without a receipt nothing is done");
    assert_eq!(versions(&journal, home()), (vec![], vec![]));
    // the journal had them after all; the relay never heard of it
    journal.release();
    expire(&fresh).await;
    let running = Running::start(&config(LONG), spy.clone(), store);
    eventually("an empty outbox", || async { (store.outbox_waiting().await.unwrap() == 0).then_some(()) }).await;
    running.stop().await;
    assert_eq!(versions(&journal, home()), (vec![1, 1], vec![1, 1]), "twice, under one version");
}

/// The lease of a dead process runs out after 30 s; this is 30 s later.
async fn expire(fresh: &Fresh) {
    sqlx::any::install_default_drivers();
    let raw = sqlx::AnyPool::connect(&fresh.url).await.unwrap();
    sqlx::query("UPDATE outbox SET lease_until = 1").execute(&raw).await.unwrap();
    raw.close().await;
}

async fn all_of_them_go_again_once_a_day(fresh: Fresh) {
    let store = &fresh.store;
    no_copies_due(store).await;
    let journal = memory();
    store.put_settings(&settings(), 0, now()).await.unwrap();
    store.put_rules("# one", "silva", 0, now()).await.unwrap();
    // not due: the second change goes through after the look at the start, and nothing else went
    let running = Running::start(&config(LONG), arc(&journal), store);
    eventually("an empty outbox", || async { (store.outbox_waiting().await.unwrap() == 0).then_some(()) }).await;
    store.put_settings(&settings(), 1, now()).await.unwrap();
    eventually("an empty outbox", || async { (store.outbox_waiting().await.unwrap() == 0).then_some(()) }).await;
    running.stop().await;
    assert_eq!(versions(&journal, home()), (vec![1, 2], vec![1]));
    // a day later: what is current, and only that
    let yesterday = now() - Micros::hours(25);
    store.set_meta("alerts.inputs_copied_at", &yesterday.0.to_string()).await.unwrap();
    let running = Running::start(&config(LONG), arc(&journal), store);
    let copied_at =
        eventually("the copies", || async { store.meta("alerts.inputs_copied_at").await.unwrap().filter(|at| *at != yesterday.0.to_string()) }).await;
    running.stop().await;
    assert!(now().0 - copied_at.parse::<i64>().unwrap() < Micros::minutes(1).0);
    assert_eq!(versions(&journal, home()), (vec![1, 2, 2], vec![1, 1]));
    for partition in (0..PARTITIONS).map(Partition).filter(|p| *p != home()) {
        assert_eq!(versions(&journal, partition), (vec![], vec![1, 1]));
    }
}
