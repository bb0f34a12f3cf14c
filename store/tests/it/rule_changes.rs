//! Rules are put into force by one person, or by two.

use store::StoreError;
use store::audit::AuditFilter;
use store::rule_changes::{NewRules, State};

use crate::{Fresh, NOW, at};

crate::on_both! {
    one_person_loads_and_says_why
    a_second_person_puts_a_proposal_into_force
}

const fn rules(toml: &str, base: u64) -> NewRules<'_> {
    NewRules { toml, base, backtest: None, reason: "agreed at the ward round" }
}

async fn audited(fresh: &Fresh) -> Vec<(String, String)> {
    let entries = fresh.store.audit_entries(&AuditFilter::default(), 100).await.unwrap();
    entries.into_iter().rev().map(|e| (e.entry.person, e.entry.action)).collect()
}

async fn one_person_loads_and_says_why(fresh: Fresh) {
    let store = &fresh.store;
    let loaded = store.load_rules(&rules("# one", 0), "silva", NOW).await.unwrap();
    assert_eq!((loaded.version, loaded.state), (Some(1), State::InForce));
    assert_eq!(store.rules().await.unwrap().unwrap().toml, "# one");
    assert!(matches!(store.load_rules(&rules("# two", 0), "silva", NOW).await, Err(StoreError::VersionMismatch { current: 1 })));
    let second = NewRules { backtest: Some("b7"), ..rules("# two", 1) };
    store.load_rules(&second, "kaya", at(1)).await.unwrap();
    let known = store.rule_changes(10).await.unwrap();
    let said: Vec<_> = known.iter().map(|c| (c.version, c.proposed_by.as_str(), c.backtest.as_deref(), c.reason.as_str())).collect();
    assert_eq!(said, [(Some(2), "kaya", Some("b7"), "agreed at the ward round"), (Some(1), "silva", None, "agreed at the ward round")]);
    assert_eq!(audited(&fresh).await, [("silva", "rules.load"), ("kaya", "rules.load")].map(|(p, a)| (p.to_owned(), a.to_owned())));
}

async fn a_second_person_puts_a_proposal_into_force(fresh: Fresh) {
    let store = &fresh.store;
    store.load_rules(&rules("# one", 0), "silva", NOW).await.unwrap();
    let proposed = store.propose_rules(&rules("# two", 1), "silva", NOW).await.unwrap();
    let other = store.propose_rules(&rules("# three", 1), "silva", at(1)).await.unwrap();
    assert_eq!(store.rules().await.unwrap().unwrap().version, 1, "nothing is in force yet");
    assert!(matches!(store.approve_rules(&proposed.id, "silva", at(2)).await, Err(StoreError::Conflict(_))), "nobody approves their own");
    let rules_now = store.approve_rules(&proposed.id, "kaya", at(3)).await.unwrap();
    assert_eq!((rules_now.version, rules_now.toml.as_str(), rules_now.author.as_str()), (2, "# two", "silva, approved by kaya"));
    assert!(store.approve_rules(&proposed.id, "ito", at(4)).await.is_err(), "once");
    // it was made against rules that are no longer in force
    assert!(matches!(store.approve_rules(&other.id, "kaya", at(5)).await, Err(StoreError::VersionMismatch { current: 2 })));
    store.reject_rules(&other.id, "kaya", "overtaken", at(6)).await.unwrap();
    assert_eq!(store.rule_change(&other.id).await.unwrap().state, State::Rejected);
    assert!(matches!(store.approve_rules("none", "kaya", NOW).await, Err(StoreError::NotFound { .. })));
    let actions: Vec<String> = audited(&fresh).await.into_iter().map(|(_, action)| action).collect();
    assert_eq!(actions, ["rules.load", "rules.propose", "rules.propose", "rules.approve", "rules.reject"]);
    assert_eq!(store.outbox_waiting().await.unwrap(), 2);
}
