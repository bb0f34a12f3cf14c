//! How fast and how small the engine is with the default rules. `cargo bench --profile dev -p engine`; `-- --report` for the table alone.
//!
//! CPU time of the thread, not time that passed: others may use the machine.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]

mod load;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use engine::{Config, Engine};
use load::{METRICS, Ward};
use schemas::EventTime;

/// What is allocated, with what glibc's malloc adds to it.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

const fn chunk(size: usize) -> usize {
    let whole = (size + 8).next_multiple_of(16);
    if whole < 32 { 32 } else { whole }
}

#[expect(unsafe_code, reason = "an allocator that counts and hands on")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(chunk(layout.size()), Relaxed);
        // SAFETY: handed on as it came
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(chunk(layout.size()), Relaxed);
        // SAFETY: handed on as it came
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_add(chunk(size), Relaxed);
        ALLOCATED.fetch_sub(chunk(layout.size()), Relaxed);
        // SAFETY: handed on as it came
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// As many as a journal hands over at once.
const BATCH: usize = 4096;

fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// An engine with its ward, fed.
struct Fed {
    engine: Engine,
    ward: Ward,
}

impl Fed {
    /// Each series with so many samples.
    fn new(patients: usize, samples: usize, unruly: Option<u64>) -> Self {
        let (ward, first) = Ward::new(patients, unruly);
        let mut fed = Self { engine: Engine::new(Config::default()), ward };
        fed.engine.apply(&first);
        fed.feed(patients * METRICS.len() * samples);
        fed
    }

    /// What the engine took of the CPU for so many readings.
    fn feed(&mut self, readings: usize) -> Duration {
        let mut taken = Duration::ZERO;
        for _ in 0..readings.div_ceil(BATCH) {
            let batch = self.ward.readings(BATCH);
            let begin = cpu();
            let outputs = self.engine.apply(&batch);
            taken += cpu() - begin;
            drop(outputs);
        }
        taken
    }
}

const SIZES: [usize; 3] = [1_000, 20_000, 100_000];
/// So many samples a series has when it is measured: the oldest rows fall out of every window by then.
const DEPTH: usize = 36;

fn speed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(BATCH as u64)).sample_size(10);
    for patients in SIZES {
        let mut fed = Fed::new(patients, DEPTH, None);
        group.bench_function(BenchmarkId::new("default rules, patients", patients), |bencher| {
            bencher.iter_custom(|batches| fed.feed(batches as usize * BATCH));
        });
    }
    let mut fed = Fed::new(1_000, DEPTH, Some(50));
    group.bench_function("one in 50 late, one in 50 again", |bencher| bencher.iter_custom(|batches| fed.feed(batches as usize * BATCH)));
    group.finish();
}

fn report(sizes: &[usize], depth: usize) {
    println!("readings per second of one core, default rules, {} metrics, {depth} samples each: min, median, max of 3 rounds", METRICS.len());
    for &patients in sizes {
        let mut fed = Fed::new(patients, depth, None);
        let readings = (patients * METRICS.len() * 2).clamp(500_000, 1_500_000);
        let mut rounds = [0; 3].map(|_| readings as f64 / fed.feed(readings).as_secs_f64());
        rounds.sort_by(f64::total_cmp);
        println!("  {patients:>7} patients: {:.2} M, {:.2} M, {:.2} M", rounds[0] / 1e6, rounds[1] / 1e6, rounds[2] / 1e6);
    }
}

/// What a patient takes who measured every minute for as long as anything is kept.
fn memory() {
    let patients = 500;
    let (ward, first) = Ward::new(patients, None);
    drop(first);
    drop(ward);
    let before = ALLOCATED.load(Relaxed);
    let fed = Fed::new(patients, 300, None);
    let held = ALLOCATED.load(Relaxed) - before;
    let names = patients * (size_of::<(String, i64)>() + chunk(14) + 4);
    let ids: Vec<_> = fed.engine.patients().cloned().collect();
    let samples: usize = ids.iter().flat_map(|id| METRICS.map(|metric| fed.engine.samples(id, metric, EventTime::MIN).len())).sum();
    let begin = cpu();
    let snapshot = fed.engine.snapshot().unwrap();
    let written = cpu() - begin;
    let begin = cpu();
    let restored = Engine::restore(Config::default(), &snapshot).unwrap();
    let read = cpu() - begin;
    let state = held - names;
    println!(
        "  state: {} bytes a patient, {:.1} a retained sample ({} samples a series)",
        state / patients,
        state as f64 / samples as f64,
        samples / patients / 6
    );
    println!(
        "  snapshot: {:.1} bytes a sample, {:.0} ns a sample to write, {:.0} to read",
        snapshot.len() as f64 / samples as f64,
        written.as_nanos() as f64 / samples as f64,
        read.as_nanos() as f64 / samples as f64
    );
    drop(restored);
}

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--report").skip(1);
    if std::env::args().any(|argument| argument == "--report") {
        let sizes: Vec<usize> = arguments.next().map_or(SIZES.to_vec(), |sizes| sizes.split(',').map(|size| size.parse().unwrap()).collect());
        let depth = arguments.next().map_or(DEPTH, |depth| depth.parse().unwrap());
        report(&sizes, depth);
        memory();
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    speed(&mut criterion);
    report(&SIZES, DEPTH);
    memory();
    criterion.final_summary();
}
