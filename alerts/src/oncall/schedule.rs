//! Who of a schedule is on call at an instant.
//!
//! An override replaces everybody while it lasts, a holiday on its day; otherwise every rotation that covers the instant gives one person.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use schemas::EventTime;

#[derive(Clone, Debug)]
pub struct Schedule {
    pub zone: TimeZone,
    pub(super) rotations: Vec<Rotation>,
    pub(super) overrides: Vec<Override>,
    pub(super) holidays: Vec<Holiday>,
}

#[derive(Clone, Debug)]
pub(super) struct Rotation {
    pub people: Vec<String>,
    pub starts: Date,
    pub days_each: u32,
    pub hand_off: Time,
    /// On which it covers; empty: every day. Hours across midnight belong to the day on which they begin.
    pub days: Vec<Weekday>,
    /// `None`: all day.
    pub hours: Option<(Time, Time)>,
}

#[derive(Clone, Debug)]
pub(super) struct Override {
    pub people: Vec<String>,
    pub from: DateTime,
    pub until: DateTime,
}

#[derive(Clone, Debug)]
pub(super) struct Holiday {
    pub date: Date,
    pub people: Vec<String>,
}

/// Civil time as an instant: what a change of the clocks leaves out is as much later, what it repeats is the first.
pub(super) fn instant(at: DateTime, zone: &TimeZone) -> Option<EventTime> {
    zone.to_ambiguous_timestamp(at).compatible().ok().map(|at| EventTime(at.as_microsecond()))
}

/// The date on the wall.
pub(super) fn local(at: EventTime, zone: &TimeZone) -> Date {
    Timestamp::from_microsecond(at.0).unwrap_or_default().to_zoned_datetime(zone.clone()).date()
}

impl Schedule {
    /// Each once; nobody before a rotation starts.
    pub fn who(&self, at: EventTime) -> Vec<&str> {
        let zone = &self.zone;
        let during = |one: &&Override| instant(one.from, zone).is_some_and(|from| from <= at) && instant(one.until, zone).is_some_and(|until| at < until);
        if let Some(one) = self.overrides.iter().rev().find(during) {
            return one.people.iter().map(String::as_str).collect();
        }
        let today = local(at, zone);
        if let Some(holiday) = self.holidays.iter().find(|holiday| holiday.date == today) {
            return holiday.people.iter().map(String::as_str).collect();
        }
        let mut who: Vec<&str> = Vec::new();
        for person in self.rotations.iter().filter_map(|rotation| rotation.who(at, today, zone)) {
            if !who.contains(&person) {
                who.push(person);
            }
        }
        who
    }

    /// Every instant of `from..until` at which the answer may change.
    pub(super) fn changes(&self, from: EventTime, until: EventTime) -> Vec<EventTime> {
        let zone = &self.zone;
        let mut changes = Vec::new();
        let mut times = vec![Time::midnight()];
        for rotation in &self.rotations {
            times.push(rotation.hand_off);
            times.extend(rotation.hours.iter().flat_map(|(from, until)| [*from, *until]));
        }
        times.sort_unstable();
        times.dedup();
        let last = local(until, zone);
        let mut day = local(from, zone);
        while day <= last {
            changes.extend(times.iter().filter_map(|time| instant(day.to_datetime(*time), zone)));
            match day.tomorrow() {
                Ok(next) => day = next,
                Err(_) => break,
            }
        }
        changes.extend(self.overrides.iter().flat_map(|one| [one.from, one.until]).filter_map(|at| instant(at, zone)));
        changes.retain(|at| (from..until).contains(at));
        changes
    }
}

impl Rotation {
    fn who(&self, at: EventTime, today: Date, zone: &TimeZone) -> Option<&str> {
        if !self.covers(at, today, zone) {
            return None;
        }
        let each = i64::from(self.days_each);
        let days = i64::from((today - self.starts).get_days());
        let mut turn = days.div_euclid(each);
        let begins = |turn: i64| instant(self.starts.checked_add((turn * each).days()).ok()?.to_datetime(self.hand_off), zone);
        if begins(turn)? > at {
            turn -= 1;
        }
        let turn = usize::try_from(turn).ok()?;
        self.people.get(turn % self.people.len()).map(String::as_str)
    }

    fn covers(&self, at: EventTime, today: Date, zone: &TimeZone) -> bool {
        let on = |day: Date| self.days.is_empty() || self.days.contains(&day.weekday());
        let Some((from, until)) = self.hours else { return on(today) };
        let during = |day: Date| {
            let end = if from < until { Some(day) } else { day.tomorrow().ok() };
            let from = instant(day.to_datetime(from), zone);
            let until = end.and_then(|day| instant(day.to_datetime(until), zone));
            on(day) && from.is_some_and(|from| from <= at) && until.is_some_and(|until| at < until)
        };
        during(today) || today.yesterday().is_ok_and(during)
    }
}
