//! The raw layer: its files partition the offsets, whatever was killed and whoever else wrote, and hold exactly what the journal had.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use journal::embedded::{EmbeddedConfig, EmbeddedJournal};
use journal::memory::MemoryJournal;
use journal::{Appender, Journal, Mode, Record, Topic};
use processor::archive::{Archive, ArchiveConfig, ArchiveError};
use processor::lake::{self, LakeError};
use processor::objects::{LocalObjects, Objects};
use schemas::{Arrived, DeadLetter, EventTime, Input, Metric, Micros, Offset, Partition, PatientId, Reason, Settings, Void};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::faults::{FullDisk, Odd, end};
use crate::{P0, Random, Ward, reading, rules, until};

type Archiving = (CancellationToken, JoinHandle<Result<(), ArchiveError>>);

pub fn archive(journal: Arc<dyn Journal>, objects: Arc<dyn Objects>, roll_rows: u64, roll_after: Duration) -> Archiving {
    let stop = CancellationToken::new();
    (stop.clone(), tokio::spawn(Archive::new(ArchiveConfig { roll_after, roll_rows }, journal, objects).run(stop)))
}

/// Until everything that the journal has is in the lake, then drained.
pub async fn archived(ward: &Ward) {
    let (stop, task) = archive(ward.journal.clone(), ward.objects.clone(), 7, Duration::from_millis(1));
    for topic in Topic::ALL {
        for partition in (0..ward.journal.partitions()).map(Partition) {
            let end = end(&*ward.journal, topic, partition).await;
            until("the lake's end", || task.is_finished() || ward.journal.progress("archive", topic, partition).unwrap_or_default() >= end).await;
        }
    }
    stop.cancel();
    task.await.unwrap().unwrap();
}

fn everything(objects: &Arc<dyn Objects>, topic: Topic, partition: Partition) -> Vec<Record> {
    lake::records(objects.clone(), topic, partition, Offset(0)).unwrap().flat_map(Result::unwrap).collect()
}

/// No gap and no overlap: each file begins where the one before it ends.
fn check_partition(objects: &Arc<dyn Objects>, topic: Topic, journal: &[Record]) {
    let files = lake::files(&**objects, topic, P0).unwrap();
    let mut next = Offset(0);
    for file in &files {
        assert_eq!(file.first, next, "{files:?}");
        let footer = lake::read_footer(objects, file).unwrap();
        next = footer.next;
    }
    assert_eq!(everything(objects, topic, P0), journal[..usize::try_from(next.0).unwrap()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lake_gives_back_exactly_what_the_journal_had() {
    let ward = Ward::with(2);
    let patient = PatientId::parse("ada").unwrap();
    let inputs = [
        rules(),
        reading(1),
        Input::Void(Void {
            reading: schemas::ReadingId([7; 16]),
            patient: patient.clone(),
            metric: Metric::Spo2,
            at: EventTime(5),
            reason: "wrong finger".to_owned(),
            author: "nurse".to_owned(),
            moved_to: None,
        }),
        Input::Settings(Settings {
            patient,
            version: 3,
            monitored: true,
            limits: [("spo2.low".to_owned(), 88.0)].into(),
            limits_until: [].into(),
            oxygen_l_min: None,
            news2_scale: 2,
            pauses: Vec::new(),
            expected_interval: [(Metric::Spo2, Micros::minutes(5))].into(),
            enrolled_at: EventTime(1),
            author: "nurse".to_owned(),
        }),
        Input::Tick,
    ];
    ward.append(inputs.clone()).await;
    ward.append_to(Partition(1), (0..30).map(reading)).await;
    let dead = DeadLetter {
        device: "ox".to_owned(),
        topic: "v1/devices/ox/vitals".to_owned(),
        payload: Bytes::from_static(b"{"),
        reason: Reason::Malformed,
        detail: "line 1".to_owned(),
        received_at: EventTime(5),
        content_type: String::new(),
        entry: 2,
        metric: None,
        stamped_at: None,
        format: None,
    };
    ward.journal.append(Topic::DeadLetters, P0, b"ox", dead.encode()).unwrap().await.unwrap();
    ward.finish(ward.start(1000)).await;
    // what this version cannot read is kept all the same
    for topic in Topic::ALL {
        ward.journal.append(topic, P0, b"\xffkey", Bytes::from_static(b"\xff\xff")).unwrap().await.unwrap();
    }
    archived(&ward).await;
    for topic in Topic::ALL {
        for partition in [P0, Partition(1)] {
            assert_eq!(everything(&ward.objects, topic, partition), ward.journal.records(topic, partition), "{topic:?} {partition}");
        }
    }
    let arrivals: Vec<_> = lake::inputs(ward.objects.clone(), P0, Offset(1)).unwrap().flat_map(Result::unwrap).collect();
    assert_eq!(arrivals.iter().take(4).map(|arrival| arrival.input.clone()).collect::<Vec<_>>(), inputs[1..]);
    assert_eq!(arrivals[0].offset, Offset(1));
}

fn days(objects: &Arc<dyn Objects>) -> Vec<String> {
    lake::files(&**objects, Topic::Inputs, P0).unwrap().into_iter().map(|file| format!("{}/{}", file.date, file.first)).collect()
}

/// A file has one arrival date, and a clock that is set back makes no older one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_day_begins_a_new_file() {
    let ward = Ward::now(1);
    let midnight = Arrived::parse("2026-03-01T00:00:00Z").unwrap();
    for (n, clock) in [midnight - Micros(2), midnight - Micros(1), midnight, midnight + Micros::days(3)].into_iter().enumerate() {
        ward.journal.set_clock(clock);
        ward.append([reading(n as i64)]).await;
    }
    // a follower loses no partition while others come and go: what it has read is written at the end
    let follower = Arc::new(Odd { everyone_reads: true, ..Odd::new(&ward.journal) });
    let (stop, task) = archive(follower, ward.objects.clone(), 1000, Duration::from_secs(3600));
    until("two files", || task.is_finished() || days(&ward.objects).len() == 2).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(days(&ward.objects), ["2026-02-28/0", "2026-03-01/2", "2026-03-04/3"]);
    check_partition(&ward.objects, Topic::Inputs, &ward.journal.records(Topic::Inputs, P0));

    // another journal with the same log and a clock that went back
    let other = MemoryJournal::new(1);
    other.set_clock(midnight);
    for n in 0..6 {
        other.append(Topic::Inputs, P0, b"ada", reading(n).encode()).unwrap().await.unwrap();
    }
    let (stop, task) = archive(Arc::new(other.clone()), ward.objects.clone(), 1000, Duration::from_millis(1));
    until("the lake's end", || task.is_finished() || other.progress("archive", Topic::Inputs, P0) == Some(Offset(6))).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(days(&ward.objects)[3..], ["2026-03-04/4"]);
}

/// Killed at random, between any two steps: what it left is continued without a gap and without an overlap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_its_files_partition_the_offsets() {
    let mut random = Random::new();
    let ward = Ward::new();
    ward.journal.split_batches(5);
    for kill in 0..25 {
        ward.append((0..20).map(|n| reading(kill * 20 + n))).await;
        let before = days(&ward.objects).len() as u64;
        let (_stop, task) = archive(ward.journal.clone(), ward.objects.clone(), 1 + random.below(9), Duration::from_millis(random.below(3)));
        let (some, turns) = (before + random.below(4), random.below(2000));
        let mut turn = 0;
        until("some files", || {
            turn += 1;
            task.is_finished() || days(&ward.objects).len() as u64 >= some && turn > turns
        })
        .await;
        task.abort();
        let ended = task.await;
        assert!(ended.is_err(), "it ended by itself: {ended:?}");
        if kill % 5 == 0 {
            ward.journal.rebalance();
        }
    }
    archived(&ward).await;
    let journal = ward.journal.records(Topic::Inputs, P0);
    check_partition(&ward.objects, Topic::Inputs, &journal);
    assert_eq!(everything(&ward.objects, Topic::Inputs, P0).len(), journal.len());
    assert!(days(&ward.objects).len() > 25);
}

/// Two archives that both hold every partition: each file is one's or the other's, never both's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_write_no_fork() {
    let ward = Ward::new();
    ward.journal.split_batches(4);
    let odd = Arc::new(Odd { everyone_reads: true, ..Odd::new(&ward.journal) });
    let writers: Vec<_> = [3, 5, 8].map(|rows| archive(odd.clone(), ward.objects.clone(), rows, Duration::from_millis(rows))).into();
    for round in 0..60 {
        if round % 20 == 10 {
            ward.journal.set_clock(Arrived(EventTime::parse("2101-01-01T00:00:00Z").unwrap().0 + Micros::days(round).0));
        }
        ward.append((0..5).map(|n| reading(round * 5 + n))).await;
        tokio::task::yield_now().await;
    }
    let all: Arc<dyn Objects> = ward.objects.clone();
    until("the lake's end", || {
        writers.iter().any(|(_, task)| task.is_finished()) || lake::end(&all, Topic::Inputs, P0).unwrap().is_some_and(|end| end.next == Offset(300))
    })
    .await;
    for (stop, task) in writers {
        stop.cancel();
        task.await.unwrap().unwrap();
    }
    check_partition(&ward.objects, Topic::Inputs, &ward.journal.records(Topic::Inputs, P0));
    assert_eq!(everything(&ward.objects, Topic::Inputs, P0).len(), 300);
}

/// Progress is what is durable: a lake without room holds it back, and loses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_progress_before_the_file_is_durable() {
    let ward = Ward::new();
    ward.append((0..20).map(reading)).await;
    let disk = FullDisk::new(ward.objects.clone(), "raw/");
    let (stop, task) = archive(ward.journal.clone(), disk.clone(), 5, Duration::from_millis(1));
    until("a refused file", || task.is_finished() || disk.refused.load(Ordering::SeqCst) > 1).await;
    assert!(!task.is_finished());
    assert_eq!(ward.journal.progress("archive", Topic::Inputs, P0), None);
    disk.full.store(false, Ordering::SeqCst);
    until("the lake's end", || task.is_finished() || ward.journal.progress("archive", Topic::Inputs, P0) == Some(Offset(20))).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    check_partition(&ward.objects, Topic::Inputs, &ward.journal.records(Topic::Inputs, P0));
}

/// What retention took before it was archived is a gap that is named, not one that is passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_an_error_that_names_it() {
    let ward = Ward::new();
    ward.append((0..10).map(reading)).await;
    archived(&ward).await;
    ward.append((10..30).map(reading)).await;
    ward.journal.truncate(Topic::Inputs, P0, Offset(20));
    archived(&ward).await;
    let mut read = 0;
    let error = lake::records(ward.objects.clone(), Topic::Inputs, P0, Offset(3)).unwrap().find_map(|piece| match piece {
        Ok(records) => {
            read += records.len();
            None
        }
        Err(error) => Some(error),
    });
    assert!(matches!(error, Some(LakeError::Gap { from: Offset(10), to: Offset(20), partition: P0, .. })), "{error:?}");
    assert_eq!(read, 7);
    let after: Vec<_> = lake::records(ward.objects.clone(), Topic::Inputs, P0, Offset(25)).unwrap().flat_map(Result::unwrap).collect();
    assert_eq!(after, ward.journal.records(Topic::Inputs, P0)[5..]);
    assert_eq!(lake::records(ward.objects.clone(), Topic::Inputs, P0, Offset(30)).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_an_error_by_name() {
    let ward = Ward::new();
    ward.append((0..10).map(reading)).await;
    archived(&ward).await;
    let file = lake::files(&*ward.objects, Topic::Inputs, P0).unwrap().pop().unwrap();
    let bytes = ward.objects.read(&file.name).unwrap();
    ward.objects.remove(&file.name).unwrap();
    ward.objects.create(&file.name, &bytes[..bytes.len() - 9]).unwrap();
    let error = lake::end(&ward.objects, Topic::Inputs, P0).unwrap_err();
    assert!(matches!(&error, LakeError::Damaged { name, .. } if *name == file.name), "{error}");
    let (_stop, task) = archive(ward.journal.clone(), ward.objects.clone(), 5, Duration::from_millis(1));
    assert!(matches!(task.await.unwrap(), Err(ArchiveError::Lake(LakeError::Damaged { .. }))));
}

/// A journal that ends before the lake does is not the lake's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_ahead_of_the_journal_is_refused() {
    let ward = Ward::new();
    ward.append((0..10).map(reading)).await;
    archived(&ward).await;
    let other = Arc::new(MemoryJournal::new(1));
    let (_stop, task) = archive(other, ward.objects.clone(), 5, Duration::from_millis(1));
    let error = task.await.unwrap().unwrap_err();
    assert!(matches!(error, ArchiveError::Ahead { archived: Offset(10), next: Offset(0), .. }), "{error}");
}

fn embedded(folder: &Path) -> EmbeddedJournal {
    let mut config = EmbeddedConfig::new(folder.join("journal.db"), "test", 1);
    config.retention = Duration::ZERO;
    config.sweep_every = Duration::from_millis(1);
    EmbeddedJournal::open(&config).unwrap()
}

/// The embedded journal may forget everything at once, and forgets nothing that the lake does not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_never_passes_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::open(folder.path().join("lake")).unwrap());
    let journal = Arc::new(embedded(folder.path()));
    let disk = FullDisk::new(objects.clone(), "raw/");
    // retention knows the group from its first reader on
    drop(journal.reader(Topic::Inputs, Mode::Group("archive".to_owned())).unwrap());
    let (stop, task) = archive(journal.clone(), disk.clone(), 10, Duration::from_millis(1));
    let mut log = Vec::new();
    for n in 0..400 {
        // each its own commit, so that there is something to sweep
        let offset = journal.append(Topic::Inputs, P0, b"ada", reading(n).encode()).unwrap().await.unwrap();
        log.push((offset, reading(n)));
        if n == 100 {
            until("a refused file", || task.is_finished() || disk.refused.load(Ordering::SeqCst) > 1).await;
            assert_eq!(journal.range(Topic::Inputs, P0).await.unwrap().earliest, Offset(0), "nothing is archived, nothing may go");
            disk.full.store(false, Ordering::SeqCst);
        }
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let mut earliest = Offset(0);
    while earliest == Offset(0) {
        assert!(!task.is_finished() && tokio::time::Instant::now() < deadline, "nothing was swept");
        tokio::task::yield_now().await;
        earliest = journal.range(Topic::Inputs, P0).await.unwrap().earliest;
        let end = lake::end(&objects, Topic::Inputs, P0).unwrap().map_or(Offset(0), |end| end.next);
        assert!(earliest <= end, "the journal begins at {earliest}, the lake ends at {end}");
    }
    until("the lake's end", || task.is_finished() || lake::end(&objects, Topic::Inputs, P0).unwrap().is_some_and(|end| end.next == Offset(400))).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    let archived: Vec<_> = lake::inputs(objects, P0, Offset(0)).unwrap().flat_map(Result::unwrap).map(|arrival| (arrival.offset, arrival.input)).collect();
    assert_eq!(archived, log);
}
