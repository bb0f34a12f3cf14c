//! What only one file promises.

use journal::embedded::{EmbeddedConfig, EmbeddedJournal};
use journal::{AppendError, Journal, Mode, OpenError, Start, Topic};
use schemas::Offset;

use crate::{P0, append, append_all, read, soon};

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

/// A full disk refuses appends by name, keeps serving, and takes appends again once there is room.
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
}
