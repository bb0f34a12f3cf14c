//! Inputs to outputs and snapshots, with everything that happens in between.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use journal::{AppendError, Appender, Topic};
use processor::{Config, Processor, ProcessorError};
use schemas::{Offset, Partition};
use tokio_util::sync::CancellationToken;

use crate::faults::{FullDisk, Odd};
use crate::{P0, Random, Ward, golden, long_ago, reading, reading_after, rules, rules_of, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_it_says_the_same() {
    let ward = Ward::new();
    ward.append([rules()]).await;
    let mut sent = 0;
    for kill in 0..6 {
        ward.append((sent..sent + 40).map(reading)).await;
        sent += 40;
        // killed after some of its outputs, without a drain
        let some = ward.seen().len() + kill;
        let (_stop, task) = ward.start(17);
        until(&format!("an output after kill {kill}, {some} seen"), || task.is_finished() || ward.seen().len() > some).await;
        task.abort();
        let ended = task.await;
        assert!(ended.is_err(), "it ended by itself: {ended:?}");
    }
    ward.finish(ward.start(17)).await;
    assert_eq!(ward.seen(), ward.golden());
    assert!(ward.seen().len() > 60 && ward.snapshots().len() <= 3);
}

/// A rebalance takes every partition away in the middle of a batch, and gives it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_anywhere_it_says_the_same() {
    let mut random = Random::new();
    let ward = Ward::new();
    ward.append([rules()]).await;
    ward.journal.split_batches(7);
    let running = ward.start(23);
    for round in 0..20 {
        ward.append((round * 20..round * 20 + 20).map(reading)).await;
        let some = ward.seen().len() + random.below(6) as usize;
        until("some outputs", || running.1.is_finished() || ward.seen().len() >= some.min(ward.golden().len())).await;
        ward.journal.rebalance();
    }
    ward.finish(running).await;
    assert_eq!(ward.seen(), ward.golden());
}

/// An output that did not become durable: no snapshot goes past it, and who starts again says it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_no_snapshot_before_the_receipts() {
    let ward = Ward::new();
    ward.append([rules()].into_iter().chain((0..50).map(reading))).await;
    ward.journal.fail_next(AppendError::DiskFull);
    let (stop, task) = ward.start(10);
    until("a snapshot or an error", || task.is_finished() || !ward.snapshots().is_empty()).await;
    assert!(ward.snapshots().is_empty(), "a snapshot past an output that was not stored");
    stop.cancel();
    assert!(matches!(task.await.unwrap(), Err(ProcessorError::Append(AppendError::DiskFull))));
    ward.finish(ward.start(10)).await;
    assert_eq!(ward.seen(), ward.golden());
    let next = ward.journal.records(Topic::Inputs, P0).len() as i64;
    assert_eq!(ward.snapshots().last(), Some(&next), "a drain ends in a snapshot of everything");
    assert_eq!(ward.journal.progress("processor", Topic::Inputs, P0), Some(Offset(next)));
}

/// The journal acknowledges nothing for a while: no snapshot and no progress, and yet every output is on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_evaluation_does_not_wait_for_receipts() {
    let ward = Ward::new();
    ward.append([rules()].into_iter().chain((0..200).map(reading))).await;
    ward.journal.split_batches(10);
    ward.journal.hold();
    let odd = Arc::new(Odd::new(&ward.journal));
    let running = ward.start_on(odd.clone(), ward.objects.clone(), 20);
    let all = ward.golden().len();
    until("every output", || running.1.is_finished() || odd.outputs.load(Ordering::SeqCst) == all).await;
    assert!(ward.snapshots().is_empty() && ward.seen().is_empty());
    assert_eq!(ward.journal.progress("processor", Topic::Inputs, P0), None);
    ward.journal.release();
    ward.finish(running).await;
    assert_eq!(ward.seen(), ward.golden());
    assert_eq!(ward.snapshots().last(), Some(&201));
}

/// One partition cannot append; the other goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_waits_for_no_other() {
    let ward = Ward::with(2);
    let p1 = Partition(1);
    for partition in [P0, p1] {
        ward.append_to(partition, [rules()].into_iter().chain((0..100).map(reading))).await;
    }
    ward.journal.split_batches(100);
    let odd = Arc::new(Odd { no_room: Some(P0), ..Odd::new(&ward.journal) });
    let (_stop, task) = ward.start_on(odd, ward.objects.clone(), 1000);
    let wanted = golden(p1, &ward.journal.records(Topic::Inputs, p1));
    until("the outputs of partition 1", || task.is_finished() || ward.seen_of(p1).len() == wanted.len()).await;
    assert_eq!(ward.seen_of(p1), wanted);
    assert!(ward.seen().is_empty());
    task.abort();
}

/// Snapshots have no room: every output comes all the same, progress stays, and when there is room they are taken again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_no_evaluation() {
    let ward = Ward::new();
    ward.append([rules()].into_iter().chain((0..60).map(reading))).await;
    let disk = FullDisk::new(ward.objects.clone(), "snapshots/");
    let stop = CancellationToken::new();
    let config = Config { snapshot_every: 10, snapshot_after: Duration::from_millis(1), ..Config::default() };
    let task = tokio::spawn(Processor::new(config, ward.journal.clone(), disk.clone()).run(stop.clone()));
    until("every output and a refused snapshot", || {
        task.is_finished() || (ward.seen().len() == ward.golden().len() && disk.refused.load(Ordering::SeqCst) > 1)
    })
    .await;
    assert!(!task.is_finished() && ward.snapshots().is_empty());
    assert_eq!(ward.journal.progress("processor", Topic::Inputs, P0), None);
    disk.full.store(false, Ordering::SeqCst);
    until("a snapshot", || task.is_finished() || ward.journal.progress("processor", Topic::Inputs, P0) == Some(Offset(61))).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(ward.snapshots().last(), Some(&61));
    assert_eq!(ward.seen(), ward.golden());
}

/// Whatever became of the newest snapshot, the one before is taken; and a name that a damaged one has is free for a good one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_gives_way_to_the_one_before() {
    let ward = Ward::new();
    // the last reading clears: with its output, everything is applied
    ward.append([rules()].into_iter().chain((0..18).map(reading))).await;
    ward.journal.split_batches(5);
    ward.finish(ward.start(5)).await;
    let newest = "snapshots/0/00000000000000000019";
    let good = ward.objects.read(newest).unwrap();
    let half = good[..good.len() / 2].to_vec();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for damaged in [half, flipped, b"VIGILSNP but not really".to_vec(), Vec::new()] {
        ward.objects.remove(newest).unwrap();
        ward.objects.create(newest, &damaged).unwrap();
        let (stop, task) = ward.start(1);
        until("a whole snapshot in its place", || task.is_finished() || ward.objects.read(newest).is_ok_and(|bytes| bytes == good)).await;
        stop.cancel();
        task.await.unwrap().unwrap();
        assert_eq!(ward.seen(), ward.golden());
    }
    ward.objects.create("snapshots/0/00000000000000000999", b"VIGILSNP but not really").unwrap();
    ward.append((18..25).map(reading)).await;
    ward.finish(ward.start(1000)).await;
    assert_eq!(ward.seen(), ward.golden());
    assert!(ward.snapshots().contains(&26));
}

/// Nothing more comes, and the clock is past a timer: the owner appends a tick, and the engine speaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_partition_is_ticked() {
    let ward = Ward::now(1);
    let silent = "[[rule]]\nid = \"silent\"\npriority = \"low\"\nmetric = \"spo2\"\nsilent = \"30 min\"\n";
    ward.append([rules_of(silent, long_ago()), reading_after(0, long_ago())]).await;
    let (stop, task) = ward.start(1000);
    until("an alert", || task.is_finished() || !ward.journal.records(Topic::Alerts, P0).is_empty()).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(ward.seen(), ward.golden());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_no_input_stops_nobody() {
    let ward = Ward::new();
    ward.append([rules()]).await;
    ward.journal.append(Topic::Inputs, P0, b"", vec![0xff, 0xff].into()).unwrap().await.unwrap();
    ward.append((0..10).map(reading)).await;
    ward.finish(ward.start(1000)).await;
    assert_eq!(ward.seen(), ward.golden());
}
