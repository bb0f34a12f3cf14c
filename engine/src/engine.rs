//! The state of one partition, and the only way to change it.

use schemas::{Arrived, Cause, EventTime, Input, Metric, Offset, PatientId, Settings};

use crate::api::{Arrival, Breach, Config, Latest, OpenAlert, Output, Sample, SnapshotError, Stats};
use crate::book::Book;
use crate::decide::{Decide, Told};
use crate::fold::{Batch, Fold, News, Step};
use crate::panes::Day;
use crate::rules::{Column, Rule, RuleBook, RuleKind, Source, compile};
use crate::snapshot;

/// Inputs that are folded before they are decided: their rows stay in the caches.
const AT_ONCE: usize = 4096;

#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) next: Offset,
    pub(crate) fold: Fold,
    pub(crate) decide: Decide,
    pub(crate) book: Book,
    pub(crate) toml: String,
    pub(crate) stats: Stats,
}

impl Engine {
    pub fn new(config: Config) -> Self {
        Self { config, next: Offset(0), fold: Fold::default(), decide: Decide::default(), book: Book::default(), toml: String::new(), stats: Stats::default() }
    }

    /// One that decides by these rules from `since` on, as if they had come in a rule set.
    pub(crate) fn with_rules(config: Config, book: RuleBook, since: EventTime) -> Self {
        let mut engine = Self::new(config);
        engine.decide.version = 1;
        engine.decide.activated = book.rules.iter().map(|rule| (rule.id.clone(), since)).collect();
        engine.book = book.into();
        engine
    }

    /// # Errors
    /// When the bytes are not a whole snapshot of this partition and configuration.
    pub fn restore(config: Config, bytes: &[u8]) -> Result<Self, SnapshotError> {
        snapshot::read(config, bytes)
    }

    /// # Errors
    /// When the state cannot be written: no snapshot is better than one that cannot be restored.
    pub fn snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        snapshot::write(self)
    }

    /// The offset it wants next; inputs below it are ignored.
    pub const fn next(&self) -> Offset {
        self.next
    }

    /// The running maximum of `arrived_at`.
    pub const fn clock(&self) -> Arrived {
        self.fold.clock
    }

    /// The version of the rules it decides by; 0 before the first.
    pub const fn rules_version(&self) -> u64 {
        self.decide.version
    }

    /// The earliest timer: the owner appends a Tick when this has passed and the partition is quiet.
    pub fn next_due(&self) -> Option<Arrived> {
        let idle = self.fold.idle.first();
        let timer = self.decide.timers.first();
        idle.into_iter().chain(timer).min()
    }

    /// Applies inputs in order. Any split into batches gives the same outputs (P7): rows are materialised in order, evaluated together, and
    /// decided in order.
    pub fn apply(&mut self, inputs: &[Arrival]) -> Vec<Output> {
        let mut outputs = Vec::new();
        for inputs in inputs.chunks(AT_ONCE) {
            self.apply_some(inputs, &mut outputs);
        }
        self.stats.transitions += outputs.iter().filter(|output| matches!(output, Output::Transition(_))).count() as u64;
        outputs
    }

    fn apply_some(&mut self, inputs: &[Arrival], outputs: &mut Vec<Output>) {
        let mut batch = Batch::new(&self.book);
        for arrival in inputs {
            if arrival.offset < self.next {
                continue;
            }
            if let Input::RuleSet(set) = &arrival.input {
                // what stands before it is decided by the rules of its time
                self.decide_all(&mut batch, outputs);
                batch = Batch::new(&self.book);
                self.fold.step(&self.config, &self.book, arrival, &mut batch, &mut self.stats);
                self.rule_set(set, batch, outputs);
                batch = Batch::new(&self.book);
            } else {
                self.fold.step(&self.config, &self.book, arrival, &mut batch, &mut self.stats);
            }
            self.next = arrival.offset.next();
        }
        self.decide_all(&mut batch, outputs);
    }

    fn decide_all(&mut self, batch: &mut Batch, outputs: &mut Vec<Output>) {
        self.evaluate(batch);
        let (mut idle, mut windows, mut rows) = (0, 0, 0);
        for step in &batch.steps {
            let mut told = told(&self.config, self.decide.version, step, outputs);
            self.decide.timers(&self.book, &self.fold.people, step.clock, batch.idle.get(idle..step.idle).unwrap_or_default(), &mut told);
            for closed in batch.windows.get(windows..step.windows).unwrap_or_default() {
                told.window(closed, &self.fold.people);
            }
            self.decide.news(&self.book, &self.fold.people, &step.news, step.clock, &mut told);
            let mine = batch.rows.get(rows..step.rows).unwrap_or_default();
            self.decide.rows(&self.config, &self.book, &self.fold.people, step.clock, mine, &batch.tables, &mut told);
            if let News::Changed(patient, metric, at) = step.news {
                self.decide.too_old(&self.book, &self.fold.people, patient, metric, at, step.clock, &mut told);
            }
            (idle, windows, rows) = (step.idle, step.windows, step.rows);
        }
    }

    /// All rows of a rule at once.
    fn evaluate(&mut self, batch: &mut Batch) {
        for (rule, table) in self.book.rules.iter().zip(&mut batch.tables) {
            if let RuleKind::Predicate(predicate) = &rule.kind {
                table.evaluate(predicate, &mut self.stats.evaluation_errors);
            }
        }
    }

    /// Takes in rules; `before` is what was folded of their input.
    fn rule_set(&mut self, set: &schemas::RuleSet, before: Batch, outputs: &mut Vec<Output>) {
        let Some(step) = before.steps.last() else { return };
        let mut told = told(&self.config, self.decide.version, step, outputs);
        self.decide.timers(&self.book, &self.fold.people, step.clock, &before.idle, &mut told);
        if set.version <= self.decide.version {
            return;
        }
        let book = match compile(&set.toml) {
            Ok(book) => Book::from(book),
            Err(_) => {
                self.stats.rules_refused += 1;
                return;
            }
        };
        let old = std::mem::replace(&mut self.book, book);
        self.toml.clone_from(&set.toml);
        self.decide.version = set.version;
        told.version = set.version;
        let changed = self.decide.rules(&old, &self.book, &self.fold.people, set.activated_at, step.clock, &mut told);
        let ordinal = told.cause.ordinal;
        let mut batch = Batch::new(&self.book);
        self.fold.rows_for_rules(&self.config, &self.book, &changed, &mut batch);
        self.stats.rows += batch.rows.len() as u64;
        self.evaluate(&mut batch);
        let mut told = self::told(&self.config, self.decide.version, step, outputs);
        told.cause.ordinal = ordinal;
        self.decide.rows(&self.config, &self.book, &self.fold.people, step.clock, &batch.rows, &batch.tables, &mut told);
    }
}

const fn told<'a>(config: &Config, version: u64, step: &Step, outputs: &'a mut Vec<Output>) -> Told<'a> {
    Told { cause: Cause { offset: step.offset, ordinal: 0 }, origin: step.origin, window: config.window, version, outputs }
}

/// What may be asked in between.
impl Engine {
    pub fn patients(&self) -> impl Iterator<Item = &PatientId> {
        self.fold.people.ordered().map(|(patient, _)| patient)
    }

    pub fn settings(&self, patient: &PatientId) -> Option<&Settings> {
        self.fold.get(patient)?.settings.as_deref()
    }

    pub const fn stats(&self) -> Stats {
        self.stats
    }

    pub fn open_alerts(&self, patient: &PatientId) -> Vec<OpenAlert> {
        self.fold.people.find(patient).map_or_else(Vec::new, |patient| self.decide.open_alerts(&self.book, patient))
    }

    pub fn samples(&self, patient: &PatientId, metric: Metric, from: EventTime) -> Vec<Sample> {
        let Some(series) = self.fold.get(patient).and_then(|folded| folded.series.get(&metric)) else { return Vec::new() };
        let live = (series.since(from)..series.len()).map(|place| (place, series.get(place))).filter(|(_, kept)| !kept.voided);
        live.filter_map(|(place, s)| {
            let (id, stamped_at, device) = series.named(place, metric)?;
            Some(Sample {
                id,
                at: s.at,
                stamped_at,
                received_at: s.received_at,
                value: s.value,
                late: s.late,
                beyond: s.beyond,
                test: s.test,
                typed: s.typed,
                clock: s.clock,
                device: device.clone(),
            })
        })
        .collect()
    }

    /// The calendar days of the zone of the rules that begin in `[from, now]`, oldest first; days without a reading are left out.
    pub fn days(&self, patient: &PatientId, metric: Metric, from: EventTime) -> Vec<Day> {
        let Some(folded) = self.fold.get(patient) else { return Vec::new() };
        let days = folded.series.get(&metric).and_then(|series| series.days(&self.book.zone, from, EventTime::MAX, folded.pauses()));
        days.unwrap_or_default()
    }

    pub fn latest(&self, patient: &PatientId, metric: Metric) -> Option<Latest> {
        let series = self.fold.get(patient)?.series.get(&metric)?;
        let mut newest = (0..series.len()).rev().map(|place| (place, series.get(place))).filter(|(_, kept)| !kept.voided);
        let ((place, kept), before) = (newest.next()?, newest.next());
        let (id, stamped_at, device) = series.named(place, metric)?;
        Some(Latest {
            id,
            value: kept.value,
            at: kept.at,
            received_at: kept.received_at,
            stamped_at,
            arrived_at: kept.arrived,
            clock: kept.clock,
            typed: kept.typed,
            test: kept.test,
            late: kept.late,
            device: device.clone(),
            previous: before.map(|(_, kept)| (kept.value, kept.at)),
            breach: self.breach(patient, metric),
        })
    }

    /// The most urgent open alert that looks at this metric, with its limit for this patient.
    fn breach(&self, patient: &PatientId, metric: Metric) -> Option<Breach> {
        let decided = self.decide.get(self.fold.people.find(patient)?)?;
        let open = |place: &usize| decided.rules.get(*place).is_some_and(|state| state.open.is_some());
        // a score is of the patient, and no metric's own
        let looks_at = |column: &Column| column.source.metric() == Some(metric) && !matches!(column.source, Source::News2 { .. });
        let of_metric = |rule: &&Rule| matches!(&rule.kind, RuleKind::Predicate(predicate) if predicate.columns.iter().any(looks_at));
        let rules = self.book.touched(metric).iter().filter(|place| open(place)).filter_map(|place| self.book.rules.get(*place));
        let rule = rules.filter(|rule| !rule.is_shadow()).filter(of_metric).max_by_key(|rule| rule.priority)?;
        let RuleKind::Predicate(predicate) = &rule.kind else { return None };
        let limit = predicate.columns.iter().find_map(|column| match &column.source {
            Source::Limit { name, default } => Some(self.settings(patient).and_then(|s| s.limit(name, self.clock().as_event())).unwrap_or(*default)),
            _ => None,
        });
        Some(Breach { rule: rule.id.clone(), limit, priority: rule.priority })
    }

    /// Of the `silent` rules of this metric: when the first raises if nothing is heard before, or when it was raised; whether it is open.
    pub fn silence(&self, patient: &PatientId, metric: Metric) -> Option<(Arrived, bool)> {
        let decided = self.decide.get(self.fold.people.find(patient)?)?;
        let silent = self.book.silent(metric).iter().filter(|place| self.book.rules.get(**place).is_some_and(|rule| !rule.is_shadow()));
        let due = |place: &usize| match decided.rules.get(*place).and_then(|state| state.open.as_ref()) {
            Some(open) => Some((Arrived(open.raised_at.0), true)),
            None => decided.due(*place).map(|due| (due, false)),
        };
        silent.filter_map(due).min_by_key(|(due, open)| (!open, *due))
    }

    /// The rules it decides by.
    pub fn rules(&self) -> &RuleBook {
        &self.book
    }
}
