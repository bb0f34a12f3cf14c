//! `vigil.alerts` into the store, one transaction per stretch of a batch (A1).
//!
//! What cannot be read by this version is logged as an error and counted, and the rest goes on: stopping there would keep every later
//! alert of the partition from everyone. Where retention was faster than this reader the position moves to what is left, also as an
//! error, counted, and noted in the store's meta (`alerts.gap.{partition}`).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use journal::{Assignment, Event, Journal, Mode, Reader, Record, Start, Topic};
use metrics::counter;
use schemas::{CANARY_RULE, EventTime, Offset, Partition, Transition, TransitionKind};
use store::episodes::Hop;
use store::{Store, StoreError, Tx};
use tokio_util::sync::CancellationToken;

use crate::episode;
use crate::planner::Planner;
use crate::supervise::wait;
use crate::{AlertsError, READER, names, now};

/// Records of one transaction at most: the store has one writer, and others wait behind it.
const STRETCH: usize = 500;
/// How often a partition that cannot go on is tried again.
const STALLED: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(crate) struct Consumer {
    journal: Arc<dyn Journal>,
    store: Store,
    planner: Planner,
}

/// A partition that is ours.
struct Owned {
    assignment: Assignment,
    next: Offset,
    /// The offset after a hole that was met once already.
    hole: Option<Offset>,
    stalled: bool,
}

/// What a transaction did, told to the metrics when it is committed.
#[derive(Default)]
struct Did {
    kinds: [u64; 4],
    replays: u64,
}

/// A transition, and when the journal had it.
struct Heard {
    transition: Transition,
    evaluated: EventTime,
}

type Partitions = BTreeMap<Partition, Owned>;

impl Consumer {
    pub fn new(journal: Arc<dyn Journal>, store: Store, planner: Planner) -> Self {
        Self { journal, store, planner }
    }

    pub async fn run(self, stop: CancellationToken) -> Result<(), AlertsError> {
        let mut reader = self.journal.reader(Topic::Alerts, Mode::Group(READER.to_owned()))?;
        let mut owned = Partitions::new();
        let mut stalled = tokio::time::interval(STALLED);
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                event = reader.next() => event?,
                _ = stalled.tick() => {
                    for (partition, owned) in owned.iter_mut().filter(|(_, owned)| owned.stalled) {
                        owned.stalled = false;
                        reader.start(*partition, Start::At(owned.next));
                    }
                    continue;
                }
            };
            match event {
                Event::Assigned { partition, assignment } => {
                    let mine = owned.entry(partition).insert_entry(Owned { assignment, next: Offset(0), hole: None, stalled: false }).into_mut();
                    self.seek(&mut *reader, partition, mine, &stop).await?;
                }
                Event::Revoked { partition } => {
                    owned.remove(&partition);
                }
                Event::Batch { partition, assignment, records } => {
                    if let Some(mine) = owned.get_mut(&partition).filter(|mine| mine.assignment == assignment) {
                        self.batch(&mut *reader, partition, mine, records, &stop).await?;
                    }
                }
                Event::OutOfRange { partition, wanted, earliest } => {
                    if let Some(mine) = owned.get_mut(&partition) {
                        self.out_of_range(&mut *reader, partition, mine, wanted, earliest, &stop).await?;
                    }
                }
            }
            if stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// To where the store says this role is.
    async fn seek(&self, reader: &mut dyn Reader, partition: Partition, mine: &mut Owned, stop: &CancellationToken) -> Result<(), AlertsError> {
        let position = || self.store.position(READER, Topic::Alerts.name(), partition);
        if let Some(next) = patiently(stop, position).await? {
            mine.next = next;
            reader.start(partition, Start::At(next));
        }
        Ok(())
    }

    async fn batch(
        &self,
        reader: &mut dyn Reader,
        partition: Partition,
        mine: &mut Owned,
        mut records: Vec<Record>,
        stop: &CancellationToken,
    ) -> Result<(), AlertsError> {
        // what was on its way when the reader was sent elsewhere
        records.retain(|record| record.offset >= mine.next);
        let Some(first) = records.first().map(|record| record.offset) else { return Ok(()) };
        if first > mine.next && mine.hole != Some(first) {
            mine.hole = Some(first);
            reader.start(partition, Start::At(mine.next));
            return Ok(());
        }
        if first > mine.next {
            tracing::error!(%partition, from = %mine.next, to = %first, "the journal has no records of alerts between these; they are lost if they ever were");
        }
        mine.hole = None;
        for stretch in records.chunks(STRETCH) {
            let Some(last) = stretch.last() else { return Ok(()) };
            let (from, to) = (mine.next, last.offset.next());
            let transitions = self.read(partition, stretch);
            match patiently(stop, || self.store_stretch(partition, from, to, &transitions)).await? {
                None => return Ok(()),
                Some(Some(did)) => {
                    did.count();
                    mine.next = to;
                    reader.done(partition, to);
                }
                Some(None) => {
                    tracing::debug!(%partition, %from, "someone else has done this batch");
                    return self.seek(reader, partition, mine, stop).await;
                }
            }
            if stop.is_cancelled() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn read(&self, partition: Partition, records: &[Record]) -> Vec<Heard> {
        let read = |record: &Record| match Transition::decode(&record.value) {
            Ok(transition) => Some(Heard { transition, evaluated: record.arrived_at.as_event() }),
            Err(error) => {
                tracing::error!(%partition, offset = %record.offset, %error, "a record of alerts cannot be read and reaches nobody; run the version that wrote it");
                counter!(names::UNREADABLE, "partition" => partition.to_string()).increment(1);
                None
            }
        };
        records.iter().filter_map(read).collect()
    }

    /// `None`: the position is not at `from`, and nothing was stored.
    async fn store_stretch(&self, partition: Partition, from: Offset, to: Offset, transitions: &[Heard]) -> Result<Option<Did>, StoreError> {
        let (planner, now) = (&self.planner, now());
        self.store
            .transaction(|tx| {
                Box::pin(async move {
                    if !tx.advance(READER, Topic::Alerts.name(), partition, from, to).await? {
                        return Ok(None);
                    }
                    let mut did = Did::default();
                    let (canaries, alerts): (Vec<_>, Vec<_>) = transitions.iter().partition(|heard| heard.transition.rule.as_str() == CANARY_RULE);
                    if let Some(at) = canaries.iter().map(|heard| heard.transition.at).max() {
                        canary_heard(tx, partition, at).await?;
                    }
                    // what is on trial makes no episode: it stands in the log and in the lake
                    for heard in alerts.into_iter().filter(|heard| !heard.transition.shadow) {
                        apply(tx, heard, partition, planner, now, &mut did).await?;
                    }
                    Ok(Some(did))
                })
            })
            .await
    }

    async fn out_of_range(
        &self,
        reader: &mut dyn Reader,
        partition: Partition,
        mine: &mut Owned,
        wanted: Offset,
        earliest: Offset,
        stop: &CancellationToken,
    ) -> Result<(), AlertsError> {
        if wanted > earliest {
            tracing::error!(%partition, %wanted, "the store is ahead of the journal: it belongs to another one, or the journal was restored from an older backup; alerts of this partition reach nobody until both are of one time");
            mine.stalled = true;
            return Ok(());
        }
        let note = format!("{} {wanted} {earliest}", now().0);
        let skip = || {
            let note = &note;
            self.store.transaction(move |tx| {
                Box::pin(async move {
                    let moved = tx.advance(READER, Topic::Alerts.name(), partition, wanted, earliest).await?;
                    if moved {
                        tx.set_meta(&format!("alerts.gap.{partition}"), note).await?;
                    }
                    Ok(moved)
                })
            })
        };
        if patiently(stop, skip).await? == Some(true) {
            let lost = u64::try_from(earliest.0 - wanted.0).unwrap_or(0);
            counter!(names::LOST, "partition" => partition.to_string()).increment(lost);
            tracing::error!(%partition, %wanted, %earliest, lost, "records of alerts were removed by retention before they were read: look at the patients' values, and let the journal keep more");
        }
        self.seek(reader, partition, mine, stop).await
    }
}

/// Tries until the store answers; `None`: stopped.
async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(stop: &CancellationToken, work: impl Fn() -> F) -> Result<Option<T>, AlertsError> {
    let mut failures = 0;
    loop {
        let error = match work().await {
            Ok(value) => return Ok(Some(value)),
            Err(error) if error.is_transient() => error.into(),
            Err(error) => return Err(error.into()),
        };
        failures += 1;
        if !wait("consumer", &error, failures, stop).await {
            return Ok(None);
        }
    }
}

async fn apply(tx: &mut Tx<'_>, heard: &Heard, partition: Partition, planner: &Planner, now: EventTime, did: &mut Did) -> Result<(), StoreError> {
    let t = &heard.transition;
    let current = tx.find_episode(t.alert).await?;
    let told = match current {
        Some(_) => tx.notifications(t.alert).await?,
        None => Vec::new(),
    };
    let owner = current.as_ref().and_then(|episode| episode.care.owner.as_deref());
    let plan = planner.plan(tx, &t.patient, t.priority, owner, now).await?;
    let Some(step) = episode::step(current.as_ref(), &told, t, partition, &plan, now) else {
        did.replays += 1;
        return Ok(());
    };
    if tx.upsert_episode(&step.episode).await?.is_none() {
        did.replays += 1;
        return Ok(());
    }
    if current.is_none() {
        tx.put_rung(t.alert, step.episode.care.rung).await?;
        tx.stamp(t.alert, Hop::Evaluated, heard.evaluated).await?;
        tx.stamp(t.alert, Hop::Stored, now).await?;
    }
    let entry = &step.history;
    tx.add_history(t.alert, entry.at, entry.what, None, entry.note.as_deref()).await?;
    if step.ends {
        tx.cancel_timers(t.alert).await?;
        tx.cancel_repages(t.alert, now).await?;
    }
    for notification in &step.notifications {
        tx.add_notification(notification).await?;
    }
    for timer in &step.timers {
        tx.add_timer(timer).await?;
    }
    did.kinds[t.kind as usize] += 1;
    Ok(())
}

/// The canary makes no episode: it shows that this partition is evaluated and heard.
async fn canary_heard(tx: &mut Tx<'_>, partition: Partition, at: EventTime) -> Result<(), StoreError> {
    let name = format!("canary_at.{partition}");
    let known = tx.meta(&name).await?.and_then(|text| text.parse().ok()).map(EventTime);
    if known.is_none_or(|known| at > known) {
        tx.set_meta(&name, &at.0.to_string()).await?;
    }
    Ok(())
}

impl Did {
    fn count(&self) {
        let words = [
            (TransitionKind::Raised, "raised"),
            (TransitionKind::Cleared, "cleared"),
            (TransitionKind::Amended, "amended"),
            (TransitionKind::Withdrawn, "withdrawn"),
        ];
        for (kind, word) in words {
            counter!(names::TRANSITIONS, "kind" => word).increment(self.kinds[kind as usize]);
        }
        counter!(names::REPLAYS).increment(self.replays);
    }
}
