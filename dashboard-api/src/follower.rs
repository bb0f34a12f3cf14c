//! The follower: the processor's snapshots, then `vigil.inputs` through the same engine, its outputs dropped. What pages show comes from here.
//!
//! The engine runs on blocking threads. Nothing is appended and no progress is kept: a follower never holds anything back.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::news2::News2;
use engine::{Arrival, Engine, Output, Sample};
use journal::{Event, Journal, Mode, OpenError, ReadError, Record, Start, Topic};
use processor::objects::Objects;
use processor::snapshots::newest_snapshot;
use schemas::{DeviceId, EventTime, Input, Metric, Micros, Offset, Partition, PatientId, ReadingId, partition_of};
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::hub::{Heard, Hub, VitalsChange};
use crate::messages::Messages;
use crate::names;
use crate::pulse::Pulse;
use crate::view::{Reading, interval};

const LOOK: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked whether an input was applied.
const REACHED: Duration = Duration::from_millis(5);
const NONE: i64 = i64::MIN;
const ALL: u32 = u32::MAX;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a worker thread ended early")]
    Worker(#[from] JoinError),
}

/// Follows until `stop`, or until the journal is closed. One that fails is read again.
pub(crate) async fn again_and_again<F>(what: &str, stop: &CancellationToken, follow: impl Fn() -> F) -> Result<(), FollowError>
where
    F: Future<Output = Result<Infallible, FollowError>>,
{
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            failed = follow() => match failed {
                Err(FollowError::Read(ReadError::Closed)) => return Err(ReadError::Closed.into()),
                Err(error) => tracing::warn!(%error, "{what} cannot be followed, it is tried again"),
                Ok(never) => match never {},
            },
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// One partition, as far as it was followed.
struct Place {
    engine: Mutex<Engine>,
    next: AtomicI64,
    /// The partition's clock.
    clock: AtomicI64,
    /// Where the journal ended when the partition was first seen.
    target: Offset,
    /// What arrived before is not here: the journal no longer had it.
    gap: AtomicI64,
    since: Instant,
    /// When we last knew that nothing was missing.
    complete_at: Mutex<Option<Instant>>,
}

/// Samples of one metric.
pub(crate) struct Stretch {
    pub samples: Vec<Sample>,
    pub complete_since: Option<EventTime>,
}

pub(crate) struct Follower {
    config: engine::Config,
    partitions: u32,
    journal: Arc<dyn Journal>,
    objects: Arc<dyn Objects>,
    hub: Arc<Hub>,
    messages: Arc<Messages>,
    pulse: Arc<Pulse>,
    places: Mutex<BTreeMap<Partition, Arc<Place>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Follower {
    pub fn new(
        config: engine::Config,
        journal: Arc<dyn Journal>,
        objects: Arc<dyn Objects>,
        hub: Arc<Hub>,
        messages: Arc<Messages>,
        pulse: Arc<Pulse>,
    ) -> Self {
        Self { config, partitions: journal.partitions(), journal, objects, hub, messages, pulse, places: Mutex::default() }
    }

    pub async fn run(&self, stop: &CancellationToken) -> Result<(), FollowError> {
        again_and_again("the journal", stop, || self.follow()).await
    }

    async fn follow(&self) -> Result<Infallible, FollowError> {
        let mut reader = self.journal.reader(Topic::Inputs, Mode::Follow)?;
        loop {
            match reader.next().await? {
                Event::Assigned { partition, .. } => {
                    let known = lock(&self.places).get(&partition).cloned();
                    let place = match known {
                        Some(place) => place,
                        None => self.place(partition, None).await?,
                    };
                    reader.start(partition, Start::At(Offset(place.next.load(Ordering::Acquire))));
                }
                Event::Batch { partition, records, .. } => self.batch(partition, records).await?,
                Event::OutOfRange { partition, wanted, earliest } => {
                    tracing::warn!(%partition, %wanted, %earliest, "the journal no longer has what comes next; older values may be missing on the page");
                    let place = self.place(partition, Some((wanted, earliest))).await?;
                    reader.start(partition, Start::At(Offset(place.next.load(Ordering::Acquire))));
                }
                Event::Revoked { .. } => {}
            }
        }
    }

    /// The newest readable snapshot, or the beginning. `gone`: what was wanted, and what there is: a snapshot that ends before is no help.
    async fn place(&self, partition: Partition, gone: Option<(Offset, Offset)>) -> Result<Arc<Place>, FollowError> {
        let config = engine::Config { partition, ..self.config };
        let range = self.journal.range(Topic::Inputs, partition).await?;
        let (objects, hub) = (self.objects.clone(), self.hub.clone());
        let (engine, whole) = spawn_blocking(move || {
            let found = newest_snapshot(&*objects, config).unwrap_or_else(|error| {
                tracing::warn!(%partition, %error, "the snapshots cannot be read, the journal is followed from its start");
                None
            });
            let usable = |engine: &Engine| engine.next() <= range.next && gone.is_none_or(|(_, earliest)| engine.next() >= earliest);
            let found = found.map(|(_, engine)| engine).filter(usable);
            let whole = found.is_some() || gone.is_none();
            let engine = found.unwrap_or_else(|| Engine::new(config));
            let everyone: HashMap<PatientId, u32> = engine.patients().map(|patient| (patient.clone(), ALL)).collect();
            hub.vitals(project(&engine, &everyone), devices(&engine));
            (engine, whole)
        })
        .await?;
        tracing::info!(%partition, next = %engine.next(), end = %range.next, "partition followed");
        let place = Arc::new(Place {
            next: AtomicI64::new(gone.map_or(engine.next(), |(_, earliest)| engine.next().max(earliest)).0),
            clock: AtomicI64::new(engine.clock().0),
            engine: Mutex::new(engine),
            target: range.next,
            // the first record that comes says since when
            gap: AtomicI64::new(if whole { NONE } else { i64::MAX }),
            since: Instant::now(),
            complete_at: Mutex::new(None),
        });
        lock(&self.places).insert(partition, place.clone());
        self.look_whether_caught_up();
        Ok(place)
    }

    async fn batch(&self, partition: Partition, records: Vec<Record>) -> Result<(), FollowError> {
        let Some(place) = lock(&self.places).get(&partition).cloned() else { return Ok(()) };
        let (hub, messages) = (self.hub.clone(), self.messages.clone());
        spawn_blocking(move || apply(partition, &place, &records, &hub, &messages)).await?;
        if !self.pulse.caught_up() {
            self.look_whether_caught_up();
        }
        Ok(())
    }

    fn look_whether_caught_up(&self) {
        let places = lock(&self.places);
        let here = places.values().filter(|place| place.next.load(Ordering::Acquire) >= place.target.0).count();
        if here == self.partitions as usize && !self.pulse.caught_up() {
            tracing::info!("the follower has caught up");
            self.pulse.set_caught_up();
        }
    }

    /// Measures the lag, until `stop`.
    pub async fn measure(&self, stop: &CancellationToken) {
        let mut answered = Instant::now();
        loop {
            let places: Vec<(Partition, Arc<Place>)> = lock(&self.places).iter().map(|(partition, place)| (*partition, place.clone())).collect();
            let mut lag = if places.len() < self.partitions as usize { answered.elapsed() } else { Duration::ZERO };
            for (partition, place) in places {
                match tokio::time::timeout(LOOK * 4, self.journal.range(Topic::Inputs, partition)).await {
                    Ok(Ok(range)) => {
                        answered = Instant::now();
                        lag = lag.max(place.lag(range.next));
                    }
                    // what we cannot ask about, we may be behind of
                    _ => lag = lag.max(answered.elapsed()),
                }
            }
            self.pulse.lag(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Samples measured in `[from, to]`, the newest `limit` of them.
    pub async fn samples(&self, patient: &PatientId, metric: Metric, from: EventTime, to: EventTime, limit: usize) -> Result<Stretch, JoinError> {
        let partition = partition_of(patient.as_bytes(), self.partitions);
        let Some(place) = lock(&self.places).get(&partition).cloned() else { return Ok(Stretch { samples: Vec::new(), complete_since: None }) };
        let patient = patient.clone();
        spawn_blocking(move || {
            let all = lock(&place.engine).samples(&patient, metric, EventTime::MIN);
            // fewer than an engine always keeps: none was ever dropped
            let kept_all = all.len() < 32;
            let mut since = all.first().filter(|_| !kept_all).map(|first| first.at);
            let gap = place.gap.load(Ordering::Acquire);
            if gap != NONE && gap != i64::MAX {
                since = since.max(Some(EventTime(gap)));
            }
            let mut samples: Vec<Sample> = all.into_iter().filter(|sample| from <= sample.at && sample.at <= to).collect();
            if samples.len() > limit {
                samples.drain(..samples.len() - limit);
                since = since.max(samples.first().map(|first| first.at));
            }
            Stretch { samples, complete_since: since }
        })
        .await
    }
}

/// What else may be asked of a patient.
impl Follower {
    async fn ask<T: Send + 'static>(&self, patient: &PatientId, ask: impl FnOnce(&Engine, &PatientId) -> T + Send + 'static) -> Result<Option<T>, JoinError> {
        let partition = partition_of(patient.as_bytes(), self.partitions);
        let Some(place) = lock(&self.places).get(&partition).cloned() else { return Ok(None) };
        let patient = patient.clone();
        spawn_blocking(move || Some(ask(&lock(&place.engine), &patient))).await
    }

    /// A reading that is shown: not voided, and not so old that it was dropped.
    pub async fn find(&self, patient: &PatientId, reading: ReadingId) -> Result<Option<(Metric, Sample)>, JoinError> {
        let found = self.ask(patient, move |engine, patient| {
            Metric::ALL.into_iter().find_map(|metric| {
                let samples = engine.samples(patient, metric, EventTime::MIN);
                samples.into_iter().find(|sample| sample.id == reading).map(|sample| (metric, sample))
            })
        });
        Ok(found.await?.flatten())
    }

    /// When the newest of a metric was measured.
    pub async fn latest_at(&self, patient: &PatientId, metric: Metric) -> Result<Option<EventTime>, JoinError> {
        Ok(self.ask(patient, move |engine, patient| engine.latest(patient, metric).map(|latest| latest.at)).await?.flatten())
    }

    pub async fn news2(&self, patient: &PatientId, at: EventTime, age: Micros) -> Result<News2, JoinError> {
        let found = self.ask(patient, move |engine, patient| engine.news2(patient, at, age)).await?;
        Ok(found.unwrap_or_else(|| News2::of(at, age, None, [None; 7])))
    }

    /// Waits until the input at `offset` is shown; `false` when that takes longer than `patience`.
    pub async fn reached(&self, patient: &PatientId, offset: Offset, patience: Duration) -> bool {
        let partition = partition_of(patient.as_bytes(), self.partitions);
        let here = async {
            while lock(&self.places).get(&partition).is_none_or(|place| place.next.load(Ordering::Acquire) <= offset.0) {
                tokio::time::sleep(REACHED).await;
            }
        };
        tokio::time::timeout(patience, here).await.is_ok()
    }
}

impl Place {
    fn lag(&self, end: Offset) -> Duration {
        let mut complete_at = lock(&self.complete_at);
        if self.next.load(Ordering::Acquire) >= end.0 {
            *complete_at = Some(Instant::now());
            return Duration::ZERO;
        }
        let behind = match self.clock.load(Ordering::Acquire) {
            // nothing was read yet: how old it is we cannot know
            0 => self.since.elapsed(),
            clock => Duration::from_micros(u64::try_from(crate::now().0.saturating_sub(clock)).unwrap_or(0)),
        };
        // a record that came after hours of quiet does not make us hours late
        complete_at.map_or(behind, |at| behind.min(at.elapsed()))
    }
}

fn apply(partition: Partition, place: &Place, records: &[Record], hub: &Hub, messages: &Messages) {
    let mut touched: HashMap<PatientId, u32> = HashMap::new();
    let mut everyone = false;
    let mut received: HashMap<PatientId, EventTime> = HashMap::new();
    let mut heard: Vec<(DeviceId, PatientId, Metric, EventTime)> = Vec::new();
    let mut arrivals = Vec::with_capacity(records.len());
    for record in records {
        let input = Input::decode(&record.value).unwrap_or_else(|error| {
            tracing::error!(%partition, offset = %record.offset, %error, "an input cannot be read and is not shown");
            metrics::counter!(names::UNREADABLE, "partition" => partition.to_string()).increment(1);
            Input::Tick
        });
        match &input {
            Input::Reading(reading) => {
                if !reading.typed {
                    messages.accepted(partition, record.offset, reading);
                }
                *touched.entry(reading.patient.clone()).or_default() |= 1 << reading.metric.number();
                let newest = received.entry(reading.patient.clone()).or_insert(reading.received_at);
                *newest = (*newest).max(reading.received_at);
                heard.push((reading.device.clone(), reading.patient.clone(), reading.metric, reading.received_at));
            }
            Input::Void(void) => *touched.entry(void.patient.clone()).or_default() |= 1 << void.metric.number(),
            Input::Settings(settings) => *touched.entry(settings.patient.clone()).or_default() = ALL,
            Input::RuleSet(_) => everyone = true,
            Input::Tick => {}
        }
        arrivals.push(Arrival { offset: record.offset, arrived_at: record.arrived_at, input });
    }
    let mut engine = lock(&place.engine);
    for output in engine.apply(&arrivals) {
        if let Output::Transition(transition) = output {
            touched.insert(transition.patient, ALL);
        }
    }
    if everyone {
        touched = engine.patients().map(|patient| (patient.clone(), ALL)).collect();
    }
    let mut changes = project(&engine, &touched);
    let heard = heard.into_iter().map(|(device, patient, metric, at)| {
        let expected = interval(engine.settings(&patient), metric);
        (device, Heard { at, fresh_until: at + expected + expected })
    });
    let heard = heard.collect();
    let (next, clock) = (engine.next(), engine.clock());
    drop(engine);
    for change in &mut changes {
        change.heard_at = change.heard_at.max(received.get(&change.patient).copied());
    }
    if place.gap.load(Ordering::Acquire) == i64::MAX
        && let Some(first) = records.first()
    {
        place.gap.store(first.arrived_at.0, Ordering::Release);
    }
    hub.vitals(changes, heard);
    place.clock.store(clock.0, Ordering::Release);
    place.next.store(next.0, Ordering::Release);
}

/// What a page shows of the patients that were touched.
fn project(engine: &Engine, touched: &HashMap<PatientId, u32>) -> Vec<VitalsChange> {
    touched.iter().map(|(patient, mask)| one(engine, patient, *mask)).collect()
}

fn one(engine: &Engine, patient: &PatientId, mask: u32) -> VitalsChange {
    let settings = engine.settings(patient);
    let (mut values, mut heard_at, mut silent) = (Vec::new(), None, false);
    for metric in Metric::ALL {
        let silence = engine.silence(patient, metric);
        silent |= silence.is_some_and(|(_, open)| open);
        if mask & (1 << metric.number()) == 0 {
            continue;
        }
        let latest = engine.latest(patient, metric);
        heard_at = heard_at.max(latest.as_ref().map(|latest| latest.received_at));
        let silent_at = silence.map(|(due, _)| due.into());
        values.push((metric, latest.map(|latest| Reading::new(metric, &latest, interval(settings, metric), silent_at))));
    }
    VitalsChange { patient: patient.clone(), values, heard_at, silent }
}

/// After a snapshot: who measured what is newest.
fn devices(engine: &Engine) -> Vec<(DeviceId, Heard)> {
    let mut heard = Vec::new();
    for patient in engine.patients() {
        for metric in Metric::ALL {
            if let Some(latest) = engine.latest(patient, metric) {
                let expected = interval(engine.settings(patient), metric);
                let fresh_until = latest.received_at + expected + expected;
                heard.push((latest.device, Heard { at: latest.received_at, fresh_until }));
            }
        }
    }
    heard
}
