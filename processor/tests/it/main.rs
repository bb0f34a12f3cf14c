//! The processor and the archive over a journal in memory, and over the embedded one; objects in a folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod archive;
mod backtest;
mod faults;
mod processing;
mod recovery;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::{Arrival, Engine, Output};
use journal::memory::MemoryJournal;
use journal::{Appender, Journal, Record, Topic};
use processor::objects::{LocalObjects, Objects};
use processor::{Config, Processor, ProcessorError};
use schemas::{Arrived, Cause, ClockState, DeviceId, EventTime, Input, Metric, Micros, Partition, PatientId, Reading, ReadingId, RuleSet, Transition, Window};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const P0: Partition = Partition(0);
const RULES: &str = "[[rule]]\nid = \"low\"\npriority = \"high\"\nwhen = \"last(spo2, '5 min') < 90\"\n";

/// The wards of these tests live in the future: no timer of theirs is ever due, so that nothing is in the log but what the test put there.
pub fn start() -> EventTime {
    EventTime::parse("2100-01-01T00:00:00Z").unwrap()
}

/// For the one that is to be ticked.
pub fn long_ago() -> EventTime {
    EventTime::parse("2020-01-01T00:00:00Z").unwrap()
}

pub fn rules_of(toml: &str, start: EventTime) -> Input {
    Input::RuleSet(RuleSet { version: 1, toml: toml.to_owned(), activated_at: start, author: String::new() })
}

pub fn rules() -> Input {
    rules_of(RULES, start())
}

pub fn reading(n: i64) -> Input {
    reading_after(n, start())
}

/// Three low, four high, and again: number 0 of seven raises, number 3 clears.
pub fn reading_after(n: i64, start: EventTime) -> Input {
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
        boot: Some(3),
        seq: None,
        typed: false,
        test: false,
        value_as_sent: value,
        unit_as_sent: "%".to_owned(),
        author: String::new(),
        format: None,
    })
}

/// Numbers of a seed that is printed: set VIGIL_TEST_SEED to repeat a run.
pub struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
        let seed = std::env::var("VIGIL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| u64::from(clock));
        println!("VIGIL_TEST_SEED={seed}");
        Self(seed)
    }
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

pub type Running = (CancellationToken, JoinHandle<Result<(), ProcessorError>>);

pub struct Ward {
    pub journal: Arc<MemoryJournal>,
    pub objects: Arc<dyn Objects>,
    pub folder: tempfile::TempDir,
}

impl Ward {
    pub(crate) fn new() -> Self {
        Self::with(1)
    }
    pub fn with(partitions: u32) -> Self {
        let ward = Self::now(partitions);
        ward.journal.set_clock(Arrived(start().0));
        ward
    }
    /// With the clock of the wall.
    pub fn now(partitions: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { journal: Arc::new(MemoryJournal::new(partitions)), objects: Arc::new(LocalObjects::open(folder.path()).unwrap()), folder }
    }
    pub async fn append(&self, inputs: impl IntoIterator<Item = Input>) {
        self.append_to(P0, inputs).await;
    }
    pub async fn append_to(&self, partition: Partition, inputs: impl IntoIterator<Item = Input>) {
        for input in inputs {
            self.journal.append(Topic::Inputs, partition, b"ada", input.encode()).unwrap().await.unwrap();
        }
    }
    pub fn start(&self, snapshot_every: u64) -> Running {
        self.start_on(self.journal.clone(), self.objects.clone(), snapshot_every)
    }
    pub fn start_on(&self, journal: Arc<dyn Journal>, objects: Arc<dyn Objects>, snapshot_every: u64) -> Running {
        let stop = CancellationToken::new();
        let config = Config { snapshot_every, ..Config::default() };
        (stop.clone(), tokio::spawn(Processor::new(config, journal, objects).run(stop)))
    }
    /// Until everything that the engine has to say is said, then drained.
    pub async fn finish(&self, (stop, task): Running) {
        until("every output", || task.is_finished() || self.seen().len() >= self.golden().len()).await;
        stop.cancel();
        task.await.unwrap().unwrap();
    }
    /// What readers see of the outputs: of one cause the first, the rest are repetitions and must be equal.
    pub fn seen(&self) -> BTreeMap<Cause, Output> {
        self.seen_of(P0)
    }
    pub fn seen_of(&self, partition: Partition) -> BTreeMap<Cause, Output> {
        let mut seen = BTreeMap::new();
        let windows = self.journal.records(Topic::Windows, partition).into_iter().map(|r| Output::Window(Window::decode(&r.value).unwrap()));
        for output in windows.chain(self.transitions(partition).into_iter().filter(|t| t.rule.as_str() != "vigil-gap").map(Output::Transition)) {
            let known = seen.entry(output.cause()).or_insert_with(|| output.clone());
            assert_eq!(known, &output, "a replay repeats an output as it was");
        }
        seen
    }
    pub fn transitions(&self, partition: Partition) -> Vec<Transition> {
        self.journal.records(Topic::Alerts, partition).iter().map(|r| Transition::decode(&r.value).unwrap()).collect()
    }
    /// What the engine says to the whole log, undisturbed.
    pub fn golden(&self) -> BTreeMap<Cause, Output> {
        golden(P0, &self.journal.records(Topic::Inputs, P0))
    }
    pub fn snapshots(&self) -> Vec<i64> {
        self.objects.list("snapshots/0").unwrap().iter().map(|name| name.rsplit('/').next().unwrap().parse().unwrap()).collect()
    }
}

pub fn arrivals(log: &[Record]) -> Vec<Arrival> {
    log.iter().map(|r| Arrival { offset: r.offset, arrived_at: r.arrived_at, input: Input::decode(&r.value).unwrap_or(Input::Tick) }).collect()
}

pub fn golden(partition: Partition, log: &[Record]) -> BTreeMap<Cause, Output> {
    let config = engine::Config { partition, ..engine::Config::default() };
    Engine::new(config).apply(&arrivals(log)).into_iter().map(|output| (output.cause(), output)).collect()
}

/// Waits for a condition, with a deadline.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come");
        tokio::task::yield_now().await;
    }
}
