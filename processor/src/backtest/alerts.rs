//! What the engine would have told: an alert from its first transition to its last.

use std::collections::HashMap;

use schemas::{AlertId, Arrived, CANARY_RULE, EventTime, PatientId, Priority, RuleId, Transition, TransitionKind};
use serde::Serialize;

/// How an alert ended, within what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    Open,
    Cleared,
    Withdrawn,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    pub alert: AlertId,
    pub patient: PatientId,
    pub rule: RuleId,
    pub priority: Priority,
    /// About a device, not about a body.
    pub technical: bool,
    /// Of a rule on trial: in nobody's list.
    pub shadow: bool,
    /// People would have been called.
    pub pages: bool,
    pub late: bool,
    pub since: EventTime,
    pub raised_at: EventTime,
    /// As the transition says.
    pub heard_at: Arrived,
    /// When it could be known, by the journal's clock: lead times are counted from here. Later than `heard_at` where what came afterwards shows
    /// that a hold had been met before.
    pub known_at: Arrived,
    pub ended_at: Option<EventTime>,
    pub end: End,
    #[serde(skip)]
    pub(super) ended_known: Option<Arrived>,
}

impl Alert {
    /// Whether it was told and not over at this time, as one could know then.
    pub fn stands_at(&self, time: Arrived) -> bool {
        self.known_at <= time && self.ended_known.is_none_or(|ended| ended > time)
    }
}

/// Gathers the alerts of one partition.
#[derive(Debug, Default)]
pub struct Alerts {
    all: Vec<Alert>,
    open: HashMap<AlertId, usize>,
    names: HashMap<RuleId, (String, Priority)>,
}

impl Alerts {
    /// Vigil's own are no burden to anybody.
    /// `before`: the clock before the input that caused it. What was due earlier is known no sooner.
    pub fn hear(&mut self, transition: &Transition, before: Arrived) {
        if transition.rule.as_str() == CANARY_RULE {
            return;
        }
        let known_at = transition.heard_at.max(before);
        let end = match transition.kind {
            TransitionKind::Raised => {
                self.open.insert(transition.alert, self.all.len());
                if !self.names.contains_key(&transition.rule) {
                    self.names.insert(transition.rule.clone(), (transition.rule_name.clone(), transition.priority));
                }
                self.all.push(Alert {
                    alert: transition.alert,
                    patient: transition.patient.clone(),
                    rule: transition.rule.clone(),
                    priority: transition.priority,
                    technical: transition.technical,
                    shadow: transition.shadow,
                    pages: transition.pages && !transition.shadow && !transition.technical,
                    late: transition.late,
                    since: transition.since,
                    raised_at: transition.at,
                    heard_at: transition.heard_at,
                    known_at,
                    ended_at: None,
                    end: End::Open,
                    ended_known: None,
                });
                return;
            }
            TransitionKind::Cleared => End::Cleared,
            TransitionKind::Withdrawn => End::Withdrawn,
            TransitionKind::Amended => return,
        };
        if let Some(alert) = self.open.remove(&transition.alert).and_then(|at| self.all.get_mut(at)) {
            alert.end = end;
            alert.ended_at = Some(transition.at);
            alert.ended_known = Some(known_at);
        }
    }

    pub fn into_parts(self) -> (Vec<Alert>, HashMap<RuleId, (String, Priority)>) {
        (self.all, self.names)
    }
}
