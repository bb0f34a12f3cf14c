//! The TOML of `vigil oncall load`, into what it means. Every name that is used must be there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use schemas::{Micros, Priority};
use serde::Deserialize;

use super::schedule::{Holiday, Override, Rotation, Schedule};
use super::{OnCall, Policy, PolicyStep};

/// One sentence that names the thing and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OnCallError(pub String);

/// Who a step pages: `person:silva`, `team:doctors`, `schedule:nurses`, or a channel that nobody in particular reads: `channel:webhook:pager`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Person(String),
    Team(String),
    Schedule(String),
    Channel(String),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Person(name) => write!(f, "person:{name}"),
            Self::Team(name) => write!(f, "team:{name}"),
            Self::Schedule(name) => write!(f, "schedule:{name}"),
            Self::Channel(name) => write!(f, "channel:{name}"),
        }
    }
}

/// What may stand before the colon of a channel.
const CHANNELS: [&str; 5] = ["mail", "sms", "webhook", "pagerduty", "alertmanager"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    timezone: String,
    #[serde(default)]
    person: Vec<PersonText>,
    #[serde(default)]
    team: Vec<TeamText>,
    #[serde(default)]
    schedule: Vec<ScheduleText>,
    #[serde(default)]
    policy: Vec<PolicyText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PersonText {
    name: String,
    channels: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TeamText {
    name: String,
    people: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleText {
    name: String,
    timezone: Option<String>,
    #[serde(default)]
    rotation: Vec<RotationText>,
    #[serde(default, rename = "override")]
    overrides: Vec<OverrideText>,
    #[serde(default)]
    holiday: Vec<HolidayText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotationText {
    people: Vec<String>,
    /// The date of the first hand-off: from then on the first has it.
    starts: String,
    #[serde(default = "week")]
    days_each: u32,
    #[serde(default = "midnight")]
    hand_off: String,
    #[serde(default)]
    days: Vec<String>,
    from: Option<String>,
    until: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OverrideText {
    people: Vec<String>,
    from: String,
    until: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HolidayText {
    date: String,
    people: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyText {
    name: String,
    #[serde(default)]
    wards: Vec<String>,
    #[serde(default)]
    priorities: Vec<Priority>,
    step: Vec<StepText>,
    #[serde(default)]
    last_resort: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepText {
    to: Vec<String>,
    wait: String,
    #[serde(default = "yes")]
    skip_if_empty: bool,
}

const fn week() -> u32 {
    7
}
const fn yes() -> bool {
    true
}
fn midnight() -> String {
    "00:00".to_owned()
}

type Read<T> = Result<T, OnCallError>;

fn wrong<T>(text: impl Into<String>) -> Read<T> {
    Err(OnCallError(text.into()))
}

pub(super) fn parse(text: &str) -> Read<OnCall> {
    let text: Text = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count() + 1);
        OnCallError(format!("line {line}: {}", error.message()))
    })?;
    let site = zone("timezone", &text.timezone)?;
    let people = people(text.person)?;
    let mut teams = BTreeMap::new();
    for team in text.team {
        known(&people, &team.people, &format!("the team {}", team.name))?;
        if teams.insert(team.name.clone(), team.people).is_some() {
            return wrong(format!("the team {} is there twice: give each its own name", team.name));
        }
    }
    let mut schedules = BTreeMap::new();
    for one in text.schedule {
        let name = one.name.clone();
        if schedules.insert(name.clone(), schedule(one, &people, &site)?).is_some() {
            return wrong(format!("the schedule {name} is there twice: give each its own name"));
        }
    }
    let mut oncall = OnCall { people, teams, schedules, policies: Vec::new(), zone: site };
    let mut names = BTreeSet::new();
    for one in text.policy {
        if !names.insert(one.name.clone()) {
            return wrong(format!("the policy {} is there twice: give each its own name", one.name));
        }
        let policy = policy(one, &oncall)?;
        if !is_ever_used(&policy, &oncall) {
            return wrong(format!(
                "the policy {} is never used: every ward and priority of it comes under one before it; put it first, or take it out",
                policy.name
            ));
        }
        oncall.policies.push(policy);
    }
    for priority in [Priority::High, Priority::Medium, Priority::Low] {
        if oncall.policy(None, priority).is_none() {
            let word = format!("{priority:?}").to_lowercase();
            return wrong(format!("no policy is for alerts of priority {word} in any ward: end with a policy without `wards` and without `priorities`"));
        }
    }
    Ok(oncall)
}

fn people(all: Vec<PersonText>) -> Read<BTreeMap<String, Vec<String>>> {
    let mut people = BTreeMap::new();
    for person in all {
        person.channels.iter().try_for_each(|name| channel(name, &format!("the person {}", person.name)))?;
        if people.insert(person.name.clone(), person.channels).is_some() {
            return wrong(format!("the person {} is there twice: give each one entry with all channels", person.name));
        }
    }
    Ok(people)
}

fn channel(name: &str, whose: &str) -> Read<()> {
    match name.split_once(':') {
        Some((kind, rest)) if CHANNELS.contains(&kind) && !rest.is_empty() => Ok(()),
        _ => wrong(format!("{whose}: `{name}` is no channel; write one such as mail:silva@clinic.example, sms:+351910000001 or webhook:pager")),
    }
}

fn known(people: &BTreeMap<String, Vec<String>>, names: &[String], whose: &str) -> Read<()> {
    match names.iter().find(|name| !people.contains_key(*name)) {
        Some(name) => wrong(format!("{whose} names `{name}`, who has no [[person]]")),
        None => Ok(()),
    }
}

fn schedule(text: ScheduleText, people: &BTreeMap<String, Vec<String>>, site: &TimeZone) -> Read<Schedule> {
    let whose = format!("the schedule {}", text.name);
    let zone = text.timezone.as_deref().map_or_else(|| Ok(site.clone()), |name| self::zone(&whose, name))?;
    let mut schedule = Schedule { zone, rotations: Vec::new(), overrides: Vec::new(), holidays: Vec::new() };
    for one in text.rotation {
        known(people, &one.people, &whose)?;
        if one.people.is_empty() || one.days_each == 0 {
            return wrong(format!("{whose}: a rotation has people and `days_each` of 1 or more"));
        }
        let days = one.days.iter().map(|name| weekday(name, &whose)).collect::<Read<Vec<_>>>()?;
        let hours = match (&one.from, &one.until) {
            (Some(from), Some(until)) => Some((time(from, &whose)?, time(until, &whose)?)),
            (None, None) => None,
            _ => return wrong(format!("{whose}: `from` and `until` of a rotation go together")),
        };
        let (starts, hand_off) = (date(&one.starts, &whose)?, time(&one.hand_off, &whose)?);
        schedule.rotations.push(Rotation { people: one.people, starts, days_each: one.days_each, hand_off, days, hours });
    }
    for one in text.overrides {
        known(people, &one.people, &whose)?;
        let (from, until) = (moment(&one.from, &whose)?, moment(&one.until, &whose)?);
        if from >= until {
            return wrong(format!("{whose}: an override ends after it begins, not from {from} until {until}"));
        }
        schedule.overrides.push(Override { people: one.people, from, until });
    }
    for one in text.holiday {
        known(people, &one.people, &whose)?;
        schedule.holidays.push(Holiday { date: date(&one.date, &whose)?, people: one.people });
    }
    Ok(schedule)
}

fn policy(text: PolicyText, oncall: &OnCall) -> Read<Policy> {
    let whose = format!("the policy {}", text.name);
    if text.step.is_empty() {
        return wrong(format!("{whose} has no step: it would page nobody"));
    }
    let targets = |names: &[String]| names.iter().map(|name| target(name, oncall, &whose)).collect::<Read<Vec<_>>>();
    let mut steps = Vec::new();
    for step in &text.step {
        steps.push(PolicyStep { to: targets(&step.to)?, wait: span(&step.wait, &whose)?, skip_if_empty: step.skip_if_empty });
    }
    Ok(Policy { last_resort: targets(&text.last_resort)?, name: text.name, wards: text.wards, priorities: text.priorities, steps })
}

/// Whether some ward and priority comes under it, and not under one of `before`.
fn is_ever_used(policy: &Policy, before: &OnCall) -> bool {
    let wards: Vec<Option<&str>> = if policy.wards.is_empty() { vec![None] } else { policy.wards.iter().map(|ward| Some(ward.as_str())).collect() };
    let all = [Priority::High, Priority::Medium, Priority::Low];
    let priorities = if policy.priorities.is_empty() { &all[..] } else { &policy.priorities };
    wards.iter().any(|ward| priorities.iter().any(|priority| before.policy(*ward, *priority).is_none()))
}

fn target(text: &str, oncall: &OnCall, whose: &str) -> Read<Target> {
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    let (target, there) = match kind {
        "person" => (Target::Person(name.to_owned()), oncall.people.contains_key(name)),
        "team" => (Target::Team(name.to_owned()), oncall.teams.contains_key(name)),
        "schedule" => (Target::Schedule(name.to_owned()), oncall.schedules.contains_key(name)),
        "channel" => {
            channel(name, whose)?;
            (Target::Channel(name.to_owned()), true)
        }
        _ => return wrong(format!("{whose}: `{text}` pages nobody; write person:…, team:…, schedule:… or channel:…")),
    };
    if there { Ok(target) } else { wrong(format!("{whose} pages {text}, and there is no {kind} of that name")) }
}

fn zone(whose: &str, name: &str) -> Read<TimeZone> {
    TimeZone::get(name).or_else(|_| wrong(format!("{whose}: `{name}` is no time zone; write an IANA name such as Europe/Lisbon")))
}

fn weekday(name: &str, whose: &str) -> Read<Weekday> {
    const DAYS: [(&str, Weekday); 7] = [
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
    ];
    let found = DAYS.iter().find(|(word, _)| *word == name).map(|(_, day)| *day);
    found.ok_or_else(|| OnCallError(format!("{whose}: `{name}` is no day; write mon, tue, wed, thu, fri, sat or sun")))
}

fn time(text: &str, whose: &str) -> Read<Time> {
    Time::strptime("%H:%M", text).or_else(|_| wrong(format!("{whose}: `{text}` is no time of day; write one such as 08:00")))
}

fn date(text: &str, whose: &str) -> Read<Date> {
    Date::strptime("%Y-%m-%d", text).or_else(|_| wrong(format!("{whose}: `{text}` is no date; write one such as 2026-12-24")))
}

fn moment(text: &str, whose: &str) -> Read<DateTime> {
    DateTime::strptime("%Y-%m-%dT%H:%M", text)
        .or_else(|_| wrong(format!("{whose}: `{text}` is no time; write one such as 2026-12-24T18:00, as the clock on the wall shows it")))
}

fn span(text: &str, whose: &str) -> Read<Micros> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let span = text[..at].parse().ok().and_then(|n: i64| match text[at..].trim() {
        "s" => Some(Micros::seconds(n)),
        "min" => Some(Micros::minutes(n)),
        "h" => Some(Micros::hours(n)),
        _ => None,
    });
    match span {
        Some(span) if span >= Micros::seconds(10) && span <= Micros::hours(24) => Ok(span),
        _ => wrong(format!("{whose}: `{text}` is no wait; write one from \"10 s\" to \"24 h\", such as \"5 min\"")),
    }
}
