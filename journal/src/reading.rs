//! The readers of the backends that live in this process: which partitions are whose, where each stands, and how it learns of more.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use schemas::{Offset, Partition};
use tokio::sync::Notify;

use crate::{Assignment, Event, Mode, Range, ReadError, Reader, Record, Start, Topic};

/// At most this many records and bytes in one batch.
pub const BATCH_RECORDS: usize = 4096;
pub const BATCH_BYTES: usize = 4 << 20;

/// Where records lie. Reading is cheap or at least bounded: it happens on the caller's thread.
pub trait Log: Send + Sync + 'static {
    /// Records from `from` on, at most a batch; empty at the end.
    fn read(&self, topic: Topic, partition: Partition, from: Offset) -> Result<Vec<Record>, ReadError>;
    fn range(&self, topic: Topic, partition: Partition) -> Result<Range, ReadError>;
    /// The progress of a group, kept with the log.
    fn done(&self, group: &str, topic: Topic, partition: Partition, next: Offset);
    /// Announces a group, so that retention waits for it from now on.
    fn register(&self, group: &str, topic: Topic);
}

/// Who reads what, for one log.
#[derive(Debug)]
pub struct Groups {
    partitions: u32,
    state: Mutex<State>,
    /// Rung after every commit, every change of a group, and at the end.
    pub bell: Notify,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    next_member: u64,
    /// By group and topic: the comings and goings of one revoke nothing from another.
    groups: HashMap<(String, Topic), Members>,
}

#[derive(Debug, Default)]
struct Members {
    /// In the order in which they came.
    members: Vec<u64>,
    /// Counts up whenever they change or a revocation is forced.
    generation: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Groups {
    pub fn new(partitions: u32) -> Self {
        Self { partitions, state: Mutex::default(), bell: Notify::new() }
    }

    pub const fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Every reader ends with [`ReadError::Closed`].
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.bell.notify_waiters();
    }

    /// Takes every partition from every group reader, which gets them anew: what a rebalance does.
    pub fn rebalance(&self) {
        for group in lock(&self.state).groups.values_mut() {
            group.generation += 1;
        }
        self.bell.notify_waiters();
    }

    fn join(&self, group: &str, topic: Topic) -> u64 {
        let mut state = lock(&self.state);
        state.next_member += 1;
        let member = state.next_member;
        let group = state.groups.entry((group.to_owned(), topic)).or_default();
        group.members.push(member);
        group.generation += 1;
        drop(state);
        self.bell.notify_waiters();
        member
    }

    fn leave(&self, group: &str, topic: Topic, member: u64) {
        let mut state = lock(&self.state);
        if let Some(group) = state.groups.get_mut(&(group.to_owned(), topic)) {
            group.members.retain(|one| *one != member);
            group.generation += 1;
        }
        drop(state);
        self.bell.notify_waiters();
    }
}

/// A reader of a log in this process.
pub struct LocalReader<L: Log> {
    log: Arc<L>,
    groups: Arc<Groups>,
    topic: Topic,
    /// `None` follows.
    group: Option<(String, u64)>,
    /// The generation that `places` was made for; `None` before the first.
    generation: Option<u64>,
    assignments: u64,
    places: BTreeMap<Partition, Place>,
    /// Events that are due before anything is read.
    pending: std::collections::VecDeque<Event>,
    /// The partition that is read next: each has its turn.
    turn: u32,
}

struct Place {
    assignment: Assignment,
    /// `None` until `start`, and again after `OutOfRange`.
    next: Option<Start>,
}

impl<L: Log> LocalReader<L> {
    pub fn new(log: Arc<L>, groups: Arc<Groups>, topic: Topic, mode: Mode) -> Self {
        let group = match mode {
            Mode::Follow => None,
            Mode::Group(name) => {
                log.register(&name, topic);
                let member = groups.join(&name, topic);
                Some((name, member))
            }
        };
        Self { log, groups, topic, group, generation: None, assignments: 0, places: BTreeMap::new(), pending: std::collections::VecDeque::new(), turn: 0 }
    }

    /// Eager, as with Kafka: at a change everything is revoked before anything is assigned.
    fn follow_the_group(&mut self) -> Result<(), ReadError> {
        let state = lock(&self.groups.state);
        if state.closed {
            return Err(ReadError::Closed);
        }
        let (generation, mine): (u64, Vec<Partition>) = match &self.group {
            None if self.generation.is_some() => return Ok(()),
            None => (0, (0..self.groups.partitions).map(Partition).collect()),
            Some((name, member)) => {
                let Some(group) = state.groups.get(&(name.clone(), self.topic)) else { return Ok(()) };
                if self.generation == Some(group.generation) {
                    return Ok(());
                }
                let at = group.members.iter().position(|one| one == member);
                let share = |at| (0..self.groups.partitions).filter(move |p| *p as usize % group.members.len() == at).map(Partition).collect();
                (group.generation, at.map_or_else(Vec::new, share))
            }
        };
        self.generation = Some(generation);
        drop(state);
        for partition in std::mem::take(&mut self.places).into_keys() {
            self.pending.push_back(Event::Revoked { partition });
        }
        for partition in mine {
            self.assignments += 1;
            let assignment = Assignment(self.assignments);
            self.places.insert(partition, Place { assignment, next: None });
            self.pending.push_back(Event::Assigned { partition, assignment });
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<Option<Event>, ReadError> {
        self.follow_the_group()?;
        if let Some(event) = self.pending.pop_front() {
            return Ok(Some(event));
        }
        let turns: Vec<Partition> = self.places.keys().copied().collect();
        for i in 0..turns.len() {
            let partition = turns[(self.turn as usize + i) % turns.len()];
            let Some(place) = self.places.get_mut(&partition) else { continue };
            let from = match place.next {
                None => continue,
                Some(Start::At(offset)) => offset,
                Some(Start::Earliest) => self.log.range(self.topic, partition)?.earliest,
                Some(Start::Latest) => self.log.range(self.topic, partition)?.next,
            };
            place.next = Some(Start::At(from));
            let records = self.log.read(self.topic, partition, from)?;
            if let (Some(first), Some(last)) = (records.first(), records.last())
                && first.offset == from
            {
                place.next = Some(Start::At(last.offset.next()));
                self.turn = (self.turn as usize + i + 1) as u32 % turns.len() as u32;
                return Ok(Some(Event::Batch { partition, assignment: place.assignment, records }));
            }
            let range = self.log.range(self.topic, partition)?;
            if from < range.earliest || from > range.next {
                place.next = None;
                return Ok(Some(Event::OutOfRange { partition, wanted: from, earliest: range.earliest }));
            }
        }
        Ok(None)
    }
}

impl<L: Log> Reader for LocalReader<L> {
    fn next(&mut self) -> BoxFuture<'_, Result<Event, ReadError>> {
        Box::pin(async move {
            let groups = self.groups.clone();
            loop {
                let rung = groups.bell.notified();
                tokio::pin!(rung);
                // armed before the look, so that nothing falls between
                rung.as_mut().enable();
                if let Some(event) = self.poll()? {
                    return Ok(event);
                }
                rung.await;
            }
        })
    }

    fn start(&mut self, partition: Partition, from: Start) {
        if let Some(place) = self.places.get_mut(&partition) {
            place.next = Some(from);
        }
        self.groups.bell.notify_waiters();
    }

    fn done(&mut self, partition: Partition, next: Offset) {
        if let Some((group, _)) = &self.group
            && self.places.contains_key(&partition)
        {
            self.log.done(group, self.topic, partition, next);
        }
    }
}

impl<L: Log> Drop for LocalReader<L> {
    fn drop(&mut self) {
        if let Some((group, member)) = &self.group {
            self.groups.leave(group, self.topic, *member);
        }
    }
}
