//! Days: what the readings of one patient and metric say by calendar day, for widths in days and for `baseline`.
//!
//! A reading **settles** when nothing looks at it as a single sample any more: it is older than the raw samples are kept, and not
//! among the last 32. Until then its day is computed from the sample itself, so a late, corrected or voided reading is in the answer at
//! once; afterwards it is in its day's pane for good. Readings settle in the order of their times, so a day's sum is the same however
//! they arrived and whenever they settled (P5). Decision 010.

use schemas::{EventTime, Micros};
use serde::{Deserialize, Serialize};

use crate::rules::Function;
use crate::zone::Zone;

/// The widest look back in days.
pub(crate) const MAX_DAYS: u32 = 14;
/// A row may lie in the day before the frontier's, and a baseline looks at the days before the row's.
const KEPT: Micros = Micros::days(MAX_DAYS as i64 + 3);
/// A baseline of fewer days than this is none.
const LEAST_DAYS: usize = 3;

/// The readings of one calendar day: all of them, once they have settled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Day {
    /// In µs since 1970.
    start: i64,
    pub count: u64,
    pub sum: f64,
    pub lowest: f64,
    pub highest: f64,
    /// The newest; of two at one time the later arrival.
    pub last: f64,
}

impl Day {
    const fn new(start: EventTime, value: f64) -> Self {
        Self { start: start.0, count: 1, sum: value, lowest: value, highest: value, last: value }
    }

    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.lowest = self.lowest.min(value);
        self.highest = self.highest.max(value);
        self.last = value;
    }

    pub const fn start(&self) -> EventTime {
        EventTime(self.start)
    }

    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }
}

/// The days so far, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Panes {
    days: Vec<Day>,
    /// When the newest day ends: most readings fall into it.
    end: i64,
    /// The newest reading that settled.
    until: Option<i64>,
}

impl Panes {
    /// A reading that nothing changes any more; they come in the order of their times.
    pub fn settle(&mut self, zone: &Zone, at: EventTime, value: f64) {
        self.until = Some(at.0);
        match self.days.last_mut() {
            Some(day) if (day.start..self.end).contains(&at.0) => day.add(value),
            _ => {
                let start = zone.day_of(at);
                self.end = zone.days_before(at, -1).0;
                match self.days.binary_search_by_key(&start.0, |day| day.start) {
                    // the day was begun under another zone
                    Ok(place) => {
                        if let Some(day) = self.days.get_mut(place) {
                            day.add(value);
                        }
                    }
                    Err(place) => self.days.insert(place, Day::new(start, value)),
                }
                self.days.retain(|day| day.start >= start.0.saturating_sub(KEPT.0));
            }
        }
    }

    /// The days that begin in `[from, t]`, with the samples `(at, value)` that have not settled; they come in order, up to `t`. `None`
    /// when something newer than `t` has settled: then nobody can say what stood there at `t`.
    pub fn days<'a>(&self, zone: &Zone, from: EventTime, t: EventTime, samples: impl Iterator<Item = (EventTime, f64)> + 'a) -> Option<Vec<Day>> {
        if self.until.is_some_and(|until| until > t.0) {
            return None;
        }
        let first = self.days.partition_point(|day| day.start < from.0);
        let mut days = self.days.get(first..).unwrap_or_default().to_vec();
        let mut end = days.last().map_or(i64::MIN, |_| self.end);
        for (at, value) in samples {
            match days.last_mut() {
                Some(day) if (day.start..end).contains(&at.0) => day.add(value),
                _ => {
                    days.push(Day::new(zone.day_of(at), value));
                    end = zone.days_before(at, -1).0;
                }
            }
        }
        Some(days)
    }
}

/// From when on `function` over `days` looks, for a row at `t`.
pub(crate) fn begin(function: Function, zone: &Zone, t: EventTime, days: u32) -> EventTime {
    // today counts as one, but a baseline leaves it out
    let before = if function == Function::Baseline { days } else { days.saturating_sub(1) };
    zone.days_before(t, i64::from(before))
}

/// `function` over days, and on how many readings it rests. `today` is when the row's own day began.
pub(crate) fn function(function: Function, days: &[Day], width: u32, today: EventTime, needs: u32) -> (Option<f64>, u32) {
    let days = match days.iter().position(|day| day.start >= today.0) {
        Some(place) if function == Function::Baseline => days.get(..place).unwrap_or_default(),
        _ => days,
    };
    let count = days.iter().map(|day| day.count).sum::<u64>();
    let readings = u32::try_from(count).unwrap_or(u32::MAX);
    if function == Function::Samples {
        return (Some(count as f64), readings);
    }
    if count == 0 || readings < needs {
        return (None, readings);
    }
    let lowest = || days.iter().map(|day| day.lowest).reduce(f64::min);
    let highest = || days.iter().map(|day| day.highest).reduce(f64::max);
    let value = match function {
        Function::Last => days.last().map(|day| day.last),
        Function::Mean => Some(days.iter().map(|day| day.sum).sum::<f64>() / count as f64),
        Function::Lowest => lowest(),
        Function::Highest => highest(),
        Function::Spread => highest().zip(lowest()).map(|(high, low)| high - low),
        Function::Slope => slope(days),
        Function::Baseline => (days.len() >= LEAST_DAYS.max(width.div_ceil(2) as usize)).then(|| median(days)).flatten(),
        Function::Samples => None,
    };
    (value, readings)
}

/// Least squares through the days' means, per day; needs two days.
fn slope(days: &[Day]) -> Option<f64> {
    let first = days.first()?.start;
    let whole = |day: &Day| ((day.start - first) as f64 / Micros::days(1).0 as f64).round();
    crate::series::least_squares(&days.iter().map(|day| (whole(day), day.mean())).collect::<Vec<_>>())
}

/// Of the days' means: one day of wrong values does not move it far.
fn median(days: &[Day]) -> Option<f64> {
    let mut means: Vec<f64> = days.iter().map(Day::mean).collect();
    means.sort_by(f64::total_cmp);
    let middle = means.len() / 2;
    let upper = means.get(middle).copied()?;
    if means.len() % 2 == 1 { Some(upper) } else { means.get(middle - 1).map(|lower| (lower + upper) / 2.0) }
}
