//! A journal in memory: for tests, with everything that can go wrong on demand. Nothing survives the process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::BoxFuture;
use schemas::{Arrived, Offset, Partition};

use crate::budget::Budget;
use crate::reading::{BATCH_BYTES, BATCH_RECORDS, Groups, LocalReader, Log};
use crate::{AppendError, Appender, Full, Journal, Mode, OpenError, Range, ReadError, Reader, Receipt, ReceiptSender, Record, Topic};

const BUDGET: usize = 64 << 20;

/// See the module. Cloning gives another handle of the same journal.
#[derive(Clone)]
pub struct MemoryJournal {
    log: Arc<MemoryLog>,
    groups: Arc<Groups>,
}

struct MemoryLog {
    budget: Budget,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    clock: Option<Arrived>,
    rows: HashMap<(Topic, Partition), VecDeque<Record>>,
    earliest: HashMap<(Topic, Partition), Offset>,
    done: HashMap<(String, Topic, Partition), Offset>,
    batch: Option<usize>,
    held: Option<Vec<Held>>,
    failures: VecDeque<AppendError>,
}

/// An append whose commit waits for [`MemoryJournal::release`].
struct Held {
    topic: Topic,
    partition: Partition,
    key: Bytes,
    value: Bytes,
    taken: usize,
    receipt: ReceiptSender,
}

impl MemoryLog {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, state: &mut State, append: Held) {
        let arrived_at = state.clock.unwrap_or_else(now);
        let (topic, partition) = (append.topic, append.partition);
        let earliest = state.earliest.get(&(topic, partition)).copied().unwrap_or_default();
        let rows = state.rows.entry((topic, partition)).or_default();
        let offset = Offset(earliest.0 + rows.len() as i64);
        let arrived_at = rows.back().map_or(arrived_at, |last| last.arrived_at.max(arrived_at));
        rows.push_back(Record { offset, arrived_at, key: append.key, value: append.value });
        self.budget.give_back(append.taken);
        append.receipt.send(Ok(offset));
    }
}

fn now() -> Arrived {
    Arrived(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX)))
}

impl MemoryJournal {
    pub fn new(partitions: u32) -> Self {
        Self::with_budget(partitions, BUDGET)
    }

    pub fn with_budget(partitions: u32, bytes: usize) -> Self {
        let groups = Arc::new(Groups::new(partitions));
        Self { log: Arc::new(MemoryLog { budget: Budget::new(bytes), state: Mutex::default() }), groups }
    }

    /// From now on every record arrives at this time (never earlier than the one before it).
    pub fn set_clock(&self, clock: Arrived) {
        self.log.lock().clock = Some(clock);
    }

    /// Commits nothing more, and so answers no receipt, until [`Self::release`].
    pub fn hold(&self) {
        self.log.lock().held.get_or_insert_default();
    }

    /// Commits what was held back, in the order of the appends.
    pub fn release(&self) {
        let mut state = self.log.lock();
        for held in state.held.take().unwrap_or_default() {
            self.log.commit(&mut state, held);
        }
        drop(state);
        self.groups.bell.notify_waiters();
    }

    /// The next append is not written, and its receipt says this.
    pub fn fail_next(&self, error: AppendError) {
        self.log.lock().failures.push_back(error);
    }

    /// Readers get at most this many records at once.
    pub fn split_batches(&self, records: usize) {
        self.log.lock().batch = Some(records.max(1));
    }

    /// Every group reader loses its partitions and gets them anew.
    pub fn rebalance(&self) {
        self.groups.rebalance();
    }

    /// Forgets what is before `earliest`, as retention does.
    pub fn truncate(&self, topic: Topic, partition: Partition, earliest: Offset) {
        let mut state = self.log.lock();
        let rows = state.rows.entry((topic, partition)).or_default();
        while rows.front().is_some_and(|first| first.offset < earliest) {
            rows.pop_front();
        }
        state.earliest.insert((topic, partition), earliest);
    }

    /// Every record of a partition, for assertions.
    pub fn records(&self, topic: Topic, partition: Partition) -> Vec<Record> {
        self.log.lock().rows.get(&(topic, partition)).map(|rows| rows.iter().cloned().collect()).unwrap_or_default()
    }

    /// What a group said it was done with.
    pub fn progress(&self, group: &str, topic: Topic, partition: Partition) -> Option<Offset> {
        self.log.lock().done.get(&(group.to_owned(), topic, partition)).copied()
    }
}

impl Appender for MemoryJournal {
    fn append(&self, topic: Topic, partition: Partition, key: &[u8], value: Bytes) -> Result<Receipt, Full> {
        let taken = self.log.budget.take(key.len() + value.len() + 64)?;
        let (sender, receipt) = Receipt::channel();
        let append = Held { topic, partition, key: Bytes::copy_from_slice(key), value, taken, receipt: sender };
        let mut state = self.log.lock();
        if state.closed {
            self.log.budget.give_back(taken);
            append.receipt.send(Err(AppendError::Closed));
        } else if let Some(error) = state.failures.pop_front() {
            self.log.budget.give_back(taken);
            append.receipt.send(Err(error));
        } else if let Some(held) = &mut state.held {
            held.push(append);
        } else {
            self.log.commit(&mut state, append);
            drop(state);
            self.groups.bell.notify_waiters();
        }
        Ok(receipt)
    }

    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.log.budget.ready())
    }

    fn partitions(&self) -> u32 {
        self.groups.partitions()
    }
}

impl Journal for MemoryJournal {
    fn reader(&self, topic: Topic, mode: Mode) -> Result<Box<dyn Reader>, OpenError> {
        Ok(Box::new(LocalReader::new(self.log.clone(), self.groups.clone(), topic, mode)))
    }

    fn range(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<Range, ReadError>> {
        Box::pin(std::future::ready(self.log.range(topic, partition)))
    }

    fn since(&self, topic: Topic, partition: Partition, at: Arrived) -> BoxFuture<'_, Result<Offset, ReadError>> {
        let found = self.log.range(topic, partition).map(|range| {
            let state = self.log.lock();
            let first = state.rows.get(&(topic, partition)).and_then(|rows| rows.get(rows.partition_point(|row| row.arrived_at < at)));
            first.map_or(range.next, |row| row.offset)
        });
        Box::pin(std::future::ready(found))
    }

    fn healthy(&self) -> BoxFuture<'_, Result<(), ReadError>> {
        Box::pin(std::future::ready(if self.log.lock().closed { Err(ReadError::Closed) } else { Ok(()) }))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.release();
            self.log.lock().closed = true;
            self.groups.close();
        })
    }
}

impl Log for MemoryLog {
    fn read(&self, topic: Topic, partition: Partition, from: Offset) -> Result<Vec<Record>, ReadError> {
        let state = self.lock();
        let most = state.batch.unwrap_or(BATCH_RECORDS);
        let Some(rows) = state.rows.get(&(topic, partition)) else { return Ok(Vec::new()) };
        let Some(first) = rows.front() else { return Ok(Vec::new()) };
        let Ok(skip) = usize::try_from(from.0 - first.offset.0) else { return Ok(Vec::new()) };
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let fits = bytes < BATCH_BYTES;
            bytes += record.value.len();
            fits
        };
        Ok(rows.iter().skip(skip).take(most).take_while(fits).cloned().collect())
    }

    fn range(&self, topic: Topic, partition: Partition) -> Result<Range, ReadError> {
        let state = self.lock();
        let earliest = state.earliest.get(&(topic, partition)).copied().unwrap_or_default();
        let held = state.rows.get(&(topic, partition)).map_or(0, VecDeque::len);
        Ok(Range { earliest, next: Offset(earliest.0 + held as i64) })
    }

    fn done(&self, group: &str, topic: Topic, partition: Partition, next: Offset) {
        self.lock().done.insert((group.to_owned(), topic, partition), next);
    }

    fn register(&self, _group: &str, _topic: Topic) {}
}
