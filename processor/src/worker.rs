//! One partition: its engine, off the runtime; its outputs; its snapshots, behind the receipts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Arrival, Engine, Output};
use futures::FutureExt;
use journal::{Assignment, Journal, Receipt, Record, Topic};
use metrics::{Counter, counter};
use schemas::{Arrived, Input, Offset, Partition};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::objects::Objects;
use crate::run::{Config, ProcessorError};
use crate::{metrics as names, snapshots, wall};

/// A tick is appended again if the one before was not heard for this long.
const TICK_AGAIN: Duration = Duration::from_secs(2);
/// After a snapshot that could not be written, the next attempt.
const SNAPSHOT_AGAIN: Duration = Duration::from_secs(10);
/// Evaluation goes on for so many times as long as the last snapshot took before the next one, unless `snapshot_after` has passed: with
/// many patients they would else be most of the work while a partition catches up.
const SNAPSHOT_SHARE: u32 = 10;
/// How often it looks whether a snapshot is due when nothing comes.
const LOOK: Duration = Duration::from_secs(1);

/// What the loop has for a partition.
pub enum Work {
    Batch(Vec<Record>),
    OutOfRange { wanted: Offset, earliest: Offset },
}

/// What a partition's worker has for the loop.
pub struct News {
    pub partition: Partition,
    pub assignment: Assignment,
    pub what: Say,
}

pub enum Say {
    Start(Offset),
    Done(Offset),
}

pub struct Worker {
    config: Config,
    pub(crate) partition: Partition,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) objects: Arc<dyn Objects>,
    say: Box<dyn Fn(Say) + Send + Sync>,
    /// Elsewhere while it is applied; a worker whose thread failed has none and ends.
    engine: Option<Box<Engine>>,
    /// Of the outputs since the newest snapshot was begun.
    receipts: VecDeque<Receipt>,
    /// `next` of the newest snapshot, and when it was taken or loaded.
    saved: (Offset, Instant),
    /// At most one: it waits for its receipts while evaluation goes on.
    saving: JoinSet<Result<Saved, ProcessorError>>,
    failed: Option<Instant>,
    /// How long the last snapshot kept the engine.
    took: Duration,
    /// The due for which a tick was appended, and when.
    ticked: Option<(Arrived, Instant)>,
    counted: Counted,
}

/// What is counted with every batch, looked up once.
struct Counted {
    inputs: Counter,
    windows: Counter,
    transitions: Counter,
}

impl Counted {
    fn of(partition: Partition) -> Self {
        let outputs = |topic: Topic| counter!(names::OUTPUTS, "partition" => partition.to_string(), "topic" => topic.name());
        Self { inputs: counter!(names::INPUTS, "partition" => partition.to_string()), windows: outputs(Topic::Windows), transitions: outputs(Topic::Alerts) }
    }
}

/// A snapshot that was attempted.
struct Saved {
    next: Offset,
    written: std::io::Result<()>,
}

/// What the engine did on its thread.
pub(crate) struct Applied {
    pub engine: Box<Engine>,
    pub outputs: Vec<Output>,
    pub inputs: u64,
}

pub(crate) fn apply(mut engine: Box<Engine>, arrivals: &[Arrival]) -> Applied {
    let outputs = engine.apply(arrivals);
    Applied { engine, outputs, inputs: arrivals.len() as u64 }
}

impl Worker {
    pub fn new(config: Config, journal: Arc<dyn Journal>, objects: Arc<dyn Objects>, say: impl Fn(Say) + Send + Sync + 'static) -> Self {
        Self {
            partition: config.engine.partition,
            counted: Counted::of(config.engine.partition),
            config,
            journal,
            objects,
            say: Box::new(say),
            engine: None,
            receipts: VecDeque::new(),
            saved: (Offset(0), Instant::now()),
            saving: JoinSet::new(),
            failed: None,
            took: Duration::ZERO,
            ticked: None,
        }
    }

    /// Until the loop hangs up; then everything is confirmed and in a snapshot.
    pub async fn run(mut self, mut work: mpsc::Receiver<Work>) -> Result<(), ProcessorError> {
        self.load().await?;
        loop {
            let quiet = self.quiet_for();
            tokio::select! {
                work = work.recv() => match work {
                    None => break,
                    Some(Work::Batch(records)) => self.batch(records).await?,
                    Some(Work::OutOfRange { wanted, earliest }) => self.recover(wanted, earliest).await?,
                },
                Some(saved) = self.saving.join_next() => self.saved(saved??),
                () = tokio::time::sleep(quiet) => self.tick().await?,
            }
            if self.snapshot_due() {
                self.snapshot().await?;
            }
        }
        self.drain().await
    }

    pub(crate) fn next(&self) -> Offset {
        self.engine.as_ref().map_or(self.saved.0, |engine| engine.next())
    }

    pub(crate) fn clock(&self) -> Arrived {
        self.engine.as_ref().map_or(Arrived(0), |engine| engine.clock())
    }

    pub(crate) fn start(&self) {
        (self.say)(Say::Start(self.next()));
    }

    /// The newest readable snapshot, or the beginning.
    async fn load(&mut self) -> Result<(), ProcessorError> {
        let (objects, config) = (self.objects.clone(), self.config.engine);
        let found = tokio::task::spawn_blocking(move || snapshots::newest_snapshot(&*objects, config)).await??;
        let snapshot = found.as_ref().map(|(name, _)| name.clone());
        let engine = found.map_or_else(|| Engine::new(self.config.engine), |(_, engine)| engine);
        self.saved = (engine.next(), Instant::now());
        tracing::info!(partition = %self.partition, next = %engine.next(), snapshot, "partition assigned");
        self.engine = Some(Box::new(engine));
        self.start();
        if snapshot.is_some() {
            (self.say)(Say::Done(self.saved.0));
        }
        Ok(())
    }

    async fn batch(&mut self, records: Vec<Record>) -> Result<(), ProcessorError> {
        let Some(engine) = self.engine.take() else { return Ok(()) };
        let partition = self.partition;
        let applied = tokio::task::spawn_blocking(move || {
            let arrival = |record: &Record| Arrival {
                offset: record.offset,
                arrived_at: record.arrived_at,
                input: crate::decode(partition, record.offset, &record.value),
            };
            apply(engine, &records.iter().map(arrival).collect::<Vec<_>>())
        })
        .await?;
        self.speak(applied).await
    }

    /// Takes the engine back and appends what it said, at once; only a full journal makes it wait.
    pub(crate) async fn speak(&mut self, applied: Applied) -> Result<(), ProcessorError> {
        self.engine = Some(applied.engine);
        self.counted.inputs.increment(applied.inputs);
        for output in &applied.outputs {
            self.append(output).await?;
        }
        self.reap()
    }

    pub(crate) async fn append(&mut self, output: &Output) -> Result<(), ProcessorError> {
        let (topic, key, value, counted) = match output {
            Output::Window(window) => (Topic::Windows, window.patient.as_bytes(), window.encode(), &self.counted.windows),
            Output::Transition(transition) => (Topic::Alerts, transition.patient.as_bytes(), transition.encode(), &self.counted.transitions),
        };
        let receipt = loop {
            match self.journal.append(topic, self.partition, key, value.clone()) {
                Ok(receipt) => break receipt,
                Err(journal::Full) => self.journal.ready().await,
            }
        };
        self.receipts.push_back(receipt);
        counted.increment(1);
        Ok(())
    }

    /// Forgets the receipts that have come, and hears of an output that was not stored; waits for none. The journal's budget bounds the rest.
    fn reap(&mut self) -> Result<(), ProcessorError> {
        while let Some(answer) = self.receipts.front_mut().and_then(FutureExt::now_or_never) {
            self.receipts.pop_front();
            answer?;
        }
        Ok(())
    }

    fn unsaved(&self) -> u64 {
        u64::try_from(self.next().0 - self.saved.0.0).unwrap_or(0)
    }

    pub(crate) fn snapshot_due(&self) -> bool {
        let again = self.failed.is_none_or(|failed| failed.elapsed() >= SNAPSHOT_AGAIN.min(self.config.snapshot_after));
        let new = self.unsaved();
        let since = self.saved.1.elapsed();
        let enough = new >= self.config.snapshot_every && since >= self.took * SNAPSHOT_SHARE;
        self.saving.is_empty() && again && new > 0 && (enough || since >= self.config.snapshot_after)
    }

    /// P6: first the receipts of every output before it, then the snapshot, then the reader's progress. Evaluation does not wait for them.
    pub(crate) async fn snapshot(&mut self) -> Result<(), ProcessorError> {
        let Some(engine) = self.engine.take() else { return Ok(()) };
        let begun = Instant::now();
        let (engine, bytes) = tokio::task::spawn_blocking(move || {
            let bytes = engine.snapshot();
            (engine, bytes)
        })
        .await?;
        self.took = begun.elapsed();
        let next = engine.next();
        self.engine = Some(engine);
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                self.saved(Saved { next, written: Err(std::io::Error::other(error)) });
                return Ok(());
            }
        };
        let (objects, partition, receipts) = (self.objects.clone(), self.partition, std::mem::take(&mut self.receipts));
        self.saving.spawn(async move {
            for receipt in receipts {
                receipt.await?;
            }
            let written = tokio::task::spawn_blocking(move || snapshots::save(&*objects, partition, next, &bytes)).await?;
            Ok(Saved { next, written })
        });
        Ok(())
    }

    /// A snapshot that cannot be written costs a longer replay, never an evaluation.
    fn saved(&mut self, saved: Saved) {
        let Saved { next, written } = saved;
        match written {
            Ok(()) => {
                self.saved = (next, Instant::now());
                self.failed = None;
                counter!(names::SNAPSHOTS, "partition" => self.partition.to_string()).increment(1);
                (self.say)(Say::Done(next));
            }
            Err(error) => {
                self.failed = Some(Instant::now());
                counter!(names::SNAPSHOTS_FAILED, "partition" => self.partition.to_string()).increment(1);
                tracing::error!(partition = %self.partition, %next, %error, "a snapshot cannot be written, evaluation goes on; see to the lake's disk");
            }
        }
    }

    async fn drain(&mut self) -> Result<(), ProcessorError> {
        while let Some(saved) = self.saving.join_next().await {
            self.saved(saved??);
        }
        if self.unsaved() > 0 {
            self.snapshot().await?;
        }
        while let Some(saved) = self.saving.join_next().await {
            self.saved(saved??);
        }
        for receipt in self.receipts.drain(..) {
            receipt.await?;
        }
        Ok(())
    }

    /// How long until a timer is due if nothing comes.
    fn quiet_for(&self) -> Duration {
        let Some(due) = self.engine.as_ref().and_then(|engine| engine.next_due()) else { return LOOK };
        let until = Duration::from_micros(u64::try_from((due - wall()).0).unwrap_or(0));
        let again = self.ticked.filter(|(ticked, _)| *ticked == due).map_or(Duration::ZERO, |(_, when)| TICK_AGAIN.saturating_sub(when.elapsed()));
        until.max(again).clamp(Duration::from_millis(10), LOOK)
    }

    /// Appends a Tick where a timer is due and nothing came: it changes when we hear, never what.
    async fn tick(&mut self) -> Result<(), ProcessorError> {
        self.reap()?;
        let now = wall();
        let Some(due) = self.engine.as_ref().and_then(|engine| engine.next_due()).filter(|due| *due < now) else { return Ok(()) };
        if self.ticked.is_some_and(|(ticked, when)| ticked == due && when.elapsed() < TICK_AGAIN) {
            return Ok(());
        }
        self.ticked = Some((due, Instant::now()));
        // a full journal is not quiet: its own traffic moves the clock
        let Ok(receipt) = self.journal.append(Topic::Inputs, self.partition, b"", Input::Tick.encode()) else { return Ok(()) };
        match receipt.await {
            Ok(_) => counter!(names::TICKS, "partition" => self.partition.to_string()).increment(1),
            Err(error) => tracing::warn!(partition = %self.partition, %error, "a tick was not stored, it is tried again"),
        }
        Ok(())
    }

    pub(crate) fn take_engine(&mut self) -> Option<Box<Engine>> {
        self.engine.take()
    }
}
