//! D1: who read whose data is durable before the answer leaves. Entries go to the store's chain, many in one transaction; while the store
//! does not take them they go to a synced file of this machine, and from there into the store once it is back.
//!
//! An entry may stand twice if the process dies between the two; it is never missing.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use schemas::PatientId;
use store::Store;
use store::audit::AuditEntry;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::auth::Principal;
use crate::names;
use crate::problem::Problem;

/// Entries in one transaction.
const BATCH: usize = 256;
/// The store has this long for a batch, then the spool takes it.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the store is tried again.
const AGAIN: Duration = Duration::from_secs(1);

struct Ask {
    entry: AuditEntry,
    done: oneshot::Sender<bool>,
}

/// Hands entries to the task that writes them.
#[derive(Clone)]
pub(crate) struct Auditor {
    queue: mpsc::Sender<Ask>,
}

impl Auditor {
    /// The task ends when `stop` is cancelled and what was asked before is written.
    pub fn new(store: Store, spool: Spool, stop: CancellationToken) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, asked) = mpsc::channel(4 * BATCH);
        (Self { queue }, Writer { store, spool: Arc::new(spool), away: false }.run(asked, stop))
    }

    /// Returns when the entry is durable; otherwise what it is for must not happen.
    pub async fn record(&self, who: &Principal, action: &str, patient: Option<&PatientId>, detail: impl Into<String>) -> Result<(), Problem> {
        let entry = AuditEntry { at: crate::now(), person: who.name().to_owned(), action: action.to_owned(), patient: patient.cloned(), detail: detail.into() };
        self.entry(entry).await
    }

    pub async fn entry(&self, entry: AuditEntry) -> Result<(), Problem> {
        let (done, written) = oneshot::channel();
        let sent = self.queue.send(Ask { entry, done }).await.is_ok();
        if sent && written.await.unwrap_or(false) {
            return Ok(());
        }
        metrics::counter!(names::AUDIT_REFUSED).increment(1);
        Err(Problem::unavailable("the audit log cannot be written, so nothing is shown", "free disk space for the store and the audit spool; see the log"))
    }
}

struct Writer {
    store: Store,
    spool: Arc<Spool>,
    /// The store did not take the last batch.
    away: bool,
}

impl Writer {
    async fn run(mut self, mut asked: mpsc::Receiver<Ask>, stop: CancellationToken) {
        self.away = self.spool.waiting();
        let mut again = tokio::time::interval(AGAIN);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                count = asked.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.write(std::mem::take(&mut batch)).await;
                }
                _ = again.tick(), if self.away => self.drain().await,
                () = stop.cancelled() => {
                    asked.close();
                    while asked.recv_many(&mut batch, BATCH).await > 0 {
                        self.write(std::mem::take(&mut batch)).await;
                    }
                    return;
                }
            }
        }
    }

    async fn write(&mut self, batch: Vec<Ask>) {
        let (entries, waiting): (Vec<_>, Vec<_>) = batch.into_iter().map(|ask| (ask.entry, ask.done)).unzip();
        // while older entries wait in the spool, newer ones wait behind them
        let durable = (!self.away && self.put(&entries).await) || self.to_spool(entries).await;
        for done in waiting {
            if done.send(durable).is_err() {
                tracing::debug!("whoever asked for an audit entry gave up, and showed nothing");
            }
        }
    }

    async fn put(&mut self, entries: &[AuditEntry]) -> bool {
        let failed = match tokio::time::timeout(PATIENCE, self.store.audit_all(entries)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if !self.away {
            tracing::error!(error = %failed, "the store takes no audit entries; they are spooled until it does");
            self.away = true;
        }
        false
    }

    async fn to_spool(&self, entries: Vec<AuditEntry>) -> bool {
        let (spool, count) = (self.spool.clone(), entries.len());
        match spawn_blocking(move || spool.append(&entries)).await {
            Ok(Ok(())) => {
                metrics::counter!(names::AUDIT_SPOOLED).increment(count as u64);
                true
            }
            Ok(Err(error)) => {
                tracing::error!(%error, path = %self.spool.path.display(), "the audit spool cannot be written; reads are refused");
                false
            }
            Err(_) => false,
        }
    }

    /// From the spool into the store.
    async fn drain(&mut self) {
        let spool = self.spool.clone();
        let entries = match spawn_blocking(move || spool.read()).await {
            Ok(Ok(entries)) => entries,
            Ok(Err(error)) => {
                tracing::error!(%error, path = %self.spool.path.display(), "the audit spool cannot be read");
                return;
            }
            Err(_) => return,
        };
        // all or none: what a failed attempt stored would be stored again
        if !entries.is_empty() && !self.put(&entries).await {
            return;
        }
        let spool = self.spool.clone();
        match spawn_blocking(move || spool.clear()).await {
            Ok(Ok(())) => {
                self.away = false;
                tracing::info!(entries = entries.len(), "the store takes audit entries again; the spool is in it");
            }
            Ok(Err(error)) => tracing::error!(%error, path = %self.spool.path.display(), "the audit spool cannot be emptied"),
            Err(_) => {}
        }
    }
}

/// Lines of JSON in a file that only this user reads.
pub(crate) struct Spool {
    path: PathBuf,
    file: std::sync::Mutex<File>,
    /// Its end may be half a line.
    torn: AtomicBool,
}

impl Spool {
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        file.try_lock().map_err(|_| io::Error::other("another process writes there; give each its own dashboard.audit_spool"))?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { path: path.to_owned(), torn: AtomicBool::new(file.metadata()?.len() > 0), file: std::sync::Mutex::new(file) })
    }

    fn file(&self) -> std::sync::MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn waiting(&self) -> bool {
        self.file().metadata().is_ok_and(|found| found.len() > 0)
    }

    fn append(&self, entries: &[AuditEntry]) -> io::Result<()> {
        let mut lines = Vec::new();
        // a line that a full disk or the machine's end tore must not join with this one
        if self.torn.swap(true, Ordering::Relaxed) {
            lines.push(b'\n');
        }
        for entry in entries {
            serde_json::to_writer(&mut lines, entry)?;
            lines.push(b'\n');
        }
        let mut file = self.file();
        file.write_all(&lines)?;
        file.sync_data()?;
        self.torn.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn read(&self) -> io::Result<Vec<AuditEntry>> {
        let mut text = Vec::new();
        let mut file = self.file();
        file.seek(SeekFrom::Start(0))?;
        let length = file.metadata()?.len();
        (&mut *file).take(length).read_to_end(&mut text)?;
        drop(file);
        let mut entries = Vec::new();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(entry) => entries.push(entry),
                // written when the machine stopped: nobody was answered for it
                Err(error) => tracing::error!(%error, path = %self.path.display(), "a line of the audit spool is torn and left out"),
            }
        }
        Ok(entries)
    }

    fn clear(&self) -> io::Result<()> {
        let file = self.file();
        file.set_len(0)?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use schemas::EventTime;

    use super::*;

    #[test]
    fn what_comes_after_a_torn_line_is_kept_and_a_spool_is_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.spool");
        let entry = |n: i64| AuditEntry { at: EventTime(n), person: "ito".to_owned(), action: "read.patient".to_owned(), patient: None, detail: String::new() };
        let spool = Spool::open(&path).unwrap();
        assert!(Spool::open(&path).err().unwrap().to_string().contains("another process"));
        spool.append(&[entry(1)]).unwrap();
        spool.file().write_all(b"{\"at\":2,\"per").unwrap();
        drop(spool);
        let spool = Spool::open(&path).unwrap();
        spool.append(&[entry(3), entry(4)]).unwrap();
        drop(spool);
        assert_eq!(Spool::open(&path).unwrap().read().unwrap(), [entry(1), entry(3), entry(4)]);
    }

    #[test]
    fn a_spool_gives_back_what_it_took_but_for_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/audit.spool");
        let entry = |n: i64| AuditEntry { at: EventTime(n), person: "ito".to_owned(), action: "read.patient".to_owned(), patient: None, detail: String::new() };
        let spool = Spool::open(&path).unwrap();
        assert!(!spool.waiting());
        spool.append(&[entry(1), entry(2)]).unwrap();
        spool.file().write_all(b"{\"at\":").unwrap();
        drop(spool);
        let spool = Spool::open(&path).unwrap();
        assert!(spool.waiting());
        assert_eq!(spool.read().unwrap(), [entry(1), entry(2)]);
        spool.clear().unwrap();
        assert!(!spool.waiting() && spool.read().unwrap().is_empty());
    }
}
