//! A lake of inputs that no journal ever had: a recording, as it would have arrived.

use std::collections::BTreeMap;
use std::sync::Arc;

use journal::{Record, Topic};
use parquet::errors::ParquetError;
use schemas::{Arrived, Input, Offset, Partition, PatientId, partition_of};

use crate::lake::{self, Footer};
use crate::objects::Objects;

/// Records of a file, as the archive has it unless it is told otherwise.
const ROWS: usize = 200_000;

/// A recording cannot be kept as a lake.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    #[error("the lake: {0}")]
    Objects(#[from] std::io::Error),
    #[error("a record cannot be written as Parquet: {0}")]
    Encode(#[from] ParquetError),
}

/// Writes `raw/inputs` of inputs in the order in which they arrived, each in its patient's partition. Files that are there stay. Blocking.
///
/// # Errors
/// When the lake cannot be written.
pub fn write_inputs(objects: &Arc<dyn Objects>, partitions: u32, inputs: impl IntoIterator<Item = (Arrived, PatientId, Input)>) -> Result<u64, RecordedError> {
    let mut waiting: BTreeMap<Partition, Vec<Record>> = BTreeMap::new();
    let mut next: BTreeMap<Partition, Offset> = BTreeMap::new();
    let mut written = 0;
    for (arrived_at, patient, input) in inputs {
        let partition = partition_of(patient.as_bytes(), partitions);
        let records = waiting.entry(partition).or_default();
        let full = records.len() == ROWS || records.last().is_some_and(|last| lake::day(last.arrived_at) != lake::day(arrived_at));
        if full {
            file(objects, partition, &std::mem::take(records))?;
        }
        let offset = next.entry(partition).or_default();
        records.push(Record { offset: *offset, arrived_at, key: patient.as_bytes().to_vec().into(), value: input.encode() });
        *offset = offset.next();
        written += 1;
    }
    for (partition, records) in &waiting {
        file(objects, *partition, records)?;
    }
    Ok(written)
}

fn file(objects: &Arc<dyn Objects>, partition: Partition, records: &[Record]) -> Result<(), RecordedError> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(()) };
    let footer = Footer { first: first.offset, next: last.offset.next(), last_arrived_at: last.arrived_at };
    let bytes = lake::encode(Topic::Inputs, partition, &footer, records)?;
    objects.create(&lake::name(Topic::Inputs, partition, first.offset, first.arrived_at), &bytes)?;
    Ok(())
}
