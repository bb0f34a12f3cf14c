use std::cmp::Ordering;
use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use schemas::{EventTime, Metric, Micros, PatientId};

use super::{Cells, Columns, Date, Dated, ReadingRow, Row, date_of};
use crate::tables::Table;

#[derive(Clone, Debug, PartialEq)]
pub struct WearRow {
    pub patient: PatientId,
    pub metric: Metric,
    pub hour: EventTime,
    pub readings: i64,
    pub minutes: u32,
    pub expected: Option<f64>,
}

impl WearRow {
    fn completeness(&self) -> Option<f64> {
        self.expected.filter(|expected| *expected > 0.0).map(|expected| (self.readings as f64 / expected).min(1.0))
    }
}

/// One day's wear, of its clean readings. `interval` says how far apart readings should be.
pub fn wear(readings: &[ReadingRow], interval: impl Fn(&PatientId, Metric, EventTime) -> Option<Micros>) -> Vec<WearRow> {
    let mut hours: BTreeMap<(&PatientId, Metric, i64), (i64, u64)> = BTreeMap::new();
    let hour = Micros::hours(1).0;
    for reading in readings.iter().filter(|reading| !reading.test && reading.metric != Metric::Canary) {
        let minute = reading.at.0.rem_euclid(hour) / Micros::minutes(1).0;
        let of = hours.entry((&reading.patient, reading.metric, reading.at.0.div_euclid(hour))).or_default();
        of.0 += 1;
        of.1 |= 1 << minute;
    }
    let row = |((patient, metric, number), (readings, minutes)): ((&PatientId, Metric, i64), (i64, u64))| {
        let begin = EventTime(number * hour);
        let expected = interval(patient, metric, begin).filter(|every| every.0 > 0).map(|every| hour as f64 / every.0 as f64);
        WearRow { patient: patient.clone(), metric, hour: begin, readings, minutes: minutes.count_ones(), expected }
    };
    hours.into_iter().map(row).collect()
}

impl Dated for WearRow {
    fn date(&self) -> Date {
        date_of(self.hour)
    }
}

impl Row for WearRow {
    const TABLE: Table = Table::Wear;

    fn batch(rows: &[Self]) -> Result<RecordBatch, ArrowError> {
        Columns::of(rows)
            .date(|w| Some(date_of(w.hour)))
            .text(|w| w.patient.as_str())
            .text(|w| w.metric.name())
            .time(|w| Some(w.hour))
            .int(|w| Some(w.readings))
            .small(|w| Some(w.minutes))
            .float(|w| w.expected)
            .float(Self::completeness)
            .finish()
    }

    fn read(batch: &RecordBatch) -> Result<Vec<Self>, ArrowError> {
        let cells = Cells::of(batch);
        let (patients, metrics, hours) = (cells.text("patient")?, cells.text("metric")?, cells.time("hour")?);
        let (readings, minutes, expected) = (cells.int("readings")?, cells.small("minutes")?, cells.float("expected")?);
        let row = |row| {
            Ok(Self {
                patient: patients.parse(row)?,
                metric: metrics.parse(row)?,
                hour: EventTime(hours.must(row)),
                readings: readings.must(row),
                minutes: super::unsigned(minutes.must(row)),
                expected: expected.get(row),
            })
        };
        (0..batch.num_rows()).map(row).collect()
    }

    fn order(&self, other: &Self) -> Ordering {
        self.date().cmp(&other.date()).then_with(|| (&self.patient, self.metric, self.hour).cmp(&(&other.patient, other.metric, other.hour)))
    }
}
