//! The state of one partition, and the only way to change it.

use schemas::{Arrived, Cause, EventTime, Input, Metric, Offset, PatientId, Settings};

use crate::api::{Arrival, Breach, Config, Latest, OpenAlert, Output, Sample, SnapshotError, Stats};
use crate::decide::{Decide, Told};
use crate::fold::{Fold, Step};
use crate::panes::Day;
use crate::rules::{RuleBook, RuleKind, Source, compile};
use crate::series::evaluate;
use crate::snapshot;

#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) next: Offset,
    pub(crate) fold: Fold,
    pub(crate) decide: Decide,
    pub(crate) book: RuleBook,
    pub(crate) toml: String,
    pub(crate) stats: Stats,
}

impl Engine {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            next: Offset(0),
            fold: Fold { clock: Arrived(0), ..Fold::default() },
            decide: Decide::default(),
            book: RuleBook::default(),
            toml: String::new(),
            stats: Stats::default(),
        }
    }

    /// One that decides by these rules from `since` on, as if they had come in a rule set.
    pub(crate) fn with_rules(config: Config, book: RuleBook, since: EventTime) -> Self {
        let mut engine = Self::new(config);
        engine.decide.version = 1;
        engine.decide.activated = book.rules.iter().map(|rule| (rule.id.clone(), since)).collect();
        engine.book = book;
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
        let idle = self.fold.idle.first().map(|(due, ..)| *due);
        let timer = self.decide.timers.first().map(|timer| timer.due);
        idle.into_iter().chain(timer).min()
    }

    /// Applies inputs in order. Any split into batches gives the same outputs (P7): rows are materialised in order, evaluated together, and
    /// decided in order.
    pub fn apply(&mut self, batch: &[Arrival]) -> Vec<Output> {
        let mut outputs = Vec::new();
        let mut steps: Vec<Step> = Vec::new();
        for arrival in batch {
            if arrival.offset < self.next {
                continue;
            }
            let step = self.fold.step(&self.config, &self.book, arrival, &mut self.stats);
            self.next = arrival.offset.next();
            if let Input::RuleSet(set) = &arrival.input {
                // what stands before it is decided by the rules of its time
                self.decide_all(&std::mem::take(&mut steps), &mut outputs);
                self.rule_set(set, step, &mut outputs);
            } else {
                steps.push(step);
            }
        }
        self.decide_all(&steps, &mut outputs);
        self.stats.transitions += outputs.iter().filter(|output| matches!(output, Output::Transition(_))).count() as u64;
        outputs
    }

    fn decide_all(&mut self, steps: &[Step], outputs: &mut Vec<Output>) {
        let said = self.evaluate(steps);
        let mut rest = said.as_slice();
        for step in steps {
            let (mine, others) = rest.split_at(step.rows.len().min(rest.len()));
            rest = others;
            let mut told = self.told(step, outputs);
            self.decide.timers(&self.book, step, &mut told);
            for closed in &step.windows {
                told.window(closed);
            }
            self.decide.news(&self.book, &step.news, step.clock, &mut told);
            self.decide.rows(&self.config, &self.book, step, mine, &mut told);
        }
    }

    const fn told<'a>(&self, step: &Step, outputs: &'a mut Vec<Output>) -> Told<'a> {
        Told { cause: Cause { offset: step.offset, ordinal: 0 }, origin: step.origin, window: self.config.window, version: self.decide.version, outputs }
    }

    /// All rows of a rule at once.
    fn evaluate(&mut self, steps: &[Step]) -> Vec<crate::decide::Answer> {
        let rows: Vec<_> = steps.iter().flat_map(|step| &step.rows).collect();
        let mut said = vec![(None, None); rows.len()];
        for (index, rule) in self.book.rules.iter().enumerate() {
            let RuleKind::Predicate(predicate) = &rule.kind else { continue };
            let mine: Vec<usize> = rows.iter().enumerate().filter(|(_, row)| row.rule == index).map(|(place, _)| place).collect();
            if mine.is_empty() {
                continue;
            }
            let columns: Vec<&[Option<f64>]> = mine.iter().filter_map(|place| rows.get(*place)).map(|row| row.columns.as_slice()).collect();
            for (place, answer) in mine.into_iter().zip(evaluate(predicate, &columns, &mut self.stats.evaluation_errors)) {
                if let Some(slot) = said.get_mut(place) {
                    *slot = answer;
                }
            }
        }
        said
    }

    fn rule_set(&mut self, set: &schemas::RuleSet, mut step: Step, outputs: &mut Vec<Output>) {
        let mut told = self.told(&step, outputs);
        self.decide.timers(&self.book, &step, &mut told);
        if set.version <= self.decide.version {
            return;
        }
        let book = match compile(&set.toml) {
            Ok(book) => book,
            Err(_) => {
                self.stats.rules_refused += 1;
                return;
            }
        };
        let old = std::mem::replace(&mut self.book, book);
        self.toml.clone_from(&set.toml);
        self.decide.version = set.version;
        told.version = set.version;
        let changed = self.decide.rules(&old, &self.book, set.activated_at, step.clock, &mut told);
        let ordinal = told.cause.ordinal;
        self.fold.rows_for_rules(&self.config, &self.book, &changed, &mut step);
        self.stats.rows += step.rows.len() as u64;
        let said = self.evaluate(std::slice::from_ref(&step));
        let mut told = self.told(&step, outputs);
        told.cause.ordinal = ordinal;
        self.decide.rows(&self.config, &self.book, &step, &said, &mut told);
    }
}

/// What may be asked in between.
impl Engine {
    pub fn patients(&self) -> impl Iterator<Item = &PatientId> {
        self.fold.patients.keys()
    }

    pub fn settings(&self, patient: &PatientId) -> Option<&Settings> {
        self.fold.patients.get(patient)?.settings.as_deref()
    }

    pub const fn stats(&self) -> Stats {
        self.stats
    }

    pub fn open_alerts(&self, patient: &PatientId) -> Vec<OpenAlert> {
        self.decide.open_alerts(&self.book, patient)
    }

    pub fn samples(&self, patient: &PatientId, metric: Metric, from: EventTime) -> Vec<Sample> {
        let Some(series) = self.fold.patients.get(patient).and_then(|folded| folded.series.get(&metric)) else { return Vec::new() };
        let start = series.samples.partition_point(|kept| kept.at < from);
        let live = series.samples.iter().skip(start).filter(|kept| !kept.voided);
        live.map(|s| Sample {
            id: s.id,
            at: s.at,
            stamped_at: s.stamped_at,
            received_at: s.received_at,
            value: s.value,
            late: s.late,
            beyond: s.beyond,
            test: s.test,
            typed: s.typed,
            clock: s.clock,
            device: s.device.clone(),
        })
        .collect()
    }

    /// The calendar days of the zone of the rules that begin in `[from, now]`, oldest first; days without a reading are left out.
    pub fn days(&self, patient: &PatientId, metric: Metric, from: EventTime) -> Vec<Day> {
        let Some(folded) = self.fold.patients.get(patient) else { return Vec::new() };
        let pauses = folded.settings.as_deref().map_or(&[][..], |s| &s.pauses);
        let days = folded.series.get(&metric).and_then(|series| series.days(&self.book.zone, from, EventTime::MAX, pauses));
        days.unwrap_or_default()
    }

    pub fn latest(&self, patient: &PatientId, metric: Metric) -> Option<Latest> {
        let series = self.fold.patients.get(patient)?.series.get(&metric)?;
        let mut newest = series.samples.iter().rev().filter(|kept| !kept.voided);
        let (kept, before) = (newest.next()?, newest.next());
        Some(Latest {
            id: kept.id,
            value: kept.value,
            at: kept.at,
            received_at: kept.received_at,
            stamped_at: kept.stamped_at,
            arrived_at: kept.arrived,
            clock: kept.clock,
            typed: kept.typed,
            test: kept.test,
            late: kept.late,
            device: kept.device.clone(),
            previous: before.map(|kept| (kept.value, kept.at)),
            breach: self.breach(patient, metric),
        })
    }

    /// The most urgent open alert that looks at this metric, with its limit for this patient.
    fn breach(&self, patient: &PatientId, metric: Metric) -> Option<Breach> {
        let decided = self.decide.patients.get(patient)?;
        let open = |rule: &&crate::rules::Rule| !rule.is_shadow() && decided.rules.get(&rule.id).is_some_and(|state| state.open.is_some());
        let rules = self.book.rules.iter().filter(|rule| rule.metrics().contains(&metric) && matches!(rule.kind, RuleKind::Predicate(_)));
        let rule = rules.filter(open).max_by_key(|rule| rule.priority)?;
        let RuleKind::Predicate(predicate) = &rule.kind else { return None };
        let limit = predicate.columns.iter().find_map(|column| match &column.source {
            Source::Limit { name, default } => Some(self.settings(patient).and_then(|s| s.limit(name, self.clock().as_event())).unwrap_or(*default)),
            _ => None,
        });
        Some(Breach { rule: rule.id.clone(), limit, priority: rule.priority })
    }

    /// Of the `silent` rules of this metric: when the first raises if nothing is heard before, or when it was raised; whether it is open.
    pub fn silence(&self, patient: &PatientId, metric: Metric) -> Option<(Arrived, bool)> {
        let decided = self.decide.patients.get(patient)?;
        let silent = self.book.rules.iter().filter(|rule| matches!(rule.kind, RuleKind::Silent { metric: of, .. } if of == metric) && !rule.is_shadow());
        let states = silent.filter_map(|rule| decided.rules.get(&rule.id));
        let due = |state: &crate::decide::RuleState| match &state.open {
            Some(open) => Some((Arrived(open.raised_at.0), true)),
            None => state.due.map(|due| (due, false)),
        };
        states.filter_map(due).min_by_key(|(due, open)| (!open, *due))
    }

    /// The rules it decides by.
    pub fn rules(&self) -> &RuleBook {
        &self.book
    }
}
