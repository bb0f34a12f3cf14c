//! Alerts beside events that somebody labelled: what was seen coming, how early, and what was a false alarm.

use std::collections::BTreeMap;

use schemas::{Arrived, EventTime, Micros, PatientId, RuleId};
use serde::Serialize;

use super::alerts::Alert;
use super::{Data, Plan, Trial};

/// Something that should have been seen coming.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Labelled {
    pub patient: PatientId,
    pub time: EventTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quartiles {
    pub first: f64,
    pub median: f64,
    pub third: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Detection {
    /// How long before an event an alert is about it, in hours.
    pub window_hours: f64,
    pub events: u64,
    /// Of those, with no reading of the patient in the period: nothing could be seen. They are among the missed.
    pub events_of_unwatched: u64,
    pub detected: u64,
    pub missed: u64,
    /// Detected of all events.
    pub sensitivity: Option<f64>,
    /// Of the detected: hours from the first alert that was heard in the window, or that stood when it began, to the event.
    pub lead_hours: Option<Quartiles>,
    /// Alerts of the period that are about no event.
    pub false_alerts: u64,
    pub false_per_patient_day: f64,
    /// Alerts about an event, of all.
    pub precision: Option<f64>,
    pub by_rule: BTreeMap<RuleId, Detected>,
    pub per_event: Vec<EventOutcome>,
}

/// What one rule alone would have seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Detected {
    pub detected: u64,
    pub lead_hours: Option<Quartiles>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventOutcome {
    pub patient: PatientId,
    pub time: EventTime,
    /// `None`: missed.
    pub lead_hours: Option<f64>,
    pub first_rule: Option<RuleId>,
}

/// Alerts about bodies only: silence foretells nothing. Of rules on trial it is said what each alone would have seen.
pub fn detect(plan: &Plan, data: &Data, trial: &Trial, labels: &[Labelled], window: Micros) -> Detection {
    let alerts: Vec<&Alert> = trial.alerts.iter().filter(|alert| !alert.technical).collect();
    let mut of: BTreeMap<&PatientId, Vec<&Alert>> = BTreeMap::new();
    for alert in &alerts {
        of.entry(&alert.patient).or_default().push(alert);
    }
    let mut labels: Vec<&Labelled> = labels.iter().filter(|label| label.time.0 >= plan.from.0 && label.time.0 < plan.to.0).collect();
    labels.sort();
    let per_event: Vec<EventOutcome> = labels
        .iter()
        .map(|label| {
            let told: Vec<&Alert> = of.get(&label.patient).into_iter().flatten().copied().filter(|alert| !alert.shadow).collect();
            let first = first_in_window(&told, label, window);
            EventOutcome {
                patient: label.patient.clone(),
                time: label.time,
                lead_hours: first.map(|(lead, _)| hours(lead)),
                first_rule: first.map(|(_, alert)| alert.rule.clone()),
            }
        })
        .collect();
    let mut by_rule = BTreeMap::new();
    for rule in trial.names.keys() {
        let leads = labels.iter().filter_map(|label| {
            let mine: Vec<&Alert> = of.get(&label.patient)?.iter().copied().filter(|alert| alert.rule == *rule).collect();
            first_in_window(&mine, label, window).map(|(lead, _)| hours(lead))
        });
        let leads: Vec<f64> = leads.collect();
        by_rule.insert(rule.clone(), Detected { detected: leads.len() as u64, lead_hours: quartiles(leads) });
    }
    let leads: Vec<f64> = per_event.iter().filter_map(|event| event.lead_hours).collect();
    let (events, detected) = (per_event.len() as u64, leads.len() as u64);
    let counted: Vec<&&Alert> = alerts.iter().filter(|alert| !alert.shadow && alert.known_at >= plan.from && alert.known_at < plan.to).collect();
    let about_one = |alert: &Alert| labels.iter().any(|label| label.patient == alert.patient && about(alert, label, window));
    let false_alerts = counted.iter().filter(|alert| !about_one(alert)).count() as u64;
    let days: u64 = data.watched.values().map(|(days, _)| days).sum();
    let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    Detection {
        window_hours: hours(window),
        events,
        events_of_unwatched: labels.iter().filter(|label| !data.watched.contains_key(&label.patient)).count() as u64,
        detected,
        missed: events - detected,
        sensitivity: ratio(detected, events),
        lead_hours: quartiles(leads),
        false_alerts,
        false_per_patient_day: ratio(false_alerts, days).unwrap_or(0.0),
        precision: ratio(counted.len() as u64 - false_alerts, counted.len() as u64),
        by_rule,
        per_event,
    }
}

/// Heard in `[event − window, event)`.
fn about(alert: &Alert, label: &Labelled, window: Micros) -> bool {
    let lead = label.time - alert.known_at.as_event();
    lead > Micros::ZERO && lead <= window
}

/// The longest lead; an alert that stood when the window began has all of it.
fn first_in_window<'a>(alerts: &[&'a Alert], label: &Labelled, window: Micros) -> Option<(Micros, &'a Alert)> {
    let begins = Arrived(label.time.0.saturating_sub(window.0));
    let lead = |alert: &&'a Alert| {
        let lead = if alert.stands_at(begins) { window } else { label.time - alert.known_at.as_event() };
        (lead > Micros::ZERO && lead <= window).then_some((lead, *alert))
    };
    alerts.iter().filter_map(lead).max_by_key(|(lead, alert)| (*lead, std::cmp::Reverse(alert.alert)))
}

fn hours(span: Micros) -> f64 {
    span.0 as f64 / 3.6e9
}

fn quartiles(mut values: Vec<f64>) -> Option<Quartiles> {
    values.sort_by(f64::total_cmp);
    Some(Quartiles { first: quantile(&values, 0.25)?, median: quantile(&values, 0.5)?, third: quantile(&values, 0.75)? })
}

/// Of sorted values, by linear interpolation.
pub(super) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use schemas::{AlertId, Offset, Priority};

    use super::super::End;
    use super::*;

    fn alert(rule: &str, hour: i64, ended: Option<i64>) -> Alert {
        let (patient, rule) = (PatientId::parse("ada").unwrap(), RuleId::parse(rule).unwrap());
        let at = |hour| Micros::hours(hour).0;
        Alert {
            alert: AlertId::by_offset(&patient, &rule, Offset(hour)),
            patient,
            rule,
            priority: Priority::High,
            technical: false,
            shadow: false,
            pages: true,
            late: false,
            since: EventTime(at(hour)),
            raised_at: EventTime(at(hour)),
            heard_at: Arrived(at(hour)),
            known_at: Arrived(at(hour)),
            ended_at: ended.map(|ended| EventTime(at(ended))),
            end: if ended.is_some() { End::Cleared } else { End::Open },
            ended_known: ended.map(|ended| Arrived(at(ended))),
        }
    }

    /// An event at hour 100 with a window of 24: hours of alerts → lead, and how many are false.
    fn check(alerts: &[(&str, i64, Option<i64>)], lead: Option<f64>, false_alerts: u64) {
        let alerts: Vec<Alert> = alerts.iter().map(|(rule, at, ended)| alert(rule, *at, *ended)).collect();
        let names = alerts.iter().map(|alert| (alert.rule.clone(), (String::new(), alert.priority))).collect();
        let trial = Trial { alerts, names, stats: engine::Stats::default() };
        let data = Data {
            files: 1,
            rows: 1,
            readings: 1,
            first_arrived: Arrived(0),
            last_arrived: Arrived(0),
            hash: String::new(),
            watched: [(PatientId::parse("ada").unwrap(), (4, 90))].into(),
        };
        let labels = [Labelled { patient: PatientId::parse("ada").unwrap(), time: EventTime(Micros::hours(100).0) }];
        let found = detect(&Plan::new(engine::Config::default()), &data, &trial, &labels, Micros::hours(24));
        assert_eq!(found.per_event[0].lead_hours, lead);
        assert_eq!((found.detected, found.missed, found.false_alerts), (u64::from(lead.is_some()), u64::from(lead.is_none()), false_alerts));
    }

    #[test]
    fn an_alert_is_about_an_event_within_the_window_before_it() {
        check(&[], None, 0);
        check(&[("a", 99, None)], Some(1.0), 0);
        check(&[("a", 76, None)], Some(24.0), 0);
        check(&[("a", 75, Some(76))], None, 1);
        // it stood when the window began: known, though not news
        check(&[("a", 75, Some(77))], Some(24.0), 1);
        check(&[("a", 10, None)], Some(24.0), 1);
        // at the event is not before it
        check(&[("a", 100, None)], None, 1);
        check(&[("a", 101, None)], None, 1);
        check(&[("a", 90, Some(91)), ("b", 95, None), ("b", 20, Some(21))], Some(10.0), 1);
    }

    #[test]
    fn quartiles_are_interpolated() {
        assert_eq!(quartiles(vec![]), None);
        assert_eq!(quartiles(vec![4.0, 1.0, 3.0, 2.0]), Some(Quartiles { first: 1.75, median: 2.5, third: 3.25 }));
    }
}
