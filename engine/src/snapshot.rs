//! An engine as bytes and back: a header of JSON, the samples as Arrow IPC, and a checksum over both.
//!
//! `VIGILSNP` · format u32 · header length u64 · samples length u64 · header · samples · SHA-256.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::{reader::StreamReader, writer::StreamWriter};
use schemas::{Arrived, ClockState, DeviceId, EventTime, Input, Metric, Micros, Offset, PatientId, ReadingId, RuleId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::api::{Config, SnapshotError, Stats};
use crate::decide::{RuleState, Timer};
use crate::engine::Engine;
use crate::fold::Windows;
use crate::panes::Panes;
use crate::series::{Kept, Series};

const MAGIC: &[u8; 8] = b"VIGILSNP";
/// Counts up when the bytes change their meaning.
const FORMAT: u32 = 3;
const HEAD: usize = 8 + 4 + 8 + 8;

#[derive(Serialize, Deserialize)]
struct Header {
    engine: String,
    partition: schemas::Partition,
    horizon: Micros,
    window: Micros,
    next: Offset,
    clock: i64,
    rules_version: u64,
    activated: Vec<(RuleId, i64)>,
    rules: String,
    stats: Stats,
    patients: Vec<Patient>,
}

#[derive(Serialize, Deserialize)]
struct Patient {
    id: PatientId,
    /// The record as it stood in the log.
    settings: Option<Vec<u8>>,
    frontiers: BTreeMap<u32, i64>,
    windows: BTreeMap<u32, Windows>,
    /// Days, and how many of the samples have settled into them.
    panes: BTreeMap<u32, (usize, Panes)>,
    voids: Vec<(ReadingId, i64)>,
    rules: Vec<(RuleId, RuleState)>,
    news: BTreeMap<u32, i64>,
    pause_due: Option<i64>,
    resumed: Option<i64>,
}

fn content(what: impl std::fmt::Display) -> SnapshotError {
    SnapshotError::Content(what.to_string())
}

/// # Errors
/// When a part of the state has no form in the format: what is returned can be restored.
pub(crate) fn write(engine: &Engine) -> Result<Vec<u8>, SnapshotError> {
    let unwritable = |what: &dyn std::fmt::Display| SnapshotError::Unwritable(what.to_string());
    let header = serde_json::to_vec(&header(engine)).map_err(|error| unwritable(&error))?;
    let samples = samples(engine).map_err(|error| unwritable(&error))?;
    let mut bytes = Vec::with_capacity(HEAD + header.len() + samples.len() + 32);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&(samples.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(&samples);
    let sum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&sum);
    Ok(bytes)
}

fn header(engine: &Engine) -> Header {
    let mut ids: Vec<&PatientId> = engine.fold.patients.keys().chain(engine.decide.patients.keys()).collect();
    ids.sort_unstable();
    ids.dedup();
    let patients = ids.into_iter().map(|id| {
        let folded = engine.fold.patients.get(id).cloned().unwrap_or_default();
        let decided = engine.decide.patients.get(id).cloned().unwrap_or_default();
        Patient {
            id: id.clone(),
            settings: folded.settings.as_ref().map(|settings| Input::Settings(settings.as_ref().clone()).encode().to_vec()),
            frontiers: folded.series.iter().filter_map(|(metric, series)| Some((metric.number(), series.frontier?.0))).collect(),
            panes: folded.series.into_iter().map(|(metric, series)| (metric.number(), (series.settled, series.panes))).collect(),
            windows: folded.windows.into_iter().map(|(metric, windows)| (metric.number(), windows)).collect(),
            voids: folded.voids.into_iter().map(|(id, at)| (id, at.0)).collect(),
            rules: decided.rules.into_iter().collect(),
            news: decided.news.into_iter().map(|(metric, at)| (metric.number(), at.0)).collect(),
            pause_due: decided.pause_due.map(|due| due.0),
            resumed: decided.resumed.map(|at| at.0),
        }
    });
    Header {
        engine: env!("CARGO_PKG_VERSION").to_owned(),
        partition: engine.config.partition,
        horizon: engine.config.horizon,
        window: engine.config.window,
        next: engine.next,
        clock: engine.fold.clock.0,
        rules_version: engine.decide.version,
        activated: engine.decide.activated.iter().map(|(rule, at)| (rule.clone(), at.0)).collect(),
        rules: engine.toml.clone(),
        stats: engine.stats,
        patients: patients.collect(),
    }
}

fn samples_schema() -> Arc<Schema> {
    let field = |name: &str, kind: DataType| Field::new(name, kind, false);
    Arc::new(Schema::new(vec![
        field("patient", DataType::Utf8),
        field("metric", DataType::UInt32),
        field("id", DataType::Binary),
        field("at", DataType::Int64),
        field("value", DataType::Float64),
        field("stamped_at", DataType::Int64),
        field("received_at", DataType::Int64),
        field("arrived", DataType::Int64),
        field("offset", DataType::Int64),
        field("clock", DataType::UInt32),
        field("typed", DataType::Boolean),
        field("test", DataType::Boolean),
        field("late", DataType::Boolean),
        field("beyond", DataType::Boolean),
        field("voided", DataType::Boolean),
        field("device", DataType::Utf8),
    ]))
}

fn samples(engine: &Engine) -> arrow::error::Result<Vec<u8>> {
    let all: Vec<(&PatientId, Metric, &Kept)> = engine
        .fold
        .patients
        .iter()
        .flat_map(|(patient, folded)| folded.series.iter().flat_map(move |(metric, series)| series.samples.iter().map(move |kept| (patient, *metric, kept))))
        .collect();
    let int = |f: fn(&Kept) -> i64| Arc::new(Int64Array::from_iter_values(all.iter().map(|(_, _, kept)| f(kept)))) as Arc<dyn Array>;
    let flag = |f: fn(&Kept) -> bool| Arc::new(all.iter().map(|(_, _, kept)| Some(f(kept))).collect::<BooleanArray>()) as Arc<dyn Array>;
    let schema = samples_schema();
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(StringArray::from_iter_values(all.iter().map(|(patient, ..)| patient.as_str()))),
            Arc::new(UInt32Array::from_iter_values(all.iter().map(|(_, metric, _)| metric.number()))),
            Arc::new(BinaryArray::from_iter_values(all.iter().map(|(_, _, kept)| &kept.id.0))),
            int(|k| k.at.0),
            Arc::new(Float64Array::from_iter_values(all.iter().map(|(_, _, kept)| kept.value))),
            int(|k| k.stamped_at.0),
            int(|k| k.received_at.0),
            int(|k| k.arrived.0),
            int(|k| k.offset),
            Arc::new(UInt32Array::from_iter_values(all.iter().map(|(_, _, kept)| kept.clock as u32))),
            flag(|k| k.typed),
            flag(|k| k.test),
            flag(|k| k.late),
            flag(|k| k.beyond),
            flag(|k| k.voided),
            Arc::new(StringArray::from_iter_values(all.iter().map(|(_, _, kept)| kept.device.as_str()))),
        ],
    )?;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    writer.write(&batch)?;
    writer.into_inner()
}

pub(crate) fn read(config: Config, bytes: &[u8]) -> Result<Engine, SnapshotError> {
    let field = |from: usize, to: usize| bytes.get(from..to).ok_or(SnapshotError::Truncated { have: bytes.len() as u64, want: (HEAD + 32) as u64 });
    if field(0, 8)? != MAGIC {
        return Err(SnapshotError::Foreign);
    }
    let format = u32::from_le_bytes(field(8, 12)?.try_into().unwrap_or_default());
    if format != FORMAT {
        return Err(SnapshotError::Format(format));
    }
    let length = |from: usize| Ok::<u64, SnapshotError>(u64::from_le_bytes(field(from, from + 8)?.try_into().unwrap_or_default()));
    let (header_bytes, sample_bytes) = (length(12)?, length(20)?);
    let want = header_bytes.saturating_add(sample_bytes).saturating_add((HEAD + 32) as u64);
    if want != bytes.len() as u64 {
        return Err(SnapshotError::Truncated { have: bytes.len() as u64, want });
    }
    let (body, sum) = bytes.split_at(bytes.len() - 32);
    if Sha256::digest(body).as_slice() != sum {
        return Err(SnapshotError::Checksum);
    }
    let (head, tables) = body.get(HEAD..).unwrap_or_default().split_at(usize::try_from(header_bytes).unwrap_or(0));
    let header: Header = serde_json::from_slice(head).map_err(content)?;
    if header.partition != config.partition {
        return Err(SnapshotError::Partition { found: header.partition, wanted: config.partition });
    }
    for (what, found, wanted) in [("horizon", header.horizon, config.horizon), ("window", header.window, config.window)] {
        if found != wanted {
            return Err(SnapshotError::Config { what, found, wanted });
        }
    }
    let mut engine = Engine::new(config);
    engine.next = header.next;
    engine.fold.clock = Arrived(header.clock);
    engine.decide.version = header.rules_version;
    engine.decide.activated = header.activated.into_iter().map(|(rule, at)| (rule, EventTime(at))).collect();
    // before the first rules there are none, not even the built-in one
    if header.rules_version > 0 {
        engine.book = crate::compile(&header.rules).map_err(content)?;
    }
    engine.toml = header.rules;
    engine.stats = header.stats;
    for patient in header.patients {
        restore_patient(&mut engine, patient)?;
    }
    restore_samples(&mut engine, tables)?;
    Ok(engine)
}

fn metric(number: u32) -> Result<Metric, SnapshotError> {
    Metric::from_number(number).ok_or_else(|| content(format_args!("metric {number}")))
}

fn restore_patient(engine: &mut Engine, patient: Patient) -> Result<(), SnapshotError> {
    let folded = engine.fold.patients.entry(patient.id.clone()).or_default();
    let decided = engine.decide.patients.entry(patient.id.clone()).or_default();
    if let Some(bytes) = patient.settings {
        let Input::Settings(settings) = Input::decode(&bytes).map_err(content)? else { return Err(content("settings")) };
        let settings = Arc::new(settings);
        folded.settings = Some(settings.clone());
        decided.settings = Some(settings);
    }
    for (number, frontier) in patient.frontiers {
        folded.series.insert(metric(number)?, Series { frontier: Some(EventTime(frontier)), ..Series::default() });
    }
    for (number, (settled, panes)) in patient.panes {
        let series = folded.series.entry(metric(number)?).or_default();
        (series.settled, series.panes) = (settled, panes);
    }
    for (number, windows) in patient.windows {
        let metric = metric(number)?;
        for start in &windows.open {
            engine.fold.idle.insert((crate::fold::idle_due(&engine.config, *start), patient.id.clone(), metric, *start));
        }
        folded.windows.insert(metric, windows);
    }
    folded.voids = patient.voids.into_iter().map(|(id, at)| (id, EventTime(at))).collect();
    for (number, at) in patient.news {
        decided.news.insert(metric(number)?, EventTime(at));
    }
    decided.pause_due = patient.pause_due.map(Arrived);
    decided.resumed = patient.resumed.map(EventTime);
    if let Some(due) = decided.pause_due {
        engine.decide.timers.insert(Timer { due, patient: patient.id.clone(), rule: None });
    }
    for (id, state) in patient.rules {
        if let Some(due) = state.due {
            engine.decide.timers.insert(Timer { due, patient: patient.id.clone(), rule: Some(id.clone()) });
        }
        decided.rules.insert(id, state);
    }
    Ok(())
}

fn column<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T, SnapshotError> {
    batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<T>()).ok_or_else(|| content(format_args!("column {name}")))
}

fn restore_samples(engine: &mut Engine, bytes: &[u8]) -> Result<(), SnapshotError> {
    for batch in StreamReader::try_new(bytes, None).map_err(content)? {
        let batch = batch.map_err(content)?;
        let text = |name| column::<StringArray>(&batch, name);
        let int = |name| column::<Int64Array>(&batch, name);
        let flag = |name| column::<BooleanArray>(&batch, name);
        let (patient, device, metrics) = (text("patient")?, text("device")?, column::<UInt32Array>(&batch, "metric")?);
        let (id, value, clock) = (column::<BinaryArray>(&batch, "id")?, column::<Float64Array>(&batch, "value")?, column::<UInt32Array>(&batch, "clock")?);
        let (at, stamped, received, arrived, offset) = (int("at")?, int("stamped_at")?, int("received_at")?, int("arrived")?, int("offset")?);
        let (typed, test, late, beyond, voided) = (flag("typed")?, flag("test")?, flag("late")?, flag("beyond")?, flag("voided")?);
        for row in 0..batch.num_rows() {
            let patient = PatientId::parse(patient.value(row)).map_err(content)?;
            let series = engine.fold.patients.entry(patient).or_default().series.entry(metric(metrics.value(row))?).or_default();
            series.samples.push(Kept {
                id: ReadingId::from_slice(id.value(row)).ok_or_else(|| content("id"))?,
                at: EventTime(at.value(row)),
                value: value.value(row),
                stamped_at: EventTime(stamped.value(row)),
                received_at: EventTime(received.value(row)),
                arrived: Arrived(arrived.value(row)),
                offset: offset.value(row),
                clock: match clock.value(row) {
                    0 => ClockState::AsSent,
                    1 => ClockState::Corrected,
                    _ => ClockState::Unstamped,
                },
                typed: typed.value(row),
                test: test.value(row),
                late: late.value(row),
                beyond: beyond.value(row),
                voided: voided.value(row),
                device: DeviceId::parse(device.value(row)).map_err(content)?,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p1_before_the_first_rules_a_restored_engine_has_none() {
        let config = Config::default();
        let engine = Engine::new(config);
        let restored = Engine::restore(config, &engine.snapshot().unwrap()).unwrap();
        assert_eq!((restored.book.rules.len(), engine.book.rules.len()), (0, 0));
    }
}
