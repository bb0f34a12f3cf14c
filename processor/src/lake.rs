//! The lake's raw layer: `raw/{topic}/date={arrival date}/{partition}-{first offset}.parquet`, one file per offset range, created if absent.
//!
//! The names are the checkpoint: a file begins where the one before it ends, so that nobody can write a fork. It is read in arrival order,
//! piece by piece, and what is missing is an error that names it. Everything here blocks: call it off the runtime.

mod columns;
mod file;

use std::io;
use std::sync::Arc;

use engine::Arrival;
use journal::{Record, Topic};
use schemas::{Arrived, Micros, Offset, Partition};

use crate::objects::Objects;

pub(crate) use file::encode;
pub use file::{Footer, read_footer, rewrite, write};

/// The lake does not have what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    #[error("the lake: {0}")]
    Objects(#[from] io::Error),
    #[error("the lake's file {name} is damaged: {reason}; restore it from a backup, or remove it while the journal still holds its records")]
    Damaged { name: String, reason: String },
    #[error("the lake has no {topic} of partition {partition} from offset {from} up to {to}; restore the missing file of raw/{topic}", topic = folder(*.topic))]
    Gap { topic: Topic, partition: Partition, from: Offset, to: Offset },
}

/// A file of the raw layer, as its name tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFile {
    pub name: String,
    /// `2026-11-22`: when its records arrived, in UTC.
    pub date: String,
    pub partition: Partition,
    /// The first offset that it answers for.
    pub first: Offset,
}

/// `inputs`, for `vigil.inputs`.
pub fn folder(topic: Topic) -> &'static str {
    topic.name().trim_start_matches("vigil.")
}

/// Days since 1970, in UTC.
pub(crate) const fn day(arrived: Arrived) -> i64 {
    arrived.0.div_euclid(Micros::days(1).0)
}

/// The name of the file that begins at `first` and whose first record arrived then.
pub(crate) fn name(topic: Topic, partition: Partition, first: Offset, arrived: Arrived) -> String {
    let midnight = Arrived(day(arrived).saturating_mul(Micros::days(1).0)).to_string();
    let date = midnight.split('T').next().unwrap_or_default();
    format!("raw/{}/date={date}/{partition}-{:020}.parquet", folder(topic), first.0)
}

pub(crate) fn parse(name: &str) -> Option<RawFile> {
    let (folder, file) = name.rsplit_once('/')?;
    let date = folder.rsplit_once("/date=")?.1;
    let (partition, first) = file.strip_suffix(".parquet")?.split_once('-')?;
    Some(RawFile { name: name.to_owned(), date: date.to_owned(), partition: Partition(partition.parse().ok()?), first: Offset(first.parse().ok()?) })
}

/// Where the file of this name ends.
pub(crate) fn footer_of(objects: &Arc<dyn Objects>, name: &str) -> Result<Footer, LakeError> {
    let file = parse(name).ok_or_else(|| LakeError::Damaged { name: name.to_owned(), reason: "its name is none of the raw layer".to_owned() })?;
    read_footer(objects, &file)
}

/// The files of one partition in one folder of a date, in order.
fn of_date(objects: &dyn Objects, date: &str, partition: Partition) -> io::Result<Vec<RawFile>> {
    let mut files: Vec<RawFile> = objects.list(date)?.iter().filter_map(|name| parse(name)).filter(|file| file.partition == partition).collect();
    files.sort_by_key(|file| file.first);
    Ok(files)
}

/// Every file of a partition, in the order of its offsets; for pruning by date before anything is opened.
pub fn files(objects: &dyn Objects, topic: Topic, partition: Partition) -> io::Result<Vec<RawFile>> {
    let mut files = Vec::new();
    for date in objects.list(&format!("raw/{}", folder(topic)))? {
        files.extend(of_date(objects, &date, partition)?);
    }
    files.sort_by(|a, b| (a.first, &a.date).cmp(&(b.first, &b.date)));
    Ok(files)
}

/// The partitions that a topic has files of.
pub fn partitions(objects: &dyn Objects, topic: Topic) -> io::Result<std::collections::BTreeSet<Partition>> {
    let mut partitions = std::collections::BTreeSet::new();
    for date in objects.list(&format!("raw/{}", folder(topic)))? {
        partitions.extend(objects.list(&date)?.iter().filter_map(|name| parse(name)).map(|file| file.partition));
    }
    Ok(partitions)
}

/// The offsets that stand in a file, as they stand in it.
///
/// # Errors
/// When it cannot be read.
pub fn offsets(objects: &Arc<dyn Objects>, file: &RawFile) -> Result<Vec<Offset>, LakeError> {
    let mut offsets = Vec::new();
    for records in file::FileReader::open(objects, file)? {
        offsets.extend(records?.iter().map(|record| record.offset));
    }
    Ok(offsets)
}

/// The newest file of a partition. Arrival never decreases from one file to the next, so the newest date has it.
pub(crate) fn newest(objects: &dyn Objects, topic: Topic, partition: Partition) -> io::Result<Option<RawFile>> {
    for date in objects.list(&format!("raw/{}", folder(topic)))?.iter().rev() {
        if let Some(file) = of_date(objects, date, partition)?.pop() {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Where the lake ends: the offset that its next file will begin with. `None`: it has nothing of the partition.
pub fn end(objects: &Arc<dyn Objects>, topic: Topic, partition: Partition) -> Result<Option<Footer>, LakeError> {
    newest(&**objects, topic, partition)?.map(|file| read_footer(objects, &file)).transpose()
}

/// The records of a partition from an offset on, in arrival order, to the lake's end.
pub struct Records {
    objects: Arc<dyn Objects>,
    topic: Topic,
    partition: Partition,
    files: std::vec::IntoIter<RawFile>,
    open: Option<file::FileReader>,
    next: Offset,
    failed: bool,
}

/// # Errors
/// When the lake cannot be listed. What is missing or damaged is an error of the iterator, and its last item.
pub fn records(objects: Arc<dyn Objects>, topic: Topic, partition: Partition, from: Offset) -> Result<Records, LakeError> {
    let mut files = files(&*objects, topic, partition)?;
    let before = files.iter().take_while(|file| file.first <= from).count().saturating_sub(1);
    files.drain(..before);
    Ok(Records { objects, topic, partition, files: files.into_iter(), open: None, next: from, failed: false })
}

impl Records {
    /// Everything before this was read.
    pub const fn next_offset(&self) -> Offset {
        self.next
    }

    /// The next piece that is not empty; `None` at the lake's end.
    fn piece(&mut self) -> Result<Option<Vec<Record>>, LakeError> {
        loop {
            let Some(reader) = &mut self.open else {
                let Some(file) = self.files.next() else { return Ok(None) };
                if file.first > self.next {
                    return Err(LakeError::Gap { topic: self.topic, partition: self.partition, from: self.next, to: file.first });
                }
                self.open = Some(file::FileReader::open(&self.objects, &file)?);
                continue;
            };
            let Some(records) = reader.next() else {
                self.next = self.next.max(reader.footer.next);
                self.open = None;
                continue;
            };
            let mut records = records?;
            records.retain(|record| record.offset >= self.next);
            if let Some(last) = records.last() {
                self.next = last.offset.next();
                return Ok(Some(records));
            }
        }
    }
}

impl Iterator for Records {
    type Item = Result<Vec<Record>, LakeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let piece = self.piece();
        self.failed = piece.is_err();
        piece.transpose()
    }
}

/// What the engine reads, from the lake.
pub struct Inputs(Records);

/// The inputs of a partition from an offset on, exactly as the journal had them.
///
/// # Errors
/// As [`records`].
pub fn inputs(objects: Arc<dyn Objects>, partition: Partition, from: Offset) -> Result<Inputs, LakeError> {
    records(objects, Topic::Inputs, partition, from).map(Inputs)
}

impl Inputs {
    /// Everything before this was read.
    pub const fn next_offset(&self) -> Offset {
        self.0.next_offset()
    }
}

impl Iterator for Inputs {
    type Item = Result<Vec<Arrival>, LakeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let partition = self.0.partition;
        let arrival =
            |record: Record| Arrival { offset: record.offset, arrived_at: record.arrived_at, input: crate::decode(partition, record.offset, &record.value) };
        Some(self.0.next()?.map(|records| records.into_iter().map(arrival).collect()))
    }
}
