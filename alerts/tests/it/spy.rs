//! A journal that counts appends, and may give every reader every partition: two processes that each believe a partition is theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use journal::memory::MemoryJournal;
use journal::{Appender, Full, Journal, Mode, OpenError, Range, ReadError, Reader, Receipt, Topic};
use schemas::{Arrived, Offset, Partition};

pub struct Spy {
    pub journal: MemoryJournal,
    pub everyone_reads_all: bool,
    pub inputs: AtomicUsize,
}

impl Spy {
    pub fn new(journal: &MemoryJournal, everyone_reads_all: bool) -> Arc<Self> {
        Arc::new(Self { journal: journal.clone(), everyone_reads_all, inputs: AtomicUsize::new(0) })
    }
}

impl Appender for Spy {
    fn append(&self, topic: Topic, partition: Partition, key: &[u8], value: Bytes) -> Result<Receipt, Full> {
        let receipt = self.journal.append(topic, partition, key, value);
        if topic == Topic::Inputs && receipt.is_ok() {
            self.inputs.fetch_add(1, Ordering::SeqCst);
        }
        receipt
    }
    fn ready(&self) -> BoxFuture<'_, ()> {
        self.journal.ready()
    }
    fn partitions(&self) -> u32 {
        self.journal.partitions()
    }
}

impl Journal for Spy {
    fn reader(&self, topic: Topic, mode: Mode) -> Result<Box<dyn Reader>, OpenError> {
        self.journal.reader(topic, if self.everyone_reads_all { Mode::Follow } else { mode })
    }
    fn range(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<Range, ReadError>> {
        self.journal.range(topic, partition)
    }
    fn since(&self, topic: Topic, partition: Partition, at: Arrived) -> BoxFuture<'_, Result<Offset, ReadError>> {
        self.journal.since(topic, partition, at)
    }
    fn healthy(&self) -> BoxFuture<'_, Result<(), ReadError>> {
        self.journal.healthy()
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.journal.close()
    }
}
