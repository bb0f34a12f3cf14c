use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use journal::embedded::{EmbeddedConfig, EmbeddedJournal};
use journal::kafka::{KafkaConfig, KafkaJournal};
use journal::memory::MemoryJournal;
use journal::{AppendError, Event, Full, Journal, Mode, ReadError, Start, Topic};
use schemas::{Arrived, Offset, Partition};

use crate::{P0, append, append_all, assigned, number, read, soon};

/// A backend under test, and how its oldest records go.
struct Backend {
    journal: Arc<dyn Journal>,
    kind: Kind,
}

enum Kind {
    Memory(MemoryJournal),
    Embedded(#[expect(dead_code, reason = "gone when the test is over")] tempfile::TempDir),
    Kafka(KafkaConfig),
}

fn memory(partitions: u32, budget: usize) -> Backend {
    let journal = MemoryJournal::with_budget(partitions, budget);
    Backend { journal: Arc::new(journal.clone()), kind: Kind::Memory(journal) }
}

fn embedded(partitions: u32, budget: usize) -> Backend {
    let folder = tempfile::tempdir().unwrap();
    let mut config = EmbeddedConfig::new(folder.path().join("journal.db"), "test", partitions);
    config.budget = budget;
    // everything is too old at once, and still there: for a group that has read nothing yet
    config.retention = Duration::ZERO;
    config.sweep_every = Duration::ZERO;
    let journal = EmbeddedJournal::open(&config).unwrap();
    for topic in Topic::ALL {
        drop(journal.reader(topic, slowest()).unwrap());
    }
    Backend { journal: Arc::new(journal), kind: Kind::Embedded(folder) }
}

fn kafka(partitions: u32, budget: usize) -> Backend {
    let mut config = crate::kafka_config(&crate::kafka_address().unwrap(), partitions);
    config.budget = budget;
    Backend { journal: Arc::new(KafkaJournal::open(&config).unwrap()), kind: Kind::Kafka(config) }
}

fn slowest() -> Mode {
    Mode::Group("slowest".to_owned())
}

impl Backend {
    /// Some records of `P0` go, all of them before `offset`.
    async fn forget(&self, offset: Offset) {
        match &self.kind {
            Kind::Memory(journal) => journal.truncate(Topic::Inputs, P0, offset),
            Kind::Kafka(config) => crate::kafka::delete_records(config, P0, offset).await,
            Kind::Embedded(..) => {
                let mut group = self.journal.reader(Topic::Inputs, slowest()).unwrap();
                assert_eq!(assigned(&mut *group).await, P0);
                group.done(P0, offset);
            }
        }
        soon("retention", async {
            while self.journal.range(Topic::Inputs, P0).await.unwrap().earliest == Offset(0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

macro_rules! conformance {
    ($($name:ident)*) => {
        mod in_memory { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { super::$name(super::memory).await; })* }
        mod in_one_file { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { super::$name(super::embedded).await; })* }
        mod on_kafka {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
                if crate::kafka_address().is_some() { super::$name(super::kafka).await; }
            })*
        }
    };
}

conformance! {
    order_and_receipts
    partitions_are_apart
    resumes_at_any_offset
    out_of_range_is_said
    what_retention_took_is_out_of_range
    a_second_start_begins_again
    two_readers_of_a_group_share
    other_groups_revoke_nothing
    a_partition_that_moves_is_read_on_by_the_other
    a_reader_that_does_not_read_is_waited_for
    a_follower_sees_everything
    a_full_budget_refuses_and_recovers
    a_mebibyte_record
    closing_ends_appends_and_readers
    arrival_never_decreases
    a_time_has_its_place
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

async fn what_retention_took_is_out_of_range(open: fn(u32, usize) -> Backend) {
    let backend = open(1, 1 << 20);
    // rows of their own, so that retention in a file can take some
    for n in 0..6 {
        append_all(&*backend.journal, P0, n..n + 1).await;
    }
    // a reader that is there already does not lose its place by it
    let mut there = backend.journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    assert_eq!(read(&mut *there, P0, Start::Earliest, 6).await.len(), 6);
    backend.forget(Offset(4)).await;
    let range = backend.journal.range(Topic::Inputs, P0).await.unwrap();
    assert_eq!(range.next, Offset(6));
    assert!((1..=4).contains(&range.earliest.0), "{range:?}");

    let mut reader = backend.journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    assert_eq!(assigned(&mut *reader).await, P0);
    reader.start(P0, Start::At(Offset(0)));
    match soon("out of range", reader.next()).await.unwrap() {
        Event::OutOfRange { wanted, earliest, .. } => assert_eq!((wanted, earliest), (Offset(0), range.earliest)),
        other => panic!("{other:?}"),
    }
    reader.start(P0, Start::Earliest);
    let left = 6 - range.earliest.0 as usize;
    let records = read(&mut *reader, P0, Start::Earliest, left).await;
    assert_eq!(records.first().map(|r| (r.offset, number(r))), Some((range.earliest, range.earliest.0 as u32)));

    append_all(&*backend.journal, P0, 6..7).await;
    assert_eq!(read(&mut *there, P0, Start::Earliest, 1).await.first().map(number), Some(6));
}

/// Nothing of what came of the first start is handed out after the second.
async fn a_second_start_begins_again(open: fn(u32, usize) -> Backend) {
    let backend = open(1, 8 << 20);
    append_all(&*backend.journal, P0, 0..20_000).await;
    let mut reader = backend.journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    for from in [5, 0, 19_000, 3] {
        let records = match from {
            5 => read(&mut *reader, P0, Start::At(Offset(5)), 1).await,
            from => {
                reader.start(P0, Start::At(Offset(from)));
                read(&mut *reader, P0, Start::Latest, 100).await
            }
        };
        assert!(records.iter().enumerate().all(|(n, record)| record.offset.0 == from + n as i64), "from {from}");
    }
}

/// The one that lost it gets nothing more of it; the other goes on where its own knowledge says.
async fn a_partition_that_moves_is_read_on_by_the_other(open: fn(u32, usize) -> Backend) {
    let backend = open(2, 1 << 20);
    let group = || Mode::Group("processor".to_owned());
    let mut read: [Vec<u32>; 2] = Default::default();
    // what the readers would keep in their snapshots
    let mut next = [Offset(0); 2];
    let mut readers = vec![backend.journal.reader(Topic::Inputs, group()).unwrap()];
    let mut owner: [Option<usize>; 2] = [None; 2];
    for round in 0..3u32 {
        for partition in [P0, Partition(1)] {
            append_all(&*backend.journal, partition, round * 100..round * 100 + 100).await;
        }
        match round {
            1 => readers.push(backend.journal.reader(Topic::Inputs, group()).unwrap()),
            2 => {
                drop(readers.remove(0));
                // whatever it had is nobody's now, and the other is the first
                owner = owner.map(|owner| owner.and_then(|owner| owner.checked_sub(1)));
            }
            _ => {}
        }
        while read.iter().any(|read| read.len() < (round as usize + 1) * 100) || (round == 1 && owner[0] == owner[1]) {
            let (who, event) = soon("an event", async {
                match &mut readers[..] {
                    [only] => (0, only.next().await.unwrap()),
                    [first, second, ..] => tokio::select! {
                        // in one process nobody waits until the first has heard that it lost something
                        biased;
                        event = first.next() => (0, event.unwrap()),
                        event = second.next() => (1, event.unwrap()),
                    },
                    [] => unreachable!(),
                }
            })
            .await;
            match event {
                Event::Assigned { partition, .. } => {
                    assert_eq!(owner[partition.0 as usize], None, "{partition} has two owners");
                    owner[partition.0 as usize] = Some(who);
                    readers[who].start(partition, Start::At(next[partition.0 as usize]));
                }
                Event::Revoked { partition } => {
                    assert_eq!(owner[partition.0 as usize].take(), Some(who));
                }
                Event::Batch { partition, records, .. } => {
                    assert_eq!(owner[partition.0 as usize], Some(who));
                    next[partition.0 as usize] = records.last().unwrap().offset.next();
                    read[partition.0 as usize].extend(records.iter().map(number));
                    readers[who].done(partition, next[partition.0 as usize]);
                }
                Event::OutOfRange { partition, wanted, .. } => panic!("{partition}: {wanted} is out of range"),
            }
        }
    }
    for read in read {
        assert_eq!(read, (0..300).collect::<Vec<_>>(), "each once, in order");
    }
}

/// More waits than any buffer holds; nothing is lost, doubled or reordered by the waiting.
async fn a_reader_that_does_not_read_is_waited_for(open: fn(u32, usize) -> Backend) {
    const COUNT: u32 = 1000;
    let backend = open(1, 8 << 20);
    let mut reader = backend.journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    assert_eq!(assigned(&mut *reader).await, P0);
    reader.start(P0, Start::Earliest);
    let value = |n: u32| [n.to_le_bytes().to_vec(), vec![7; 64 << 10]].concat();
    let mut receipts = VecDeque::new();
    for n in 0..COUNT {
        receipts.push_back(append(&*backend.journal, P0, value(n)));
        if receipts.len() == 50 {
            soon("a receipt", receipts.pop_front().unwrap()).await.unwrap();
        }
    }
    for receipt in receipts {
        soon("a receipt", receipt).await.unwrap();
    }
    let mut seen = 0;
    while seen < COUNT {
        let records = read(&mut *reader, P0, Start::Latest, 1).await;
        for record in records {
            assert_eq!((number(&record), record.offset), (seen, Offset(i64::from(seen))));
            seen += 1;
        }
    }
}

/// Readers of other groups and other topics come and go, while records come: nobody loses a partition, and nobody waits for nobody.
async fn other_groups_revoke_nothing(open: fn(u32, usize) -> Backend) {
    let backend = open(1, 1 << 20);
    let processor = || Mode::Group("processor".to_owned());
    let mut reader = backend.journal.reader(Topic::Inputs, processor()).unwrap();
    assert_eq!(assigned(&mut *reader).await, P0);
    reader.start(P0, Start::Earliest);
    let journal = backend.journal.clone();
    let appends = tokio::spawn(async move {
        for n in 0..200 {
            append_all(&*journal, P0, n..n + 1).await;
        }
    });
    for topic in Topic::ALL {
        let other = if topic == Topic::Inputs { Mode::Group("archive".to_owned()) } else { processor() };
        let journal = backend.journal.clone();
        drop(tokio::task::spawn_blocking(move || journal.reader(topic, other)).await.unwrap().unwrap());
    }
    appends.await.unwrap();
    let mut got = 0;
    while got < 200 {
        match soon("a record", reader.next()).await.unwrap() {
            Event::Batch { records, .. } => got += records.len(),
            other => panic!("{other:?}"),
        }
    }
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

async fn a_time_has_its_place(open: fn(u32, usize) -> Backend) {
    let backend = open(1, 1 << 20);
    let since = |at| backend.journal.since(Topic::Inputs, P0, Arrived(at));
    assert_eq!(since(0).await.unwrap(), Offset(0), "nothing is there");
    for n in 0..20 {
        append_all(&*backend.journal, P0, 3 * n..3 * n + 3).await;
    }
    let mut reader = backend.journal.reader(Topic::Inputs, Mode::Follow).unwrap();
    let records = read(&mut *reader, P0, Start::Earliest, 60).await;
    for record in &records {
        let first = records.iter().find(|other| other.arrived_at >= record.arrived_at).unwrap();
        assert_eq!(since(record.arrived_at.0).await.unwrap(), first.offset);
        let after = records.iter().find(|other| other.arrived_at > record.arrived_at).map_or(Offset(60), |other| other.offset);
        assert_eq!(since(record.arrived_at.0 + 1).await.unwrap(), after);
    }
    assert_eq!(since(0).await.unwrap(), Offset(0));
}
