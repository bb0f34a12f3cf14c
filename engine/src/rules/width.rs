//! Spans of time and times of day as clinicians write them.

use schemas::Micros;

use super::vocabulary::MAX_WIDTH;
use crate::panes::MAX_DAYS;

/// How far back a function looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// `(t − width, t]`
    Span(Micros),
    /// Calendar days, today included.
    Days(u32),
}

/// The width of a function: up to two hours, or whole days. The error is (message, help).
pub(super) fn parse_width(text: &str) -> Result<Width, (String, String)> {
    let span = parse_span(text).map_err(|help| (format!("`'{text}'` is not a width"), help))?;
    let day = Micros::days(1);
    if text.contains('d') {
        return match u32::try_from(span.0 / day.0) {
            Ok(days) if days <= MAX_DAYS => Ok(Width::Days(days)),
            _ => Err((format!("the width '{text}' is too wide"), format!("days are kept for '{MAX_DAYS} days'"))),
        };
    }
    if span <= MAX_WIDTH {
        return Ok(Width::Span(span));
    }
    let days = (span.0.saturating_add(day.0 / 2) / day.0).clamp(1, i64::from(MAX_DAYS));
    let help = format!("a width is at most '2 h', or whole calendar days: '{days} day{}'", if days == 1 { "" } else { "s" });
    Err((format!("the width '{text}' is too wide"), help))
}

/// `5 min`, `30 s`, `2 h`, `7 days`.
pub(crate) fn parse_span(text: &str) -> Result<Micros, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let help = || "a whole number and s, min, h or days: '5 min'".to_owned();
    let (number, unit) = text.split_at(digits);
    let number: i64 = number.parse().map_err(|_| help())?;
    let width = match unit.trim() {
        "s" | "sec" | "second" | "seconds" => Micros::seconds(number),
        "min" | "minute" | "minutes" => Micros::minutes(number),
        "h" | "hour" | "hours" => Micros::hours(number),
        "d" | "day" | "days" => Micros::days(number),
        _ => return Err(help()),
    };
    if number == 0 { Err("at least one second".to_owned()) } else { Ok(width) }
}

/// `22:00` or `22:00:30`, in seconds after midnight; `24:00` is the end of the day.
pub(crate) fn parse_time_of_day(text: &str) -> Option<u32> {
    let mut parts = text.trim().split(':').map(|part| if part.len() == 2 { part.parse::<u32>().ok() } else { None });
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    let seconds = hour * 3600 + minute * 60 + second;
    (parts.next().is_none() && minute < 60 && second < 60 && seconds <= 86_400).then_some(seconds)
}
