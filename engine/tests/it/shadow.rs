//! What a rule says in each of its states.

use engine::Output;
use schemas::{EventTime, Input, RuleSet, TransitionKind};

use crate::{Log, minutes};

fn in_state(state: &str) -> String {
    format!("[[rule]]\nid = \"low\"\npriority = \"high\"\nstate = \"{state}\"\nwhen = \"last(spo2, '5 min') < 90\"\n")
}

fn change(log: &mut Log, state: &str, version: u64, minute: f64) {
    let rules = RuleSet { version, toml: in_state(state), activated_at: EventTime(minutes(minute)), author: String::new() };
    log.input(Input::RuleSet(rules), minutes(minute));
}

fn said(log: &Log) -> Vec<(TransitionKind, bool, bool)> {
    log.transitions().into_iter().map(|t| (t.kind, t.shadow, t.pages)).collect()
}

#[test]
fn a_draft_is_compiled_and_says_nothing() {
    let mut log = Log::new(&in_state("draft"));
    log.spo2(0.0, 80.0);
    assert_eq!(said(&log), []);
    assert_eq!(log.engine.rules().drafts.len(), 1);
    assert!(engine::compile(&in_state("draft").replace("spo2", "sp02")).is_err());
}

#[test]
fn a_rule_on_trial_is_recorded_and_shown_to_nobody() {
    let mut log = Log::new(&in_state("shadow"));
    log.spo2(0.0, 80.0);
    assert_eq!(said(&log), [(TransitionKind::Raised, true, false)]);
    let ada = schemas::PatientId::parse("ada").unwrap();
    assert!(log.engine.open_alerts(&ada).is_empty());
    assert!(log.engine.latest(&ada, schemas::Metric::Spo2).unwrap().breach.is_none());
    log.spo2(1.0, 95.0);
    assert_eq!(said(&log)[1], (TransitionKind::Cleared, true, false));
}

/// Nobody was told of an alert on trial: when the rule goes live while it is open, it is raised anew for the people.
#[test]
fn going_live_raises_what_was_open_on_trial() {
    let mut log = Log::new(&in_state("shadow"));
    log.spo2(0.0, 80.0);
    change(&mut log, "live", 2, 1.0);
    let expected = [(TransitionKind::Raised, true, false), (TransitionKind::Withdrawn, true, false), (TransitionKind::Raised, false, true)];
    assert_eq!(said(&log), expected);
    let ids: std::collections::BTreeSet<_> = log.transitions().iter().map(|t| t.alert).collect();
    assert_eq!(ids.len(), 2, "the alert on trial and the live one are two");
    change(&mut log, "shadow", 3, 2.0);
    assert_eq!(said(&log)[3..], [(TransitionKind::Withdrawn, false, true), (TransitionKind::Raised, true, false)]);
    change(&mut log, "draft", 4, 3.0);
    assert_eq!(said(&log)[5..], [(TransitionKind::Withdrawn, true, false)]);
    assert!(log.outputs.iter().all(|output| !matches!(output, Output::Transition(t) if t.shadow && t.pages)));
}
