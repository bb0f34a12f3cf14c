//! The commit thread: the only writer of the file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};
use schemas::{Arrived, Micros, Offset, Partition};

use super::row::{Row, encode};
use super::{Append, EmbeddedConfig, Queue, Shared, lock, number};
use crate::reading::Groups;
use crate::{AppendError, ReceiptSender, Topic};

/// A row's blob ends about here, so that a reader in the middle of the log reads no more than it needs.
const ROW_BYTES: usize = 512 << 10;
/// Rows of one partition that retention takes at once.
const SWEEP: usize = 1024;
/// How long progress of readers may wait for a commit that takes it along.
const IDLE: Duration = Duration::from_secs(1);

pub struct Committer {
    db: Connection,
    shared: Arc<Shared>,
    groups: Arc<Groups>,
    retention: Duration,
    retention_bytes: i64,
    sweep_every: Duration,
    /// In all rows.
    bytes: i64,
    /// Retention has not yet caught up.
    more: bool,
    /// The newest stamp of each partition.
    clocks: BTreeMap<(Topic, Partition), Arrived>,
    swept: Instant,
}

struct Pending {
    topic: Topic,
    partition: Partition,
    blob: Bytes,
    receipts: Vec<ReceiptSender>,
}

impl Committer {
    pub fn new(db: Connection, shared: Arc<Shared>, groups: Arc<Groups>, config: &EmbeddedConfig) -> rusqlite::Result<Self> {
        let clocks = lock(&shared.state).heads.iter().filter_map(|(key, head)| head.tail.back().map(|row| (*key, row.arrived_at))).collect();
        let bytes = db.query_row("SELECT coalesce(sum(bytes), 0) FROM row", [], |row| row.get(0))?;
        Ok(Self {
            db,
            bytes,
            more: false,
            shared,
            groups,
            retention: config.retention,
            retention_bytes: i64::try_from(config.retention_bytes).unwrap_or(i64::MAX),
            sweep_every: config.sweep_every,
            clocks,
            swept: Instant::now(),
        })
    }

    pub fn run(mut self) {
        loop {
            let (queue, closed) = self.wait();
            let idle = queue.appends.is_empty() && queue.done.is_empty() && queue.groups.is_empty();
            let committed = idle || self.commit(queue);
            // what a full disk does not take at the end is only progress: its readers will do it again
            if closed && (idle || !committed) {
                return;
            }
            if self.more || self.swept.elapsed() > self.sweep_every {
                self.swept = Instant::now();
                self.more = self.sweep().unwrap_or_else(|error| {
                    tracing::error!(%error, "retention failed");
                    false
                });
            }
        }
    }

    /// Everything that queued meanwhile; waits when there is nothing.
    fn wait(&self) -> (Queue, bool) {
        let mut queue = lock(&self.shared.queue);
        if queue.appends.is_empty() && !queue.closed {
            queue = self
                .shared
                .work
                .wait_timeout_while(queue, IDLE, |queue| queue.appends.is_empty() && !queue.closed)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
        let closed = queue.closed;
        (std::mem::replace(&mut *queue, Queue { closed, ..Queue::default() }), closed)
    }

    /// False: nothing of it is durable.
    fn commit(&mut self, queue: Queue) -> bool {
        let taken: usize = queue.appends.iter().map(|append| append.taken).sum();
        let rows = gather(queue.appends);
        let written = self.write(&rows, &queue.groups, &queue.done);
        let committed = written.is_ok();
        match written {
            Ok(written) => {
                let mut state = lock(&self.shared.state);
                state.failure = None;
                for row in &written {
                    if let Some(head) = state.heads.get_mut(&(row.0, row.1)) {
                        head.push(row.2.clone());
                    }
                }
                drop(state);
                for (pending, (topic, partition, row)) in rows.into_iter().zip(written) {
                    self.bytes += row.blob.len() as i64;
                    self.clocks.insert((topic, partition), row.arrived_at);
                    for (i, receipt) in pending.receipts.into_iter().enumerate() {
                        receipt.send(Ok(Offset(row.base.0 + i as i64)));
                    }
                }
                self.groups.bell.notify_waiters();
            }
            Err(error) => {
                let error = classify(&error);
                tracing::error!(%error, "a commit of the journal failed; nothing of it was acknowledged");
                lock(&self.shared.state).failure = Some(error.clone());
                for receipt in rows.into_iter().flat_map(|pending| pending.receipts) {
                    receipt.send(Err(error.clone()));
                }
                let mut queue_now = lock(&self.shared.queue);
                queue_now.groups.extend(queue.groups);
                for (key, next) in queue.done {
                    queue_now.done.entry(key).or_insert(next);
                }
            }
        }
        self.shared.budget.give_back(taken);
        committed
    }

    fn write(
        &mut self,
        rows: &[Pending],
        groups: &[(String, Topic)],
        done: &std::collections::HashMap<(String, Topic, Partition), Offset>,
    ) -> rusqlite::Result<Vec<(Topic, Partition, Row)>> {
        let now = wall();
        let mut next: BTreeMap<(Topic, Partition), Offset> = BTreeMap::new();
        let mut written = Vec::with_capacity(rows.len());
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert =
                transaction.prepare_cached("INSERT INTO row (topic, partition, base, count, arrived_at, bytes, blob) VALUES ($1, $2, $3, $4, $5, $6, $7)")?;
            for pending in rows {
                let key = (pending.topic, pending.partition);
                let base = *next.entry(key).or_insert_with(|| lock(&self.shared.state).heads.get(&key).map_or(Offset(0), |head| head.next));
                let arrived_at = self.clocks.get(&key).map_or(now, |clock| now.max(*clock));
                let count = pending.receipts.len() as u32;
                insert.execute(params![
                    number(pending.topic),
                    pending.partition.0,
                    base.0,
                    count,
                    arrived_at.0,
                    pending.blob.len() as i64,
                    &pending.blob[..]
                ])?;
                next.insert(key, Offset(base.0 + i64::from(count)));
                written.push((pending.topic, pending.partition, Row { base, count, arrived_at, blob: pending.blob.clone() }));
            }
            let mut register = transaction.prepare_cached("INSERT INTO done VALUES ($1, $2, $3, 0) ON CONFLICT DO NOTHING")?;
            for (group, topic) in groups {
                for partition in 0..self.groups.partitions() {
                    register.execute(params![group, number(*topic), partition])?;
                }
            }
            let mut upsert = transaction
                .prepare_cached("INSERT INTO done VALUES ($1, $2, $3, $4) ON CONFLICT (grp, topic, partition) DO UPDATE SET next = excluded.next")?;
            for ((group, topic, partition), next) in done {
                upsert.execute(params![group, number(*topic), partition.0, next.0])?;
            }
        }
        transaction.commit()?;
        Ok(written)
    }

    /// Deletes what is too old or too much and behind every registered group; the newest row of a partition stays, because it carries the offset.
    /// A bounded number of rows, because appends wait for it: true when there are more.
    fn sweep(&mut self) -> rusqlite::Result<bool> {
        let oldest = wall() - Micros(i64::try_from(self.retention.as_micros()).unwrap_or(i64::MAX));
        let mut excess = self.bytes - self.retention_bytes;
        let mut more = false;
        let keys: Vec<(Topic, Partition)> = lock(&self.shared.state).heads.keys().copied().collect();
        for (topic, partition) in keys {
            let key = params![number(topic), partition.0];
            let floor: Option<i64> = self.db.query_row("SELECT min(next) FROM done WHERE topic = $1 AND partition = $2", key, |row| row.get(0))?;
            let floor = floor.unwrap_or(i64::MAX);
            let gone: Vec<(i64, i64)> = {
                let mut query = self.db.prepare_cached(
                    "SELECT base, bytes, arrived_at FROM row WHERE topic = $1 AND partition = $2 AND base + count <= $3
                     AND base < (SELECT max(base) FROM row WHERE topic = $1 AND partition = $2) ORDER BY base LIMIT $4",
                )?;
                let rows =
                    query.query_map(params![number(topic), partition.0, floor, SWEEP as i64], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?)))?;
                let mut gone = Vec::new();
                for row in rows {
                    let (base, bytes, arrived_at) = row?;
                    if arrived_at >= oldest.0 && excess <= 0 {
                        break;
                    }
                    excess -= bytes;
                    gone.push((base, bytes));
                }
                gone
            };
            let Some((last, _)) = gone.last() else { continue };
            more |= gone.len() == SWEEP;
            self.db.execute("DELETE FROM row WHERE topic = $1 AND partition = $2 AND base <= $3", params![number(topic), partition.0, last])?;
            self.bytes -= gone.iter().map(|(_, bytes)| bytes).sum::<i64>();
            let earliest: i64 = self.db.query_row("SELECT min(base) FROM row WHERE topic = $1 AND partition = $2", key, |row| row.get(0))?;
            if let Some(head) = lock(&self.shared.state).heads.get_mut(&(topic, partition)) {
                head.earliest = Offset(earliest);
                while head.tail.front().is_some_and(|row| row.base.0 < earliest) {
                    if let Some(row) = head.tail.pop_front() {
                        head.tail_bytes -= row.blob.len();
                    }
                }
            }
        }
        Ok(more)
    }
}

/// Rows of one transaction: the order within a partition is the order of the appends.
fn gather(appends: Vec<Append>) -> Vec<Pending> {
    let mut rows: Vec<(Topic, Partition, BytesMut, Vec<ReceiptSender>)> = Vec::new();
    let mut open: BTreeMap<(Topic, Partition), usize> = BTreeMap::new();
    for append in appends {
        let key = (append.topic, append.partition);
        let at = match open.get(&key) {
            Some(at) if rows[*at].2.len() < ROW_BYTES => *at,
            _ => {
                rows.push((append.topic, append.partition, BytesMut::new(), Vec::new()));
                open.insert(key, rows.len() - 1);
                rows.len() - 1
            }
        };
        let (_, _, blob, receipts) = &mut rows[at];
        encode(blob, &append.key, &append.value);
        receipts.push(append.receipt);
    }
    rows.into_iter().map(|(topic, partition, blob, receipts)| Pending { topic, partition, blob: blob.freeze(), receipts }).collect()
}

fn classify(error: &rusqlite::Error) -> AppendError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => AppendError::DiskFull,
        _ => AppendError::Failed(error.to_string().into()),
    }
}

fn wall() -> Arrived {
    Arrived(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX)))
}
