//! A lake of inputs that no journal ever had: a recording, as it would have arrived.

use std::collections::BTreeMap;
use std::sync::Arc;

use journal::{Record, Topic};
use schemas::{Arrived, Input, Offset, Partition, PatientId, partition_of};

use crate::lake::{self, LakeError};
use crate::objects::Objects;

/// Records of a file, as the archive has it unless it is told otherwise.
const ROWS: usize = 200_000;

/// Writes `raw/inputs` of inputs in the order in which they arrived, each in its patient's partition. Files that are there stay. Blocking.
///
/// # Errors
/// When the lake cannot be written.
pub fn write_inputs(objects: &Arc<dyn Objects>, partitions: u32, inputs: impl IntoIterator<Item = (Arrived, PatientId, Input)>) -> Result<u64, LakeError> {
    let mut waiting: BTreeMap<Partition, Vec<Record>> = BTreeMap::new();
    let mut next: BTreeMap<Partition, Offset> = BTreeMap::new();
    let mut written = 0;
    for (arrived_at, patient, input) in inputs {
        let partition = partition_of(patient.as_bytes(), partitions);
        let records = waiting.entry(partition).or_default();
        let full = records.len() == ROWS || records.last().is_some_and(|last| lake::day(last.arrived_at) != lake::day(arrived_at));
        if full {
            lake::write(objects, Topic::Inputs, partition, &std::mem::take(records))?;
        }
        let offset = next.entry(partition).or_default();
        records.push(Record { offset: *offset, arrived_at, key: patient.as_bytes().to_vec().into(), value: input.encode() });
        *offset = offset.next();
        written += 1;
    }
    for (partition, records) in &waiting {
        lake::write(objects, Topic::Inputs, *partition, records)?;
    }
    Ok(written)
}
