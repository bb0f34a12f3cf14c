//! What goes wrong on demand, around the real thing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use journal::memory::MemoryJournal;
use journal::{Appender, Full, Journal, Mode, OpenError, Range, ReadError, Reader, Receipt, Topic};
use processor::objects::Objects;
use schemas::{Arrived, Offset, Partition};

/// Objects on a disk that fills up under names that begin so.
pub struct FullDisk {
    pub objects: Arc<dyn Objects>,
    pub under: &'static str,
    pub full: AtomicBool,
    pub refused: AtomicUsize,
}

impl FullDisk {
    pub fn new(objects: Arc<dyn Objects>, under: &'static str) -> Arc<Self> {
        Arc::new(Self { objects, under, full: AtomicBool::new(true), refused: AtomicUsize::new(0) })
    }
}

impl Objects for FullDisk {
    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        if self.full.load(Ordering::SeqCst) && name.starts_with(self.under) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.objects.create(name, bytes)
    }
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.objects.read(name)
    }
    fn size(&self, name: &str) -> io::Result<u64> {
        self.objects.size(name)
    }
    fn read_at(&self, name: &str, from: u64, length: usize) -> io::Result<Vec<u8>> {
        self.objects.read_at(name, from, length)
    }
    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.objects.list(prefix)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.objects.remove(name)
    }
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.objects.replace(name, bytes)
    }
}

/// A journal that counts outputs, has no room for those of one partition, or hands every partition to every reader.
pub struct Odd {
    pub journal: Arc<MemoryJournal>,
    pub no_room: Option<Partition>,
    pub everyone_reads: bool,
    pub outputs: AtomicUsize,
}

impl Odd {
    pub fn new(journal: &Arc<MemoryJournal>) -> Self {
        Self { journal: journal.clone(), no_room: None, everyone_reads: false, outputs: AtomicUsize::new(0) }
    }
}

impl Appender for Odd {
    fn append(&self, topic: Topic, partition: Partition, key: &[u8], value: Bytes) -> Result<Receipt, Full> {
        if topic != Topic::Inputs {
            if self.no_room == Some(partition) {
                return Err(Full);
            }
            self.outputs.fetch_add(1, Ordering::SeqCst);
        }
        self.journal.append(topic, partition, key, value)
    }
    fn ready(&self) -> BoxFuture<'_, ()> {
        if self.no_room.is_some() { Box::pin(std::future::pending()) } else { self.journal.ready() }
    }
    fn partitions(&self) -> u32 {
        self.journal.partitions()
    }
}

impl Journal for Odd {
    fn reader(&self, topic: Topic, mode: Mode) -> Result<Box<dyn Reader>, OpenError> {
        self.journal.reader(topic, if self.everyone_reads { Mode::Follow } else { mode })
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

/// The end of a partition's log.
pub async fn end(journal: &dyn Journal, topic: Topic, partition: Partition) -> Offset {
    journal.range(topic, partition).await.unwrap().next
}
