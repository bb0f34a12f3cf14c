//! A night rehearsed: every rule, patient and hour, without paging anybody.

use std::collections::{BTreeMap, BTreeSet};

use schemas::{EventTime, Priority};

use super::gaps::joined;
use super::{Gap, OnCall, Policy};
use crate::escalation::{Recipient, repeats};

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
    /// A step whose turn never comes.
    NeverReached { policy: String, step: usize, why: &'static str },
}

/// What comes under a policy tonight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Under {
    pub policy: String,
    pub rules: BTreeSet<String>,
    pub patients: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    /// Rule × patient.
    pub pairs: usize,
    pub policies: Vec<Under>,
    pub findings: Vec<Finding>,
}

/// A policy that some rule and patient come under.
struct Used<'a> {
    policy: &'a Policy,
    rules: BTreeSet<String>,
    wards: BTreeSet<Option<String>>,
    repeats: bool,
}

impl OnCall {
    /// `fails` says why a channel does not work; `None`: it does.
    pub fn rehearse(&self, what: &Rehearsal, from: EventTime, until: EventTime, fails: impl Fn(&str) -> Option<String>) -> Rehearsed {
        let stretches = self.stretches(from, until);
        let used = self.used(what);
        let mut findings = Vec::new();
        let works = |to: &Recipient| to.channels.iter().any(|channel| fails(channel).is_none());
        for Used { policy, repeats, .. } in &used {
            let last = |at| self.recipients(&policy.last_resort, at).iter().any(works);
            for gap in joined(&stretches, |at| !self.covered(policy, at, works)) {
                let last_resort = joined(&stretches, |at| !last(at)).iter().all(|none| none.until <= gap.from || none.from >= gap.until);
                findings.push(Finding::Uncovered { policy: policy.name.clone(), last_resort, gap });
            }
            let mut always_reached = false;
            for (i, step) in policy.steps.iter().enumerate() {
                let name = || policy.name.clone();
                if always_reached && !repeats {
                    findings.push(Finding::NeverReached { policy: name(), step: i + 1, why: "only low alerts come here, and they are paged once" });
                }
                let empty = joined(&stretches, |at| !self.recipients(&step.to, at).iter().any(works));
                always_reached |= empty.is_empty() || !step.skip_if_empty;
                findings.extend(empty.into_iter().map(|gap| Finding::EmptyStep { policy: name(), step: i + 1, gap }));
            }
        }
        for (person, channels) in &self.people {
            if channels.iter().any(|channel| fails(channel).is_none()) {
                continue;
            }
            let why = match channels.as_slice() {
                [] => "no channel is written".to_owned(),
                all => all.iter().filter_map(|channel| fails(channel).map(|why| format!("{channel}: {why}"))).collect::<Vec<_>>().join("; "),
            };
            let on_call = |at| used.iter().any(|used| self.is_in(used.policy, person, at));
            findings.extend(joined(&stretches, on_call).into_iter().map(|gap| Finding::Unreachable { person: person.clone(), gap, why: why.clone() }));
        }
        let patients = |wards: &BTreeSet<Option<String>>| wards.iter().filter_map(|ward| what.patients.get(ward)).sum();
        let policies = used.iter().map(|used| Under { policy: used.policy.name.clone(), rules: used.rules.clone(), patients: patients(&used.wards) });
        Rehearsed { pairs: what.rules.len() * what.patients.values().sum::<usize>(), policies: policies.collect(), findings }
    }

    fn used(&self, what: &Rehearsal) -> Vec<Used<'_>> {
        let mut used: Vec<Used<'_>> = Vec::new();
        for ward in what.patients.iter().filter(|(_, count)| **count > 0).map(|(ward, _)| ward) {
            for (rule, priority) in &what.rules {
                let Some(policy) = self.policy(ward.as_deref(), *priority) else { continue };
                let at = used.iter().position(|one| one.policy.name == policy.name).unwrap_or_else(|| {
                    used.push(Used { policy, rules: BTreeSet::new(), wards: BTreeSet::new(), repeats: false });
                    used.len() - 1
                });
                used[at].rules.insert(rule.clone());
                used[at].wards.insert(ward.clone());
                used[at].repeats |= repeats(*priority);
            }
        }
        used
    }

    fn is_in(&self, policy: &Policy, person: &str, at: EventTime) -> bool {
        let targets = policy.steps.iter().flat_map(|step| &step.to).chain(&policy.last_resort);
        targets.into_iter().any(|target| self.people_of(target, at).contains(&person))
    }
}
