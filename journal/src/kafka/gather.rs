//! What one turn of a reader's thread fetched, partition by partition.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use rdkafka::message::{BorrowedMessage, Message as _};
use schemas::{Arrived, Offset, Partition};

use crate::Record;
use crate::reading::{BATCH_BYTES, BATCH_RECORDS};

#[derive(Default)]
pub struct Gathered {
    pub partitions: BTreeMap<Partition, Batch>,
    records: usize,
    bytes: usize,
}

/// Records of one partition; they share one piece of memory.
#[derive(Default)]
pub struct Batch {
    arena: BytesMut,
    marks: Vec<(Offset, Arrived, usize, usize)>,
}

impl Gathered {
    pub fn add(&mut self, partition: Partition, arrived_at: Arrived, message: &BorrowedMessage<'_>) {
        let (key, value) = (message.key().unwrap_or_default(), message.payload().unwrap_or_default());
        let batch = self.partitions.entry(partition).or_default();
        batch.arena.extend_from_slice(key);
        batch.arena.extend_from_slice(value);
        batch.marks.push((Offset(message.offset()), arrived_at, key.len(), value.len()));
        self.records += 1;
        self.bytes += key.len() + value.len();
    }

    pub fn full(&self) -> bool {
        self.records >= BATCH_RECORDS || self.bytes >= BATCH_BYTES
    }
}

impl Batch {
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    pub fn records(self) -> Vec<Record> {
        let mut arena: Bytes = self.arena.freeze();
        let record = |(offset, arrived_at, key, value)| Record { offset, arrived_at, key: arena.split_to(key), value: arena.split_to(value) };
        self.marks.into_iter().map(record).collect()
    }
}

/// Kafka's own stamp, in milliseconds there.
pub fn arrived(message: &BorrowedMessage<'_>) -> Arrived {
    Arrived(message.timestamp().to_millis().unwrap_or(0).saturating_mul(1000))
}
