//! Settings on their way into the journal, episodes and who has them, the audit chain.

use std::collections::BTreeMap;

use schemas::{AlertId, Arrived, Cause, Input, Micros, Offset, Partition, Priority, RuleId, Settings};
use store::StoreError;
use store::audit::{AuditEntry, AuditState};
use store::backtests::Backtest;
use store::episodes::{Care, Episode, EpisodeFilter, State};

use crate::{Fresh, NOW, ada, at, ward};

crate::on_both! {
    settings_are_versioned_and_leave_through_the_outbox
    an_older_cause_changes_nothing
    an_acknowledgement_is_of_what_was_seen
    the_audit_chain_shows_tampering
    a_backtest_is_recorded_once
}

fn settings() -> Settings {
    Settings {
        patient: ada(),
        version: 0,
        monitored: true,
        limits: BTreeMap::from([("spo2.low".to_owned(), 88.0)]),
        limits_until: BTreeMap::new(),
        oxygen_l_min: Some(2.0),
        news2_scale: 1,
        pauses: Vec::new(),
        expected_interval: BTreeMap::new(),
        enrolled_at: NOW,
        author: "silva".to_owned(),
    }
}

async fn settings_are_versioned_and_leave_through_the_outbox(fresh: Fresh) {
    let store = &fresh.store;
    ward(store).await;
    assert_eq!(store.put_settings(&settings(), 0, NOW).await.unwrap().version, 1);
    assert!(matches!(store.put_settings(&settings(), 0, NOW).await, Err(StoreError::VersionMismatch { current: 1 })));
    assert_eq!(store.put_settings(&settings(), 1, NOW).await.unwrap().version, 2);
    store.put_rules("# none", "silva", 0, NOW).await.unwrap();
    assert_eq!(store.outbox_waiting().await.unwrap(), 3);
    let lease = Micros::seconds(30);
    let claimed = store.outbox_claim("one", NOW, lease, 2).await.unwrap();
    assert!(matches!(Input::decode(&claimed[0].input).unwrap(), Input::Settings(s) if s.version == 1 && s.limits["spo2.low"] == 88.0));
    assert!(store.outbox_claim("two", at(1), lease, 10).await.unwrap().is_empty(), "versions leave in order: one relay at a time");
    assert_eq!(store.outbox_done("two", &[claimed[0].id]).await.unwrap(), 0, "not its lease");
    assert_eq!(store.outbox_done("one", &[claimed[0].id, claimed[1].id]).await.unwrap(), 2);
    let rest = store.outbox_claim("two", at(2), lease, 10).await.unwrap();
    assert!(rest.len() == 1 && rest[0].patient.is_none(), "rules go to every partition");
    let current = store.all_current().await.unwrap();
    assert_eq!(current.len(), 2, "the newest settings and rules, for the daily copy");
}

pub fn episode(offset: i64, ordinal: u32, state: State) -> Episode {
    Episode {
        alert: AlertId([7; 16]),
        patient: ada(),
        rule: RuleId::parse("spo2-low").unwrap(),
        rule_name: "Low oxygen saturation".to_owned(),
        priority: Priority::High,
        state,
        raised_at: NOW,
        heard_at: Arrived(NOW.0),
        since: NOW,
        cleared_at: None,
        summary: "SpO₂ 84 %, limit 90".to_owned(),
        evidence: Vec::new(),
        late: false,
        brief: false,
        technical: false,
        test: false,
        acknowledged: None,
        care: Care::default(),
        version: 0,
        partition: Partition(0),
        cause: Cause { offset: Offset(offset), ordinal },
    }
}

async fn an_older_cause_changes_nothing(fresh: Fresh) {
    let store = &fresh.store;
    ward(store).await;
    assert_eq!(store.upsert_episode(&episode(5, 0, State::Open)).await.unwrap(), Some(1));
    assert_eq!(store.upsert_episode(&episode(5, 0, State::Open)).await.unwrap(), None, "a replay");
    assert_eq!(store.upsert_episode(&episode(5, 1, State::Cleared)).await.unwrap(), Some(2));
    assert_eq!(store.upsert_episode(&episode(4, 9, State::Open)).await.unwrap(), None, "an older one");
    assert_eq!(store.episode(AlertId([7; 16])).await.unwrap().state, State::Cleared);
    let (page, more) = store.episodes(&EpisodeFilter { ward: Some("w7".to_owned()), ..EpisodeFilter::default() }, None, 10).await.unwrap();
    assert!(page.len() == 1 && more.is_none());
}

async fn an_acknowledgement_is_of_what_was_seen(fresh: Fresh) {
    let store = &fresh.store;
    ward(store).await;
    store.upsert_episode(&episode(5, 0, State::Open)).await.unwrap();
    let alert = AlertId([7; 16]);
    assert!(matches!(store.take_alert(alert, "silva", None, NOW, Some(9)).await, Err(StoreError::VersionMismatch { current: 1 })));
    let (one, two) = tokio::join!(store.take_alert(alert, "silva", Some("on my way"), NOW, Some(1)), store.take_alert(alert, "kaya", None, NOW, Some(1)));
    assert!(one.is_ok() != two.is_ok(), "exactly one of two at once");
    let given = store.episode(alert).await.unwrap().acknowledged.unwrap();
    let other = if given.by == "silva" { "kaya" } else { "silva" };
    assert!(store.give_back_alert(alert, other, at(1), at(300)).await.is_err(), "only who gave it takes it back");
    assert!(store.give_back_alert(alert, &given.by, at(11), at(300)).await.is_err(), "and only for 10 s");
    assert!(store.give_back_alert(alert, &given.by, at(9), at(300)).await.unwrap().acknowledged.is_none());
    // a later transition keeps what people did
    let version = store.episode(alert).await.unwrap().version;
    store.take_alert(alert, "kaya", None, at(12), Some(version)).await.unwrap();
    store.upsert_episode(&episode(6, 0, State::Cleared)).await.unwrap();
    assert_eq!(store.episode(alert).await.unwrap().acknowledged.unwrap().by, "kaya");
    assert_eq!(store.history(alert).await.unwrap().iter().filter(|entry| entry.by.is_some()).count(), 3);
}

async fn the_audit_chain_shows_tampering(fresh: Fresh) {
    let store = &fresh.store;
    let entry = |n: i64| AuditEntry { at: at(n), person: "silva".to_owned(), action: "read.vitals".to_owned(), patient: Some(ada()), detail: format!("{n}") };
    store.audit_all(&(0..5).map(entry).collect::<Vec<_>>()).await.unwrap();
    store.audit(&entry(5)).await.unwrap();
    assert!(matches!(store.verify_audit().await.unwrap(), AuditState::Intact(head) if head.seq == 6));
    let raw = sqlx::AnyPool::connect(&fresh.url).await.unwrap();
    sqlx::query("UPDATE audit SET person = 'kaya' WHERE seq = 3").execute(&raw).await.unwrap();
    assert_eq!(store.verify_audit().await.unwrap(), AuditState::Broken { seq: 3 });
    sqlx::query("UPDATE audit SET person = 'silva' WHERE seq = 3").execute(&raw).await.unwrap();
    assert!(matches!(store.verify_audit().await.unwrap(), AuditState::Intact(_)));
    sqlx::query("DELETE FROM audit WHERE seq = 6").execute(&raw).await.unwrap();
    assert_eq!(store.verify_audit().await.unwrap(), AuditState::Broken { seq: 6 }, "a shortened chain is not intact");
}

async fn a_backtest_is_recorded_once(fresh: Fresh) {
    let store = &fresh.store;
    let backtest = |id: &str, created_at, person: &str| Backtest {
        id: id.to_owned(),
        created_at,
        person: person.to_owned(),
        rules_hash: "r".to_owned(),
        data_hash: "d".to_owned(),
        engine_version: "0.1.0+1".to_owned(),
        from: None,
        to: Some(at(60)),
        summary: "{\"alerts\": 3}".to_owned(),
    };
    assert!(store.put_backtest(&backtest("a", at(1), "silva")).await.unwrap());
    assert!(store.put_backtest(&backtest("b", at(2), "silva")).await.unwrap());
    assert!(!store.put_backtest(&backtest("a", at(3), "ito")).await.unwrap(), "the same result again");
    assert_eq!(store.backtest("a").await.unwrap(), Some(backtest("a", at(1), "silva")));
    assert_eq!(store.backtest("c").await.unwrap(), None);
    let ids: Vec<String> = store.backtests(10).await.unwrap().into_iter().map(|backtest| backtest.id).collect();
    assert_eq!(ids, ["b", "a"], "the newest first");
}
