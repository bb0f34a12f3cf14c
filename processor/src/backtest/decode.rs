//! Rows of `raw/inputs` back to inputs.
//!
//! A reading is made of its columns, which hold all that the engine looks at; everything else is read as the record that it was. What a column
//! does not have (boot, sequence, value and unit as sent, author, format) decides nothing.

use std::collections::{BTreeSet, HashMap};

use arrow::array::{Array, AsArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use engine::Arrival;
use schemas::{Arrived, ClockState, DeviceId, EventTime, Input, Metric, Offset, Partition, PatientId, Reading, ReadingId};

/// Of a batch of rows, what is wanted.
#[derive(Debug, Default)]
pub struct Rows {
    pub arrivals: Vec<Arrival>,
    /// When the newest row arrived, wanted or not: the clock goes on.
    pub clock: Option<Arrived>,
    /// A row was at or after the end: nothing behind it is looked at.
    pub ended: bool,
}

pub struct Decoder {
    partition: Partition,
    /// Whose inputs are wanted; `None`: everyone's.
    wanted: Option<BTreeSet<PatientId>>,
    patients: HashMap<String, Option<PatientId>>,
    devices: HashMap<String, Option<DeviceId>>,
}

type Words = DictionaryArray<Int32Type>;

/// The columns of a batch.
struct Columns<'a> {
    offset: &'a Int64Array,
    arrived_at: &'a TimestampMicrosecondArray,
    kind: &'a Words,
    patient: &'a Words,
    reading: &'a FixedSizeBinaryArray,
    device: &'a Words,
    metric: &'a Words,
    value: &'a Float64Array,
    at: &'a TimestampMicrosecondArray,
    stamped_at: &'a TimestampMicrosecondArray,
    received_at: &'a TimestampMicrosecondArray,
    clock: &'a Words,
    typed: &'a BooleanArray,
    test: &'a BooleanArray,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Option<Self> {
        let time = |name| batch.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>();
        let words = |name| batch.column_by_name(name)?.as_dictionary_opt::<Int32Type>();
        let flag = |name| batch.column_by_name(name)?.as_boolean_opt();
        Some(Self {
            offset: batch.column_by_name("offset")?.as_primitive_opt::<Int64Type>()?,
            arrived_at: time("arrived_at")?,
            kind: words("kind")?,
            patient: words("patient")?,
            reading: batch.column_by_name("reading")?.as_fixed_size_binary_opt()?,
            device: words("device")?,
            metric: words("metric")?,
            value: batch.column_by_name("value")?.as_primitive_opt::<Float64Type>()?,
            at: time("at")?,
            stamped_at: time("stamped_at")?,
            received_at: time("received_at")?,
            clock: words("clock")?,
            typed: flag("typed")?,
            test: flag("test")?,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reading,
    Tick,
    Arranged,
}

/// What each word of a column means; a NULL has no word.
fn meanings<T>(words: &Words, mut meaning: impl FnMut(&str) -> T) -> Option<Vec<T>> {
    let texts = words.values().as_string_opt::<i32>()?;
    Some((0..texts.len()).map(|at| meaning(if texts.is_null(at) { "" } else { texts.value(at) })).collect())
}

fn word<'a, T>(words: &Words, meanings: &'a [T], row: usize) -> Option<&'a T> {
    if words.is_null(row) { None } else { meanings.get(usize::try_from(words.keys().value(row)).ok()?) }
}

impl Decoder {
    pub fn new(partition: Partition, wanted: Option<BTreeSet<PatientId>>) -> Self {
        Self { partition, wanted, patients: HashMap::new(), devices: HashMap::new() }
    }

    fn wants(&self, input: &Input) -> bool {
        input.patient().is_none_or(|patient| self.wanted.as_ref().is_none_or(|wanted| wanted.contains(patient)))
    }

    /// The records of settings, voids, rules, and of what could not be read when it was archived.
    pub fn arranged(&self, batches: &[RecordBatch]) -> Option<Vec<Arrival>> {
        let mut arrivals = Vec::new();
        for batch in batches {
            let offsets = batch.column_by_name("offset")?.as_primitive_opt::<Int64Type>()?;
            let arrived = batch.column_by_name("arrived_at")?.as_primitive_opt::<TimestampMicrosecondType>()?;
            let values = batch.column_by_name("value_pb")?.as_binary_opt::<i32>()?;
            for row in 0..batch.num_rows() {
                let offset = Offset(offsets.value(row));
                let input = crate::decode(self.partition, offset, values.value(row));
                // nobody's is nothing but time
                let input = if self.wants(&input) { input } else { Input::Tick };
                arrivals.push(Arrival { offset, arrived_at: Arrived(arrived.value(row)), input });
            }
        }
        Some(arrivals)
    }

    /// The rows of a batch from `from` on and before `until`, in order; `arranged` has, in order, what stands between the readings.
    /// `None`: a column is missing, or of another type.
    pub fn rows(&mut self, batch: &RecordBatch, arranged: &mut std::vec::IntoIter<Arrival>, from: Offset, until: Arrived) -> Option<Rows> {
        let columns = Columns::of(batch)?;
        let kinds = meanings(columns.kind, |word| match word {
            "reading" => Kind::Reading,
            "tick" => Kind::Tick,
            _ => Kind::Arranged,
        })?;
        let (wanted, known) = (&self.wanted, &mut self.patients);
        let patients = meanings(columns.patient, |word| {
            let parse = || PatientId::parse(word).ok().filter(|patient| wanted.as_ref().is_none_or(|wanted| wanted.contains(patient)));
            if let Some(known) = known.get(word) { known.clone() } else { known.entry(word.to_owned()).or_insert_with(parse).clone() }
        })?;
        let known = &mut self.devices;
        let devices = meanings(columns.device, |word| match known.get(word) {
            Some(known) => known.clone(),
            None => known.entry(word.to_owned()).or_insert_with(|| DeviceId::parse(word).ok()).clone(),
        })?;
        let metrics = meanings(columns.metric, |word| word.parse::<Metric>().ok().or_else(|| (word == Metric::Canary.name()).then_some(Metric::Canary)))?;
        let clocks = meanings(columns.clock, |word| match word {
            "corrected" => ClockState::Corrected,
            "unstamped" => ClockState::Unstamped,
            _ => ClockState::AsSent,
        })?;
        let mut rows = Rows { arrivals: Vec::with_capacity(batch.num_rows()), ..Rows::default() };
        for row in 0..batch.num_rows() {
            let (offset, arrived_at) = (Offset(columns.offset.value(row)), Arrived(columns.arrived_at.value(row)));
            let kind = *word(columns.kind, &kinds, row)?;
            let record = if kind == Kind::Arranged { Some(arranged.next()?) } else { None };
            if offset < from {
                continue;
            }
            if arrived_at >= until {
                rows.ended = true;
                break;
            }
            rows.clock = rows.clock.max(Some(arrived_at));
            let input = match (kind, record) {
                (_, Some(record)) => record.input,
                (Kind::Tick, _) => Input::Tick,
                _ => {
                    let Some(Some(patient)) = word(columns.patient, &patients, row) else { continue };
                    let Some(Some(metric)) = word(columns.metric, &metrics, row) else { continue };
                    let Some(Some(device)) = word(columns.device, &devices, row) else { continue };
                    let value = columns.value.value(row);
                    Input::Reading(Reading {
                        id: ReadingId::from_slice(columns.reading.value(row))?,
                        patient: patient.clone(),
                        device: device.clone(),
                        metric: *metric,
                        value,
                        at: EventTime(columns.at.value(row)),
                        stamped_at: EventTime(columns.stamped_at.value(row)),
                        received_at: EventTime(columns.received_at.value(row)),
                        clock: word(columns.clock, &clocks, row).copied().unwrap_or_default(),
                        boot: None,
                        seq: None,
                        typed: columns.typed.value(row),
                        test: columns.test.value(row),
                        value_as_sent: value,
                        unit_as_sent: String::new(),
                        author: String::new(),
                        format: None,
                    })
                }
            };
            rows.arrivals.push(Arrival { offset, arrived_at, input });
        }
        Some(rows)
    }
}
