use std::cmp::Ordering;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use schemas::{ClockState, DeviceId, EventTime, Metric, Micros, Offset, Partition, PatientId, Reading, ReadingId};

use super::{Cells, Columns, Date, Dated, Row, date_of, unsigned, wrong};
use crate::tables::Table;

#[derive(Clone, Debug, PartialEq)]
pub struct ReadingRow {
    pub id: ReadingId,
    pub patient: PatientId,
    pub device: DeviceId,
    pub metric: Metric,
    pub value: f64,
    pub at: EventTime,
    pub stamped_at: EventTime,
    pub received_at: EventTime,
    pub clock: ClockState,
    pub boot: Option<u64>,
    pub typed: bool,
    pub test: bool,
    pub late: bool,
    pub beyond_horizon: bool,
    pub versions: u32,
    pub partition: Partition,
    pub offset: Offset,
}

pub(crate) const fn clock_word(clock: ClockState) -> &'static str {
    match clock {
        ClockState::AsSent => "as_sent",
        ClockState::Corrected => "corrected",
        ClockState::Unstamped => "unstamped",
    }
}

pub(crate) fn clock_of(word: &str) -> Result<ClockState, ArrowError> {
    match word {
        "as_sent" => Ok(ClockState::AsSent),
        "corrected" => Ok(ClockState::Corrected),
        "unstamped" => Ok(ClockState::Unstamped),
        other => Err(wrong(format_args!("`{other}` is no state of a clock"))),
    }
}

impl ReadingRow {
    pub fn new(reading: Reading, partition: Partition, offset: Offset) -> Self {
        Self {
            id: reading.id,
            patient: reading.patient,
            device: reading.device,
            metric: reading.metric,
            value: reading.value,
            at: reading.at,
            stamped_at: reading.stamped_at,
            received_at: reading.received_at,
            clock: reading.clock,
            boot: reading.boot,
            typed: reading.typed,
            test: reading.test,
            late: false,
            beyond_horizon: false,
            versions: 1,
            partition,
            offset,
        }
    }

    /// The id that follows from what stands in the row (SEMANTICS 18).
    fn follows(&self) -> ReadingId {
        follows(&self.device, self.metric, self.stamped_at, self.at, self.clock, self.boot)
    }
}

fn follows(device: &DeviceId, metric: Metric, stamped_at: EventTime, at: EventTime, clock: ClockState, boot: Option<u64>) -> ReadingId {
    let hour = || (clock == ClockState::Corrected).then(|| at.0.div_euclid(Micros::hours(1).0).unsigned_abs());
    ReadingId::new(device, metric, stamped_at, boot.or_else(hour))
}

impl Dated for ReadingRow {
    fn date(&self) -> Date {
        date_of(self.at)
    }
}

impl Row for ReadingRow {
    const TABLE: Table = Table::Readings;

    fn batch(rows: &[Self]) -> Result<RecordBatch, ArrowError> {
        Columns::of(rows)
            .date(|r| Some(date_of(r.at)))
            .text(|r| r.patient.as_str())
            .text(|r| r.metric.name())
            .time(|r| Some(r.at))
            .float(|r| Some(r.value))
            .text(|r| r.metric.codes().ucum)
            .text(|r| r.device.as_str())
            .time(|r| Some(r.stamped_at))
            .time(|r| Some(r.received_at))
            .text(|r| clock_word(r.clock))
            .flag(|r| Some(r.typed))
            .flag(|r| Some(r.test))
            .flag(|r| Some(r.late))
            .flag(|r| Some(r.beyond_horizon))
            .small(|r| Some(r.versions))
            .int(|r| r.boot.map(u64::cast_signed))
            .id(|r| (r.follows() != r.id).then_some(r.id.0))?
            .small(|r| Some(r.partition.0))
            .int(|r| Some(r.offset.0))
            .finish()
    }

    fn read(batch: &RecordBatch) -> Result<Vec<Self>, ArrowError> {
        let cells = Cells::of(batch);
        let (patients, metrics, devices, clocks) = (cells.text("patient")?, cells.text("metric")?, cells.text("device")?, cells.text("clock")?);
        let (at, stamped_at, received_at) = (cells.time("at")?, cells.time("stamped_at")?, cells.time("received_at")?);
        let (values, ids, boots, versions) = (cells.float("value")?, cells.id("reading")?, cells.int("boot")?, cells.small("versions")?);
        let (typed, test, late, beyond) = (cells.flag("typed")?, cells.flag("test")?, cells.flag("late")?, cells.flag("beyond_horizon")?);
        let (partitions, offsets) = (cells.small("partition")?, cells.int("offset")?);
        // rows stand by patient and metric: the one before is mostly the same
        let mut last: Option<(PatientId, DeviceId)> = None;
        let mut rows = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let patient = match &last {
                Some((patient, _)) if patient.as_str() == patients.must(row) => patient.clone(),
                _ => patients.parse(row)?,
            };
            let device = match &last {
                Some((_, device)) if device.as_str() == devices.must(row) => device.clone(),
                _ => devices.parse(row)?,
            };
            last = Some((patient.clone(), device.clone()));
            let metric: Metric = metrics.parse(row)?;
            let (at, stamped_at) = (EventTime(at.must(row)), EventTime(stamped_at.must(row)));
            let (clock, boot) = (clock_of(clocks.must(row))?, boots.get(row).map(i64::cast_unsigned));
            let id = ids.get(row).map_or_else(|| follows(&device, metric, stamped_at, at, clock, boot), ReadingId);
            rows.push(Self {
                id,
                patient,
                device,
                metric,
                value: values.must(row),
                at,
                stamped_at,
                received_at: EventTime(received_at.must(row)),
                clock,
                boot,
                typed: typed.must(row),
                test: test.must(row),
                late: late.must(row),
                beyond_horizon: beyond.must(row),
                versions: unsigned(versions.must(row)),
                partition: Partition(unsigned(partitions.must(row))),
                offset: Offset(offsets.must(row)),
            });
        }
        Ok(rows)
    }

    fn order(&self, other: &Self) -> Ordering {
        let key = |r: &Self| (date_of(r.at), r.metric, r.at, r.partition, r.offset);
        date_of(self.at).cmp(&date_of(other.at)).then_with(|| self.patient.cmp(&other.patient)).then_with(|| key(self).cmp(&key(other)))
    }
}
