//! The first half of an input: what it changes in the samples and windows, and which rows are to be looked at. Nothing here decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemas::{Arrived, EventTime, Input, Metric, Micros, PatientId, Reading, Settings, Void};

use crate::api::{Arrival, Config, Stats};
use crate::rules::{MAX_WIDTH, Rule, RuleBook, RuleKind};
use crate::series::{Kept, Series};

/// What `vigil.windows` is told, but for its cause.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Closed {
    pub patient: PatientId,
    pub metric: Metric,
    pub start: EventTime,
    pub revision: u32,
    pub count: u64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
    pub last: f64,
}

/// One row of one rule, materialised: later inputs of the batch no longer change it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub rule: usize,
    pub patient: PatientId,
    pub at: EventTime,
    /// In the order of the predicate's columns.
    pub columns: Vec<Option<f64>>,
    /// On how many readings it rests.
    pub readings: u32,
    pub settings_version: u64,
    /// The clock stands in a pause: people are not called.
    pub paused: bool,
    /// It is the rule's frontier, and nobody paused it: it may raise and clear.
    pub decides: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum News {
    /// A reading newer than all before of its metric; the time from which silence counts.
    Heard(PatientId, Metric, EventTime),
    Settings(Arc<Settings>),
    Rules,
    Nothing,
}

/// One input, folded.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub offset: schemas::Offset,
    pub origin: schemas::Origin,
    /// The partition's clock once this input was in.
    pub clock: Arrived,
    /// Windows the clock closed before this input, each with its due.
    pub idle: Vec<(Arrived, Closed)>,
    /// Windows that this input closed or changed.
    pub windows: Vec<Closed>,
    pub rows: Vec<Row>,
    pub news: News,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Folded {
    pub settings: Option<Arc<Settings>>,
    pub series: BTreeMap<Metric, Series>,
    pub windows: BTreeMap<Metric, Windows>,
    /// Voids that may come before their reading, and win over a resend.
    pub voids: BTreeMap<schemas::ReadingId, EventTime>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Windows {
    /// Starts of windows with samples that did not close yet.
    pub open: BTreeSet<i64>,
    /// Start → revision, as far back as the horizon reaches.
    pub closed: BTreeMap<i64, u32>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fold {
    pub patients: BTreeMap<PatientId, Folded>,
    /// (due, patient, metric, start) of open windows: the clock closes what stays idle for one more width.
    pub idle: BTreeSet<(Arrived, PatientId, Metric, i64)>,
    pub clock: Arrived,
}

impl Fold {
    pub fn step(&mut self, config: &Config, book: &RuleBook, arrival: &Arrival, stats: &mut Stats) -> Step {
        self.clock = self.clock.max(arrival.arrived_at);
        let idle = self.close_idle(config);
        let (offset, origin) = (arrival.offset, arrival.input.origin());
        let mut step = Step { offset, origin, clock: self.clock, idle, windows: Vec::new(), rows: Vec::new(), news: News::Nothing };
        stats.inputs += 1;
        match &arrival.input {
            Input::Reading(reading) => self.reading(config, book, arrival, reading, &mut step, stats),
            Input::Void(void) => self.void(config, book, void, &mut step, stats),
            Input::Settings(settings) => self.settings(config, book, settings, &mut step),
            Input::RuleSet(_) => step.news = News::Rules,
            Input::Tick => {}
        }
        stats.rows += step.rows.len() as u64;
        stats.windows += (step.windows.len() + step.idle.len()) as u64;
        step
    }

    fn close_idle(&mut self, config: &Config) -> Vec<(Arrived, Closed)> {
        let mut closed = Vec::new();
        while let Some((due, patient, metric, start)) = self.idle.first().cloned() {
            if due >= self.clock {
                break;
            }
            self.idle.pop_first();
            let Some(folded) = self.patients.get_mut(&patient) else { continue };
            let Some(windows) = folded.windows.get_mut(&metric) else { continue };
            if windows.open.remove(&start) {
                windows.closed.insert(start, 0);
                closed.push((due, summary(config, folded.series.get(&metric), &patient, metric, start, 0)));
            }
        }
        closed
    }

    fn reading(&mut self, config: &Config, book: &RuleBook, arrival: &Arrival, reading: &Reading, step: &mut Step, stats: &mut Stats) {
        let clock = self.clock;
        let folded = self.patients.entry(reading.patient.clone()).or_default();
        let series = folded.series.entry(reading.metric).or_default();
        let frontier = series.frontier;
        if let Some(place) = series.find(reading.id) {
            let Some(kept) = series.samples.get_mut(place) else { return };
            if kept.voided {
                stats.refused += u64::from(kept.value.to_bits() != reading.value.to_bits());
                return;
            }
            if kept.value.to_bits() == reading.value.to_bits() {
                stats.duplicates += 1;
                return;
            }
            stats.corrected += 1;
            kept.value = reading.value;
            kept.arrived = arrival.arrived_at;
            kept.received_at = reading.received_at;
            let (at, answers) = (kept.at, !kept.beyond);
            self.amended(config, book, &reading.patient, reading.metric, place, at, answers, step);
            return;
        }
        let behind = frontier.is_some_and(|frontier| reading.at < frontier);
        let beyond = frontier.is_some_and(|frontier| frontier - reading.at > config.horizon);
        let voided = folded.voids.contains_key(&reading.id);
        stats.readings += 1;
        stats.late += u64::from(behind);
        stats.beyond_horizon += u64::from(beyond);
        stats.voided += u64::from(voided);
        series.insert(Kept {
            id: reading.id,
            at: reading.at,
            value: reading.value,
            stamped_at: reading.stamped_at,
            received_at: reading.received_at,
            arrived: arrival.arrived_at,
            offset: arrival.offset.0,
            clock: reading.clock,
            typed: reading.typed,
            test: reading.test,
            late: behind,
            beyond,
            voided,
            device: reading.device.clone(),
        });
        if beyond {
            return;
        }
        let newer = frontier.is_none_or(|frontier| reading.at > frontier);
        if newer {
            series.frontier = Some(reading.at);
            let pauses = folded.settings.as_deref().map_or(&[][..], |s| &s.pauses);
            series.evict(config.horizon + MAX_WIDTH + config.window, &book.zone, pauses);
            if !reading.test && !voided {
                step.news = News::Heard(reading.patient.clone(), reading.metric, reading.at.min(clock.as_event()));
            }
            self.close_by_frontier(config, &reading.patient, reading.metric, reading.at, step);
        }
        if behind {
            self.changed(config, book, &reading.patient, reading.metric, reading.at, step);
        } else {
            self.window_of(config, &reading.patient, reading.metric, reading.at, step);
            let Some(folded) = self.patients.get(&reading.patient) else { return };
            for (index, rule) in touched(book, reading.metric) {
                rows(folded, &reading.patient, index, rule, [Some(reading.at), rule_frontier(folded, rule)].into_iter().flatten().collect(), step);
            }
        }
    }

    fn void(&mut self, config: &Config, book: &RuleBook, void: &Void, step: &mut Step, stats: &mut Stats) {
        let folded = self.patients.entry(void.patient.clone()).or_default();
        let voided = void.moved_to.as_ref() != Some(&void.patient);
        let before = if voided { folded.voids.insert(void.reading, void.at) } else { folded.voids.remove(&void.reading) };
        if before.is_some() == voided {
            return;
        }
        let series = folded.series.entry(void.metric).or_default();
        let Some(place) = series.find(void.reading) else { return };
        let Some(kept) = series.samples.get_mut(place) else { return };
        stats.voided += u64::from(voided);
        kept.voided = voided;
        let (at, answers) = (kept.at, !kept.beyond);
        self.amended(config, book, &void.patient, void.metric, place, at, answers, step);
    }

    /// A reading that was there already says something else now. Beyond the horizon it changes only its day, as long as it has not settled.
    #[allow(clippy::too_many_arguments)]
    fn amended(&mut self, config: &Config, book: &RuleBook, patient: &PatientId, metric: Metric, place: usize, at: EventTime, answers: bool, step: &mut Step) {
        let Some(folded) = self.patients.get(patient) else { return };
        let Some(series) = folded.series.get(&metric).filter(|_| answers) else { return };
        if series.frontier.is_none_or(|frontier| frontier - at <= config.horizon) {
            self.changed(config, book, patient, metric, at, step);
        } else if place >= series.settled {
            for (index, rule) in touched(book, metric).filter(|(_, rule)| rule.looks_at_days()) {
                rows(folded, patient, index, rule, rule_frontier(folded, rule).into_iter().collect(), step);
            }
        }
    }

    fn settings(&mut self, config: &Config, book: &RuleBook, settings: &Settings, step: &mut Step) {
        let clock = self.clock;
        let folded = self.patients.entry(settings.patient.clone()).or_default();
        if folded.settings.as_ref().is_some_and(|known| known.version >= settings.version) {
            return;
        }
        let settings = Arc::new(settings.clone());
        folded.settings = Some(settings.clone());
        step.news = News::Settings(settings.clone());
        if settings.pauses.iter().any(|pause| pause.covers(clock.as_event())) {
            // SEMANTICS 13: after the pause the next input decides
            return;
        }
        for (index, rule) in book.rules.iter().enumerate() {
            frontier_row(config, clock, folded, &settings.patient, index, rule, step);
        }
    }

    /// SEMANTICS 3: every patient's row at the frontier, for the rules that are new or changed.
    pub fn rows_for_rules(&self, config: &Config, book: &RuleBook, changed: &BTreeSet<schemas::RuleId>, step: &mut Step) {
        for (patient, folded) in &self.patients {
            for (index, rule) in book.rules.iter().enumerate().filter(|(_, rule)| changed.contains(&rule.id)) {
                frontier_row(config, self.clock, folded, patient, index, rule, step);
            }
        }
    }

    /// The rule's frontier, and the row there: none where nothing is looked at.
    pub fn deciding_row(&self, book: &RuleBook, patient: &PatientId, index: usize) -> (Option<EventTime>, Option<Row>) {
        let Some((folded, rule)) = self.patients.get(patient).zip(book.rules.get(index)) else { return (None, None) };
        let Some(frontier) = rule_frontier(folded, rule) else { return (None, None) };
        let (offset, origin) = (schemas::Offset(0), schemas::Origin::Tick);
        let mut step = Step { offset, origin, clock: self.clock, idle: Vec::new(), windows: Vec::new(), rows: Vec::new(), news: News::Nothing };
        rows(folded, patient, index, rule, [frontier].into(), &mut step);
        (Some(frontier), step.rows.pop())
    }

    /// SEMANTICS 2: what happened at `at` changed: its window, and every row that could see it.
    fn changed(&mut self, config: &Config, book: &RuleBook, patient: &PatientId, metric: Metric, at: EventTime, step: &mut Step) {
        self.window_of(config, patient, metric, at, step);
        let Some(folded) = self.patients.get(patient) else { return };
        for (index, rule) in touched(book, metric) {
            let until = at + rule.width();
            let mut times: BTreeSet<EventTime> = [at].into();
            for metric in rule.metrics() {
                let Some(series) = folded.series.get(&metric) else { continue };
                times.extend(series.times(at, until));
            }
            times.extend(rule_frontier(folded, rule));
            rows(folded, patient, index, rule, times, step);
        }
    }

    fn close_by_frontier(&mut self, config: &Config, patient: &PatientId, metric: Metric, frontier: EventTime, step: &mut Step) {
        let Some(folded) = self.patients.get_mut(patient) else { return };
        let windows = folded.windows.entry(metric).or_default();
        while let Some(start) = windows.open.first().copied() {
            if start.saturating_add(config.window.0) > frontier.0 {
                break;
            }
            windows.open.pop_first();
            windows.closed.insert(start, 0);
            self.idle.remove(&(idle_due(config, start), patient.clone(), metric, start));
            step.windows.push(summary(config, folded.series.get(&metric), patient, metric, start, 0));
        }
        let oldest = frontier - config.horizon - config.window;
        windows.closed = windows.closed.split_off(&oldest.0);
    }

    /// The window that `at` falls in: opened, or said again if it had closed.
    fn window_of(&mut self, config: &Config, patient: &PatientId, metric: Metric, at: EventTime, step: &mut Step) {
        let width = config.window.0;
        let start = at.0.div_euclid(width) * width;
        let Some(folded) = self.patients.get_mut(patient) else { return };
        let windows = folded.windows.entry(metric).or_default();
        let series = folded.series.get(&metric);
        if let Some(revision) = windows.closed.get_mut(&start) {
            *revision += 1;
            let revision = *revision;
            step.windows.push(summary(config, series, patient, metric, start, revision));
            return;
        }
        let passed = series.and_then(|s| s.frontier).is_some_and(|frontier| start.saturating_add(width) <= frontier.0);
        if passed {
            windows.closed.insert(start, 0);
            step.windows.push(summary(config, series, patient, metric, start, 0));
        } else if windows.open.insert(start) {
            self.idle.insert((idle_due(config, start), patient.clone(), metric, start));
        }
    }
}

pub(crate) fn idle_due(config: &Config, start: i64) -> Arrived {
    Arrived(start.saturating_add(config.window.0.saturating_mul(2)))
}

fn summary(config: &Config, series: Option<&Series>, patient: &PatientId, metric: Metric, start: i64, revision: u32) -> Closed {
    let mut closed = Closed {
        patient: patient.clone(),
        metric,
        start: EventTime(start),
        revision,
        count: 0,
        sum: 0.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        last: 0.0,
    };
    let one = Micros(1);
    let from = EventTime(start) - one;
    for kept in series.into_iter().flat_map(|series| series.within(from, from + config.window)) {
        closed.count += 1;
        closed.sum += kept.value;
        closed.min = closed.min.min(kept.value);
        closed.max = closed.max.max(kept.value);
        closed.last = kept.value;
    }
    if closed.count == 0 {
        (closed.min, closed.max) = (0.0, 0.0);
    }
    closed
}

fn touched(book: &RuleBook, metric: Metric) -> impl Iterator<Item = (usize, &Rule)> {
    book.rules.iter().enumerate().filter(move |(_, rule)| matches!(rule.kind, RuleKind::Predicate(_)) && rule.metrics().contains(&metric))
}

/// The newest time of a rule's metrics.
fn rule_frontier(folded: &Folded, rule: &Rule) -> Option<EventTime> {
    rule.metrics().iter().filter_map(|metric| folded.series.get(metric)?.frontier).max()
}

fn frontier_row(config: &Config, clock: Arrived, folded: &Folded, patient: &PatientId, index: usize, rule: &Rule, step: &mut Step) {
    if !matches!(rule.kind, RuleKind::Predicate(_)) {
        return;
    }
    if let Some(frontier) = rule_frontier(folded, rule)
        && clock.as_event() - frontier < config.horizon
    {
        rows(folded, patient, index, rule, [frontier].into(), step);
    }
}

fn rows(folded: &Folded, patient: &PatientId, index: usize, rule: &Rule, times: BTreeSet<EventTime>, step: &mut Step) {
    let RuleKind::Predicate(predicate) = &rule.kind else { return };
    let settings = folded.settings.as_deref();
    if settings.is_some_and(|s| !s.monitored) {
        return;
    }
    let pauses = settings.map_or(&[][..], |s| &s.pauses);
    let paused = pauses.iter().any(|pause| pause.covers(step.clock.as_event()));
    let frontier = rule_frontier(folded, rule);
    for at in times {
        if pauses.iter().any(|pause| pause.covers(at)) {
            continue;
        }
        let mut readings = 0;
        let columns = predicate
            .columns
            .iter()
            .map(|column| {
                let (value, n) = crate::columns::value(&column.source, folded, at, rule.needs);
                readings = readings.max(n);
                value
            })
            .collect();
        let settings_version = settings.map_or(0, |s| s.version);
        let decides = Some(at) == frontier && !paused;
        step.rows.push(Row { rule: index, patient: patient.clone(), at, columns, readings, settings_version, paused, decides });
    }
}
