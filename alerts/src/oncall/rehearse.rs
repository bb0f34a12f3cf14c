//! A night rehearsed: every rule, patient and hour, without paging anybody.

use std::collections::{BTreeMap, BTreeSet};

use schemas::{EventTime, Priority};

use super::gaps::joined;
use super::{Gap, OnCall, Policy};
use crate::escalation::Recipient;

/// What could be raised.
#[derive(Clone, Debug, Default)]
pub struct Rehearsal {
    pub rules: Vec<(String, Priority)>,
    /// How many patients each ward has; `None`: none.
    pub patients: BTreeMap<Option<String>, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nobody is there but the last resort.
    Uncovered { policy: String, last_resort: bool, gap: Gap },
    /// On call, and no channel of theirs works.
    Unreachable { person: String, gap: Gap, why: String },
    /// A step that reaches nobody.
    EmptyStep { policy: String, step: usize, gap: Gap },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    /// Rule × patient.
    pub pairs: usize,
    pub findings: Vec<Finding>,
}

impl OnCall {
    /// `fails` says why a channel does not work; `None`: it does.
    pub fn rehearse(&self, what: &Rehearsal, from: EventTime, until: EventTime, fails: impl Fn(&str) -> Option<String>) -> Rehearsed {
        let stretches = self.stretches(from, until);
        let policies = self.used(what);
        let mut findings = Vec::new();
        let works = |to: &Recipient| to.channels.iter().any(|channel| fails(channel).is_none());
        for policy in &policies {
            let last = |at| self.recipients(&policy.last_resort, at).iter().any(works);
            for gap in joined(&stretches, |at| !policy.steps.iter().any(|step| self.recipients(&step.to, at).iter().any(works))) {
                let last_resort = joined(&stretches, |at| !last(at)).iter().all(|none| none.until <= gap.from || none.from >= gap.until);
                findings.push(Finding::Uncovered { policy: policy.name.clone(), last_resort, gap });
            }
            for (i, step) in policy.steps.iter().enumerate() {
                for gap in joined(&stretches, |at| !self.recipients(&step.to, at).iter().any(works)) {
                    findings.push(Finding::EmptyStep { policy: policy.name.clone(), step: i + 1, gap });
                }
            }
        }
        for person in self.people.keys() {
            let channels = &self.people[person];
            if channels.iter().any(|channel| fails(channel).is_none()) {
                continue;
            }
            let why = match channels.as_slice() {
                [] => "has no channel".to_owned(),
                all => all.iter().filter_map(|channel| fails(channel).map(|why| format!("{channel}: {why}"))).collect::<Vec<_>>().join("; "),
            };
            let on_call = |at| policies.iter().any(|policy| self.is_in(policy, person, at));
            findings.extend(joined(&stretches, on_call).into_iter().map(|gap| Finding::Unreachable { person: person.clone(), gap, why: why.clone() }));
        }
        Rehearsed { pairs: what.rules.len() * what.patients.values().sum::<usize>(), findings }
    }

    /// The policies that some rule and patient come under.
    fn used(&self, what: &Rehearsal) -> Vec<&Policy> {
        let priorities: BTreeSet<Priority> = what.rules.iter().map(|(_, priority)| *priority).collect();
        let mut used: Vec<&Policy> = Vec::new();
        for ward in what.patients.iter().filter(|(_, count)| **count > 0).map(|(ward, _)| ward) {
            for policy in priorities.iter().filter_map(|priority| self.policy(ward.as_deref(), *priority)) {
                if !used.iter().any(|one| one.name == policy.name) {
                    used.push(policy);
                }
            }
        }
        used
    }

    fn is_in(&self, policy: &Policy, person: &str, at: EventTime) -> bool {
        let targets = policy.steps.iter().flat_map(|step| &step.to).chain(&policy.last_resort);
        targets.into_iter().any(|target| self.people_of(target, at).contains(&person))
    }
}
