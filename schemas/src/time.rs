//! Times and places in the log, each its own type: the time measured is never mistaken for the time of arrival.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time in microseconds; may be negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub i64);

impl Micros {
    pub const ZERO: Self = Self(0);
    pub const fn seconds(n: i64) -> Self {
        Self(n.saturating_mul(1_000_000))
    }
    pub const fn minutes(n: i64) -> Self {
        Self::seconds(n.saturating_mul(60))
    }
    pub const fn hours(n: i64) -> Self {
        Self::minutes(n.saturating_mul(60))
    }
    pub const fn days(n: i64) -> Self {
        Self::hours(n.saturating_mul(24))
    }
    pub const fn as_seconds(self) -> i64 {
        self.0 / 1_000_000
    }
}

impl Add for Micros {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Micros {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Two units at most, as the page says it: `2 h 10 min`, `4 min`, `12 s`.
impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "−" } else { "" };
        let seconds = self.0.unsigned_abs() / 1_000_000;
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{sign}{} s", seconds),
            (0, 0, m) => write!(f, "{sign}{m} min"),
            (0, h, 0) => write!(f, "{sign}{h} h"),
            (0, h, m) => write!(f, "{sign}{h} h {m} min"),
            (d, 0, _) => write!(f, "{sign}{d} d"),
            (d, h, _) => write!(f, "{sign}{d} d {h} h"),
        }
    }
}

/// A text that is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a time: expected RFC 3339 with a zone, such as 2026-11-22T06:00:00Z")]
pub struct TimeError {
    pub text: String,
}

macro_rules! instant {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
        pub struct $name(pub i64);

        impl $name {
            pub const MIN: Self = Self(i64::MIN);
            pub const MAX: Self = Self(i64::MAX);

            /// Reads RFC 3339 with a zone.
            pub fn parse(text: &str) -> Result<Self, TimeError> {
                let time: jiff::Timestamp = text.parse().map_err(|_| TimeError { text: text.chars().take(64).collect() })?;
                Ok(Self(time.as_microsecond()))
            }
            pub const fn micros(self) -> i64 {
                self.0
            }
            pub const fn saturating_add(self, span: Micros) -> Self {
                Self(self.0.saturating_add(span.0))
            }
        }

        impl Add<Micros> for $name {
            type Output = Self;
            fn add(self, span: Micros) -> Self {
                Self(self.0.saturating_add(span.0))
            }
        }

        impl Sub<Micros> for $name {
            type Output = Self;
            fn sub(self, span: Micros) -> Self {
                Self(self.0.saturating_sub(span.0))
            }
        }

        impl Sub for $name {
            type Output = Micros;
            fn sub(self, other: Self) -> Micros {
                Micros(self.0.saturating_sub(other.0))
            }
        }

        /// RFC 3339 in UTC.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match jiff::Timestamp::from_microsecond(self.0) {
                    Ok(time) => time.fmt(f),
                    Err(_) => write!(f, "{} µs", self.0),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                // what has no date, such as MIN, is written as its number
                let undated = text.strip_suffix(" µs").and_then(|number| number.parse().ok()).map(Self);
                undated.map_or_else(|| Self::parse(&text).map_err(serde::de::Error::custom), Ok)
            }
        }
    };
}

instant! {
    /// When something was measured, or a point on that axis. Microseconds since 1970.
    EventTime
}
instant! {
    /// When the journal had it: the journal's own timestamp, and the only "now" that the engine knows. Microseconds since 1970.
    Arrived
}

impl Arrived {
    /// The same instant on the axis of event time: for timers, and for a reading without a stamp.
    pub const fn as_event(self) -> EventTime {
        EventTime(self.0)
    }
}

/// A record's place in its partition; the first is 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl Offset {
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition's number, the same in every topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub u32);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_the_page_says_them() {
        for (span, text) in [
            (Micros::seconds(12), "12 s"),
            (Micros::minutes(4), "4 min"),
            (Micros::minutes(130), "2 h 10 min"),
            (Micros::hours(2), "2 h"),
            (Micros::days(3), "3 d"),
            (Micros::seconds(-7200), "−2 h"),
        ] {
            assert_eq!(span.to_string(), text);
        }
    }

    #[test]
    fn times_round_trip() {
        let time = EventTime::parse("2026-11-22T06:00:00.25+01:00").unwrap();
        assert_eq!(time.to_string(), "2026-11-22T05:00:00.25Z");
        assert_eq!(EventTime::parse(&time.to_string()), Ok(time));
        assert!(EventTime::parse("2026-11-22 06:00").is_err());
        for time in [time, EventTime::MIN, EventTime::MAX] {
            let written = serde::de::value::StringDeserializer::<serde::de::value::Error>::new(time.to_string());
            assert_eq!(EventTime::deserialize(written), Ok(time));
        }
    }
}
