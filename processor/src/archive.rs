//! The role that writes the lake's raw layer.
//!
//! Four readers, one for each topic; per partition a buffer that becomes a file. Nothing is remembered but the files: who starts reads where the
//! newest one ends and goes on from there. A file that somebody else wrote meanwhile is taken as it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use journal::{Event, Journal, Mode, OpenError, ReadError, Reader, Record, Start, Topic};
use metrics::{counter, gauge};
use schemas::{Arrived, Offset, Partition};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lake::{self, Footer, LakeError};
use crate::metrics as names;
use crate::objects::Objects;

/// Bytes of one topic that may wait to become files; then the largest buffer becomes one. Encoding takes as much again.
const BUDGET: usize = 64 << 20;
/// What a record costs beside its bytes.
const OVERHEAD: usize = 64;
/// After a failed write it is tried again this much later, or after `roll_after`.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveConfig {
    /// A file is written when its first record has waited this long.
    pub roll_after: Duration,
    /// Or when it has this many records.
    pub roll_rows: u64,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self { roll_after: Duration::from_secs(300), roll_rows: 200_000 }
    }
}

/// The archive cannot go on. Started again, it resumes where its newest files end.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Lake(#[from] LakeError),
    #[error("a record cannot be written as Parquet: {0}")]
    Encode(#[from] parquet::errors::ParquetError),
    #[error(
        "the lake has {topic} of partition {partition} up to offset {archived}, the journal ends at {next}: it is another installation's, or was restored from an older backup; point lake.path at this installation's own folder, or begin an empty one",
        topic = topic.name()
    )]
    Ahead { topic: Topic, partition: Partition, archived: Offset, next: Offset },
    #[error("a worker thread ended early")]
    Worker(#[from] JoinError),
}

pub struct Archive {
    config: ArchiveConfig,
    journal: Arc<dyn Journal>,
    objects: Arc<dyn Objects>,
}

impl Archive {
    pub fn new(config: ArchiveConfig, journal: Arc<dyn Journal>, objects: Arc<dyn Objects>) -> Self {
        Self { config, journal, objects }
    }

    /// Until `stop`; then everything that was read is in the lake. A lake that cannot be written holds it up, and is tried again.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ArchiveError> {
        let stop = stop.child_token();
        let mut topics = JoinSet::new();
        for topic in Topic::ALL {
            let reader = self.journal.reader(topic, Mode::Group("archive".to_owned()))?;
            let archive = TopicArchive {
                config: self.config.clone(),
                topic,
                journal: self.journal.clone(),
                objects: self.objects.clone(),
                buffers: BTreeMap::new(),
                stop: stop.clone(),
            };
            topics.spawn(archive.run(reader));
        }
        let mut result = Ok(());
        while let Some(ended) = topics.join_next().await {
            let ended = ended.map_err(ArchiveError::Worker).and_then(|ended| ended);
            // one topic is not archived without the others; what they have read is still written
            stop.cancel();
            result = result.and(ended);
        }
        result
    }
}

struct TopicArchive {
    config: ArchiveConfig,
    topic: Topic,
    journal: Arc<dyn Journal>,
    objects: Arc<dyn Objects>,
    buffers: BTreeMap<Partition, Buffer>,
    stop: CancellationToken,
}

/// What will be a file.
#[derive(Default)]
struct Buffer {
    /// With what the file begins: where the one before it ends. `None`: the partition has no file yet, and begins with what the journal has.
    first: Option<Offset>,
    /// What is read next; below it is what we have or what somebody else wrote.
    next: Offset,
    /// No record arrived before the one before it, whatever a broker's clock says: dates and offsets rise together, for every writer alike.
    clock: Option<Arrived>,
    records: Vec<Record>,
    bytes: usize,
    since: Option<Instant>,
}

impl Buffer {
    fn from(end: Option<Footer>) -> Self {
        Self { first: end.map(|end| end.next), next: end.map_or(Offset(0), |end| end.next), clock: end.map(|end| end.last_arrived_at), ..Self::default() }
    }

    fn arrived_at(&self, record: &Record) -> Arrived {
        self.clock.map_or(record.arrived_at, |clock| clock.max(record.arrived_at))
    }

    /// A file has one date.
    fn fits(&self, record: &Record) -> bool {
        self.records.last().is_none_or(|last| lake::day(last.arrived_at) == lake::day(self.arrived_at(record)))
    }

    fn push(&mut self, mut record: Record) {
        record.arrived_at = self.arrived_at(&record);
        self.clock = Some(record.arrived_at);
        self.first.get_or_insert(record.offset);
        self.next = record.offset.next();
        self.bytes += record.key.len() + record.value.len() + OVERHEAD;
        self.since.get_or_insert_with(Instant::now);
        self.records.push(record);
    }

    /// Begins anew where a file ends; keeps what the file does not have.
    fn after(&mut self, end: Footer) {
        self.records.retain(|record| record.offset >= end.next);
        self.bytes = self.records.iter().map(|record| record.key.len() + record.value.len() + OVERHEAD).sum();
        self.since = (!self.records.is_empty()).then(Instant::now);
        self.first = Some(end.next);
        self.next = self.next.max(end.next);
        self.clock = self.clock.max(Some(end.last_arrived_at));
    }
}

impl TopicArchive {
    async fn run(mut self, mut reader: Box<dyn Reader>) -> Result<(), ArchiveError> {
        let stop = self.stop.clone();
        loop {
            let due = self.buffers.values().filter_map(|buffer| buffer.since).min().map(|since| since + self.config.roll_after);
            tokio::select! {
                () = stop.cancelled() => break,
                event = reader.next() => self.event(event?, &mut *reader).await?,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.roll_due(&mut *reader).await?,
            }
        }
        let partitions: Vec<Partition> = self.buffers.keys().copied().collect();
        for partition in partitions {
            self.roll(partition, &mut *reader).await?;
        }
        Ok(())
    }

    async fn event(&mut self, event: Event, reader: &mut dyn Reader) -> Result<(), ArchiveError> {
        match event {
            Event::Assigned { partition, .. } => {
                let (objects, topic) = (self.objects.clone(), self.topic);
                let end = tokio::task::spawn_blocking(move || lake::end(&objects, topic, partition)).await??;
                reader.start(partition, end.map_or(Start::Earliest, |end| Start::At(end.next)));
                if let Some(end) = end {
                    reader.done(partition, end.next);
                }
                self.buffers.insert(partition, Buffer::from(end));
            }
            Event::Revoked { partition } => {
                self.buffers.remove(&partition);
                self.tell_lag(partition);
            }
            Event::OutOfRange { partition, wanted, earliest } => self.out_of_range(partition, wanted, earliest, reader).await?,
            Event::Batch { partition, records, .. } => self.batch(partition, records, reader).await?,
        }
        Ok(())
    }

    async fn batch(&mut self, partition: Partition, records: Vec<Record>, reader: &mut dyn Reader) -> Result<(), ArchiveError> {
        for record in records {
            let Some(buffer) = self.buffers.get(&partition) else { return Ok(()) };
            if !buffer.fits(&record) || buffer.records.len() as u64 >= self.config.roll_rows {
                self.roll(partition, reader).await?;
            }
            // after the roll: somebody else's file may have it
            if let Some(buffer) = self.buffers.get_mut(&partition).filter(|buffer| record.offset >= buffer.next) {
                buffer.push(record);
            }
        }
        let full = |buffer: &Buffer, rows: u64| buffer.records.len() as u64 >= rows;
        if self.buffers.get(&partition).is_some_and(|buffer| full(buffer, self.config.roll_rows)) {
            self.roll(partition, reader).await?;
        }
        while self.buffers.values().map(|buffer| buffer.bytes).sum::<usize>() > BUDGET {
            let Some((&largest, _)) = self.buffers.iter().max_by_key(|(_, buffer)| buffer.bytes) else { break };
            self.roll(largest, reader).await?;
        }
        self.tell_lag(partition);
        Ok(())
    }

    async fn roll_due(&mut self, reader: &mut dyn Reader) -> Result<(), ArchiveError> {
        let due: Vec<Partition> =
            self.buffers.iter().filter(|(_, buffer)| buffer.since.is_some_and(|since| since.elapsed() >= self.config.roll_after)).map(|(p, _)| *p).collect();
        for partition in due {
            self.roll(partition, reader).await?;
            self.tell_lag(partition);
        }
        Ok(())
    }

    /// Until nothing of the partition waits: the buffer becomes a file, or is in somebody else's. Only then there is progress.
    async fn roll(&mut self, partition: Partition, reader: &mut dyn Reader) -> Result<(), ArchiveError> {
        loop {
            let Some(buffer) = self.buffers.get_mut(&partition) else { return Ok(()) };
            let (Some(first), Some(record), Some(last)) = (buffer.first, buffer.records.first(), buffer.records.last()) else { return Ok(()) };
            let name = lake::name(self.topic, partition, first, record.arrived_at);
            let footer = Footer { first, next: buffer.next, last_arrived_at: last.arrived_at, emptied: 0 };
            let rows = buffer.records.len() as u64;
            let records = std::mem::take(&mut buffer.records);
            let (topic, objects) = (self.topic, self.objects.clone());
            let (records, written) = tokio::task::spawn_blocking(move || {
                let written = write(topic, partition, &name, footer, &records, &objects);
                (records, written)
            })
            .await?;
            buffer.records = records;
            match written {
                Ok((end, created)) => {
                    if created {
                        counter!(names::ARCHIVE_FILES, "topic" => topic.name()).increment(1);
                        counter!(names::ARCHIVE_ROWS, "topic" => topic.name()).increment(rows);
                    } else {
                        tracing::warn!(topic = topic.name(), %partition, %first, next = %end.next, "another archive wrote this file; going on where it ends");
                    }
                    buffer.after(end);
                    reader.done(partition, end.next);
                }
                Err(ArchiveError::Lake(LakeError::Objects(error))) => {
                    tracing::error!(topic = topic.name(), %partition, %first, %error, "a file of the lake cannot be written, the journal keeps its records meanwhile");
                    counter!(names::ARCHIVE_FAILED, "topic" => topic.name()).increment(1);
                    if self.stop.is_cancelled() {
                        return Err(LakeError::Objects(error).into());
                    }
                    tokio::select! {
                        () = self.stop.cancelled() => {}
                        () = tokio::time::sleep(AGAIN.min(self.config.roll_after)) => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn out_of_range(&mut self, partition: Partition, wanted: Offset, earliest: Offset, reader: &mut dyn Reader) -> Result<(), ArchiveError> {
        let range = self.journal.range(self.topic, partition).await?;
        if wanted > range.next {
            return Err(ArchiveError::Ahead { topic: self.topic, partition, archived: wanted, next: range.next });
        }
        self.roll(partition, reader).await?;
        let Some(buffer) = self.buffers.get_mut(&partition) else { return Ok(()) };
        let from = earliest.max(buffer.next);
        if from > buffer.next {
            let lost = from.0 - buffer.next.0;
            tracing::error!(topic = self.topic.name(), %partition, from = %buffer.next, to = %from, lost, "records were gone from the journal before they were archived");
            counter!(names::ARCHIVE_LOST, "topic" => self.topic.name()).increment(lost.unsigned_abs());
        }
        (buffer.first, buffer.next) = (Some(from), from);
        reader.start(partition, Start::At(from));
        Ok(())
    }

    fn tell_lag(&self, partition: Partition) {
        let oldest = self.buffers.get(&partition).and_then(|buffer| buffer.records.first());
        let lag = oldest.map_or(0.0, |record| (crate::wall() - record.arrived_at).0.max(0) as f64 / 1e6);
        gauge!(names::ARCHIVE_LAG, "topic" => self.topic.name(), "partition" => partition.to_string()).set(lag);
    }
}

/// Where the file of this name ends, and whether it is ours. Blocking.
fn write(
    topic: Topic,
    partition: Partition,
    name: &str,
    footer: Footer,
    records: &[Record],
    objects: &Arc<dyn Objects>,
) -> Result<(Footer, bool), ArchiveError> {
    let bytes = lake::encode(topic, partition, &footer, records)?;
    if objects.create(name, &bytes).map_err(LakeError::Objects)? {
        return Ok((footer, true));
    }
    Ok((lake::footer_of(objects, name)?, false))
}
