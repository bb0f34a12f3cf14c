//! The back-test: the engine over the lake's `raw/inputs`, in the order in which they arrived.
//!
//! It promises that what it says is what the live engine would have said: the same inputs, late, repeated, voided and moved as they were, the same
//! settings, the same clock and timers. Only the rules are others, if others are asked for. The same lake, rules and period give the same
//! result, to the byte; the result names all three by their hashes. It must never write to the lake, nor hold more of it than one file per
//! worker. Everything here blocks: call it off the runtime.

mod alerts;
mod burden;
mod compare;
mod decode;
mod detection;
mod explain;
mod exposure;
mod files;
mod grid;
mod recorded;
mod report;
mod stream;
mod trial;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engine::{Diagnostics, RuleBook, Stats};
use schemas::{Arrived, Metric, Micros, PatientId, Priority, RuleId};
use sha2::{Digest, Sha256};

use crate::lake::LakeError;
use crate::objects::Objects;

pub use alerts::{Alert, End};
pub use burden::{Burden, OfRule, TopPatients};
pub use compare::{Differences, compare, compare_exactly};
pub use detection::{Detected, Detection, EventOutcome, Labelled, Quartiles, detect};
pub use explain::{Asked, ExplainError, Later, Past, Told, explain};
pub use grid::{Grid, GridError, Point, Sweep};
pub use recorded::write_inputs;
pub use report::{OfData, Period, Question, Report, Side, report};

/// The rules by which it is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rules {
    /// As they stand in the log, each from when it came.
    OfTheLog,
    /// One rule set from the first input on; those of the log are passed over.
    Trial(String),
}

/// What is read before the period, and not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmUp {
    /// From the lake's beginning: exact.
    All,
    /// Everything for so long; before that only settings, voids and rules.
    Span(Micros),
}

#[derive(Clone, Debug)]
pub struct Plan {
    /// As the processor has it; its partition is set for each.
    pub engine: engine::Config,
    /// What arrived from here on is counted.
    pub from: Arrived,
    /// What arrived from here on is not read.
    pub to: Arrived,
    pub warm_up: WarmUp,
    /// `None`: everyone.
    pub patients: Option<BTreeSet<PatientId>>,
    /// `None`: all. Others are counted as readings, and decide nothing.
    pub metrics: Option<BTreeSet<Metric>>,
    /// Partitions that are read at once; `None`: as many as there are cores.
    pub workers: Option<NonZero<usize>>,
}

impl Plan {
    /// The whole lake.
    pub fn new(engine: engine::Config) -> Self {
        Self { engine, from: Arrived::MIN, to: Arrived::MAX, warm_up: WarmUp::All, patients: None, metrics: None, workers: None }
    }

    /// With a warm-up that is long enough for these rules: the horizon, and as far back as any of them looks.
    ///
    /// # Errors
    /// When a rule set does not compile.
    pub fn warm_for(mut self, rules: &[Rules]) -> Result<Self, BacktestError> {
        for book in rules.iter().map(book).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
            let widest = book.rules.iter().map(engine::Rule::width).max().unwrap_or_default() + self.engine.horizon;
            if let WarmUp::Span(span) = &mut self.warm_up {
                *span = (*span).max(widest);
            }
        }
        Ok(self)
    }

    /// From when on every input is read.
    fn begin(&self) -> Arrived {
        match self.warm_up {
            WarmUp::All => Arrived::MIN,
            WarmUp::Span(span) => self.from - span,
        }
    }
}

/// How far a back-test has come, and whether it should go on.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
}

impl Progress {
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Bytes of the lake that were read, of how many.
    pub fn bytes(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    #[error(transparent)]
    Lake(#[from] LakeError),
    #[error("the lake: {0}")]
    Objects(#[from] std::io::Error),
    #[error("{0}")]
    Rules(#[from] Diagnostics),
    #[error("the lake holds no inputs: is lake.path right, and does the installation run? A file is written when `lake.roll_after` has passed")]
    Empty,
    #[error("the lake holds no inputs that arrived before {to}")]
    Before { to: Arrived },
    #[error("cancelled")]
    Cancelled,
    #[error("a thread of the back-test ended early")]
    Thread,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    pub files: u64,
    /// Rows of those files.
    pub rows: u64,
    /// Of the period and of these patients, as they arrived: repetitions included.
    pub readings: u64,
    pub first_arrived: Arrived,
    pub last_arrived: Arrived,
    /// SHA-256 over the names, row counts and digests of the files, in order.
    pub hash: String,
    /// Per patient with a reading: days and hours, in UTC, in which something was measured.
    pub watched: BTreeMap<PatientId, (u64, u64)>,
}

/// What one rule set would have told.
#[derive(Clone, Debug)]
pub struct Trial {
    /// In the order in which they were heard; those of the warm-up stand before the period's.
    pub alerts: Vec<Alert>,
    pub names: BTreeMap<RuleId, (String, Priority)>,
    pub stats: Stats,
}

#[derive(Clone, Debug)]
pub struct Outcome {
    pub data: Data,
    /// In the order of the rule sets.
    pub trials: Vec<Trial>,
}

/// SHA-256, as people compare it.
pub fn hash(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes.as_ref()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every rule set over the same inputs, each by an engine of its own. Blocking.
///
/// # Errors
/// When a rule set does not compile, when the lake lacks a file or cannot be read, or when it was cancelled.
pub fn run(objects: &Arc<dyn Objects>, plan: &Plan, rules: &[Rules], progress: &Progress) -> Result<Outcome, BacktestError> {
    let books = rules.iter().map(book).collect::<Result<Vec<_>, _>>()?;
    let partitions = files::of_inputs(&**objects)?;
    if partitions.is_empty() {
        return Err(BacktestError::Empty);
    }
    let last_date = files::date(plan.to);
    let mut waiting = VecDeque::new();
    for (partition, mut files) in partitions {
        files.retain(|file| file.date <= last_date);
        for file in &files {
            progress.total.fetch_add(objects.size(&file.name)?, Ordering::Relaxed);
        }
        waiting.push_back((partition, files));
    }
    let workers = plan.workers.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZero::get).min(waiting.len());
    let (waiting, done) = (Mutex::new(waiting), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((partition, files)) = next else { return Ok(()) };
            match trial::run(objects, plan, rules, partition, &files, progress) {
                Ok(part) => done.lock().unwrap_or_else(PoisonError::into_inner).push((partition, part)),
                Err(error) => {
                    // the others need not go on
                    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    return Err(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(BacktestError::Thread)))
    })?;
    let mut parts = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    parts.sort_by_key(|(partition, _)| *partition);
    together(plan, &books, parts.into_iter().map(|(_, part)| part))
}

fn book(rules: &Rules) -> Result<Option<RuleBook>, Diagnostics> {
    match rules {
        Rules::OfTheLog => Ok(None),
        Rules::Trial(toml) => engine::compile(toml).map(Some),
    }
}

fn together(plan: &Plan, books: &[Option<RuleBook>], parts: impl Iterator<Item = trial::Part>) -> Result<Outcome, BacktestError> {
    let mut data =
        Data { files: 0, rows: 0, readings: 0, first_arrived: Arrived::MAX, last_arrived: Arrived::MIN, hash: String::new(), watched: BTreeMap::new() };
    let mut manifest = String::new();
    let mut trials: Vec<Trial> = books.iter().map(|book| Trial { alerts: Vec::new(), names: named(book.as_ref()), stats: Stats::default() }).collect();
    for part in parts {
        data.files += part.read.files;
        data.rows += part.read.rows;
        data.readings += part.exposure.readings;
        data.first_arrived = data.first_arrived.min(part.first_arrived.unwrap_or(Arrived::MAX));
        data.last_arrived = data.last_arrived.max(part.read.last_arrived);
        data.watched.extend(part.exposure.per_patient());
        manifest += &part.read.manifest;
        for (trial, (alerts, stats)) in trials.iter_mut().zip(part.lanes) {
            let (alerts, names): (Vec<Alert>, HashMap<_, _>) = alerts.into_parts();
            trial.alerts.extend(alerts);
            for (rule, name) in names {
                trial.names.entry(rule).or_insert(name);
            }
            add(&mut trial.stats, stats);
        }
    }
    if data.files == 0 {
        return Err(BacktestError::Before { to: plan.to });
    }
    // of a cohort of whom nothing ever came
    data.first_arrived = data.first_arrived.min(data.last_arrived);
    data.hash = hash(manifest);
    for trial in &mut trials {
        trial.alerts.sort_by(|a, b| (a.known_at, &a.patient, &a.rule, a.raised_at, a.alert).cmp(&(b.known_at, &b.patient, &b.rule, b.raised_at, b.alert)));
    }
    Ok(Outcome { data, trials })
}

fn named(book: Option<&RuleBook>) -> BTreeMap<RuleId, (String, Priority)> {
    let rules = book.into_iter().flat_map(|book| &book.rules).filter(|rule| rule.id.as_str() != schemas::CANARY_RULE);
    rules.map(|rule| (rule.id.clone(), (rule.name.clone(), rule.priority))).collect()
}

fn add(sum: &mut Stats, more: Stats) {
    sum.inputs += more.inputs;
    sum.readings += more.readings;
    sum.late += more.late;
    sum.beyond_horizon += more.beyond_horizon;
    sum.duplicates += more.duplicates;
    sum.corrected += more.corrected;
    sum.voided += more.voided;
    sum.refused += more.refused;
    sum.rows += more.rows;
    sum.windows += more.windows;
    sum.transitions += more.transitions;
    sum.evaluation_errors += more.evaluation_errors;
    sum.rules_refused += more.rules_refused;
}
