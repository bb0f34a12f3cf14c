//! Times as people at the site write and read them.

use jiff::civil::{DateTime, Time};
use jiff::{Timestamp, ToSpan};
use schemas::EventTime;

use super::schedule::{instant, local};
use super::{OnCall, OnCallError};

impl OnCall {
    /// `now`; `07:00`, the next one on the wall; `2026-11-27T07:00`, on the wall; or RFC 3339 with a zone.
    pub fn moment(&self, text: &str, now: EventTime) -> Result<EventTime, OnCallError> {
        if text == "now" {
            return Ok(now);
        }
        let wall = |at: DateTime| instant(at, &self.zone);
        let found = if let Ok(time) = Time::strptime("%H:%M", text) {
            let today = local(now, &self.zone);
            let tomorrow = today.checked_add(1.day()).ok();
            [Some(today), tomorrow].into_iter().flatten().filter_map(|day| wall(day.to_datetime(time))).find(|at| *at > now)
        } else if let Ok(at) = DateTime::strptime("%Y-%m-%dT%H:%M", text) {
            wall(at)
        } else {
            EventTime::parse(text).ok()
        };
        found.ok_or_else(|| {
            OnCallError(format!("`{text}` is no time; write now, 07:00, 2026-11-27T07:00 as the clock on the wall shows it, or 2026-11-27T07:00:00Z"))
        })
    }

    /// As the clock on the wall shows it, with its distance from UTC.
    pub fn wall(&self, at: EventTime) -> String {
        match Timestamp::from_microsecond(at.0) {
            Ok(time) => time.to_zoned_datetime(self.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            Err(_) => at.to_string(),
        }
    }
}
