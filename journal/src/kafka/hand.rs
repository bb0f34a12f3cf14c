//! Between a reader and its thread: events one way, bounded; starts and progress the other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use schemas::{Offset, Partition};
use tokio::sync::Notify;

use super::client::lock;
use crate::reading::{BATCH_BYTES, BATCH_RECORDS};
use crate::{Assignment, Event, ReadError, Reader, Start};

/// Waiting for [`Reader::next`]; above this the partitions are paused. One more batch may come on top.
const MOST_BYTES: usize = 2 * BATCH_BYTES;
const MOST_RECORDS: usize = 4 * BATCH_RECORDS;

#[derive(Debug)]
pub struct Hand {
    most_bytes: usize,
    most_records: usize,
    state: Mutex<State>,
    /// Something for the reader.
    filled: Notify,
    /// The reader took something, said something, or left.
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Entry>,
    bytes: usize,
    records: usize,
    revocations: usize,
    starts: Vec<Begin>,
    done: BTreeMap<Partition, Offset>,
    end: Option<ReadError>,
    left: bool,
    finished: bool,
}

#[derive(Debug)]
struct Entry {
    event: Event,
    /// Which of the reader's starts it answers, so that what came of an earlier one is told apart.
    start: u64,
    bytes: usize,
}

/// The reader wants a partition from somewhere.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    pub partition: Partition,
    pub assignment: Assignment,
    pub start: u64,
    pub from: Start,
}

/// How much room the thread waits for: going on only when half is free keeps it from pausing at every batch.
#[derive(Clone, Copy, Debug)]
pub enum Room {
    Some,
    Half,
}

impl Entry {
    fn partition(&self) -> Partition {
        match self.event {
            Event::Assigned { partition, .. } | Event::Batch { partition, .. } | Event::Revoked { partition } | Event::OutOfRange { partition, .. } => {
                partition
            }
        }
    }

    fn records(&self) -> usize {
        if let Event::Batch { records, .. } = &self.event { records.len() } else { 0 }
    }
}

impl State {
    fn pop(&mut self) -> Option<Entry> {
        let entry = self.queue.pop_front()?;
        self.forget(&entry);
        Some(entry)
    }

    fn forget(&mut self, entry: &Entry) {
        self.bytes -= entry.bytes;
        self.records -= entry.records();
        self.revocations -= usize::from(matches!(entry.event, Event::Revoked { .. }));
    }
}

impl Default for Hand {
    fn default() -> Self {
        Self::new(MOST_BYTES, MOST_RECORDS)
    }
}

/// The thread's side.
impl Hand {
    pub fn new(most_bytes: usize, most_records: usize) -> Self {
        Self { most_bytes, most_records, state: Mutex::default(), filled: Notify::new(), moved: Condvar::new() }
    }

    pub fn give(&self, event: Event, start: u64, bytes: usize) {
        let entry = Entry { event, start, bytes };
        let mut state = lock(&self.state);
        state.bytes += bytes;
        state.records += entry.records();
        state.revocations += usize::from(matches!(entry.event, Event::Revoked { .. }));
        state.queue.push_back(entry);
        drop(state);
        self.filled.notify_one();
    }

    /// Whatever waits of these partitions is not handed out any more. Returns when the reader has heard of it, but not later than `within`.
    pub fn revoke(&self, partitions: &[Partition], within: Duration) {
        let mut state = lock(&self.state);
        let (gone, kept): (VecDeque<Entry>, VecDeque<Entry>) = std::mem::take(&mut state.queue)
            .into_iter()
            .partition(|entry| partitions.contains(&entry.partition()) && matches!(entry.event, Event::Batch { .. } | Event::OutOfRange { .. }));
        state.queue = kept;
        gone.iter().for_each(|entry| state.forget(entry));
        drop(state);
        for partition in partitions {
            self.give(Event::Revoked { partition: *partition }, 0, 0);
        }
        let unheard = |state: &mut State| state.revocations > 0 && !state.left && state.end.is_none();
        drop(self.moved.wait_timeout_while(lock(&self.state), within, unheard).unwrap_or_else(PoisonError::into_inner));
    }

    /// What the reader wants started, since this was last asked.
    pub fn starts(&self) -> Vec<Begin> {
        std::mem::take(&mut lock(&self.state).starts)
    }

    /// What the reader is done with, since this was last asked.
    pub fn done(&self) -> BTreeMap<Partition, Offset> {
        std::mem::take(&mut lock(&self.state).done)
    }

    /// Waits until there is room, the reader said something, or the time is up. True when there is room.
    pub fn wait_for(&self, room: Room, within: Duration) -> bool {
        let share = if matches!(room, Room::Half) { 2 } else { 1 };
        let lacks = |state: &State| state.end.is_none() && !state.left && (state.bytes > self.most_bytes / share || state.records > self.most_records / share);
        let waiting = |state: &mut State| lacks(state) && state.starts.is_empty();
        let (state, _) = self.moved.wait_timeout_while(lock(&self.state), within, waiting).unwrap_or_else(PoisonError::into_inner);
        !lacks(&state)
    }

    #[cfg(test)]
    pub fn waiting_records(&self) -> usize {
        lock(&self.state).records
    }

    /// The reader is gone, or was ended.
    pub fn ended(&self) -> bool {
        let state = lock(&self.state);
        state.left || state.end.is_some()
    }

    /// The reader gets this from now on.
    pub fn end(&self, error: ReadError) {
        lock(&self.state).end.get_or_insert(error);
        self.filled.notify_one();
        self.moved.notify_all();
    }

    /// The thread's last word: it left the group, and holds nothing any more.
    pub fn finish(&self) {
        lock(&self.state).finished = true;
        self.end(ReadError::Failed("its reading thread ended".into()));
    }

    pub fn wait_for_finish(&self, within: Duration) -> bool {
        let (state, _) = self.moved.wait_timeout_while(lock(&self.state), within, |state| !state.finished).unwrap_or_else(PoisonError::into_inner);
        state.finished
    }
}

pub struct KafkaReader {
    hand: Arc<Hand>,
    keeps_progress: bool,
    places: BTreeMap<Partition, Place>,
    starts: u64,
}

struct Place {
    assignment: Assignment,
    /// The last start; 0 before the first.
    start: u64,
}

impl KafkaReader {
    pub fn new(hand: Arc<Hand>, keeps_progress: bool) -> Self {
        Self { hand, keeps_progress, places: BTreeMap::new(), starts: 0 }
    }

    fn take(&mut self) -> Result<Option<Event>, ReadError> {
        let mut state = lock(&self.hand.state);
        if let Some(error) = &state.end {
            return Err(error.clone());
        }
        while let Some(entry) = state.pop() {
            let current = match entry.event {
                Event::Assigned { partition, assignment } => {
                    self.places.insert(partition, Place { assignment, start: 0 });
                    true
                }
                Event::Revoked { partition } => {
                    self.places.remove(&partition);
                    true
                }
                Event::Batch { partition, .. } | Event::OutOfRange { partition, .. } => {
                    self.places.get(&partition).is_some_and(|place| place.start == entry.start)
                }
            };
            self.hand.moved.notify_all();
            if current {
                return Ok(Some(entry.event));
            }
        }
        Ok(None)
    }
}

impl Reader for KafkaReader {
    fn next(&mut self) -> BoxFuture<'_, Result<Event, ReadError>> {
        Box::pin(async move {
            let hand = self.hand.clone();
            loop {
                let filled = hand.filled.notified();
                if let Some(event) = self.take()? {
                    return Ok(event);
                }
                filled.await;
            }
        })
    }

    fn start(&mut self, partition: Partition, from: Start) {
        let Some(place) = self.places.get_mut(&partition) else { return };
        self.starts += 1;
        place.start = self.starts;
        let begin = Begin { partition, assignment: place.assignment, start: self.starts, from };
        lock(&self.hand.state).starts.push(begin);
        self.hand.moved.notify_all();
    }

    fn done(&mut self, partition: Partition, next: Offset) {
        if self.keeps_progress && self.places.contains_key(&partition) {
            lock(&self.hand.state).done.insert(partition, next);
        }
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        lock(&self.hand.state).left = true;
        self.hand.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const NOW: Duration = Duration::ZERO;
    const P0: Partition = Partition(0);

    fn batch(hand: &Hand, start: u64, bytes: usize) {
        hand.give(Event::Batch { partition: P0, assignment: Assignment(1), records: Vec::new() }, start, bytes);
    }

    fn next(reader: &mut KafkaReader) -> Option<Result<Event, ReadError>> {
        reader.next().now_or_never()
    }

    fn reading(hand: &Arc<Hand>) -> (KafkaReader, u64) {
        let mut reader = KafkaReader::new(hand.clone(), true);
        hand.give(Event::Assigned { partition: P0, assignment: Assignment(1) }, 0, 0);
        assert!(matches!(next(&mut reader), Some(Ok(Event::Assigned { .. }))));
        reader.start(P0, Start::Earliest);
        let start = hand.starts()[0].start;
        (reader, start)
    }

    #[test]
    fn a_reader_that_takes_nothing_is_full_until_half_is_free() {
        let hand = Arc::new(Hand::default());
        let (mut reader, start) = reading(&hand);
        for _ in 0..5 {
            assert!(hand.wait_for(Room::Some, NOW));
            batch(&hand, start, MOST_BYTES / 4);
        }
        assert!(!hand.wait_for(Room::Some, NOW));
        for _ in 0..2 {
            assert!(matches!(next(&mut reader), Some(Ok(Event::Batch { .. }))));
            assert!(!hand.wait_for(Room::Half, NOW));
        }
        assert!(matches!(next(&mut reader), Some(Ok(Event::Batch { .. }))));
        assert!(hand.wait_for(Room::Half, NOW));
    }

    #[test]
    fn what_came_of_an_earlier_start_or_assignment_is_not_handed_out() {
        let hand = Arc::new(Hand::default());
        let (mut reader, first) = reading(&hand);
        batch(&hand, first, 1);
        reader.start(P0, Start::At(Offset(7)));
        assert!(next(&mut reader).is_none());
        let second = hand.starts()[0].start;
        batch(&hand, second, 1);
        hand.revoke(&[P0], NOW);
        batch(&hand, second, 1);
        assert!(matches!(next(&mut reader), Some(Ok(Event::Revoked { .. }))));
        assert!(next(&mut reader).is_none());
        assert!(hand.wait_for(Room::Half, NOW), "nothing of it is counted any more");
    }

    #[test]
    fn a_revocation_waits_for_the_reader_but_not_for_ever() {
        let hand = Arc::new(Hand::default());
        let (mut reader, _) = reading(&hand);
        let revoking = std::thread::spawn({
            let hand = hand.clone();
            move || hand.revoke(&[P0], Duration::from_secs(60))
        });
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while !matches!(next(&mut reader), Some(Ok(Event::Revoked { .. }))) {
            assert!(std::time::Instant::now() < until);
        }
        revoking.join().unwrap();
        // nobody takes this one
        hand.revoke(&[P0], Duration::from_millis(1));
        drop(reader);
        hand.revoke(&[P0], Duration::from_secs(60));
    }
}
