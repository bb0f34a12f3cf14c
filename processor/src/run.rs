//! The loop: it owns the reader and hands each partition's batches to that partition's worker, so that none waits for another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use journal::{AppendError, Assignment, Event, Journal, Mode, OpenError, ReadError, Reader, Start, Topic};
use schemas::{Offset, Partition};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::objects::Objects;
use crate::worker::{News, Say, Work, Worker};

/// Batches that may wait for one partition's worker; then nothing more is read. A batch has at most 4096 records and 4 MiB.
const WAITING: usize = 2;

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
    #[error(
        "partition {partition} has inputs from {earliest} on, and {wanted} is needed: what lies between is gone from the journal, and not in the lake ({lake}); restore the journal, the lake or the snapshots from a backup"
    )]
    Gap { partition: Partition, wanted: Offset, earliest: Offset, lake: String },
    #[error(
        "the snapshot of partition {partition} is at {wanted}, the journal ends at {next}: the journal is another installation's, or was restored from an older backup; restore one of the same time, or remove the folder snapshots/{partition} to begin with what the journal has"
    )]
    Ahead { partition: Partition, wanted: Offset, next: Offset },
    #[error("snapshots: {0}")]
    Objects(#[from] std::io::Error),
    #[error("a worker thread ended early")]
    Worker(#[from] JoinError),
}

pub struct Processor {
    config: Config,
    journal: Arc<dyn Journal>,
    objects: Arc<dyn Objects>,
}

/// A partition that is ours.
struct Owned {
    assignment: Assignment,
    work: mpsc::Sender<Work>,
    task: AbortHandle,
}

type Tasks = JoinSet<Result<(), ProcessorError>>;

impl Processor {
    pub fn new(config: Config, journal: Arc<dyn Journal>, objects: Arc<dyn Objects>) -> Self {
        Self { config, journal, objects }
    }

    /// Until `stop`; then every output is confirmed and every partition has its snapshot.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ProcessorError> {
        let mut reader = self.journal.reader(Topic::Inputs, Mode::Group("processor".to_owned()))?;
        // unbounded, because a worker must never wait for who waits for it; it says a few words per snapshot
        let (say, mut news) = mpsc::unbounded_channel();
        let mut owned: BTreeMap<Partition, Owned> = BTreeMap::new();
        let mut tasks = Tasks::new();
        let mut waiting: Option<(Partition, Work)> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = tasks.join_next() => settled(ended)?,
                Some(news) = news.recv() => hear(&mut *reader, &owned, news),
                permit = room(&owned, waiting.as_ref()), if waiting.is_some() => {
                    // no permit: the worker ended, and says why
                    if let (Some((_, work)), Some(permit)) = (waiting.take(), permit) {
                        permit.send(work);
                    }
                }
                event = reader.next(), if waiting.is_none() => match event? {
                    Event::Assigned { partition, assignment } => {
                        let worker = self.worker(partition, say.clone(), assignment);
                        let (work, queue) = mpsc::channel(WAITING);
                        owned.insert(partition, Owned { assignment, work, task: tasks.spawn(worker.run(queue)) });
                    }
                    Event::Revoked { partition } => {
                        if let Some(gone) = owned.remove(&partition) {
                            silence(&mut tasks, &gone.task).await?;
                        }
                    }
                    Event::OutOfRange { partition, wanted, earliest } => waiting = Some((partition, Work::OutOfRange { wanted, earliest })),
                    Event::Batch { partition, assignment, records } if owned.get(&partition).is_some_and(|owned| owned.assignment == assignment) => {
                        waiting = Some((partition, Work::Batch(records)));
                    }
                    Event::Batch { .. } => {}
                },
            }
        }
        let assignments: BTreeMap<Partition, Assignment> = owned.iter().map(|(partition, owned)| (*partition, owned.assignment)).collect();
        tracing::info!(partitions = assignments.len(), "processor drains");
        // without a sender each worker finishes its queue and drains
        owned.clear();
        let mut result = Ok(());
        while let Some(ended) = tasks.join_next().await {
            result = result.and(settled(ended));
        }
        while let Ok(news) = news.try_recv() {
            if assignments.get(&news.partition) == Some(&news.assignment) {
                tell(&mut *reader, news);
            }
        }
        result
    }

    fn worker(&self, partition: Partition, say: mpsc::UnboundedSender<News>, assignment: Assignment) -> Worker {
        let config = Config { engine: engine::Config { partition, ..self.config.engine }, ..self.config };
        Worker::new(config, self.journal.clone(), self.objects.clone(), move |what| {
            // nobody listens any more: the processor ended
            drop(say.send(News { partition, assignment, what }));
        })
    }
}

async fn room(owned: &BTreeMap<Partition, Owned>, waiting: Option<&(Partition, Work)>) -> Option<mpsc::OwnedPermit<Work>> {
    let (partition, _) = waiting?;
    owned.get(partition)?.work.clone().reserve_owned().await.ok()
}

/// An aborted worker is no failure.
fn settled(ended: Result<Result<(), ProcessorError>, JoinError>) -> Result<(), ProcessorError> {
    match ended {
        Ok(ended) => ended,
        Err(error) if error.is_cancelled() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Returns when the worker is gone: nothing more is written on behalf of its partition.
async fn silence(tasks: &mut Tasks, task: &AbortHandle) -> Result<(), ProcessorError> {
    task.abort();
    while !task.is_finished() {
        match tasks.join_next().await {
            Some(ended) => settled(ended)?,
            None => break,
        }
    }
    Ok(())
}

/// What an earlier assignment's worker said is no news.
fn hear(reader: &mut dyn Reader, owned: &BTreeMap<Partition, Owned>, news: News) {
    if owned.get(&news.partition).is_some_and(|owned| owned.assignment == news.assignment) {
        tell(reader, news);
    }
}

fn tell(reader: &mut dyn Reader, news: News) {
    match news.what {
        Say::Start(from) => reader.start(news.partition, Start::At(from)),
        Say::Done(next) => reader.done(news.partition, next),
    }
}
