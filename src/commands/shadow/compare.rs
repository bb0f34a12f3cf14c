//! Transitions to alerts, and alerts of a rule on trial beside those of live rules, by day.

use std::collections::{BTreeMap, BTreeSet};

use engine::Zone;
use schemas::{AlertId, Cause, EventTime, Micros, Partition, PatientId, RuleId, Transition, TransitionKind};

/// A rule on trial, and the live rules that it is held against.
#[derive(Clone, Debug)]
pub struct Pair {
    pub rule: RuleId,
    pub against: BTreeSet<RuleId>,
}

#[derive(Clone, Debug)]
struct Alert {
    rule: RuleId,
    patient: PatientId,
    shadow: bool,
    /// When people heard of it, or would have.
    heard: EventTime,
    since: EventTime,
    ended: Option<EventTime>,
}

impl Alert {
    /// Some moment belongs to both.
    fn meets(&self, other: &Self) -> bool {
        let end = |alert: &Self| alert.ended.unwrap_or(EventTime::MAX);
        self.since <= end(other) && other.since <= end(self)
    }
}

/// Alerts from the transitions that were recorded, each once: what was said again after a crash has the same cause.
#[derive(Debug, Default)]
pub struct Alerts {
    known: BTreeMap<AlertId, Alert>,
    heard: BTreeSet<(Partition, Cause)>,
}

impl Alerts {
    pub fn hear(&mut self, partition: Partition, t: Transition) {
        if !self.heard.insert((partition, t.cause)) {
            return;
        }
        match t.kind {
            TransitionKind::Raised => {
                let alert = Alert { rule: t.rule, patient: t.patient, shadow: t.shadow, heard: t.heard_at.as_event(), since: t.since, ended: None };
                self.known.insert(t.alert, alert);
            }
            TransitionKind::Cleared | TransitionKind::Withdrawn => {
                if let Some(alert) = self.known.get_mut(&t.alert) {
                    alert.ended = Some(t.at);
                }
            }
            TransitionKind::Amended => {}
        }
    }
}

/// What a rule on trial and the live ones raised on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    /// By the wall clock of the rules' zone; `all` for the whole period.
    pub day: String,
    pub rule: String,
    pub against: String,
    pub shadow: usize,
    pub live: usize,
    /// Alerts of the rule on trial that a live one stands beside.
    pub both: usize,
    /// Live alerts that the rule on trial would have missed.
    pub only_live: usize,
    /// Who had an alert on trial.
    pub patients: usize,
    /// By how much the rule on trial was heard before the live one: the median of those in both.
    pub earlier: Option<Micros>,
}

#[derive(Default)]
struct Tally {
    shadow: usize,
    live: usize,
    both: usize,
    only_live: usize,
    patients: BTreeSet<PatientId>,
    earlier: Vec<Micros>,
}

type ByPatient<'a> = BTreeMap<&'a PatientId, Vec<&'a Alert>>;

fn by_patient<'a>(alerts: &[&'a Alert]) -> ByPatient<'a> {
    let mut by_patient = ByPatient::new();
    for alert in alerts {
        by_patient.entry(&alert.patient).or_default().push(alert);
    }
    by_patient
}

/// Those of the alert's patient.
fn of<'a>(alerts: &'a ByPatient<'a>, alert: &Alert) -> impl Iterator<Item = &'a Alert> {
    alerts.get(&alert.patient).into_iter().flatten().copied()
}

/// For each pair the days in which something was heard, and all of them.
pub fn compare(alerts: &Alerts, pairs: &[Pair], zone: &Zone, from: EventTime, to: EventTime) -> Vec<Day> {
    let mut days = Vec::new();
    for pair in pairs {
        let tried: Vec<&Alert> = alerts.known.values().filter(|alert| alert.shadow && alert.rule == pair.rule).collect();
        let live: Vec<&Alert> = alerts.known.values().filter(|alert| !alert.shadow && pair.against.contains(&alert.rule)).collect();
        let (tried_of, live_of) = (by_patient(&tried), by_patient(&live));
        let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
        let whole = "all".to_owned();
        tallies.insert(whole.clone(), Tally::default());
        let mut in_period = |alert: &Alert, add: &dyn Fn(&mut Tally)| {
            if (from..to).contains(&alert.heard) {
                add(tallies.entry(zone.date(alert.heard)).or_default());
                add(tallies.entry(whole.clone()).or_default());
            }
        };
        for alert in &tried {
            let first = of(&live_of, alert).filter(|other| other.meets(alert)).map(|other| other.heard).min();
            in_period(alert, &|tally| {
                tally.shadow += 1;
                tally.both += usize::from(first.is_some());
                tally.patients.insert(alert.patient.clone());
                tally.earlier.extend(first.map(|first| first - alert.heard));
            });
        }
        for alert in &live {
            let missed = !of(&tried_of, alert).any(|other| other.meets(alert));
            in_period(alert, &|tally| {
                tally.live += 1;
                tally.only_live += usize::from(missed);
            });
        }
        let against = pair.against.iter().map(RuleId::as_str).collect::<Vec<_>>().join(" ");
        days.extend(tallies.into_iter().map(|(day, mut tally)| {
            tally.earlier.sort_unstable();
            Day {
                day,
                rule: pair.rule.to_string(),
                against: against.clone(),
                shadow: tally.shadow,
                live: tally.live,
                both: tally.both,
                only_live: tally.only_live,
                patients: tally.patients.len(),
                earlier: tally.earlier.get(tally.earlier.len() / 2).copied(),
            }
        }));
    }
    days
}

#[cfg(test)]
mod tests {
    use schemas::{Arrived, LatePolicy, Offset, Priority};

    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn at(text: &str) -> EventTime {
        EventTime::parse(text).unwrap()
    }

    struct Lake {
        alerts: Alerts,
        offset: i64,
    }

    impl Lake {
        fn say(&mut self, kind: TransitionKind, alert: u8, patient: &str, rule: &str, shadow: bool, heard: EventTime) -> &mut Self {
            let t = Transition {
                cause: Cause { offset: Offset(self.offset), ordinal: 0 },
                kind,
                alert: AlertId([alert; 16]),
                patient: PatientId::parse(patient).unwrap(),
                rule: RuleId::parse(rule).unwrap(),
                rule_name: String::new(),
                rule_version: 1,
                priority: Priority::High,
                at: heard,
                since: heard,
                heard_at: Arrived(heard.0),
                late: false,
                late_policy: LatePolicy::Inbox,
                pages: !shadow,
                readings: 1,
                evidence: Vec::new(),
                summary: String::new(),
                reason: String::new(),
                holds: true,
                technical: false,
                settings_version: 1,
                shadow,
            };
            self.offset += 1;
            // as after a crash: said twice
            self.alerts.hear(Partition(0), t.clone());
            self.alerts.hear(Partition(0), t);
            self
        }
    }

    fn pair() -> Vec<Pair> {
        vec![Pair { rule: RuleId::parse("tried").unwrap(), against: [RuleId::parse("live").unwrap()].into() }]
    }

    /// (day, shadow, live, both, only live, patients, earlier in minutes)
    type Row = (String, usize, usize, usize, usize, usize, Option<i64>);

    fn table(lake: &Lake, from: &str, to: &str) -> Vec<Row> {
        let zone = Zone::named("Europe/London").unwrap();
        let days = compare(&lake.alerts, &pair(), &zone, at(from), at(to));
        days.into_iter().map(|d| (d.day, d.shadow, d.live, d.both, d.only_live, d.patients, d.earlier.map(|e| e.0 / MINUTE))).collect()
    }

    #[test]
    fn by_day_what_both_raised_and_what_one_alone() {
        use TransitionKind::{Cleared, Raised, Withdrawn};
        let mut lake = Lake { alerts: Alerts::default(), offset: 0 };
        // ada: both, the one on trial 10 min earlier
        lake.say(Raised, 1, "ada", "tried", true, at("2026-06-01T10:00:00Z"));
        lake.say(Raised, 2, "ada", "live", false, at("2026-06-01T10:10:00Z"));
        lake.say(Cleared, 1, "ada", "tried", true, at("2026-06-01T11:00:00Z"));
        lake.say(Cleared, 2, "ada", "live", false, at("2026-06-01T11:00:00Z"));
        // only the one on trial, twice, after the live one was over; and another patient's at the same time is not beside it
        lake.say(Raised, 3, "ada", "tried", true, at("2026-06-01T12:00:00Z"));
        lake.say(Cleared, 3, "ada", "tried", true, at("2026-06-01T12:30:00Z"));
        lake.say(Raised, 4, "bob", "live", false, at("2026-06-01T12:00:00Z"));
        lake.say(Withdrawn, 4, "bob", "live", false, at("2026-06-01T12:05:00Z"));
        // a rule that it is not held against, and one of the same id when it was live
        lake.say(Raised, 5, "bob", "other", false, at("2026-06-01T12:00:00Z"));
        lake.say(Raised, 6, "bob", "tried", false, at("2026-06-01T12:00:00Z"));
        // 23:30 UTC is the next day in London; it is still open
        lake.say(Raised, 7, "bob", "tried", true, at("2026-06-01T23:30:00Z"));
        let day = |day: &str, shadow, live, both, only_live, patients, earlier| (day.to_owned(), shadow, live, both, only_live, patients, earlier);
        assert_eq!(
            table(&lake, "2026-06-01T00:00:00Z", "2026-06-03T00:00:00Z"),
            [day("2026-06-01", 2, 2, 1, 1, 1, Some(10)), day("2026-06-02", 1, 0, 0, 0, 1, None), day("all", 3, 2, 1, 1, 2, Some(10))]
        );
        // outside of the period it is not counted, and still stands beside what is
        assert_eq!(table(&lake, "2026-06-01T10:05:00Z", "2026-06-01T11:00:00Z"), [day("2026-06-01", 0, 1, 0, 0, 0, None), day("all", 0, 1, 0, 0, 0, None)]);
    }
}
