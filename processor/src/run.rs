//! The loop: batches in, the engine off the runtime, outputs out, snapshots when everything before them is durable.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::{Arrival, Engine, Output};
use journal::{AppendError, Event, Journal, Mode, OpenError, ReadError, Reader, Receipt, Record, Start, Topic};
use schemas::{Arrived, Input, Offset, Partition};
use tokio_util::sync::CancellationToken;

use crate::objects::Objects;

/// Outputs that may wait for their receipts before the next batch is taken.
const UNCONFIRMED: usize = 16_384;
/// How many snapshots of a partition are kept.
const KEPT: usize = 3;
/// A tick is appended again if the one before was not heard for this long.
const TICK_AGAIN: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct Config {
    /// Cut for every partition; its `partition` is set when one is assigned.
    pub engine: engine::Config,
    pub snapshot_every: u64,
    pub snapshot_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { engine: engine::Config::default(), snapshot_every: 200_000, snapshot_after: Duration::from_secs(300) }
    }
}

/// The processor cannot go on. Started again, it resumes from its newest snapshot.
#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("an output was not stored: {0}")]
    Append(#[from] AppendError),
    #[error("partition {partition} has inputs from {earliest} on, and {wanted} is needed: what lies between is gone; restore the journal or the snapshots")]
    Gap { partition: Partition, wanted: Offset, earliest: Offset },
    #[error("snapshots: {0}")]
    Objects(#[from] std::io::Error),
    #[error("a worker thread ended early")]
    Worker(#[from] tokio::task::JoinError),
}

struct Owned {
    /// `None` only while it is applied on another thread.
    engine: Option<Engine>,
    receipts: VecDeque<Receipt>,
    /// `next` of the newest snapshot, and when it was taken.
    snapshot: (Offset, Instant),
    /// The due for which a tick was appended, and when.
    ticked: Option<(Arrived, Instant)>,
}

pub struct Processor {
    config: Config,
    journal: Arc<dyn Journal>,
    objects: Arc<dyn Objects>,
    owned: BTreeMap<Partition, Owned>,
}

fn wall() -> Arrived {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Arrived(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn folder(partition: Partition) -> String {
    format!("snapshots/{partition}")
}

impl Processor {
    pub fn new(config: Config, journal: Arc<dyn Journal>, objects: Arc<dyn Objects>) -> Self {
        Self { config, journal, objects, owned: BTreeMap::new() }
    }

    /// Until `stop`; then every output is confirmed and every partition has its snapshot.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), ProcessorError> {
        let mut reader = self.journal.reader(Topic::Inputs, Mode::Group("processor".to_owned()))?;
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => break,
                event = reader.next() => Some(event?),
                () = tokio::time::sleep(self.quiet_for()) => None,
            };
            match event {
                None => self.ticks().await?,
                Some(Event::Assigned { partition, .. }) => {
                    let owned = self.load(partition).await?;
                    reader.start(partition, Start::At(owned.snapshot.0));
                    self.owned.insert(partition, owned);
                }
                Some(Event::Revoked { partition }) => drop(self.owned.remove(&partition)),
                Some(Event::OutOfRange { partition, wanted, earliest }) => return Err(ProcessorError::Gap { partition, wanted, earliest }),
                Some(Event::Batch { partition, records, .. }) => {
                    self.batch(partition, &records).await?;
                    if self.snapshot_due(partition) {
                        self.snapshot(partition, &mut *reader).await?;
                    }
                }
            }
        }
        let partitions: Vec<Partition> = self.owned.keys().copied().collect();
        for partition in partitions {
            self.snapshot(partition, &mut *reader).await?;
        }
        Ok(())
    }

    /// The newest readable snapshot, or the beginning.
    async fn load(&self, partition: Partition) -> Result<Owned, ProcessorError> {
        let objects = self.objects.clone();
        let config = engine::Config { partition, ..self.config.engine };
        let engine = tokio::task::spawn_blocking(move || -> std::io::Result<Engine> {
            for name in objects.list(&folder(partition))?.iter().rev() {
                let bytes = match objects.read(name) {
                    Ok(bytes) => bytes,
                    // pruned meanwhile, by who had the partition before us
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                match Engine::restore(config, &bytes) {
                    Ok(engine) => return Ok(engine),
                    Err(error) => tracing::error!(%name, %error, "a snapshot cannot be used, the one before is taken"),
                }
            }
            Ok(Engine::new(config))
        })
        .await??;
        tracing::info!(%partition, next = %engine.next(), "partition assigned");
        Ok(Owned { snapshot: (engine.next(), Instant::now()), engine: Some(engine), receipts: VecDeque::new(), ticked: None })
    }

    async fn batch(&mut self, partition: Partition, records: &[Record]) -> Result<(), ProcessorError> {
        let Some(owned) = self.owned.get_mut(&partition) else { return Ok(()) };
        let Some(mut engine) = owned.engine.take() else { return Ok(()) };
        let arrivals: Vec<Arrival> =
            records.iter().map(|record| Arrival { offset: record.offset, arrived_at: record.arrived_at, input: decode(partition, record) }).collect();
        let (engine, outputs) = tokio::task::spawn_blocking(move || {
            let outputs = engine.apply(&arrivals);
            (engine, outputs)
        })
        .await?;
        owned.engine = Some(engine);
        for output in &outputs {
            let (topic, key, value) = match output {
                Output::Window(window) => (Topic::Windows, window.patient.as_bytes(), window.encode()),
                Output::Transition(transition) => (Topic::Alerts, transition.patient.as_bytes(), transition.encode()),
            };
            let receipt = loop {
                match self.journal.append(topic, partition, key, value.clone()) {
                    Ok(receipt) => break receipt,
                    Err(journal::Full) => self.journal.ready().await,
                }
            };
            owned.receipts.push_back(receipt);
            while owned.receipts.len() > UNCONFIRMED {
                if let Some(oldest) = owned.receipts.pop_front() {
                    oldest.await?;
                }
            }
        }
        Ok(())
    }

    fn snapshot_due(&self, partition: Partition) -> bool {
        let Some(owned) = self.owned.get(&partition) else { return false };
        let next = owned.engine.as_ref().map_or(owned.snapshot.0, Engine::next);
        let new = u64::try_from(next.0 - owned.snapshot.0.0).unwrap_or(0);
        new >= self.config.snapshot_every || (new > 0 && owned.snapshot.1.elapsed() >= self.config.snapshot_after)
    }

    /// P6: first the receipts, then the snapshot, then the reader's progress.
    async fn snapshot(&mut self, partition: Partition, reader: &mut dyn Reader) -> Result<(), ProcessorError> {
        let Some(owned) = self.owned.get_mut(&partition) else { return Ok(()) };
        for receipt in owned.receipts.drain(..) {
            receipt.await?;
        }
        let Some(engine) = owned.engine.take() else { return Ok(()) };
        let next = engine.next();
        let objects = self.objects.clone();
        let engine = tokio::task::spawn_blocking(move || -> std::io::Result<Engine> {
            let folder = folder(partition);
            objects.create(&format!("{folder}/{:020}", next.0), &engine.snapshot())?;
            let names = objects.list(&folder)?;
            for name in names.iter().rev().skip(KEPT) {
                match objects.remove(name) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            Ok(engine)
        })
        .await??;
        owned.engine = Some(engine);
        owned.snapshot = (next, Instant::now());
        reader.done(partition, next);
        Ok(())
    }

    /// How long until a timer is due in a partition from which nothing comes.
    fn quiet_for(&self) -> Duration {
        let now = wall();
        let wait = |owned: &Owned| {
            let due = owned.engine.as_ref()?.next_due()?;
            let until = Duration::from_micros(u64::try_from((due - now).0).unwrap_or(0));
            let again = owned.ticked.filter(|(ticked, _)| *ticked == due).map_or(Duration::ZERO, |(_, when)| TICK_AGAIN.saturating_sub(when.elapsed()));
            Some(until.max(again).max(Duration::from_millis(10)))
        };
        self.owned.values().filter_map(wait).min().unwrap_or(Duration::from_secs(1)).min(Duration::from_secs(1))
    }

    /// Appends a Tick where a timer is due and nothing came: it changes when we hear, never what.
    async fn ticks(&mut self) -> Result<(), ProcessorError> {
        let now = wall();
        for (partition, owned) in &mut self.owned {
            let Some(due) = owned.engine.as_ref().and_then(Engine::next_due).filter(|due| *due < now) else { continue };
            if owned.ticked.is_some_and(|(ticked, when)| ticked == due && when.elapsed() < TICK_AGAIN) {
                continue;
            }
            // a full journal is not quiet: its own traffic moves the clock
            if let Ok(receipt) = self.journal.append(Topic::Inputs, *partition, b"", Input::Tick.encode()) {
                receipt.await?;
            }
            owned.ticked = Some((due, Instant::now()));
        }
        Ok(())
    }
}

/// A record that is no input still moves the clock and the offset.
fn decode(partition: Partition, record: &Record) -> Input {
    Input::decode(&record.value).unwrap_or_else(|error| {
        tracing::error!(%partition, offset = %record.offset, %error, "an input cannot be read and decides nothing");
        Input::Tick
    })
}
