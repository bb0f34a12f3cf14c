//! What every backend does. Roles know only this.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use schemas::{Arrived, Offset, Partition};
use tokio::sync::oneshot;

/// The topics of an installation. All have the same number of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    Inputs,
    DeadLetters,
    Windows,
    Alerts,
}

impl Topic {
    pub const ALL: [Self; 4] = [Self::Inputs, Self::DeadLetters, Self::Windows, Self::Alerts];
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inputs => "vigil.inputs",
            Self::DeadLetters => "vigil.dead-letters",
            Self::Windows => "vigil.windows",
            Self::Alerts => "vigil.alerts",
        }
    }
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: Offset,
    /// The journal's own timestamp; never decreases within a partition as the readers of this crate hand it out.
    pub arrived_at: Arrived,
    pub key: Bytes,
    pub value: Bytes,
}

/// What a receipt says when the record is durable, but the journal no longer knows where: a broker that forgot its answer.
pub const OFFSET_UNKNOWN: Offset = Offset(-1);

/// Resolves once: `Ok` means durable (J1), with the record's offset, or [`OFFSET_UNKNOWN`].
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<Offset, AppendError>>);

/// The journal's end of a [`Receipt`]. Dropped unanswered, the receipt is [`AppendError::Closed`].
#[derive(Debug)]
pub struct ReceiptSender(oneshot::Sender<Result<Offset, AppendError>>);

impl Receipt {
    pub fn channel() -> (ReceiptSender, Self) {
        let (sender, receiver) = oneshot::channel();
        (ReceiptSender(sender), Self(receiver))
    }
}

impl ReceiptSender {
    pub fn send(self, result: Result<Offset, AppendError>) {
        // whoever dropped the receipt does not want to know
        drop(self.0.send(result));
    }
}

impl Future for Receipt {
    type Output = Result<Offset, AppendError>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(AppendError::Closed)))
    }
}

/// The append budget is used up: wait for [`Journal::ready`] and append again. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal has no room for more unacknowledged appends just now")]
pub struct Full;

/// An append that did not become durable, or of which we cannot know.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the journal is closed")]
    Closed,
    #[error("the disk is full: free space, or lower journal.retention")]
    DiskFull,
    #[error("a record of {bytes} bytes; at most {limit} are possible")]
    TooLarge { bytes: usize, limit: usize },
    #[error("the journal failed: {0}")]
    Failed(Arc<str>),
}

/// Where a reader starts in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    At(Offset),
    /// After the last record there is when the reader gets to it.
    Latest,
}

/// Who reads, and how partitions come to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Partitions are shared among all readers of this name, in this process and others; each has its own progress and, when embedded,
    /// holds retention back.
    Group(String),
    /// Every partition, alone; keeps no progress and holds nothing back.
    Follow,
}

/// Counts up with each assignment of a reader, so that work of an old one is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Assignment(pub u64);

#[derive(Clone, Debug)]
pub enum Event {
    /// The partition is ours. Nothing comes of it until [`Reader::start`] says from where.
    Assigned {
        partition: Partition,
        assignment: Assignment,
    },
    Batch {
        partition: Partition,
        assignment: Assignment,
        records: Vec<Record>,
    },
    /// The partition is no longer ours: nothing may be written any more on its behalf.
    Revoked {
        partition: Partition,
    },
    /// `wanted` is gone (retention) or not there yet (a journal of another installation). Nothing comes until `start` is called again.
    OutOfRange {
        partition: Partition,
        wanted: Offset,
        earliest: Offset,
    },
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the journal is closed")]
    Closed,
    #[error("the journal failed: {0}")]
    Failed(Arc<str>),
}

/// Opening a journal that is not there, not ours or not safe.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the journal {path} is in use by another process (pid {pid}): embedded means one process; stop it, or use journal.kind = \"kafka\"", pid = pid.map_or_else(|| "unknown".to_owned(), |p| p.to_string()))]
    Locked { path: String, pid: Option<u32> },
    #[error(
        "the journal {path} belongs to installation {found}, not to {expected}: point journal.path (embedded) or journal.bootstrap (kafka) at this installation's own"
    )]
    OtherInstallation { path: String, found: String, expected: String },
    #[error(
        "the journal has {found} partitions, the configuration says {expected}; the number is fixed for the life of an installation: set journal.partitions = {found}"
    )]
    Partitions { found: u32, expected: u32 },
    #[error("{path} is not a journal of Vigil, or is damaged: {reason}")]
    NotAJournal { path: String, reason: String },
    #[error("topic {topic}: {reason}")]
    Unsafe { topic: String, reason: String },
    #[error(
        "journal.properties: {key} may undo what the journal promises; only how brokers are reached and trusted, and how much is fetched at once, is set there: take it out"
    )]
    Property { key: String },
    #[error("cannot reach Kafka at {address}: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("the journal failed: {0}")]
    Failed(String),
}

pub trait Appender: Send + Sync + 'static {
    /// Never blocks and never waits. Records of one partition are written in the order of these calls.
    fn append(&self, topic: Topic, partition: Partition, key: &[u8], value: Bytes) -> Result<Receipt, Full>;
    /// Resolves when an append has a chance again after [`Full`].
    fn ready(&self) -> BoxFuture<'_, ()>;
    /// The number of partitions of every topic, fixed for the life of the installation.
    fn partitions(&self) -> u32;
}

/// One consumer. Not calling [`Reader::next`] is the backpressure: memory stays bounded.
pub trait Reader: Send {
    /// Cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, Result<Event, ReadError>>;
    /// Begins, or begins again elsewhere, in an assigned partition.
    fn start(&mut self, partition: Partition, from: Start);
    /// Everything before `next` has had its effect: for lag, and the retention floor when embedded.
    fn done(&mut self, partition: Partition, next: Offset);
}

/// The end of the log and its beginning, of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub earliest: Offset,
    /// The offset that the next record will have.
    pub next: Offset,
}

pub trait Journal: Appender {
    fn reader(&self, topic: Topic, mode: Mode) -> Result<Box<dyn Reader>, OpenError>;
    fn range(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<Range, ReadError>>;
    /// The first record that arrived at `at` or later; where the next one will be when there is none.
    fn since(&self, topic: Topic, partition: Partition, at: Arrived) -> BoxFuture<'_, Result<Offset, ReadError>>;
    /// The journal answers, and takes appends.
    fn healthy(&self) -> BoxFuture<'_, Result<(), ReadError>>;
    /// Flushes what was appended and ends: later appends are [`AppendError::Closed`], readers end with [`ReadError::Closed`].
    fn close(&self) -> BoxFuture<'_, ()>;
}
