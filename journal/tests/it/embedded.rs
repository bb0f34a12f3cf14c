//! What only one file promises.

use std::time::Duration;

use journal::embedded::{EmbeddedConfig, EmbeddedJournal};
use journal::{AppendError, Journal, Mode, OpenError, Reader, Start, Topic};
use schemas::Offset;

use crate::{P0, append, append_all, assigned, read, soon};

fn config(folder: &tempfile::TempDir) -> EmbeddedConfig {
    EmbeddedConfig::new(folder.path().join("journal.db"), "test", 1)
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let journal = EmbeddedJournal::open(&config(&folder)).unwrap();
    append_all(&journal, P0, 0..100).await;
    journal.close().await;
    drop(journal);
    let journal = EmbeddedJournal::open(&config(&folder)).unwrap();
    assert_eq!(append_all(&journal, P0, 100..101).await, [Offset(100)]);
    let mut reader = journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    assert_eq!(read(&mut *reader, P0, Start::Earliest, 101).await.len(), 101);
}

#[tokio::test]
async fn a_second_process_and_a_foreign_file_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let journal = EmbeddedJournal::open(&config(&folder)).unwrap();
    let error = EmbeddedJournal::open(&config(&folder)).err().unwrap();
    assert!(matches!(error, OpenError::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    journal.close().await;
    drop(journal);

    let mut other = config(&folder);
    other.installation = "elsewhere".to_owned();
    let error = EmbeddedJournal::open(&other).err().unwrap();
    assert!(matches!(error, OpenError::OtherInstallation { .. }), "{error}");
    let mut wider = config(&folder);
    wider.partitions = 8;
    let error = EmbeddedJournal::open(&wider).err().unwrap();
    assert!(matches!(error, OpenError::Partitions { found: 1, expected: 8 }), "{error}");

    for content in [&b"not a database at all, but long enough to look at"[..], &[0_u8; 5000]] {
        let mut foreign = config(&folder);
        foreign.path = folder.path().join("foreign.db");
        std::fs::write(&foreign.path, content).unwrap();
        let error = EmbeddedJournal::open(&foreign).err().unwrap();
        assert!(matches!(error, OpenError::NotAJournal { .. }), "{error}");
        assert_eq!(std::fs::read(&foreign.path).unwrap(), content, "a foreign file is left as it was");
    }
}

async fn earliest(journal: &EmbeddedJournal, expected: i64) {
    soon("retention", async {
        while journal.range(Topic::Inputs, P0).await.unwrap().earliest != Offset(expected) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn group(journal: &EmbeddedJournal, name: &str) -> Box<dyn Reader> {
    let mut reader = journal.reader(Topic::Inputs, Mode::Group(name.to_owned())).unwrap();
    assert_eq!(assigned(&mut *reader).await, P0);
    reader
}

/// Ten rows of one record each.
async fn ten_rows(journal: &EmbeddedJournal) {
    for n in 0..10 {
        append_all(journal, P0, n..n + 1).await;
    }
}

#[tokio::test]
async fn retention_by_age_waits_for_the_slowest_group() {
    let folder = tempfile::tempdir().unwrap();
    let mut ageing = config(&folder);
    ageing.retention = Duration::ZERO;
    ageing.sweep_every = Duration::ZERO;
    let journal = EmbeddedJournal::open(&ageing).unwrap();
    let (mut quick, mut slow) = (group(&journal, "archive").await, group(&journal, "processor").await);
    ten_rows(&journal).await;
    quick.done(P0, Offset(9));
    slow.done(P0, Offset(4));
    earliest(&journal, 4).await;
    // a group that is away is waited for as well, also after the process was
    drop(slow);
    journal.close().await;
    drop((quick, journal));
    let journal = EmbeddedJournal::open(&ageing).unwrap();
    append_all(&journal, P0, 10..11).await;
    assert_eq!(journal.range(Topic::Inputs, P0).await.unwrap().earliest, Offset(4));
    let mut reader = group(&journal, "processor").await;
    assert_eq!(read(&mut *reader, P0, Start::At(Offset(4)), 0).await.len(), 0);
    reader.start(P0, Start::At(Offset(4)));
    assert_eq!(read(&mut *reader, P0, Start::Latest, 7).await.first().map(|record| record.offset), Some(Offset(4)));
    reader.done(P0, Offset(11));
    // as far as the other one is, which was done with nine
    earliest(&journal, 9).await;
}

#[tokio::test]
async fn retention_by_size_takes_the_oldest_and_leaves_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let mut small = config(&folder);
    small.retention_bytes = 0;
    small.sweep_every = Duration::ZERO;
    let journal = EmbeddedJournal::open(&small).unwrap();
    let mut reader = group(&journal, "processor").await;
    ten_rows(&journal).await;
    reader.done(P0, Offset(10));
    // the newest row carries the offset
    earliest(&journal, 9).await;
    assert_eq!(append_all(&journal, P0, 10..11).await, [Offset(10)]);
}

/// A disk of its own, as root can make one; unmounted when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn of(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o"]).arg(format!("size={bytes}")).arg("tmpfs").arg(folder.path()).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(folder));
        }
        println!("skipped: a small file system cannot be mounted here (it takes root)");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        assert!(std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status().is_ok_and(|status| status.success()));
    }
}

/// The disk itself is full, not our limit of it: nothing that was acknowledged is lost, and with room again appends are taken again.
#[tokio::test]
async fn a_disk_that_something_else_filled_is_survived() {
    let Some(disk) = Disk::of(8 << 20) else { return };
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 4 << 20]).unwrap();
    let journal = EmbeddedJournal::open(&EmbeddedConfig::new(disk.0.path().join("journal.db"), "test", 1)).unwrap();
    let mut stored = 0;
    let refused = loop {
        match soon("a receipt", append(&journal, P0, vec![stored as u8; 50_000])).await {
            Ok(offset) => assert_eq!(offset, Offset(stored)),
            Err(error) => break error,
        }
        stored += 1;
        assert!(stored < 200, "the disk never filled");
    };
    assert!(matches!(refused, AppendError::DiskFull), "{refused}");
    assert!(journal.healthy().await.is_err());
    let mut reader = journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    assert_eq!(read(&mut *reader, P0, Start::Earliest, stored as usize).await.len(), stored as usize);

    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(soon("a receipt", append(&journal, P0, vec![9; 50_000])).await.unwrap(), Offset(stored), "a refused append took no offset");
    journal.healthy().await.unwrap();
    assert_eq!(read(&mut *reader, P0, Start::Latest, 1).await[0].offset, Offset(stored));
    soon("the end", journal.close()).await;
}

/// A full disk refuses appends by name, and keeps serving.
#[tokio::test]
async fn a_full_disk_refuses_appends_and_keeps_serving() {
    let folder = tempfile::tempdir().unwrap();
    let mut small = config(&folder);
    small.max_bytes = Some(512 << 10);
    let journal = EmbeddedJournal::open(&small).unwrap();
    let mut stored = 0;
    let refused = loop {
        match soon("a receipt", append(&journal, P0, vec![stored as u8; 20_000])).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "the disk never filled");
    };
    assert!(matches!(refused, AppendError::DiskFull), "{refused}");
    let mut reader = journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    assert_eq!(read(&mut *reader, P0, Start::Earliest, stored).await.len(), stored);
    assert_eq!(journal.range(Topic::Inputs, P0).await.unwrap().next, Offset(stored as i64), "a refused append took no offset");
    // progress that does not fit is no reason to stay
    drop(journal.reader(Topic::Inputs, Mode::Group("g".repeat(40_000))).unwrap());
    soon("the end", journal.close()).await;
}
