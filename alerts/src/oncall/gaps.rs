//! The hours in which nobody is there.

use schemas::EventTime;

use super::{OnCall, Policy, Schedule};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub from: EventTime,
    pub until: EventTime,
}

/// Hours in which no step of a policy reaches anybody; its last resort does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncovered {
    pub policy: String,
    pub gap: Gap,
}

/// The stretches between `changes`, in order, that cover `from..until`.
pub(super) fn stretches(mut changes: Vec<EventTime>, from: EventTime, until: EventTime) -> Vec<Gap> {
    changes.push(from);
    changes.sort_unstable();
    changes.dedup();
    let ends = changes.iter().skip(1).copied().chain([until]);
    changes.iter().zip(ends).filter(|(from, until)| *from < until).map(|(from, until)| Gap { from: *from, until }).collect()
}

/// Those for which `empty` says so, joined where they touch.
pub(super) fn joined(stretches: &[Gap], empty: impl Fn(EventTime) -> bool) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for stretch in stretches.iter().filter(|stretch| empty(stretch.from)) {
        match gaps.last_mut() {
            Some(last) if last.until == stretch.from => last.until = stretch.until,
            _ => gaps.push(*stretch),
        }
    }
    gaps
}

impl Schedule {
    pub fn gaps(&self, from: EventTime, until: EventTime) -> Vec<Gap> {
        joined(&stretches(self.changes(from, until), from, until), |at| self.who(at).is_empty())
    }
}

impl OnCall {
    pub(super) fn stretches(&self, from: EventTime, until: EventTime) -> Vec<Gap> {
        stretches(self.schedules.values().flat_map(|schedule| schedule.changes(from, until)).collect(), from, until)
    }

    /// Of every policy that somebody could come under.
    pub fn uncovered(&self, from: EventTime, until: EventTime) -> Vec<Uncovered> {
        let stretches = self.stretches(from, until);
        let mut uncovered = Vec::new();
        for policy in &self.policies {
            for gap in joined(&stretches, |at| !self.covered(policy, at)) {
                uncovered.push(Uncovered { policy: policy.name.clone(), gap });
            }
        }
        uncovered
    }

    pub(super) fn covered(&self, policy: &Policy, at: EventTime) -> bool {
        policy.steps.iter().any(|step| !self.recipients(&step.to, at).is_empty())
    }
}
