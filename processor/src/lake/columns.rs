//! Records as rows: what analysts read, and the record itself beside it.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::array::{TimestampMicrosecondArray, UInt32Array, UInt64Array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use journal::{Record, Topic};
use schemas::{Arrived, ClockState, DeadLetter, EventTime, Input, Partition, Priority, Reading, Transition, TransitionKind, Window};

pub fn schema(topic: Topic) -> SchemaRef {
    match topic {
        Topic::Inputs => schemas::inputs_schema(),
        Topic::Windows => schemas::windows_schema(),
        Topic::Alerts => schemas::alerts_schema(),
        Topic::DeadLetters => schemas::dead_letters_schema(),
    }
}

/// Whatever cannot be read stands there too, with nothing but its bytes.
pub fn batch(topic: Topic, partition: Partition, records: &[Record]) -> Result<RecordBatch, ArrowError> {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(records.iter().map(|_| partition.0))),
        Arc::new(Int64Array::from_iter_values(records.iter().map(|record| record.offset.0))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(records.iter().map(|record| record.arrived_at.0)).with_timezone("UTC")),
        Arc::new(BinaryArray::from_iter_values(records.iter().map(|record| &record.key))),
    ];
    columns.extend(match topic {
        Topic::Inputs => inputs(&Rows::new(records, Input::decode))?,
        Topic::Windows => windows(&Rows::new(records, Window::decode)),
        Topic::Alerts => alerts(&Rows::new(records, Transition::decode))?,
        Topic::DeadLetters => dead_letters(&Rows::new(records, DeadLetter::decode)),
    });
    columns.push(Arc::new(BinaryArray::from_iter_values(records.iter().map(|record| &record.value))));
    RecordBatch::try_new(schema(topic), columns)
}

struct Rows<T>(Vec<Option<T>>);

impl<T> Rows<T> {
    fn new<E>(records: &[Record], decode: fn(&[u8]) -> Result<T, E>) -> Self {
        Self(records.iter().map(|record| decode(&record.value).ok()).collect())
    }
    fn each<'a, V: 'a>(&'a self, value: impl Fn(&'a T) -> Option<V> + 'a) -> impl Iterator<Item = Option<V>> + 'a {
        self.0.iter().map(move |row| row.as_ref().and_then(&value))
    }
    fn text<'a>(&'a self, value: impl Fn(&'a T) -> Option<&'a str> + 'a) -> ArrayRef {
        Arc::new(self.each(value).collect::<StringArray>())
    }
    fn time(&self, value: impl Fn(&T) -> Option<EventTime>) -> ArrayRef {
        let times: TimestampMicrosecondArray = self.0.iter().map(|row| row.as_ref().and_then(&value).map(|time| time.0)).collect();
        Arc::new(times.with_timezone("UTC"))
    }
    fn float(&self, value: impl Fn(&T) -> Option<f64>) -> ArrayRef {
        Arc::new(self.0.iter().map(|row| row.as_ref().and_then(&value)).collect::<Float64Array>())
    }
    fn flag(&self, value: impl Fn(&T) -> Option<bool>) -> ArrayRef {
        Arc::new(self.0.iter().map(|row| row.as_ref().and_then(&value)).collect::<BooleanArray>())
    }
    fn int(&self, value: impl Fn(&T) -> i64) -> ArrayRef {
        Arc::new(self.0.iter().map(|row| row.as_ref().map(&value)).collect::<Int64Array>())
    }
    fn count(&self, value: impl Fn(&T) -> u64) -> ArrayRef {
        Arc::new(self.0.iter().map(|row| row.as_ref().map(&value)).collect::<UInt64Array>())
    }
    fn small(&self, value: impl Fn(&T) -> u32) -> ArrayRef {
        Arc::new(self.0.iter().map(|row| row.as_ref().map(&value)).collect::<UInt32Array>())
    }
    fn id(&self, value: impl Fn(&T) -> Option<[u8; 16]>) -> Result<ArrayRef, ArrowError> {
        let ids = self.0.iter().map(|row| row.as_ref().and_then(&value));
        Ok(Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids, 16)?))
    }
}

const fn arrived(time: Arrived) -> Option<EventTime> {
    Some(time.as_event())
}

const fn reading(input: &Input) -> Option<&Reading> {
    match input {
        Input::Reading(reading) => Some(reading),
        _ => None,
    }
}

fn inputs(rows: &Rows<Input>) -> Result<Vec<ArrayRef>, ArrowError> {
    let kind = |input: &Input| match input {
        Input::Reading(_) => "reading",
        Input::Void(_) => "void",
        Input::Settings(_) => "settings",
        Input::RuleSet(_) => "rule_set",
        Input::Tick => "tick",
    };
    let kinds = StringArray::from_iter_values(rows.0.iter().map(|row| row.as_ref().map_or("unreadable", kind)));
    Ok(vec![
        Arc::new(kinds),
        rows.text(|input| input.patient().map(|patient| patient.as_str())),
        rows.id(|input| match input {
            Input::Reading(reading) => Some(reading.id.0),
            Input::Void(void) => Some(void.reading.0),
            _ => None,
        })?,
        rows.text(|input| reading(input).map(|r| r.device.as_str())),
        rows.text(|input| match input {
            Input::Reading(reading) => Some(reading.metric.name()),
            Input::Void(void) => Some(void.metric.name()),
            _ => None,
        }),
        rows.float(|input| reading(input).map(|r| r.value)),
        rows.text(|input| reading(input).map(|r| r.metric.codes().ucum)),
        rows.time(|input| match input {
            Input::Reading(reading) => Some(reading.at),
            Input::Void(void) => Some(void.at),
            _ => None,
        }),
        rows.time(|input| reading(input).map(|r| r.stamped_at)),
        rows.time(|input| reading(input).map(|r| r.received_at)),
        rows.text(|input| {
            reading(input).map(|r| match r.clock {
                ClockState::AsSent => "as_sent",
                ClockState::Corrected => "corrected",
                ClockState::Unstamped => "unstamped",
            })
        }),
        rows.flag(|input| reading(input).map(|r| r.typed)),
        rows.flag(|input| reading(input).map(|r| r.test)),
    ])
}

fn windows(rows: &Rows<Window>) -> Vec<ArrayRef> {
    vec![
        rows.int(|w| w.cause.offset.0),
        rows.small(|w| w.cause.ordinal),
        rows.text(|w| Some(w.patient.as_str())),
        rows.text(|w| Some(w.metric.name())),
        rows.time(|w| Some(w.start)),
        rows.time(|w| Some(w.end)),
        rows.small(|w| w.revision),
        rows.count(|w| w.count),
        rows.float(|w| Some(w.sum)),
        rows.float(|w| Some(w.min)),
        rows.float(|w| Some(w.max)),
        rows.float(|w| Some(w.last)),
    ]
}

fn alerts(rows: &Rows<Transition>) -> Result<Vec<ArrayRef>, ArrowError> {
    Ok(vec![
        rows.int(|t| t.cause.offset.0),
        rows.small(|t| t.cause.ordinal),
        rows.text(|t| {
            Some(match t.kind {
                TransitionKind::Raised => "raised",
                TransitionKind::Cleared => "cleared",
                TransitionKind::Amended => "amended",
                TransitionKind::Withdrawn => "withdrawn",
            })
        }),
        rows.id(|t| Some(t.alert.0))?,
        rows.text(|t| Some(t.patient.as_str())),
        rows.text(|t| Some(t.rule.as_str())),
        rows.count(|t| t.rule_version),
        rows.text(|t| {
            Some(match t.priority {
                Priority::Low => "low",
                Priority::Medium => "medium",
                Priority::High => "high",
            })
        }),
        rows.time(|t| Some(t.at)),
        rows.time(|t| Some(t.since)),
        rows.time(|t| arrived(t.heard_at)),
        rows.flag(|t| Some(t.late)),
        rows.flag(|t| Some(t.pages)),
        rows.flag(|t| Some(t.technical)),
        rows.flag(|t| Some(t.shadow)),
    ])
}

fn dead_letters(rows: &Rows<DeadLetter>) -> Vec<ArrayRef> {
    vec![
        rows.text(|d| Some(&d.device)),
        rows.text(|d| Some(&d.topic)),
        rows.text(|d| Some(d.reason.as_str())),
        rows.text(|d| Some(&d.detail)),
        rows.time(|d| Some(d.received_at)),
        rows.text(|d| Some(&d.content_type)),
        rows.small(|d| d.entry),
        rows.text(|d| d.metric.map(|metric| metric.name())),
        rows.time(|d| d.stamped_at),
        Arc::new(rows.each(|d| Some(&d.payload[..])).collect::<BinaryArray>()),
    ]
}
