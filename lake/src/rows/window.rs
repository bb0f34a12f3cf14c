use std::cmp::Ordering;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use schemas::{Cause, EventTime, Metric, Offset, Partition, PatientId, Window};

use super::{Cells, Columns, Date, Dated, Row, date_of, unsigned};
use crate::tables::Table;

#[derive(Clone, Debug, PartialEq)]
pub struct WindowRow {
    pub window: Window,
    pub current: bool,
    pub partition: Partition,
    pub offset: Offset,
}

impl Dated for WindowRow {
    fn date(&self) -> Date {
        date_of(self.window.start)
    }
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Row for WindowRow {
    const TABLE: Table = Table::Windows;

    fn batch(rows: &[Self]) -> Result<RecordBatch, ArrowError> {
        Columns::of(rows)
            .date(|w| Some(date_of(w.window.start)))
            .text(|w| w.window.patient.as_str())
            .text(|w| w.window.metric.name())
            .time(|w| Some(w.window.start))
            .time(|w| Some(w.window.end))
            .small(|w| Some(w.window.revision))
            .flag(|w| Some(w.current))
            .int(|w| Some(count(w.window.count)))
            .float(|w| Some(w.window.sum))
            .float(|w| Some(w.window.min))
            .float(|w| Some(w.window.max))
            .float(|w| Some(w.window.last))
            .int(|w| Some(w.window.cause.offset.0))
            .int(|w| Some(i64::from(w.window.cause.ordinal)))
            .small(|w| Some(w.partition.0))
            .int(|w| Some(w.offset.0))
            .finish()
    }

    fn read(batch: &RecordBatch) -> Result<Vec<Self>, ArrowError> {
        let cells = Cells::of(batch);
        let (patients, metrics, start, end) = (cells.text("patient")?, cells.text("metric")?, cells.time("start")?, cells.time("end")?);
        let (revision, current, count) = (cells.small("revision")?, cells.flag("current")?, cells.int("count")?);
        let (sum, min, max, last) = (cells.float("sum")?, cells.float("min")?, cells.float("max")?, cells.float("last")?);
        let (cause, ordinal) = (cells.int("cause_offset")?, cells.int("cause_ordinal")?);
        let (partitions, offsets) = (cells.small("partition")?, cells.int("offset")?);
        let row = |row| {
            let (patient, metric): (PatientId, Metric) = (patients.parse(row)?, metrics.parse(row)?);
            Ok(Self {
                window: Window {
                    cause: Cause { offset: Offset(cause.must(row)), ordinal: u32::try_from(ordinal.must(row)).unwrap_or_default() },
                    patient,
                    metric,
                    start: EventTime(start.must(row)),
                    end: EventTime(end.must(row)),
                    revision: unsigned(revision.must(row)),
                    count: u64::try_from(count.must(row)).unwrap_or_default(),
                    sum: sum.must(row),
                    min: min.must(row),
                    max: max.must(row),
                    last: last.must(row),
                },
                current: current.must(row),
                partition: Partition(unsigned(partitions.must(row))),
                offset: Offset(offsets.must(row)),
            })
        };
        (0..batch.num_rows()).map(row).collect()
    }

    fn order(&self, other: &Self) -> Ordering {
        let key = |r: &Self| (r.window.metric, r.window.start, r.window.revision, r.window.cause, r.offset);
        self.date().cmp(&other.date()).then_with(|| self.window.patient.cmp(&other.window.patient)).then_with(|| key(self).cmp(&key(other)))
    }
}
