//! The hours in which nobody is there.

use schemas::{EventTime, Micros};

use super::schedule::instant;
use super::{OnCall, Policy, Schedule};
use crate::escalation::Recipient;

/// No configuration is looked at further ahead.
const FURTHEST: Micros = Micros::days(400);
const NEAREST: Micros = Micros::days(28);

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

    /// When whoever is on call at `at` is relieved, looking no further than `until`.
    pub fn relieved(&self, at: EventTime, until: EventTime) -> Option<EventTime> {
        let now = self.who(at);
        let mut changes = self.changes(at, until);
        changes.sort_unstable();
        changes.into_iter().find(|change| self.who(*change) != now)
    }

    /// How far ahead one must look to have seen all of it: a whole turn of its longest rotation, and every date that is written in it.
    fn horizon(&self, now: EventTime) -> EventTime {
        let turns = self.rotations.iter().map(|rotation| {
            let turn = Micros::days(i64::from(rotation.days_each).saturating_mul(rotation.people.len() as i64).min(400));
            instant(rotation.starts.to_datetime(rotation.hand_off), &self.zone).unwrap_or(now).max(now) + turn
        });
        let overrides = self.overrides.iter().filter_map(|one| instant(one.until, &self.zone));
        let holidays = self.holidays.iter().filter_map(|one| instant(one.date.tomorrow().ok()?.at(0, 0, 0, 0), &self.zone));
        turns.chain(overrides).chain(holidays).max().unwrap_or(now)
    }
}

impl OnCall {
    pub(super) fn stretches(&self, from: EventTime, until: EventTime) -> Vec<Gap> {
        stretches(self.schedules.values().flat_map(|schedule| schedule.changes(from, until)).collect(), from, until)
    }

    /// Until when everything that is written has had its turn: four weeks at least, 400 days at most.
    pub fn horizon(&self, now: EventTime) -> EventTime {
        let last = self.schedules.values().map(|schedule| schedule.horizon(now)).max().unwrap_or(now);
        last.clamp(now + NEAREST, now + FURTHEST)
    }

    /// Of every policy; `works` says whether a channel does.
    pub fn uncovered(&self, from: EventTime, until: EventTime, works: impl Fn(&str) -> bool) -> Vec<Uncovered> {
        let stretches = self.stretches(from, until);
        let reaches = |to: &Recipient| to.channels.iter().any(|channel| works(channel));
        let mut uncovered = Vec::new();
        for policy in &self.policies {
            for gap in joined(&stretches, |at| !self.covered(policy, at, reaches)) {
                uncovered.push(Uncovered { policy: policy.name.clone(), gap });
            }
        }
        uncovered
    }

    pub(super) fn covered(&self, policy: &Policy, at: EventTime, reaches: impl Fn(&Recipient) -> bool) -> bool {
        policy.steps.iter().any(|step| self.recipients(&step.to, at).iter().any(&reaches))
    }
}
