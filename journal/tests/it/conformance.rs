use std::collections::BTreeSet;
use std::sync::Arc;

use journal::embedded::{EmbeddedConfig, EmbeddedJournal};
use journal::memory::MemoryJournal;
use journal::{AppendError, Event, Full, Journal, Mode, ReadError, Start, Topic};
use schemas::{Offset, Partition};

use crate::{P0, append, append_all, assigned, number, read, soon};

/// A backend under test, and the folder that it needs.
struct Backend {
    journal: Arc<dyn Journal>,
    _folder: Option<tempfile::TempDir>,
}

fn memory(partitions: u32, budget: usize) -> Backend {
    Backend { journal: Arc::new(MemoryJournal::with_budget(partitions, budget)), _folder: None }
}

fn embedded(partitions: u32, budget: usize) -> Backend {
    let folder = tempfile::tempdir().unwrap();
    let mut config = EmbeddedConfig::new(folder.path().join("journal.db"), "test", partitions);
    config.budget = budget;
    Backend { journal: Arc::new(EmbeddedJournal::open(&config).unwrap()), _folder: Some(folder) }
}

macro_rules! conformance {
    ($($name:ident)*) => {
        mod in_memory { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { super::$name(super::memory).await; })* }
        mod in_one_file { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { super::$name(super::embedded).await; })* }
    };
}

conformance! {
    order_and_receipts
    partitions_are_apart
    resumes_at_any_offset
    out_of_range_is_said
    two_readers_of_a_group_share
    a_follower_sees_everything
    a_full_budget_refuses_and_recovers
    a_mebibyte_record
    closing_ends_appends_and_readers
    arrival_never_decreases
}

async fn order_and_receipts(open: fn(u32, usize) -> Backend) {
    let backend = open(1, 1 << 20);
    let offsets = append_all(&*backend.journal, P0, 0..500).await;
    assert_eq!(offsets, (0..500).map(Offset).collect::<Vec<_>>());
    let mut reader = backend.journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    let records = read(&mut *reader, P0, Start::Earliest, 500).await;
    assert!(records.iter().enumerate().all(|(n, r)| r.offset.0 == n as i64 && number(r) == n as u32 && r.key == "ada"));
}

async fn partitions_are_apart(open: fn(u32, usize) -> Backend) {
    let backend = open(3, 1 << 20);
    append_all(&*backend.journal, Partition(1), 0..5).await;
    assert_eq!(append_all(&*backend.journal, Partition(2), 7..9).await, [Offset(0), Offset(1)]);
    let range = backend.journal.range(Topic::Inputs, Partition(1)).await.unwrap();
    assert_eq!((range.earliest, range.next), (Offset(0), Offset(5)));
    assert_eq!(backend.journal.range(Topic::Alerts, Partition(1)).await.unwrap().next, Offset(0));
    assert_eq!(backend.journal.partitions(), 3);
}

/// Also in the middle of what was stored together.
async fn resumes_at_any_offset(open: fn(u32, usize) -> Backend) {
    let backend = open(1, 1 << 20);
    append_all(&*backend.journal, P0, 0..300).await;
    for from in [0, 1, 137, 298, 299] {
        let mut reader = backend.journal.reader(Topic::Inputs, Mode::Follow).unwrap();
        let records = read(&mut *reader, P0, Start::At(Offset(from)), 300 - from as usize).await;
        assert_eq!(records.first().map(number), Some(from as u32));
        assert_eq!(records.last().map(number), Some(299));
    }
    // at the end: what comes next
    let mut reader = backend.journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    assert_eq!(assigned(&mut *reader).await, P0);
    reader.start(P0, Start::At(Offset(300)));
    append_all(&*backend.journal, P0, 300..301).await;
    assert_eq!(read(&mut *reader, P0, Start::Latest, 1).await.first().map(number), Some(300));
}

async fn out_of_range_is_said(open: fn(u32, usize) -> Backend) {
    let backend = open(1, 1 << 20);
    append_all(&*backend.journal, P0, 0..3).await;
    let mut reader = backend.journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    assert_eq!(assigned(&mut *reader).await, P0);
    reader.start(P0, Start::At(Offset(9)));
    match soon("out of range", reader.next()).await.unwrap() {
        Event::OutOfRange { wanted, earliest, .. } => assert_eq!((wanted, earliest), (Offset(9), Offset(0))),
        other => panic!("{other:?}"),
    }
    assert_eq!(read(&mut *reader, P0, Start::Earliest, 0).await.len(), 0);
    reader.start(P0, Start::Earliest);
    assert_eq!(read(&mut *reader, P0, Start::Earliest, 3).await.len(), 3);
}

async fn two_readers_of_a_group_share(open: fn(u32, usize) -> Backend) {
    let backend = open(4, 1 << 20);
    let group = || Mode::Group("processor".to_owned());
    let mut first = backend.journal.reader(Topic::Inputs, group()).unwrap();
    let mut mine = BTreeSet::new();
    while mine.len() < 4 {
        mine.insert(assigned(&mut *first).await);
    }
    let mut second = backend.journal.reader(Topic::Inputs, group()).unwrap();
    // every partition is revoked from the first before anybody gets it again
    let mut revoked = BTreeSet::new();
    let mut again = BTreeSet::new();
    while revoked.len() < 4 || again.is_empty() {
        match soon("a rebalance", first.next()).await.unwrap() {
            Event::Revoked { partition } => {
                revoked.insert(partition);
                assert!(again.is_empty(), "assigned before all were revoked");
            }
            Event::Assigned { partition, .. } => {
                again.insert(partition);
            }
            other => panic!("{other:?}"),
        }
    }
    let mut others = BTreeSet::new();
    while others.len() + again.len() < 4 {
        soon("an assignment", async {
            tokio::select! {
                event = second.next() => if let Event::Assigned { partition, .. } = event.unwrap() { others.insert(partition); },
                event = first.next() => if let Event::Assigned { partition, .. } = event.unwrap() { again.insert(partition); },
            }
        })
        .await;
    }
    assert!(!others.is_empty() && again.is_disjoint(&others), "{again:?} {others:?}");
    drop(second);
    let mut all = BTreeSet::new();
    while all.len() < 4 {
        if let Event::Assigned { partition, .. } = soon("everything back", first.next()).await.unwrap() {
            all.insert(partition);
        }
    }
}

async fn a_follower_sees_everything(open: fn(u32, usize) -> Backend) {
    let backend = open(2, 1 << 20);
    let mut group = backend.journal.reader(Topic::Inputs, Mode::Group("processor".to_owned())).unwrap();
    append_all(&*backend.journal, P0, 0..10).await;
    assert_eq!(read(&mut *group, P0, Start::Earliest, 10).await.len(), 10);
    let mut follower = backend.journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    assert_eq!(read(&mut *follower, P0, Start::Earliest, 10).await.len(), 10);
}

/// Appends never block: they are refused, and `ready` says when to try again.
async fn a_full_budget_refuses_and_recovers(open: fn(u32, usize) -> Backend) {
    let backend = open(1, 4096);
    let mut receipts = Vec::new();
    let mut refused = 0;
    for _ in 0..2000 {
        match backend.journal.append(Topic::Inputs, P0, b"ada", vec![7; 1000].into()) {
            Ok(receipt) => receipts.push(receipt),
            Err(Full) => {
                refused += 1;
                soon("room", backend.journal.ready()).await;
            }
        }
    }
    let accepted = receipts.len() as i64;
    for receipt in receipts {
        soon("a receipt", receipt).await.unwrap();
    }
    assert_eq!(backend.journal.range(Topic::Inputs, P0).await.unwrap().next, Offset(accepted));
    assert!(accepted + refused == 2000 && accepted > 0);
}

async fn a_mebibyte_record(open: fn(u32, usize) -> Backend) {
    let backend = open(1, 4 << 20);
    let big: Vec<u8> = (0..1 << 20).map(|n| (n % 251) as u8).collect();
    soon("a receipt", append(&*backend.journal, P0, big.clone())).await.unwrap();
    let mut reader = backend.journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    assert!(read(&mut *reader, P0, Start::Earliest, 1).await.first().is_some_and(|r| r.value == big));
}

async fn closing_ends_appends_and_readers(open: fn(u32, usize) -> Backend) {
    let backend = open(1, 1 << 20);
    let receipt = append(&*backend.journal, P0, vec![1]);
    soon("the end", backend.journal.close()).await;
    assert_eq!(soon("a receipt", receipt).await.unwrap(), Offset(0), "what was appended before is flushed");
    match backend.journal.append(Topic::Inputs, P0, b"ada", vec![2].into()) {
        Ok(receipt) => assert!(matches!(soon("a receipt", receipt).await, Err(AppendError::Closed))),
        Err(Full) => panic!("closed is not full"),
    }
    match backend.journal.reader(Topic::Inputs, Mode::Follow) {
        Ok(mut reader) => loop {
            match soon("the end of a reader", reader.next()).await {
                Err(ReadError::Closed) => break,
                Ok(_) => {}
                Err(other) => panic!("{other}"),
            }
        },
        Err(error) => assert!(error.to_string().contains("closed"), "{error}"),
    }
}

async fn arrival_never_decreases(open: fn(u32, usize) -> Backend) {
    let backend = open(1, 1 << 20);
    for n in 0..20 {
        append_all(&*backend.journal, P0, n..n + 1).await;
    }
    let mut reader = backend.journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    let records = read(&mut *reader, P0, Start::Earliest, 20).await;
    assert!(records.is_sorted_by_key(|r| r.arrived_at) && records.iter().all(|r| r.arrived_at.0 > 0));
}
