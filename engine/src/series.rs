//! The samples of one patient and metric, and the functions over them.

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, RecordBatch};
use schemas::{Arrived, ClockState, DeviceId, EventTime, Micros, Pause, ReadingId};
use std::sync::Arc;

use crate::panes::{self, Day, Panes};
use crate::rules::{Function, Predicate, Source};
use crate::zone::Zone;

/// One reading as it is kept. `voided` ones stay so that a resend is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    pub id: ReadingId,
    pub at: EventTime,
    pub value: f64,
    pub stamped_at: EventTime,
    pub received_at: EventTime,
    pub arrived: Arrived,
    /// Of two at one time the later arrival is `last`.
    pub offset: i64,
    pub clock: ClockState,
    pub typed: bool,
    pub test: bool,
    pub late: bool,
    /// Later than the horizon: shown, and in no answer.
    pub beyond: bool,
    pub voided: bool,
    pub device: DeviceId,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Series {
    /// By (at, offset).
    pub samples: Vec<Kept>,
    pub frontier: Option<EventTime>,
    /// Those that have settled into `panes` without being dropped yet; they come first in `samples`.
    pub settled: usize,
    pub panes: Panes,
}

impl Series {
    pub fn find(&self, id: ReadingId) -> Option<usize> {
        // resends are of late: look from the end
        self.samples.iter().rposition(|s| s.id == id)
    }

    pub fn insert(&mut self, kept: Kept) {
        let place = self.samples.partition_point(|s| (s.at, s.offset) <= (kept.at, kept.offset));
        // beyond the horizon, and in no answer
        self.settled += usize::from(place < self.settled);
        self.samples.insert(place, kept);
    }

    /// The readings of `(after, to]`, in order, without the voided ones and those beyond the horizon.
    pub fn within(&self, after: EventTime, to: EventTime) -> impl DoubleEndedIterator<Item = &Kept> {
        let from = self.samples.partition_point(|s| s.at <= after);
        let until = self.samples.partition_point(|s| s.at <= to).max(from);
        self.samples.get(from..until).unwrap_or_default().iter().filter(|s| !s.voided && !s.beyond)
    }

    /// When something was measured in `[from, until)`, voided or not: the times of rows.
    pub fn times(&self, from: EventTime, until: EventTime) -> impl Iterator<Item = EventTime> {
        let first = self.samples.partition_point(|s| s.at < from);
        let end = self.samples.partition_point(|s| s.at < until).max(first);
        self.samples.get(first..end).unwrap_or_default().iter().filter(|s| !s.beyond).map(|s| s.at)
    }

    /// `f(m, w)` at `t` and on how many readings it rests; `needs` fewer samples are no evidence. What was measured in a pause and what a
    /// device under test says are not looked at.
    pub fn function(&self, function: Function, t: EventTime, width: Micros, needs: u32, pauses: &[Pause]) -> (Option<f64>, u32) {
        let samples: Vec<&Kept> = self.within(t - width, t).filter(|s| counts(s, pauses)).collect();
        let n = samples.len();
        let count = u32::try_from(n).unwrap_or(u32::MAX);
        if function == Function::Samples {
            return (Some(n as f64), count);
        }
        if n == 0 || count < needs {
            return (None, count);
        }
        let values = || samples.iter().map(|s| s.value);
        let lowest = || values().reduce(f64::min);
        let highest = || values().reduce(f64::max);
        let value = match function {
            Function::Last => samples.last().map(|s| s.value),
            Function::Mean => Some(values().sum::<f64>() / n as f64),
            Function::Lowest => lowest(),
            Function::Highest => highest(),
            Function::Spread => highest().zip(lowest()).map(|(high, low)| high - low),
            Function::Slope => slope(&samples),
            Function::Baseline | Function::Samples => None,
        };
        (value, count)
    }

    /// The newest that a function looks at, measured in `(t − width, t]`.
    pub fn newest(&self, t: EventTime, width: Micros, pauses: &[Pause]) -> Option<&Kept> {
        self.within(t - width, t).rev().find(|s| !s.test && !pauses.iter().any(|pause| pause.covers(s.at)))
    }

    /// `f(m, w)` at `t` for a width in days, and on how many readings it rests.
    pub fn over_days(&self, function: Function, t: EventTime, width: u32, zone: &Zone, needs: u32, pauses: &[Pause]) -> (Option<f64>, u32) {
        let from = panes::begin(function, zone, t, width);
        match self.days(zone, from, t, pauses) {
            Some(days) => panes::function(function, &days, width, zone.day_of(t), needs),
            None => (None, 0),
        }
    }

    /// The days that begin in `[from, t]`, up to `t`.
    pub fn days(&self, zone: &Zone, from: EventTime, t: EventTime, pauses: &[Pause]) -> Option<Vec<Day>> {
        let open = self.samples.get(self.settled..).unwrap_or_default();
        let first = open.partition_point(|s| s.at < from);
        let until = open.partition_point(|s| s.at <= t).max(first);
        let samples = open.get(first..until).unwrap_or_default().iter().filter(|s| counts(s, pauses));
        self.panes.days(zone, from, t, samples.map(|s| (s.at, s.value)))
    }

    /// Settles and drops what no row can look back on any more, but keeps the last 32.
    pub fn evict(&mut self, keep: Micros, zone: &Zone, pauses: &[Pause]) {
        let Some(frontier) = self.frontier else { return };
        let old = self.samples.partition_point(|s| s.at < frontier - keep);
        let surplus = old.min(self.samples.len().saturating_sub(32));
        for kept in self.samples.get(self.settled..surplus).unwrap_or_default().iter().filter(|s| counts(s, pauses)) {
            self.panes.settle(zone, kept.at, kept.value);
        }
        self.settled = self.settled.max(surplus);
        if surplus > 64 || (surplus > 0 && surplus == self.samples.len()) {
            self.samples.drain(..surplus);
            self.settled -= surplus;
        }
    }
}

/// What a function looks at: nothing that was voided, came beyond the horizon, is of a device under test, or was measured in a pause.
fn counts(kept: &Kept, pauses: &[Pause]) -> bool {
    !kept.voided && !kept.beyond && !kept.test && !pauses.iter().any(|pause| pause.covers(kept.at))
}

/// Per hour; needs two times.
fn slope(samples: &[&Kept]) -> Option<f64> {
    let first = samples.first()?.at;
    least_squares(&samples.iter().map(|s| ((s.at - first).0 as f64 / 3.6e9, s.value)).collect::<Vec<_>>())
}

/// The slope of the line through `points`; `None` if they stand at one place.
pub(crate) fn least_squares(points: &[(f64, f64)]) -> Option<f64> {
    let n = points.len() as f64;
    let mx = points.iter().map(|p| p.0).sum::<f64>() / n;
    let my = points.iter().map(|p| p.1).sum::<f64>() / n;
    let xx = points.iter().map(|p| (p.0 - mx) * (p.0 - mx)).sum::<f64>();
    if xx <= 0.0 {
        return None;
    }
    Some(points.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum::<f64>() / xx)
}

/// A predicate over rows: TRUE, FALSE or no evidence each. A row that cannot be evaluated is counted and is no evidence.
pub(crate) fn evaluate(predicate: &Predicate, rows: &[&[Option<f64>]], errors: &mut u64) -> Vec<(Option<bool>, Option<bool>)> {
    let arrays: Vec<ArrayRef> =
        (0..predicate.columns.len()).map(|i| Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.get(i).copied().flatten()))) as ArrayRef).collect();
    let batch = match RecordBatch::try_new(predicate.schema.clone(), arrays) {
        Ok(batch) => batch,
        Err(_) => {
            *errors += rows.len() as u64;
            return vec![(None, None); rows.len()];
        }
    };
    let mut column = |expr: &Arc<dyn datafusion::physical_expr::PhysicalExpr>| -> Vec<Option<bool>> {
        let array = expr.evaluate(&batch).and_then(|v| v.into_array(rows.len()));
        match array.as_ref().map(|a| a.as_any().downcast_ref::<BooleanArray>()) {
            Ok(Some(values)) => values.iter().collect(),
            _ => {
                *errors += rows.len() as u64;
                vec![None; rows.len()]
            }
        }
    };
    let when = column(&predicate.when);
    let clear = column(&predicate.clear);
    when.into_iter().zip(clear).collect()
}

/// SEMANTICS 9: tries the predicate around its own numbers, also with other limits.
pub(crate) fn both_can_hold(predicate: &Predicate) -> bool {
    let width = predicate.columns.len();
    let mut values: Vec<f64> =
        predicate.columns.iter().filter_map(|c| if let Source::Limit { default, .. } = c.source { Some(default) } else { None }).collect();
    let text = format!("{} {}", predicate.when, predicate.clear);
    values.extend(text.split(|c: char| !(c.is_ascii_digit() || c == '.')).filter_map(|n| n.parse::<f64>().ok()));
    values.sort_by(f64::total_cmp);
    values.dedup();
    let mut candidates: Vec<f64> = values.iter().flat_map(|v| [v - 3.0, v - 1.0, *v, v + 1.0, v + 3.0]).collect();
    for pair in values.windows(2) {
        candidates.push((pair[0] + pair[1]) / 2.0);
    }
    candidates.sort_by(f64::total_cmp);
    candidates.dedup();
    if candidates.is_empty() || width == 0 {
        return false;
    }
    // every combination where that is few, else a fixed sample of them
    let total = candidates.len().checked_pow(width as u32).unwrap_or(usize::MAX);
    let tries = total.min(20_000);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let rows: Vec<Vec<Option<f64>>> = (0..tries)
        .map(|i| {
            let mut number = i;
            (0..width)
                .map(|_| {
                    let pick = if total <= 20_000 {
                        let pick = number % candidates.len();
                        number /= candidates.len();
                        pick
                    } else {
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        (seed >> 33) as usize % candidates.len()
                    };
                    candidates.get(pick).copied()
                })
                .collect()
        })
        .collect();
    let rows: Vec<&[Option<f64>]> = rows.iter().map(Vec::as_slice).collect();
    let mut errors = 0;
    evaluate(predicate, &rows, &mut errors).into_iter().any(|(when, clear)| when == Some(true) && clear == Some(true))
}
