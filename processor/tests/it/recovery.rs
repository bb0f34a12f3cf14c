//! What the journal has forgotten comes from the lake, and the answers are the same.

use std::sync::Arc;

use engine::Engine;
use journal::memory::MemoryJournal;
use journal::{Appender, Topic};
use processor::{Processor, ProcessorError, lake, snapshots};
use schemas::{Offset, TransitionKind};
use tokio_util::sync::CancellationToken;

use crate::archive::archived;
use crate::{P0, Random, Ward, arrivals, golden, reading, rules, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_an_engine_from_the_lake_is_the_engine_from_the_journal() {
    let ward = Ward::new();
    ward.append([rules()].into_iter().chain((0..300).map(reading))).await;
    archived(&ward).await;
    let mut from_journal = Engine::new(engine::Config::default());
    let said = from_journal.apply(&arrivals(&ward.journal.records(Topic::Inputs, P0)));
    let mut from_lake = Engine::new(engine::Config::default());
    let mut said_again = Vec::new();
    for piece in lake::inputs(ward.objects.clone(), P0, Offset(0)).unwrap() {
        said_again.extend(from_lake.apply(&piece.unwrap()));
    }
    assert_eq!(said_again, said);
    assert!(from_lake.snapshot().unwrap() == from_journal.snapshot().unwrap());
    assert!(!said.is_empty());
}

/// Retention passed the newest snapshot, again and again: the outputs are those of the whole log, and each gap raises an alarm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_the_log_is_rebuilt_from_the_lake() {
    let mut random = Random::new();
    let ward = Ward::new();
    let whole = Arc::new(MemoryJournal::new(1));
    let mut sent = 0;
    let mut inputs = vec![rules()];
    for round in 0..5 {
        inputs.extend((sent..sent + 50).map(reading));
        sent += 50;
        for input in inputs.drain(..) {
            let offset = ward.journal.append(Topic::Inputs, P0, b"ada", input.encode()).unwrap().await.unwrap();
            whole.set_clock(ward.journal.records(Topic::Inputs, P0).last().unwrap().arrived_at);
            assert_eq!(whole.append(Topic::Inputs, P0, b"ada", input.encode()).unwrap().await.unwrap(), offset);
        }
        archived(&ward).await;
        let next = 1 + sent;
        // the snapshots are at most those of the round before
        ward.journal.truncate(Topic::Inputs, P0, Offset(next - 1 - random.below(49) as i64));
        let (stop, task) = ward.start(1000);
        let wanted = golden(P0, &whole.records(Topic::Inputs, P0));
        until("every output", || task.is_finished() || ward.seen().len() >= wanted.len()).await;
        assert!(!task.is_finished(), "{:?}", task.await);
        assert_eq!(ward.seen(), wanted);
        if random.below(2) == 0 || round == 4 {
            stop.cancel();
            task.await.unwrap().unwrap();
        } else {
            task.abort();
            assert!(task.await.is_err());
        }
        let gaps: Vec<_> = ward.transitions(P0).into_iter().filter(|t| t.rule.as_str() == "vigil-gap").collect();
        let raised = gaps.iter().filter(|t| t.kind == TransitionKind::Raised).count();
        assert_eq!((raised, gaps.len()), (round as usize + 1, 2 * (round as usize + 1)));
        assert!(gaps.iter().all(|t| t.technical && t.pages && t.cause.offset < Offset(next)));
    }
    let (name, engine) = snapshots::newest_snapshot(&*ward.objects, engine::Config::default()).unwrap().unwrap();
    assert!(name.ends_with(&format!("{:020}", engine.next().0)));
    let mut undisturbed = Engine::new(engine::Config::default());
    undisturbed.apply(&arrivals(&whole.records(Topic::Inputs, P0)[..engine.next().0 as usize]));
    assert!(engine.snapshot().unwrap() == undisturbed.snapshot().unwrap(), "the state is that of the whole log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_that_the_lake_does_not_have_is_an_error_by_name() {
    for archived_first in [false, true] {
        let ward = Ward::new();
        ward.append((0..10).map(reading)).await;
        if archived_first {
            archived(&ward).await;
        }
        ward.append((10..20).map(reading)).await;
        ward.journal.truncate(Topic::Inputs, P0, Offset(15));
        let (_stop, task) = ward.start(1000);
        let error = task.await.unwrap().unwrap_err().to_string();
        let ends = if archived_first { 10 } else { 0 };
        assert!(error.contains("from 15 on") && error.contains("0 is needed") && error.contains(&format!("ends at {ends}")), "{error}");
    }
}

/// The snapshots are of a journal that went further than this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_ends_before_the_snapshot_is_refused() {
    let ward = Ward::new();
    // the last reading clears: with its output, everything is applied
    ward.append([rules()].into_iter().chain((0..18).map(reading))).await;
    ward.finish(ward.start(1000)).await;
    let other = Arc::new(MemoryJournal::new(1));
    other.append(Topic::Inputs, P0, b"ada", rules().encode()).unwrap().await.unwrap();
    let task = tokio::spawn(Processor::new(processor::Config::default(), other, ward.objects.clone()).run(CancellationToken::new()));
    let error = task.await.unwrap().unwrap_err();
    assert!(matches!(error, ProcessorError::Ahead { wanted: Offset(19), next: Offset(1), .. }), "{error}");
}
