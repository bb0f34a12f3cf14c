//! Spans of time as clinicians write them.

use schemas::Micros;

/// `5 min`, `30 s`, `2 h`, `7 days`.
pub(super) fn parse_width(text: &str) -> Result<Micros, String> {
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
