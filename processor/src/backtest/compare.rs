//! Two answers to the same inputs, side by side.

use std::collections::{BTreeMap, BTreeSet};

use schemas::{AlertId, Arrived, EventTime, PatientId, RuleId};
use serde::Serialize;

use super::alerts::Alert;
use super::{Plan, Trial};

/// Alerts of the period that one side tells and the other does not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Differences {
    pub both: u64,
    pub only_here: Vec<Alert>,
    pub only_there: Vec<Alert>,
}

/// An alert of one side is also the other's if that has one of the same patient and rule while this one stood: a limit that is met a minute
/// later is the same alert, later.
pub fn compare(plan: &Plan, here: &Trial, there: &Trial) -> Differences {
    let (here_of, there_of) = (by_condition(here), by_condition(there));
    let only = |mine: &Trial, theirs: &BTreeMap<(&PatientId, &RuleId), Vec<&Alert>>| -> Vec<Alert> {
        let lonely = |alert: &&Alert| !theirs.get(&(&alert.patient, &alert.rule)).is_some_and(|of| of.iter().any(|other| overlap(alert, other)));
        mine.alerts.iter().filter(|alert| counted(plan, alert)).filter(lonely).cloned().collect()
    };
    let (only_here, only_there) = (only(here, &there_of), only(there, &here_of));
    let all = here.alerts.iter().filter(|alert| counted(plan, alert)).count();
    Differences { both: (all - only_here.len()) as u64, only_here, only_there }
}

/// By id and time: for what must be the very same alert.
pub fn compare_exactly(plan: &Plan, here: &[Alert], there: &[Alert]) -> Differences {
    let known = |of: &[Alert]| -> BTreeSet<(AlertId, EventTime, Arrived)> { of.iter().map(exactly).collect() };
    let (here_has, there_has) = (known(here), known(there));
    let only = |mine: &[Alert], theirs: &BTreeSet<_>| -> Vec<Alert> {
        mine.iter().filter(|alert| counted(plan, alert) && !theirs.contains(&exactly(alert))).cloned().collect()
    };
    let (only_here, only_there) = (only(here, &there_has), only(there, &here_has));
    Differences { both: here.iter().filter(|alert| counted(plan, alert)).count() as u64 - only_here.len() as u64, only_here, only_there }
}

const fn exactly(alert: &Alert) -> (AlertId, EventTime, Arrived) {
    (alert.alert, alert.raised_at, alert.heard_at)
}

fn counted(plan: &Plan, alert: &Alert) -> bool {
    alert.known_at >= plan.from && alert.known_at < plan.to
}

fn by_condition(trial: &Trial) -> BTreeMap<(&PatientId, &RuleId), Vec<&Alert>> {
    let mut of: BTreeMap<_, Vec<&Alert>> = BTreeMap::new();
    for alert in &trial.alerts {
        of.entry((&alert.patient, &alert.rule)).or_default().push(alert);
    }
    of
}

/// From when it began to when it was over.
fn overlap(a: &Alert, b: &Alert) -> bool {
    let ends = |alert: &Alert| alert.ended_at.unwrap_or(EventTime::MAX);
    a.since <= ends(b) && b.since <= ends(a)
}
