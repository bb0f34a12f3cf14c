//! One conformance suite for every backend, and what only the embedded one promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod conformance;
mod embedded;
mod kafka;
mod kafka_killed;
mod killed;

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use journal::kafka::KafkaConfig;
use journal::{Event, Journal, Reader, Receipt, Record, Start, Topic};
use schemas::{Offset, Partition};

/// The broker that `VIGIL_TEST_KAFKA` names.
pub fn kafka_address() -> Option<String> {
    let address = std::env::var("VIGIL_TEST_KAFKA").ok();
    if address.is_none() {
        println!("skipped: VIGIL_TEST_KAFKA is not set; `dev/test-all` starts an Apache Kafka and sets it");
    }
    address
}

/// Topics of its own for each test; one broker, so nothing is replicated.
pub fn kafka_config(address: &str, partitions: u32) -> KafkaConfig {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let mut config = KafkaConfig::new(address, "test", partitions);
    config.prefix = format!("t{since:x}-{}.", COUNT.fetch_add(1, Ordering::Relaxed));
    config.development = true;
    config
}

pub const P0: Partition = Partition(0);

/// Everything here is an event that must come: waiting longer than this is a failure, never a pass.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.unwrap_or_else(|_| panic!("{what} did not come within 60 s"))
}

pub fn append(journal: &dyn Journal, partition: Partition, value: impl Into<Bytes>) -> Receipt {
    journal.append(Topic::Inputs, partition, b"ada", value.into()).unwrap()
}

pub async fn append_all(journal: &dyn Journal, partition: Partition, values: std::ops::Range<u32>) -> Vec<Offset> {
    let receipts: Vec<_> = values.map(|n| append(journal, partition, n.to_le_bytes().to_vec())).collect();
    let mut offsets = Vec::new();
    for receipt in receipts {
        offsets.push(soon("a receipt", receipt).await.unwrap());
    }
    offsets
}

pub fn number(record: &Record) -> u32 {
    u32::from_le_bytes(record.value[..4].try_into().unwrap())
}

/// Takes assignments as they come, starts them, and collects `count` records of `partition`.
pub async fn read(reader: &mut dyn Reader, partition: Partition, from: Start, count: usize) -> Vec<Record> {
    let mut got = Vec::new();
    while got.len() < count {
        match soon("a record", reader.next()).await.unwrap() {
            Event::Assigned { partition: assigned, .. } => reader.start(assigned, if assigned == partition { from } else { Start::Latest }),
            Event::Batch { partition: of, records, .. } if of == partition => got.extend(records),
            Event::OutOfRange { partition, wanted, earliest } => panic!("{partition}: {wanted} is out of range, earliest {earliest}"),
            Event::Batch { .. } | Event::Revoked { .. } => {}
        }
    }
    got
}

/// The next event that is neither an assignment of another partition nor records of one.
pub async fn assigned(reader: &mut dyn Reader) -> Partition {
    loop {
        if let Event::Assigned { partition, .. } = soon("an assignment", reader.next()).await.unwrap() {
            return partition;
        }
    }
}
