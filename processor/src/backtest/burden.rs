//! What the alerts of a period cost those who answer them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemas::{Arrived, PatientId, Priority, RuleId};
use serde::Serialize;

use super::alerts::{Alert, End};
use super::{Data, Plan, Trial};

/// How many patients with the most alerts are named.
const NAMED: usize = 10;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Burden {
    /// Raised in the period, about a body, by live rules.
    pub alerts: u64,
    pub per_patient_day: f64,
    /// Raised by rules on trial; they are in no other number but their rule's.
    pub shadow: u64,
    /// Of the alerts, those that call people: a technical one calls nobody.
    pub pages: u64,
    pub pages_per_patient_day: f64,
    /// About a device: silence.
    pub technical: u64,
    /// Over before they could be known.
    pub late: u64,
    pub withdrawn: u64,
    /// Not over at the end of the period.
    pub open: u64,
    pub by_priority: BTreeMap<Priority, u64>,
    pub by_rule: Vec<OfRule>,
    /// When they were heard; hour 0 first.
    pub by_hour: [u64; 24],
    pub top_patients: TopPatients,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OfRule {
    pub rule: RuleId,
    pub name: String,
    pub priority: Priority,
    pub technical: bool,
    pub shadow: bool,
    pub alerts: u64,
    pub per_patient_day: f64,
    /// Minutes from raised to over, of those that were over: the middle one.
    pub median_minutes: Option<f64>,
}

/// How uneven it is: a few patients make most alerts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TopPatients {
    /// Patients that are a tenth of all that were watched, rounded up.
    pub tenth: u64,
    /// The share of all alerts that the tenth with the most alerts has.
    pub share: f64,
    pub without: u64,
    pub patients: Vec<(PatientId, u64)>,
}

/// Of alerts that were heard in the period.
pub fn burden(plan: &Plan, data: &Data, trial: &Trial, zone: &TimeZone) -> Burden {
    let days: u64 = data.watched.values().map(|(days, _)| days).sum();
    let per_day = |n: u64| if days == 0 { 0.0 } else { n as f64 / days as f64 };
    let counted: Vec<&Alert> = trial.alerts.iter().filter(|alert| alert.known_at >= plan.from && alert.known_at < plan.to).collect();
    let (shadow, told): (Vec<&Alert>, Vec<&Alert>) = counted.iter().partition(|alert| alert.shadow);
    let count = |of: &dyn Fn(&Alert) -> bool| told.iter().filter(|alert| of(alert)).count() as u64;
    let mut by_hour = [0; 24];
    let mut by_priority: BTreeMap<Priority, u64> = [Priority::Low, Priority::Medium, Priority::High].map(|priority| (priority, 0)).into();
    for alert in told.iter().filter(|alert| !alert.technical) {
        if let Some(slot) = by_hour.get_mut(hour(alert.known_at, zone)) {
            *slot += 1;
        }
        *by_priority.entry(alert.priority).or_default() += 1;
    }
    let of_rule = |(rule, (name, priority)): (&RuleId, &(String, Priority))| {
        let mine: Vec<&&Alert> = counted.iter().filter(|alert| alert.rule == *rule).collect();
        let mut minutes: Vec<f64> = mine.iter().filter_map(|alert| Some((alert.ended_at? - alert.raised_at).0 as f64 / 6e7)).collect();
        minutes.sort_by(f64::total_cmp);
        OfRule {
            rule: rule.clone(),
            name: name.clone(),
            priority: *priority,
            technical: mine.first().is_some_and(|alert| alert.technical),
            shadow: mine.first().is_some_and(|alert| alert.shadow),
            alerts: mine.len() as u64,
            per_patient_day: per_day(mine.len() as u64),
            median_minutes: super::detection::quantile(&minutes, 0.5),
        }
    };
    let (alerts, pages) = (count(&|alert| !alert.technical), count(&|alert| alert.pages));
    Burden {
        alerts,
        per_patient_day: per_day(alerts),
        shadow: shadow.len() as u64,
        pages,
        pages_per_patient_day: per_day(pages),
        technical: count(&|alert| alert.technical),
        late: count(&|alert| alert.late),
        withdrawn: count(&|alert| alert.end == End::Withdrawn),
        open: count(&|alert| alert.end == End::Open),
        by_priority,
        by_rule: trial.names.iter().map(of_rule).collect(),
        by_hour,
        top_patients: top(data, &told),
    }
}

fn hour(at: Arrived, zone: &TimeZone) -> usize {
    let Ok(time) = Timestamp::from_microsecond(at.0) else { return 0 };
    usize::try_from(zone.to_datetime(time).hour()).unwrap_or(0)
}

fn top(data: &Data, counted: &[&Alert]) -> TopPatients {
    let mut of: BTreeMap<&PatientId, u64> = data.watched.keys().map(|patient| (patient, 0)).collect();
    for alert in counted.iter().filter(|alert| !alert.technical) {
        *of.entry(&alert.patient).or_default() += 1;
    }
    let tenth = of.len().div_ceil(10);
    let mut most: Vec<(&PatientId, u64)> = of.into_iter().collect();
    most.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let all: u64 = most.iter().map(|(_, n)| n).sum();
    let theirs: u64 = most.iter().take(tenth).map(|(_, n)| n).sum();
    TopPatients {
        tenth: tenth as u64,
        share: if all == 0 { 0.0 } else { theirs as f64 / all as f64 },
        without: most.iter().filter(|(_, n)| *n == 0).count() as u64,
        patients: most.into_iter().filter(|(_, n)| *n > 0).take(NAMED).map(|(patient, n)| (patient.clone(), n)).collect(),
    }
}
