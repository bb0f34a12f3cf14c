//! The processor over a journal in memory and objects in a folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::{Arrival, Engine, Output};
use journal::memory::MemoryJournal;
use journal::{AppendError, Appender, Topic};
use processor::objects::{LocalObjects, Objects};
use processor::{Config, Processor, ProcessorError};
use schemas::{Cause, ClockState, DeviceId, EventTime, Input, Metric, Micros, Offset, Partition, PatientId, Reading, ReadingId, RuleSet, Transition, Window};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const P0: Partition = Partition(0);
const RULES: &str = "[[rule]]\nid = \"low\"\npriority = \"high\"\nwhen = \"last(spo2, '5 min') < 90\"\n";

fn reading(n: i64, start: EventTime) -> Input {
    let device = DeviceId::parse("ox").unwrap();
    let at = start + Micros::seconds(30 * n);
    let value = if n % 7 < 3 { 85.0 } else { 96.0 };
    Input::Reading(Reading {
        id: ReadingId::new(&device, Metric::Spo2, at, None),
        patient: PatientId::parse("ada").unwrap(),
        device,
        metric: Metric::Spo2,
        value,
        at,
        stamped_at: at,
        received_at: at,
        clock: ClockState::AsSent,
        boot: None,
        seq: None,
        typed: false,
        test: false,
        value_as_sent: value,
        unit_as_sent: String::new(),
        author: String::new(),
    })
}

struct Ward {
    journal: Arc<MemoryJournal>,
    objects: Arc<LocalObjects>,
    _folder: tempfile::TempDir,
}

impl Ward {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { journal: Arc::new(MemoryJournal::new(1)), objects: Arc::new(LocalObjects::open(folder.path()).unwrap()), _folder: folder }
    }
    async fn append(&self, inputs: impl IntoIterator<Item = Input>) {
        for input in inputs {
            self.journal.append(Topic::Inputs, P0, b"ada", input.encode()).unwrap().await.unwrap();
        }
    }
    fn start(&self, snapshot_every: u64) -> (CancellationToken, JoinHandle<Result<(), ProcessorError>>) {
        let stop = CancellationToken::new();
        let config = Config { snapshot_every, ..Config::default() };
        (stop.clone(), tokio::spawn(Processor::new(config, self.journal.clone(), self.objects.clone()).run(stop)))
    }
    /// What readers see of the outputs: of one cause the first, the rest are repetitions and must be equal.
    fn seen(&self) -> BTreeMap<Cause, Output> {
        let mut seen = BTreeMap::new();
        let windows = self.journal.records(Topic::Windows, P0).into_iter().map(|r| Output::Window(Window::decode(&r.value).unwrap()));
        let alerts = self.journal.records(Topic::Alerts, P0).into_iter().map(|r| Output::Transition(Transition::decode(&r.value).unwrap()));
        for output in windows.chain(alerts) {
            let known = seen.entry(output.cause()).or_insert_with(|| output.clone());
            assert_eq!(known, &output, "a replay repeats an output as it was");
        }
        seen
    }
    /// What the engine says to the whole log, undisturbed.
    fn golden(&self) -> BTreeMap<Cause, Output> {
        let log: Vec<Arrival> = self
            .journal
            .records(Topic::Inputs, P0)
            .into_iter()
            .map(|r| Arrival { offset: r.offset, arrived_at: r.arrived_at, input: Input::decode(&r.value).unwrap_or(Input::Tick) })
            .collect();
        Engine::new(engine::Config::default()).apply(&log).into_iter().map(|output| (output.cause(), output)).collect()
    }
    fn snapshots(&self) -> Vec<i64> {
        self.objects.list("snapshots/0").unwrap().iter().map(|name| name.rsplit('/').next().unwrap().parse().unwrap()).collect()
    }
}

/// Waits for a condition, with a deadline.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come");
        tokio::task::yield_now().await;
    }
}

fn start() -> EventTime {
    // long ago, so that no timer waits for the wall clock
    EventTime(1_600_000_000_000_000)
}

fn rules() -> Input {
    Input::RuleSet(RuleSet { version: 1, toml: RULES.to_owned(), activated_at: start(), author: String::new() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_it_says_the_same() {
    let ward = Ward::new();
    ward.append([rules()]).await;
    let mut sent = 0;
    for kill in 0..6 {
        ward.append((sent..sent + 40).map(|n| reading(n, start()))).await;
        sent += 40;
        // killed after some of its outputs, without a drain
        let some = ward.seen().len() + kill;
        let (_stop, task) = ward.start(17);
        until(&format!("an output after kill {kill}, {some} seen"), || task.is_finished() || ward.seen().len() > some).await;
        task.abort();
        let ended = task.await;
        assert!(ended.is_err(), "it ended by itself: {ended:?}");
    }
    let (stop, task) = ward.start(17);
    until("the last output", || task.is_finished() || ward.seen().len() >= ward.golden().len()).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(ward.seen(), ward.golden());
    assert!(ward.seen().len() > 60 && ward.snapshots().len() <= 3);
}

/// An output that did not become durable: no snapshot goes past it, and who starts again says it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_no_snapshot_before_the_receipts() {
    let ward = Ward::new();
    ward.append([rules()].into_iter().chain((0..50).map(|n| reading(n, start())))).await;
    ward.journal.fail_next(AppendError::DiskFull);
    let (stop, task) = ward.start(10);
    until("a snapshot or an error", || task.is_finished() || !ward.snapshots().is_empty()).await;
    assert!(ward.snapshots().is_empty(), "a snapshot past an output that was not stored");
    stop.cancel();
    assert!(matches!(task.await.unwrap(), Err(ProcessorError::Append(AppendError::DiskFull))));
    let (stop, task) = ward.start(10);
    until("every output", || ward.seen().len() >= ward.golden().len()).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(ward.seen(), ward.golden());
    let next = ward.journal.records(Topic::Inputs, P0).len() as i64;
    assert_eq!(ward.snapshots().last(), Some(&next), "a drain ends in a snapshot of everything");
    assert_eq!(ward.journal.progress("processor", Topic::Inputs, P0), Some(Offset(next)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_gives_way_to_the_one_before() {
    let ward = Ward::new();
    ward.append([rules()].into_iter().chain((0..20).map(|n| reading(n, start())))).await;
    let (stop, task) = ward.start(5);
    until("every output", || ward.seen().len() >= ward.golden().len()).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    ward.objects.create("snapshots/0/00000000000000000999", b"VIGILSNP but not really").unwrap();
    ward.append((20..30).map(|n| reading(n, start()))).await;
    let (stop, task) = ward.start(1000);
    until("every output", || ward.seen().len() >= ward.golden().len()).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(ward.seen(), ward.golden());
}

/// Nothing more comes, and the clock is past a timer: the owner appends a tick, and the engine speaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_partition_is_ticked() {
    let ward = Ward::new();
    let silent = "[[rule]]\nid = \"silent\"\npriority = \"low\"\nmetric = \"spo2\"\nsilent = \"30 min\"\n";
    ward.append([Input::RuleSet(RuleSet { version: 1, toml: silent.to_owned(), activated_at: start(), author: String::new() }), reading(0, start())]).await;
    let (stop, task) = ward.start(1000);
    until("an alert", || !ward.journal.records(Topic::Alerts, P0).is_empty()).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(ward.seen(), ward.golden());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_no_input_stops_nobody() {
    let ward = Ward::new();
    ward.append([rules()]).await;
    ward.journal.append(Topic::Inputs, P0, b"", vec![0xff, 0xff].into()).unwrap().await.unwrap();
    ward.append((0..10).map(|n| reading(n, start()))).await;
    let (stop, task) = ward.start(1000);
    until("every output", || ward.seen().len() >= ward.golden().len()).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(ward.seen(), ward.golden());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_the_log_is_an_error_by_name() {
    let ward = Ward::new();
    ward.append((0..10).map(|n| reading(n, start()))).await;
    ward.journal.truncate(Topic::Inputs, P0, Offset(5));
    let (_stop, task) = ward.start(1000);
    let error = task.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("from 5 on") && error.contains("0 is needed"), "{error}");
}
