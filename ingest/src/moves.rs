//! What was measured while the registry said something else: readings that stand with a patient who did not wear the device are moved, and what
//! was refused because nobody wore it is taken.
//!
//! Whoever changes an assignment asks for it in the store; one process does it, under a lease. It reads what the log says of the device since then,
//! and appends what is missing until the log agrees with the registry: a void where a reading does not belong, the reading where it does. So it may
//! be done twice, or half and then again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use intake::{Decided, DeviceClock, Message};
use journal::{AppendError, Event, Mode, OpenError, ReadError, Receipt, Record, Start, Topic};
use schemas::{Arrived, DeadLetter, DeviceId, EventTime, Input, Micros, Partition, PatientId, Reading, ReadingId, Reason, Void, partition_of};
use store::moves::Move;
use store::{Store, StoreError, lease};

use crate::gateway::Shared;
use crate::passage::now;
use crate::view::View;

const EVERY: Duration = Duration::from_secs(1);
const LEASE: &str = "ingest.moves";
/// Two at once would only append twice what the engine ignores the second time.
const LEASE_FOR: Micros = Micros::minutes(5);
/// A record arrives no more than this before the time that is believed of what is in it.
const TOLERANCE: Micros = Micros::minutes(5);
/// Receipts that are waited for together.
const AT_ONCE: usize = 1000;
const AUTHOR: &str = "vigil";

#[derive(Debug, thiserror::Error)]
enum MoveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Runs until it is dropped.
pub(crate) async fn follow(store: Store, shared: Arc<Shared>) {
    let owner = store::secrets::random_id();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut said = false;
    loop {
        ticks.tick().await;
        match due(&store, &shared, &owner).await {
            Ok(()) => said = false,
            Err(error) if !said => {
                tracing::warn!(%error, "readings of devices whose assignment was changed could not be moved; it is tried again");
                said = true;
            }
            Err(_) => {}
        }
    }
}

async fn due(store: &Store, shared: &Shared, owner: &str) -> Result<(), MoveError> {
    if store.moves_due(now()).await?.is_empty() {
        return Ok(());
    }
    let moves = store
        .transaction(|tx| {
            Box::pin(async move {
                match lease::take(tx, LEASE, owner, now(), LEASE_FOR).await? {
                    true => tx.moves_due(now()).await,
                    false => Ok(Vec::new()),
                }
            })
        })
        .await?;
    let outcome = done(store, shared, &moves).await;
    if !moves.is_empty() {
        lease::release(store, LEASE, owner).await?;
    }
    outcome
}

async fn done(store: &Store, shared: &Shared, moves: &[Move]) -> Result<(), MoveError> {
    let Some(since) = moves.iter().map(|one| one.since).min() else { return Ok(()) };
    let view = View::load(store, None).await?;
    let mut wanted = Wanted { view: &view, shared, since: moves.iter().map(|one| (one.device.clone(), one.since)).collect(), placed: HashMap::new() };
    let since = Arrived((since - TOLERANCE).0);
    read(shared, Topic::Inputs, since, |record| wanted.input(record)).await?;
    let mut taken = BTreeMap::new();
    read(shared, Topic::DeadLetters, since, |record| wanted.dead_letter(record, &mut taken)).await?;
    let (corrections, taken) = (wanted.corrections(), taken.into_values().collect::<Vec<_>>());
    let (corrected, replayed) = (corrections.len(), taken.len());
    append(shared, corrections.into_iter().chain(taken)).await?;
    for one in moves {
        store.move_done(one).await?;
        tracing::info!(device = %one.device, since = %one.since, "what was measured since is with whom the registry names");
    }
    tracing::info!(corrected, replayed, "records were appended after assignments had changed");
    Ok(())
}

/// Every record of a topic that arrived since then, and is there now.
async fn read(shared: &Shared, topic: Topic, since: Arrived, mut each: impl FnMut(&Record)) -> Result<(), MoveError> {
    let mut left = BTreeMap::new();
    for partition in (0..shared.partitions).map(Partition) {
        let (from, range) = (shared.journal.since(topic, partition, since).await?, shared.journal.range(topic, partition).await?);
        if from < range.next {
            left.insert(partition, (from, range.next));
        }
    }
    let mut reader = shared.journal.reader(topic, Mode::Follow)?;
    while !left.is_empty() {
        match reader.next().await? {
            Event::Assigned { partition, .. } => {
                if let Some((from, _)) = left.get(&partition) {
                    reader.start(partition, Start::At(*from));
                }
            }
            Event::Batch { partition, records, .. } => {
                let Some((_, end)) = left.get(&partition) else { continue };
                records.iter().take_while(|record| record.offset < *end).for_each(&mut each);
                if records.last().is_some_and(|last| last.offset.next() >= *end) {
                    left.remove(&partition);
                }
            }
            // retention took it meanwhile
            Event::OutOfRange { partition, earliest, .. } => reader.start(partition, Start::At(earliest)),
            Event::Revoked { .. } => {}
        }
    }
    Ok(())
}

/// With whom a reading stands in the log.
#[derive(Default)]
struct Placed {
    /// As it was heard last.
    reading: Option<Reading>,
    with: BTreeSet<PatientId>,
    /// Voided of these; whether by us, who can take it back.
    voided: BTreeMap<PatientId, bool>,
}

struct Wanted<'a> {
    view: &'a View,
    shared: &'a Shared,
    since: HashMap<DeviceId, EventTime>,
    placed: HashMap<ReadingId, Placed>,
}

impl Wanted<'_> {
    fn is_wanted(&self, reading: &Reading) -> bool {
        !reading.typed && self.since.get(&reading.device).is_some_and(|since| reading.at >= *since)
    }

    fn input(&mut self, record: &Record) {
        match Input::decode(&record.value) {
            Ok(Input::Reading(reading)) if self.is_wanted(&reading) => {
                let placed = self.placed.entry(reading.id).or_default();
                placed.with.insert(reading.patient.clone());
                placed.reading = Some(reading);
            }
            Ok(Input::Void(void)) => {
                let placed = self.placed.entry(void.reading).or_default();
                if void.moved_to.as_ref() == Some(&void.patient) {
                    placed.voided.remove(&void.patient);
                } else {
                    placed.voided.insert(void.patient, void.author == AUTHOR);
                }
            }
            // one that cannot be read is counted by those who apply it
            Ok(_) | Err(_) => {}
        }
    }

    /// What of it is wanted now and does not stand in the log yet.
    fn dead_letter(&self, record: &Record, taken: &mut BTreeMap<(EventTime, ReadingId), (PatientId, Input)>) {
        let Ok(dead) = DeadLetter::decode(&record.value) else { return };
        if dead.reason != Reason::Unassigned {
            return;
        }
        let Ok(connection) = DeviceId::parse(&dead.device) else { return };
        let message = Message {
            connection: &connection,
            topic: &dead.topic,
            payload: &dead.payload,
            content_type: &dead.content_type,
            dup: true,
            received_at: dead.received_at,
        };
        for decided in intake::decode(&message, &self.view.registry, &self.shared.mappings, &mut DeviceClock::default()) {
            if let Decided::Input(patient, Input::Reading(reading)) = decided
                && self.is_wanted(&reading)
                && self.placed.get(&reading.id).is_none_or(|placed| placed.reading.is_none() && placed.voided.is_empty())
            {
                taken.insert((reading.at, reading.id), (patient, Input::Reading(reading)));
            }
        }
    }

    /// What the log lacks so that each reading stands with who wore the device, and with nobody else.
    fn corrections(&self) -> Vec<(PatientId, Input)> {
        let mut corrections = Vec::new();
        let mut all: Vec<(&Reading, &Placed)> = self.placed.values().filter_map(|placed| Some((placed.reading.as_ref()?, placed))).collect();
        all.sort_by_key(|(reading, _)| (reading.at, reading.id));
        for (reading, placed) in all {
            // entered in error, says a person: that stays
            if placed.voided.values().any(|ours| !ours) {
                continue;
            }
            let Ok(wearer) = self.view.registry.patient_of(&reading.device, reading.at) else { continue };
            let void = |patient: &PatientId, moved_to: Option<&PatientId>, reason: &str| {
                let void = Void {
                    reading: reading.id,
                    patient: patient.clone(),
                    metric: reading.metric,
                    at: reading.at,
                    reason: reason.to_owned(),
                    author: AUTHOR.to_owned(),
                    moved_to: moved_to.cloned(),
                };
                (patient.clone(), Input::Void(void))
            };
            for patient in placed.with.iter().filter(|patient| Some(*patient) != wearer && !placed.voided.contains_key(*patient)) {
                corrections.push(void(patient, wearer, "the device was not worn by this patient then"));
            }
            if let Some(wearer) = wearer {
                if placed.voided.contains_key(wearer) {
                    corrections.push(void(wearer, Some(wearer), "the device was worn by this patient then"));
                }
                if !placed.with.contains(wearer) || placed.voided.contains_key(wearer) {
                    corrections.push((wearer.clone(), Input::Reading(Reading { patient: wearer.clone(), ..reading.clone() })));
                }
            }
        }
        corrections
    }
}

async fn append(shared: &Shared, records: impl Iterator<Item = (PatientId, Input)>) -> Result<(), MoveError> {
    let mut receipts = Vec::new();
    for (patient, input) in records {
        let (key, value) = (patient.as_bytes(), input.encode());
        let receipt = loop {
            match shared.journal.append(Topic::Inputs, partition_of(key, shared.partitions), key, value.clone()) {
                Ok(receipt) => break receipt,
                Err(_full) => shared.journal.ready().await,
            }
        };
        receipts.push(receipt);
        if receipts.len() == AT_ONCE {
            durable(&mut receipts).await?;
        }
    }
    durable(&mut receipts).await
}

async fn durable(receipts: &mut Vec<Receipt>) -> Result<(), MoveError> {
    for mut receipt in receipts.drain(..) {
        poll_fn(|context| Pin::new(&mut receipt).poll(context)).await?;
    }
    Ok(())
}
