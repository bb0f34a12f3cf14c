//! Who is on call: people with their channels, teams, schedules, and the escalation policies that page them; pure, of one TOML text.
//!
//! A moment is an instant, and what people write is civil time in the site's zone: a hand-off at 08:00 is at 08:00 on the wall, in a night of
//! 23 hours as in one of 25.

mod gaps;
mod moment;
mod rehearse;
mod schedule;
mod text;

use std::collections::BTreeMap;

use schemas::{EventTime, Micros, Priority};

use crate::escalation::{Plan, Recipient, Step};

pub use gaps::{Gap, Uncovered};
pub use rehearse::{Finding, Rehearsal, Rehearsed, Under};
pub use schedule::Schedule;
pub use text::{OnCallError, Target};

/// When nobody is there at all, it is looked again after this.
const LOOK_AGAIN: Micros = Micros::minutes(1);

#[derive(Clone, Debug)]
pub struct OnCall {
    /// Each with the channels in the order in which they are tried.
    pub people: BTreeMap<String, Vec<String>>,
    pub teams: BTreeMap<String, Vec<String>>,
    pub schedules: BTreeMap<String, Schedule>,
    pub policies: Vec<Policy>,
    pub zone: jiff::tz::TimeZone,
}

#[derive(Clone, Debug)]
pub struct Policy {
    pub name: String,
    /// Empty: of any ward.
    pub wards: Vec<String>,
    /// Empty: of any priority.
    pub priorities: Vec<Priority>,
    pub steps: Vec<PolicyStep>,
    pub last_resort: Vec<Target>,
}

#[derive(Clone, Debug)]
pub struct PolicyStep {
    pub to: Vec<Target>,
    pub wait: Micros,
    pub skip_if_empty: bool,
}

impl OnCall {
    pub fn parse(text: &str) -> Result<Self, OnCallError> {
        text::parse(text)
    }

    /// The first that is for the ward and the priority. A patient without a ward is of none.
    pub fn policy(&self, ward: Option<&str>, priority: Priority) -> Option<&Policy> {
        self.policies.iter().find(|policy| policy.is_for(ward, priority))
    }

    /// Who is paged, step by step. Index 0 is the owner's, whom the alert was given to; the policy's steps follow, then the last resort.
    pub fn plan(&self, ward: Option<&str>, priority: Priority, owner: Option<&str>, at: EventTime) -> Plan {
        let policy = self.policy(ward, priority);
        let mut steps = Vec::new();
        if let Some(owner) = owner.and_then(|owner| self.recipient(owner)) {
            let wait = policy.and_then(|policy| policy.steps.first()).map_or(LOOK_AGAIN, |step| step.wait);
            steps.push(Step { index: 0, to: vec![owner], wait });
        }
        if let Some(policy) = policy {
            for (index, step) in (1..).zip(&policy.steps) {
                let to = self.recipients(&step.to, at);
                if !(to.is_empty() && step.skip_if_empty) {
                    steps.push(Step { index, to, wait: step.wait });
                }
            }
            let to = self.recipients(&policy.last_resort, at);
            if !to.is_empty() {
                let index = u32::try_from(policy.steps.len()).unwrap_or(u32::MAX - 1) + 1;
                steps.push(Step { index, to, wait: policy.steps.last().map_or(LOOK_AGAIN, |step| step.wait) });
            }
        }
        if steps.iter().all(|step| step.to.is_empty()) {
            steps.clear();
        }
        Plan { steps, look_again: LOOK_AGAIN }
    }

    /// The people behind a target at `at`, each once. A channel is nobody.
    pub fn people_of<'a>(&'a self, target: &'a Target, at: EventTime) -> Vec<&'a str> {
        match target {
            Target::Person(name) => vec![name],
            Target::Team(name) => self.teams.get(name).map(|people| people.iter().map(String::as_str).collect()).unwrap_or_default(),
            Target::Schedule(name) => self.schedules.get(name).map(|schedule| schedule.who(at)).unwrap_or_default(),
            Target::Channel(_) => Vec::new(),
        }
    }

    fn recipients(&self, targets: &[Target], at: EventTime) -> Vec<Recipient> {
        let mut to: Vec<Recipient> = Vec::new();
        for target in targets {
            let found: Vec<Recipient> = match target {
                Target::Channel(channel) => vec![Recipient { person: None, channels: vec![channel.clone()] }],
                _ => self.people_of(target, at).into_iter().filter_map(|name| self.recipient(name)).collect(),
            };
            for one in found {
                if !to.contains(&one) {
                    to.push(one);
                }
            }
        }
        to
    }

    /// `None`: nobody of that name, or nobody who can be reached.
    fn recipient(&self, name: &str) -> Option<Recipient> {
        let channels = self.people.get(name).filter(|channels| !channels.is_empty())?;
        Some(Recipient { person: Some(name.to_owned()), channels: channels.clone() })
    }
}

impl Policy {
    fn is_for(&self, ward: Option<&str>, priority: Priority) -> bool {
        let ward = self.wards.is_empty() || ward.is_some_and(|ward| self.wards.iter().any(|one| one == ward));
        ward && (self.priorities.is_empty() || self.priorities.contains(&priority))
    }
}
