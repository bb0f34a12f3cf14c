use std::cmp::Ordering;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use schemas::{Arrived, DeviceId, EventTime, Metric, Offset, Partition, PatientId, ReadingId, Void};

use super::reading::{clock_of, clock_word};
use super::{Cells, Columns, ReadingRow, Row, unsigned};
use crate::tables::Table;

/// A void, and what it took out if that has come.
#[derive(Clone, Debug, PartialEq)]
pub struct VoidedRow {
    pub patient: PatientId,
    pub id: ReadingId,
    pub metric: Metric,
    pub at: EventTime,
    pub reason: String,
    pub author: String,
    pub moved_to: Option<PatientId>,
    pub voided_at: Arrived,
    pub reading: Option<ReadingRow>,
}

impl VoidedRow {
    pub fn new(void: Void, arrived: Arrived, reading: Option<ReadingRow>) -> Self {
        Self {
            patient: void.patient,
            id: void.reading,
            metric: void.metric,
            at: void.at,
            reason: void.reason,
            author: void.author,
            moved_to: void.moved_to,
            voided_at: arrived,
            reading,
        }
    }
}

impl Row for VoidedRow {
    const TABLE: Table = Table::Voided;

    fn batch(rows: &[Self]) -> Result<RecordBatch, ArrowError> {
        Columns::of(rows)
            .text(|v| v.patient.as_str())
            .id(|v| Some(v.id.0))?
            .text(|v| v.metric.name())
            .time(|v| Some(v.at))
            .text(|v| &v.reason)
            .text(|v| &v.author)
            .maybe_text(|v| v.moved_to.as_ref().map(PatientId::as_str))
            .time(|v| Some(v.voided_at.as_event()))
            .float(|v| v.reading.as_ref().map(|r| r.value))
            .maybe_text(|v| v.reading.as_ref().map(|r| r.device.as_str()))
            .time(|v| v.reading.as_ref().map(|r| r.stamped_at))
            .time(|v| v.reading.as_ref().map(|r| r.received_at))
            .maybe_text(|v| v.reading.as_ref().map(|r| clock_word(r.clock)))
            .flag(|v| v.reading.as_ref().map(|r| r.typed))
            .flag(|v| v.reading.as_ref().map(|r| r.test))
            .flag(|v| v.reading.as_ref().map(|r| r.late))
            .flag(|v| v.reading.as_ref().map(|r| r.beyond_horizon))
            .small(|v| v.reading.as_ref().map(|r| r.versions))
            .int(|v| v.reading.as_ref().and_then(|r| r.boot).map(u64::cast_signed))
            .small(|v| v.reading.as_ref().map(|r| r.partition.0))
            .int(|v| v.reading.as_ref().map(|r| r.offset.0))
            .finish()
    }

    fn read(batch: &RecordBatch) -> Result<Vec<Self>, ArrowError> {
        let cells = Cells::of(batch);
        let (patients, ids, metrics, at) = (cells.text("patient")?, cells.id("reading")?, cells.text("metric")?, cells.time("at")?);
        let (reasons, authors, moved_to, voided_at) = (cells.text("reason")?, cells.text("author")?, cells.text("moved_to")?, cells.time("voided_at")?);
        let (values, devices, stamped_at, received_at) = (cells.float("value")?, cells.text("device")?, cells.time("stamped_at")?, cells.time("received_at")?);
        let (clocks, typed, test) = (cells.text("clock")?, cells.flag("typed")?, cells.flag("test")?);
        let (late, beyond, versions, boots) = (cells.flag("late")?, cells.flag("beyond_horizon")?, cells.small("versions")?, cells.int("boot")?);
        let (partitions, offsets) = (cells.small("partition")?, cells.int("offset")?);
        let row = |row| {
            let (patient, metric, at): (PatientId, Metric, EventTime) = (patients.parse(row)?, metrics.parse(row)?, EventTime(at.must(row)));
            let id = ReadingId(ids.get(row).unwrap_or_default());
            let reading = match (values.get(row), devices.get(row)) {
                (Some(value), Some(_)) => Some(ReadingRow {
                    id,
                    patient: patient.clone(),
                    device: devices.parse::<DeviceId>(row)?,
                    metric,
                    value,
                    at,
                    stamped_at: EventTime(stamped_at.must(row)),
                    received_at: EventTime(received_at.must(row)),
                    clock: clock_of(clocks.must(row))?,
                    boot: boots.get(row).map(i64::cast_unsigned),
                    typed: typed.must(row),
                    test: test.must(row),
                    late: late.must(row),
                    beyond_horizon: beyond.must(row),
                    versions: unsigned(versions.must(row)),
                    partition: Partition(unsigned(partitions.must(row))),
                    offset: Offset(offsets.must(row)),
                }),
                _ => None,
            };
            let moved_to = moved_to.get(row).map(|_| moved_to.parse(row)).transpose()?;
            let (reason, author) = (reasons.must(row).to_owned(), authors.must(row).to_owned());
            Ok(Self { patient, id, metric, at, reason, author, moved_to, voided_at: Arrived(voided_at.must(row)), reading })
        };
        (0..batch.num_rows()).map(row).collect()
    }

    fn order(&self, other: &Self) -> Ordering {
        self.patient.cmp(&other.patient).then_with(|| (self.at, self.id).cmp(&(other.at, other.id)))
    }
}
