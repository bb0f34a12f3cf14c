//! The journal as one SQLite file of one process.
//!
//! A commit thread does group commit without a timer: whatever was appended during the last fsync is the next transaction. A row holds
//! the consecutive records of one partition that arrived together; its `arrived_at` is stamped by the commit thread and never goes back.
//! Receipts are answered after COMMIT returned (`synchronous=FULL`), and readers see a record only then (J1).

mod commit;
mod row;

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension as _, params};
use schemas::{Arrived, Offset, Partition};

use crate::budget::Budget;
use crate::reading::{BATCH_BYTES, BATCH_RECORDS, Groups, LocalReader, Log};
use crate::{AppendError, Appender, Full, Journal, Mode, OpenError, Range, ReadError, Reader, Receipt, ReceiptSender, Record, Topic};
use row::Row;

/// "VIGL": tells our file from any other SQLite file.
const APPLICATION_ID: i32 = 0x5649_474c;
const FORMAT: &str = "1";
/// A record's cost beside its bytes, for the budget.
const OVERHEAD: usize = 64;
const MAX_RECORD: usize = 16 << 20;
/// The newest rows of a partition are kept in memory, because readers are almost always there: this much in all, and at most [`TAIL_OF_ONE`].
const TAIL_BYTES: usize = 64 << 20;
const TAIL_OF_ONE: usize = 4 << 20;

#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    pub path: PathBuf,
    /// Bound to the file when it is made; another one is refused.
    pub installation: String,
    /// Fixed when the file is made.
    pub partitions: u32,
    /// Bytes that may wait for their receipt.
    pub budget: usize,
    /// Rows older than this go, once every registered group is past them.
    pub retention: Duration,
    /// The oldest rows go while the file holds more than this, under the same condition.
    pub retention_bytes: u64,
    /// How often retention looks.
    pub sweep_every: Duration,
    /// The file may not grow beyond this many bytes; for a quota, and for the test of a full disk.
    pub max_bytes: Option<u64>,
}

impl EmbeddedConfig {
    pub fn new(path: impl Into<PathBuf>, installation: impl Into<String>, partitions: u32) -> Self {
        Self {
            path: path.into(),
            installation: installation.into(),
            partitions,
            budget: 64 << 20,
            retention: Duration::from_secs(30 * 86_400),
            retention_bytes: 20 << 30,
            sweep_every: Duration::from_secs(60),
            max_bytes: None,
        }
    }
}

#[derive(Clone)]
pub struct EmbeddedJournal {
    shared: Arc<Shared>,
    groups: Arc<Groups>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

struct Shared {
    budget: Budget,
    queue: Mutex<Queue>,
    /// Wakes the commit thread.
    work: Condvar,
    state: Mutex<State>,
    reader: Mutex<Connection>,
    /// Held, not read: the lock ends with it.
    _lock: File,
}

#[derive(Default)]
struct Queue {
    closed: bool,
    appends: Vec<Append>,
    /// Groups that are new: retention waits for them from the next commit on.
    groups: Vec<(String, Topic)>,
    done: HashMap<(String, Topic, Partition), Offset>,
}

struct Append {
    topic: Topic,
    partition: Partition,
    key: Bytes,
    value: Bytes,
    taken: usize,
    receipt: ReceiptSender,
}

/// What is durable.
#[derive(Default)]
struct State {
    heads: HashMap<(Topic, Partition), Head>,
    failure: Option<AppendError>,
}

#[derive(Default)]
struct Head {
    earliest: Offset,
    next: Offset,
    tail: VecDeque<Row>,
    tail_bytes: usize,
    /// The tail's bytes, and no more.
    keep: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(topic: Topic) -> i64 {
    match topic {
        Topic::Inputs => 0,
        Topic::DeadLetters => 1,
        Topic::Windows => 2,
        Topic::Alerts => 3,
    }
}

impl EmbeddedJournal {
    /// Opens the file, or makes it.
    pub fn open(config: &EmbeddedConfig) -> Result<Self, OpenError> {
        if let Some(folder) = config.path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| OpenError::Io { path: folder.display().to_string(), source })?;
        }
        let lock = take_lock(&config.path)?;
        let writer = connect(config)?;
        let reader = connect(config)?;
        let heads = load_heads(&writer, config.partitions).map_err(|error| damaged(&config.path, &error))?;
        let shared = Arc::new(Shared {
            budget: Budget::new(config.budget),
            queue: Mutex::default(),
            work: Condvar::new(),
            state: Mutex::new(State { heads, failure: None }),
            reader: Mutex::new(reader),
            _lock: lock,
        });
        let groups = Arc::new(Groups::new(config.partitions));
        let committer = commit::Committer::new(writer, shared.clone(), groups.clone(), config).map_err(|error| damaged(&config.path, &error))?;
        let thread = std::thread::Builder::new()
            .name("journal-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(|source| OpenError::Io { path: "a thread".to_owned(), source })?;
        Ok(Self { shared, groups, thread: Arc::new(Mutex::new(Some(thread))) })
    }
}

/// One process: the lock is the file's, its content says whose.
fn take_lock(path: &Path) -> Result<File, OpenError> {
    let name = path.with_extension("lock");
    let io = |source| OpenError::Io { path: name.display().to_string(), source };
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&name).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(io)?;
            return Err(OpenError::Locked { path: path.display().to_string(), pid: pid.trim().parse().ok() });
        }
        Err(std::fs::TryLockError::Error(source)) => return Err(io(source)),
    }
    file.set_len(0).map_err(io)?;
    file.rewind().map_err(io)?;
    write!(file, "{}", std::process::id()).map_err(io)?;
    file.sync_all().map_err(io)?;
    Ok(file)
}

fn damaged(path: &Path, error: &rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode::{CannotOpen, DiskFull, PermissionDenied, ReadOnly, SystemIoFailure};
    if matches!(error.sqlite_error_code(), Some(CannotOpen | DiskFull | PermissionDenied | ReadOnly | SystemIoFailure)) {
        let source = std::io::Error::other(format!("{error}; see to the disk, and to whose the file is"));
        return OpenError::Io { path: path.display().to_string(), source };
    }
    OpenError::NotAJournal { path: path.display().to_string(), reason: error.to_string() }
}

fn connect(config: &EmbeddedConfig) -> Result<Connection, OpenError> {
    let path = config.path.display().to_string();
    let fail = |error: rusqlite::Error| damaged(&config.path, &error);
    let db = Connection::open(&config.path).map_err(fail)?;
    let id: i32 = db.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(fail)?;
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(fail)?;
    if id != APPLICATION_ID && tables > 0 {
        return Err(OpenError::NotAJournal { path, reason: "it is a SQLite file of something else".to_owned() });
    }
    db.execute_batch("PRAGMA page_size=16384; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=10000; PRAGMA temp_store=MEMORY;")
        .map_err(fail)?;
    if let Some(bytes) = config.max_bytes {
        let page: u64 = db.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0)).map_err(fail)?.unsigned_abs();
        db.pragma_update(None, "max_page_count", (bytes / page.max(1)).max(8) as i64).map_err(fail)?;
    }
    if tables == 0 {
        create(&db, config).map_err(fail)?;
    }
    // files of before: retention and the sum of bytes read the index alone
    db.execute_batch("DROP INDEX IF EXISTS row_base; CREATE INDEX IF NOT EXISTS row_place ON row (topic, partition, base, count, arrived_at, bytes);")
        .map_err(fail)?;
    let meta = |key: &str| {
        db.query_row("SELECT value FROM meta WHERE key = $1", [key], |row| row.get::<_, String>(0)).optional().map_err(fail).map(Option::unwrap_or_default)
    };
    let format = meta("format")?;
    if format != FORMAT {
        return Err(OpenError::NotAJournal { path, reason: format!("its format is `{format}`, this version reads `{FORMAT}`") });
    }
    let found = meta("installation")?;
    if found != config.installation {
        return Err(OpenError::OtherInstallation { path, found, expected: config.installation.clone() });
    }
    let partitions: u32 =
        meta("partitions")?.parse().map_err(|_| OpenError::NotAJournal { path, reason: "it does not say how many partitions it has".to_owned() })?;
    if partitions != config.partitions {
        return Err(OpenError::Partitions { found: partitions, expected: config.partitions });
    }
    Ok(db)
}

fn create(db: &Connection, config: &EmbeddedConfig) -> rusqlite::Result<()> {
    db.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         PRAGMA application_id = {APPLICATION_ID};
         CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
         CREATE TABLE row (topic INTEGER NOT NULL, partition INTEGER NOT NULL, base INTEGER NOT NULL, count INTEGER NOT NULL,
                           arrived_at INTEGER NOT NULL, bytes INTEGER NOT NULL, blob BLOB NOT NULL) STRICT;
         CREATE INDEX row_place ON row (topic, partition, base, count, arrived_at, bytes);
         CREATE TABLE done (grp TEXT NOT NULL, topic INTEGER NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL,
                            PRIMARY KEY (grp, topic, partition)) STRICT, WITHOUT ROWID;"
    ))?;
    for (key, value) in [("format", FORMAT.to_owned()), ("installation", config.installation.clone()), ("partitions", config.partitions.to_string())] {
        db.execute("INSERT INTO meta VALUES ($1, $2)", params![key, value])?;
    }
    db.execute_batch("COMMIT")
}

fn load_heads(db: &Connection, partitions: u32) -> rusqlite::Result<HashMap<(Topic, Partition), Head>> {
    let mut heads = HashMap::new();
    let keep = TAIL_OF_ONE.min(TAIL_BYTES / (Topic::ALL.len() * partitions.max(1) as usize));
    for topic in Topic::ALL {
        for partition in (0..partitions).map(Partition) {
            let key = params![number(topic), partition.0];
            let earliest: Option<i64> = db.query_row("SELECT min(base) FROM row WHERE topic = $1 AND partition = $2", key, |row| row.get(0))?;
            let last = db
                .query_row("SELECT base, count, arrived_at, blob FROM row WHERE topic = $1 AND partition = $2 ORDER BY base DESC LIMIT 1", key, Row::from_sql)
                .optional()?;
            let mut head = Head { earliest: Offset(earliest.unwrap_or(0)), keep, ..Head::default() };
            if let Some(row) = last {
                head.push(row);
            }
            heads.insert((topic, partition), head);
        }
    }
    Ok(heads)
}

impl Head {
    fn push(&mut self, row: Row) {
        self.next = row.end();
        self.tail_bytes += row.blob.len();
        self.tail.push_back(row);
        while self.tail.len() > 1 && self.tail_bytes > self.keep {
            if let Some(old) = self.tail.pop_front() {
                self.tail_bytes -= old.blob.len();
            }
        }
    }
}

impl Appender for EmbeddedJournal {
    fn append(&self, topic: Topic, partition: Partition, key: &[u8], value: Bytes) -> Result<Receipt, Full> {
        let bytes = key.len() + value.len();
        let (sender, receipt) = Receipt::channel();
        if bytes > MAX_RECORD {
            sender.send(Err(AppendError::TooLarge { bytes, limit: MAX_RECORD }));
            return Ok(receipt);
        }
        if partition.0 >= self.groups.partitions() {
            sender.send(Err(AppendError::Failed(format!("there is no partition {partition}").into())));
            return Ok(receipt);
        }
        let taken = self.shared.budget.take(bytes + OVERHEAD)?;
        let mut queue = lock(&self.shared.queue);
        if queue.closed {
            self.shared.budget.give_back(taken);
            sender.send(Err(AppendError::Closed));
            return Ok(receipt);
        }
        queue.appends.push(Append { topic, partition, key: Bytes::copy_from_slice(key), value, taken, receipt: sender });
        let first = queue.appends.len() == 1;
        drop(queue);
        if first {
            self.shared.work.notify_one();
        }
        Ok(receipt)
    }

    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.budget.ready())
    }

    fn partitions(&self) -> u32 {
        self.groups.partitions()
    }
}

impl Journal for EmbeddedJournal {
    fn reader(&self, topic: Topic, mode: Mode) -> Result<Box<dyn Reader>, OpenError> {
        Ok(Box::new(LocalReader::new(self.shared.clone(), self.groups.clone(), topic, mode)))
    }

    fn range(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<Range, ReadError>> {
        Box::pin(std::future::ready(self.shared.range(topic, partition)))
    }

    fn since(&self, topic: Topic, partition: Partition, at: Arrived) -> BoxFuture<'_, Result<Offset, ReadError>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(move || shared.since(topic, partition, at)).await;
            found.unwrap_or_else(|error| Err(ReadError::Failed(error.to_string().into())))
        })
    }

    fn healthy(&self) -> BoxFuture<'_, Result<(), ReadError>> {
        let closed = lock(&self.shared.queue).closed;
        let failure = lock(&self.shared.state).failure.clone();
        Box::pin(std::future::ready(match failure {
            _ if closed => Err(ReadError::Closed),
            Some(error) => Err(ReadError::Failed(error.to_string().into())),
            None => Ok(()),
        }))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            lock(&self.shared.queue).closed = true;
            self.shared.work.notify_one();
            let thread = lock(&self.thread).take();
            if let Some(thread) = thread
                && tokio::task::spawn_blocking(move || thread.join()).await.is_err()
            {
                tracing::error!("the journal's commit thread ended badly");
            }
            self.groups.close();
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        tracing::debug!("journal file closed");
    }
}

impl Shared {
    /// Halves what is left with each look at a row: they are in order by place, and so by arrival.
    fn since(&self, topic: Topic, partition: Partition, at: Arrived) -> Result<Offset, ReadError> {
        let Range { mut earliest, mut next } = self.range(topic, partition)?;
        let failed = |error: rusqlite::Error| ReadError::Failed(error.to_string().into());
        let db = lock(&self.reader);
        let sql = "SELECT base, count, arrived_at FROM row WHERE topic = $1 AND partition = $2 AND base <= $3 ORDER BY base DESC LIMIT 1";
        let mut row = db.prepare_cached(sql).map_err(failed)?;
        while earliest < next {
            let middle = earliest.0 + (next.0 - earliest.0) / 2;
            let found = row.query_row(params![number(topic), partition.0, middle], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
            let (base, count, arrived_at): (i64, i64, i64) = found.map_err(failed)?;
            if arrived_at >= at.0 {
                next = Offset(base);
            } else {
                earliest = Offset(base + count);
            }
        }
        Ok(earliest)
    }
}

impl Log for Shared {
    fn read(&self, topic: Topic, partition: Partition, from: Offset) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        let mut bytes = 0;
        {
            let state = lock(&self.state);
            let Some(head) = state.heads.get(&(topic, partition)) else { return Ok(records) };
            if from < head.earliest || from >= head.next {
                return Ok(records);
            }
            if head.tail.front().is_some_and(|first| first.base <= from) {
                let at = head.tail.partition_point(|row| row.end() <= from);
                for row in head.tail.iter().skip(at) {
                    row.decode(from, &mut records).map_err(|reason| ReadError::Failed(reason.into()))?;
                    bytes += row.blob.len();
                    if bytes >= BATCH_BYTES || records.len() >= BATCH_RECORDS {
                        break;
                    }
                }
                return Ok(records);
            }
        }
        let failed = |error: rusqlite::Error| ReadError::Failed(error.to_string().into());
        let db = lock(&self.reader);
        let mut query = db
            .prepare_cached(
                "SELECT base, count, arrived_at, blob FROM row WHERE topic = $1 AND partition = $2
                 AND base >= (SELECT max(base) FROM row WHERE topic = $1 AND partition = $2 AND base <= $3) ORDER BY base LIMIT 256",
            )
            .map_err(failed)?;
        for row in query.query_map(params![number(topic), partition.0, from.0], Row::from_sql).map_err(failed)? {
            let row = row.map_err(failed)?;
            row.decode(from, &mut records).map_err(|reason| ReadError::Failed(reason.into()))?;
            bytes += row.blob.len();
            if bytes >= BATCH_BYTES || records.len() >= BATCH_RECORDS {
                break;
            }
        }
        Ok(records)
    }

    fn range(&self, topic: Topic, partition: Partition) -> Result<Range, ReadError> {
        let state = lock(&self.state);
        let head = state.heads.get(&(topic, partition)).ok_or_else(|| ReadError::Failed(format!("there is no partition {partition}").into()))?;
        Ok(Range { earliest: head.earliest, next: head.next })
    }

    fn done(&self, group: &str, topic: Topic, partition: Partition, next: Offset) {
        lock(&self.queue).done.insert((group.to_owned(), topic, partition), next);
    }

    fn register(&self, group: &str, topic: Topic) {
        lock(&self.queue).groups.push((group.to_owned(), topic));
    }
}
