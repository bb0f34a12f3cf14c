//! Days and times of day by the wall clock of one place.
//!
//! The rules of the zones are those compiled in, never the machine's: the same log gives the same answer everywhere (P1).

use std::fmt;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};
use schemas::{EventTime, Micros};

const DAY: i64 = Micros::days(1).0;

/// A zone by its name in the IANA database; [`Default`] is UTC.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl Zone {
    /// `None`: no zone has that name.
    pub fn named(name: &str) -> Option<Self> {
        TimeZoneDatabase::bundled().get(name).ok().map(Self)
    }

    /// When the day began that `at` lies in: midnight, or the first moment after it where a clock jumps over midnight.
    pub fn day_of(&self, at: EventTime) -> EventTime {
        self.days_before(at, 0)
    }

    /// When the day began that lies `days` calendar days before the one of `at`; negative: after it.
    pub fn days_before(&self, at: EventTime, days: i64) -> EventTime {
        let even = EventTime(at.0.div_euclid(DAY).saturating_sub(days).saturating_mul(DAY));
        if self.0 == TimeZone::UTC {
            return even;
        }
        let begun = || -> Result<i64, jiff::Error> {
            let date = self.0.to_datetime(Timestamp::from_microsecond(at.0)?).date().checked_sub(days.days())?;
            Ok(self.0.to_timestamp(date.into())?.as_microsecond())
        };
        // no clock shows a time outside of the calendar: days of 24 h there
        begun().map_or(even, EventTime)
    }

    /// What the clock on the wall says at `at`, in seconds after midnight.
    pub fn time_of_day(&self, at: EventTime) -> u32 {
        let Ok(instant) = Timestamp::from_microsecond(at.0) else { return 0 };
        let time = self.0.to_datetime(instant).time();
        let part = |n: i8| u32::try_from(n).unwrap_or(0);
        part(time.hour()) * 3600 + part(time.minute()) * 60 + part(time.second())
    }

    /// The instant of a date and a time of day; where the clock shows it twice the first, where never the same distance after the jump.
    pub(crate) fn instant(&self, date: &str, seconds: u32) -> Option<EventTime> {
        let midnight: jiff::civil::DateTime = date.parse::<jiff::civil::Date>().ok()?.into();
        let local = midnight.checked_add(i64::from(seconds).seconds()).ok()?;
        Some(EventTime(self.0.to_timestamp(local).ok()?.as_microsecond()))
    }

    /// The date at `at`, such as 2026-11-22.
    pub fn date(&self, at: EventTime) -> String {
        Timestamp::from_microsecond(at.0).map_or_else(|_| at.to_string(), |instant| self.0.to_datetime(instant).date().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> EventTime {
        EventTime::parse(text).unwrap()
    }

    #[test]
    fn a_day_begins_by_the_wall_clock() {
        for (zone, time, begun) in [
            ("UTC", "2026-03-29T10:00:00Z", "2026-03-29T00:00:00Z"),
            ("Europe/London", "2026-03-28T23:30:00Z", "2026-03-28T00:00:00Z"),
            // the clock goes forward at 01:00: a day of 23 h
            ("Europe/London", "2026-03-29T22:59:59Z", "2026-03-29T00:00:00Z"),
            ("Europe/London", "2026-03-29T23:00:00Z", "2026-03-29T23:00:00Z"),
            // and back: one of 25 h
            ("Europe/London", "2026-10-25T23:59:59Z", "2026-10-24T23:00:00Z"),
            ("Pacific/Auckland", "2026-11-22T11:30:00Z", "2026-11-22T11:00:00Z"),
            // midnight did not exist in São Paulo on that day
            ("America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z"),
            ("Europe/Berlin", "2024-02-29T12:00:00Z", "2024-02-28T23:00:00Z"),
        ] {
            assert_eq!(Zone::named(zone).unwrap().day_of(at(time)), at(begun), "{zone} {time}");
        }
        assert_eq!(Zone::named("Europe/Londn"), None);
    }

    #[test]
    fn days_before_are_calendar_days() {
        let london = Zone::named("Europe/London").unwrap();
        assert_eq!(london.days_before(at("2026-03-30T06:00:00Z"), 1), at("2026-03-29T00:00:00Z"));
        assert_eq!(london.days_before(at("2026-03-30T06:00:00Z"), -1), at("2026-03-30T23:00:00Z"));
        assert_eq!(Zone::default().days_before(at("2024-03-01T06:00:00Z"), 1), at("2024-02-29T00:00:00Z"));
        assert_eq!(london.days_before(EventTime(i64::MAX), 1).0 % DAY, 0);
    }

    #[test]
    fn the_clock_on_the_wall() {
        let london = Zone::named("Europe/London").unwrap();
        assert_eq!(london.time_of_day(at("2026-06-01T21:30:00Z")), 22 * 3600 + 1800);
        // 01:30 is shown twice in October and never in March
        assert_eq!(london.time_of_day(at("2026-10-25T00:30:00Z")), 5400);
        assert_eq!(london.time_of_day(at("2026-10-25T01:30:00Z")), 5400);
        assert_eq!(london.instant("2026-10-25", 5400), Some(at("2026-10-25T00:30:00Z")));
        assert_eq!(london.instant("2026-03-29", 5400), Some(at("2026-03-29T01:30:00Z")));
        assert_eq!(london.instant("2026-02-30", 0), None);
    }
}
