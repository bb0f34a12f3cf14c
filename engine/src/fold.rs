//! The first half of an input: what it changes in the samples and windows, and which rows are to be looked at. Nothing here decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemas::{Arrived, EventTime, Input, Metric, Micros, PatientId, Pause, Reading, Settings, Void};

use crate::api::{Arrival, Config, Stats};
use crate::book::Book;
use crate::dues::{Dues, NEVER};
use crate::evaluate::Table;
use crate::metrics::ByMetric;
use crate::people::People;
use crate::rules::{MAX_WIDTH, Rule, RuleKind};
use crate::series::{Kept, Series};

/// A void is kept for as long as a resend of what it voids may still come: the journal's own time (decision 011).
const VOIDS: Micros = Micros::days(30);

/// Rows are looked at again no further back than this from the rule's frontier: as far as samples are kept for them.
pub(crate) fn looked_at(config: &Config) -> Micros {
    config.horizon + MAX_WIDTH
}

/// What `vigil.windows` is told, but for its cause.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Closed {
    pub patient: u32,
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
    pub patient: u32,
    pub at: EventTime,
    /// Its place in the rule's table.
    pub place: u32,
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
    Heard(u32, Metric, EventTime),
    Settings(u32, Arc<Settings>),
    /// What was measured of a metric at a time says something else now.
    Changed(u32, Metric, EventTime),
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
    pub news: News,
    /// Where its part of the batch's windows and rows ends.
    pub idle: usize,
    pub windows: usize,
    pub rows: usize,
}

/// What the inputs of a batch came to.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub steps: Vec<Step>,
    /// Windows the clock closed before an input, each with its due.
    pub idle: Vec<(Arrived, Closed)>,
    /// Windows that an input closed or changed.
    pub windows: Vec<Closed>,
    pub rows: Vec<Row>,
    /// By the rules' places.
    pub tables: Vec<Table>,
}

impl Batch {
    pub fn new(book: &Book) -> Self {
        let columns = |rule: &Rule| if let RuleKind::Predicate(predicate) = &rule.kind { predicate.columns.len() } else { 0 };
        Self { tables: book.rules.iter().map(|rule| Table::new(columns(rule))).collect(), ..Self::default() }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Folded {
    pub settings: Option<Arc<Settings>>,
    /// The settings have limits, or pauses: mostly they have not, and need not be looked at.
    own: bool,
    unmonitored: bool,
    version: u64,
    pub series: ByMetric<Series>,
    /// Voids that may come before their reading, and win over a resend.
    pub voids: BTreeMap<schemas::ReadingId, EventTime>,
}

impl Folded {
    pub fn arrange(&mut self, settings: Arc<Settings>) {
        self.own = !settings.limits.is_empty() || !settings.pauses.is_empty();
        self.unmonitored = !settings.monitored;
        self.version = settings.version;
        self.settings = Some(settings);
    }

    fn own(&self) -> Option<&Settings> {
        if self.own { self.settings.as_deref() } else { None }
    }

    pub fn pauses(&self) -> &[Pause] {
        self.own().map_or(&[], |settings| &settings.pauses)
    }

    pub fn limit(&self, name: &str, at: EventTime) -> Option<f64> {
        self.own()?.limit(name, at)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fold {
    pub people: People,
    /// By the patients' numbers.
    pub patients: Vec<Folded>,
    /// Whose the series are, by their numbers.
    series: Vec<(u32, Metric)>,
    /// When open windows are closed by the clock, by the series' numbers: what stays idle for one more width.
    pub idle: Dues,
    pub clock: Arrived,
}

impl Fold {
    pub fn get(&self, patient: &PatientId) -> Option<&Folded> {
        self.patients.get(self.people.find(patient)? as usize)
    }

    /// The patient's number.
    pub fn enter(&mut self, patient: &PatientId) -> u32 {
        let number = self.people.number(patient);
        if self.patients.len() <= number as usize {
            self.patients.resize_with(number as usize + 1, Folded::default);
        }
        number
    }

    pub fn series(&mut self, patient: u32, metric: Metric) -> &mut Series {
        let all = &mut self.series;
        self.patients[patient as usize].series.or_insert_with(metric, || {
            all.push((patient, metric));
            Series::new(all.len() as u32 - 1)
        })
    }

    pub fn step(&mut self, config: &Config, book: &Book, arrival: &Arrival, batch: &mut Batch, stats: &mut Stats) {
        self.clock = self.clock.max(arrival.arrived_at);
        let before = (batch.idle.len(), batch.windows.len(), batch.rows.len());
        self.close_idle(config, batch);
        stats.inputs += 1;
        let news = match &arrival.input {
            Input::Reading(reading) => self.reading(config, book, arrival, reading, batch, stats),
            Input::Void(void) => self.void(config, book, void, batch, stats),
            Input::Settings(settings) => self.settings(config, book, settings, batch),
            Input::RuleSet(_) => News::Rules,
            Input::Tick => News::Nothing,
        };
        let (idle, windows, rows) = (batch.idle.len(), batch.windows.len(), batch.rows.len());
        batch.steps.push(Step { offset: arrival.offset, origin: arrival.input.origin(), clock: self.clock, news, idle, windows, rows });
        stats.rows += (rows - before.2) as u64;
        stats.windows += (windows - before.1 + idle - before.0) as u64;
    }

    fn close_idle(&mut self, config: &Config, batch: &mut Batch) {
        if self.idle.first().is_none_or(|due| due >= self.clock) {
            return;
        }
        let mut closed = Vec::new();
        for number in self.idle.before(self.clock) {
            self.idle.set(number, NEVER);
            let (patient, metric) = self.series[number];
            let series = self.series(patient, metric);
            let Some(start) = series.windows.open.take() else { continue };
            series.windows.set(start, 0, config.window.0);
            closed.push((idle_due(config, start), summary(config, series, patient, metric, start, 0)));
        }
        closed.sort_by(|(due, a), (other, b)| {
            let name = |closed: &Closed| self.people.name(closed.patient);
            due.cmp(other).then_with(|| name(a).cmp(name(b))).then_with(|| (a.metric, a.start).cmp(&(b.metric, b.start)))
        });
        batch.idle.append(&mut closed);
    }

    fn reading(&mut self, config: &Config, book: &Book, arrival: &Arrival, reading: &Reading, batch: &mut Batch, stats: &mut Stats) -> News {
        let clock = self.clock;
        let patient = self.enter(&reading.patient);
        let metric = reading.metric;
        let series = self.series(patient, metric);
        let (name, known) = series.look(reading);
        if let Some(place) = known {
            let kept = series.get(place);
            if kept.voided {
                stats.refused += u64::from(kept.value.to_bits() != reading.value.to_bits());
                return News::Nothing;
            }
            if kept.value.to_bits() == reading.value.to_bits() {
                stats.duplicates += 1;
                return News::Nothing;
            }
            stats.corrected += 1;
            series.replace(place, Kept { value: reading.value, arrived: arrival.arrived_at, received_at: reading.received_at, ..kept });
            return self.amended(config, book, patient, metric, place, kept, batch);
        }
        let frontier = series.frontier;
        let behind = frontier.is_some_and(|frontier| reading.at < frontier);
        let beyond = frontier.is_some_and(|frontier| frontier - reading.at > config.horizon);
        let folded = &mut self.patients[patient as usize];
        let voided = !folded.voids.is_empty() && folded.voids.contains_key(&reading.id);
        stats.readings += 1;
        stats.late += u64::from(behind);
        stats.beyond_horizon += u64::from(beyond);
        stats.voided += u64::from(voided);
        let series = self.series(patient, metric);
        series.insert(reading, name, Kept { late: behind, beyond, voided, ..Kept::of(reading, arrival.arrived_at) });
        if beyond {
            return News::Nothing;
        }
        let mut news = News::Nothing;
        if frontier.is_none_or(|frontier| reading.at > frontier) {
            series.frontier = Some(reading.at);
            self.evict(config, book, patient, metric);
            if !reading.test && !voided {
                news = News::Heard(patient, metric, reading.at.min(clock.as_event()));
            }
            self.close_by_frontier(config, patient, metric, reading.at, batch);
        }
        if behind {
            self.changed(config, book, patient, metric, reading.at, batch);
            news = News::Changed(patient, metric, reading.at);
        } else {
            self.window_of(config, patient, metric, reading.at, batch);
            let folded = &self.patients[patient as usize];
            for rule in book.touched(metric) {
                let frontier = rule_frontier(folded, book, *rule).filter(|frontier| *frontier != reading.at);
                rows(clock, folded, patient, book, *rule, [Some(reading.at), frontier].into_iter().flatten(), batch);
            }
        }
        news
    }

    fn evict(&mut self, config: &Config, book: &Book, patient: u32, metric: Metric) {
        let folded = &mut self.patients[patient as usize];
        let pauses = if folded.own { folded.settings.as_deref().map_or(&[][..], |settings| &settings.pauses) } else { &[] };
        if let Some(series) = folded.series.get_mut(&metric) {
            series.evict(looked_at(config) + config.window, &book.zone, pauses);
        }
    }

    fn void(&mut self, config: &Config, book: &Book, void: &Void, batch: &mut Batch, stats: &mut Stats) -> News {
        let clock = self.clock;
        let patient = self.enter(&void.patient);
        let folded = &mut self.patients[patient as usize];
        let voided = void.moved_to.as_ref() != Some(&void.patient);
        let before = if voided { folded.voids.insert(void.reading, void.at) } else { folded.voids.remove(&void.reading) };
        if voided && folded.voids.len().is_power_of_two() {
            let oldest = clock.as_event() - VOIDS;
            folded.voids.retain(|reading, at| *at >= oldest || *reading == void.reading);
        }
        if before.is_some() == voided {
            return News::Nothing;
        }
        let series = self.series(patient, void.metric);
        let Some(place) = series.find(void.reading, void.metric, void.at) else { return News::Nothing };
        let kept = series.get(place);
        stats.voided += u64::from(voided);
        series.replace(place, Kept { voided, ..kept });
        self.amended(config, book, patient, void.metric, place, kept, batch)
    }

    /// A reading that was there already says something else now. Beyond the horizon it changes only its day, as long as it has not settled.
    #[allow(clippy::too_many_arguments)]
    fn amended(&mut self, config: &Config, book: &Book, patient: u32, metric: Metric, place: usize, kept: Kept, batch: &mut Batch) -> News {
        let folded = &self.patients[patient as usize];
        let Some(series) = folded.series.get(&metric).filter(|_| !kept.beyond) else { return News::Nothing };
        if series.frontier.is_none_or(|frontier| frontier - kept.at <= config.horizon) {
            self.changed(config, book, patient, metric, kept.at, batch);
        } else if place >= series.settled {
            for rule in book.touched(metric).iter().filter(|rule| book.rules[**rule].looks_at_days()) {
                rows(self.clock, folded, patient, book, *rule, rule_frontier(folded, book, *rule).into_iter(), batch);
            }
        }
        News::Changed(patient, metric, kept.at)
    }

    fn settings(&mut self, config: &Config, book: &Book, settings: &Settings, batch: &mut Batch) -> News {
        let clock = self.clock;
        let patient = self.enter(&settings.patient);
        let folded = &mut self.patients[patient as usize];
        if folded.settings.as_ref().is_some_and(|known| known.version >= settings.version) {
            return News::Nothing;
        }
        let settings = Arc::new(settings.clone());
        folded.arrange(settings.clone());
        // SEMANTICS 13: after the pause the next input decides
        if !settings.pauses.iter().any(|pause| pause.covers(clock.as_event())) {
            for rule in 0..book.rules.len() {
                frontier_row(config, clock, folded, patient, book, rule, batch);
            }
        }
        News::Settings(patient, settings)
    }

    /// SEMANTICS 3: every patient's row at the frontier, for the rules that are new or changed.
    pub fn rows_for_rules(&self, config: &Config, book: &Book, changed: &BTreeSet<schemas::RuleId>, batch: &mut Batch) {
        for (_, patient) in self.people.ordered() {
            let Some(folded) = self.patients.get(patient as usize) else { continue };
            for (rule, _) in book.rules.iter().enumerate().filter(|(_, rule)| changed.contains(&rule.id)) {
                frontier_row(config, self.clock, folded, patient, book, rule, batch);
            }
        }
    }

    /// The rule's frontier, and the columns of the row there: none where nothing is looked at.
    pub fn deciding_row(&self, book: &Book, patient: &PatientId, index: usize) -> (Option<EventTime>, Option<Vec<Option<f64>>>) {
        let Some((folded, rule)) = self.get(patient).zip(book.rules.get(index)) else { return (None, None) };
        let (Some(frontier), RuleKind::Predicate(predicate)) = (rule_frontier(folded, book, index), &rule.kind) else { return (None, None) };
        if folded.unmonitored || folded.pauses().iter().any(|pause| pause.covers(frontier)) {
            return (Some(frontier), None);
        }
        let columns = predicate.columns.iter().map(|column| crate::columns::value(&column.source, folded, frontier, rule.needs).0);
        (Some(frontier), Some(columns.collect()))
    }

    /// SEMANTICS 2: what happened at `at` changed: its window, and every row that could see it.
    fn changed(&mut self, config: &Config, book: &Book, patient: u32, metric: Metric, at: EventTime, batch: &mut Batch) {
        self.window_of(config, patient, metric, at, batch);
        let folded = &self.patients[patient as usize];
        for rule in book.touched(metric) {
            let until = at + book.rules[*rule].width();
            let mut times: BTreeSet<EventTime> = [at].into();
            for metric in book.metrics(*rule) {
                let Some(series) = folded.series.get(metric) else { continue };
                times.extend(series.times(at, until));
            }
            let frontier = rule_frontier(folded, book, *rule);
            times.extend(frontier);
            // what a row before looked at may be gone
            let kept = frontier.map_or(EventTime::MIN, |frontier| frontier - looked_at(config));
            rows(self.clock, folded, patient, book, *rule, times.split_off(&kept).into_iter(), batch);
        }
    }

    fn close_by_frontier(&mut self, config: &Config, patient: u32, metric: Metric, frontier: EventTime, batch: &mut Batch) {
        let width = config.window.0;
        let series = self.series(patient, metric);
        if let Some(start) = series.windows.open.filter(|start| start.saturating_add(width) <= frontier.0) {
            series.windows.open = None;
            series.windows.set(start, 0, width);
            batch.windows.push(summary(config, series, patient, metric, start, 0));
            let number = series.number as usize;
            self.idle.set(number, NEVER);
        }
        let oldest = frontier - config.horizon - config.window;
        self.series(patient, metric).windows.forget(oldest.0, width);
    }

    /// The window that `at` falls in: opened, or said again if it had closed.
    fn window_of(&mut self, config: &Config, patient: u32, metric: Metric, at: EventTime, batch: &mut Batch) {
        let width = config.window.0;
        let series = self.series(patient, metric);
        if series.windows.open.is_some_and(|start| (start..start.saturating_add(width)).contains(&at.0)) {
            return;
        }
        let start = at.0.div_euclid(width) * width;
        if let Some(revision) = series.windows.revision(start, width) {
            series.windows.set(start, revision + 1, width);
            batch.windows.push(summary(config, series, patient, metric, start, revision + 1));
        } else if series.frontier.is_some_and(|frontier| start.saturating_add(width) <= frontier.0) {
            series.windows.set(start, 0, width);
            batch.windows.push(summary(config, series, patient, metric, start, 0));
        } else {
            series.windows.open = Some(start);
            let number = series.number as usize;
            self.idle.set(number, idle_due(config, start));
        }
    }

    /// The clock closes again what was open.
    pub fn watch(&mut self, config: &Config) {
        for (number, (patient, metric)) in self.series.iter().enumerate() {
            let series = self.patients[*patient as usize].series.get(metric);
            if let Some(start) = series.and_then(|series| series.windows.open) {
                self.idle.set(number, idle_due(config, start));
            }
        }
    }
}

fn idle_due(config: &Config, start: i64) -> Arrived {
    Arrived(start.saturating_add(config.window.0.saturating_mul(2)))
}

fn summary(config: &Config, series: &Series, patient: u32, metric: Metric, start: i64, revision: u32) -> Closed {
    let mut closed = Closed { patient, metric, start: EventTime(start), revision, count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, last: 0.0 };
    let one = Micros(1);
    let from = EventTime(start) - one;
    for value in series.values(from, from + config.window) {
        closed.count += 1;
        closed.sum += value;
        closed.min = closed.min.min(value);
        closed.max = closed.max.max(value);
        closed.last = value;
    }
    if closed.count == 0 {
        (closed.min, closed.max) = (0.0, 0.0);
    }
    closed
}

/// The newest time of a rule's metrics.
fn rule_frontier(folded: &Folded, book: &Book, rule: usize) -> Option<EventTime> {
    book.metrics(rule).iter().filter_map(|metric| folded.series.get(metric)?.frontier).max()
}

fn frontier_row(config: &Config, clock: Arrived, folded: &Folded, patient: u32, book: &Book, rule: usize, batch: &mut Batch) {
    if let Some(frontier) = rule_frontier(folded, book, rule)
        && clock.as_event() - frontier < config.horizon
    {
        rows(clock, folded, patient, book, rule, [frontier].into_iter(), batch);
    }
}

/// The rows of a rule at some times, which come in order.
fn rows(clock: Arrived, folded: &Folded, patient: u32, book: &Book, index: usize, times: impl Iterator<Item = EventTime>, batch: &mut Batch) {
    let Some((rule, table)) = book.rules.get(index).zip(batch.tables.get_mut(index)) else { return };
    let RuleKind::Predicate(predicate) = &rule.kind else { return };
    if folded.unmonitored {
        return;
    }
    let pauses = folded.pauses();
    let paused = pauses.iter().any(|pause| pause.covers(clock.as_event()));
    let frontier = rule_frontier(folded, book, index);
    for at in times {
        if pauses.iter().any(|pause| pause.covers(at)) {
            continue;
        }
        let mut readings = 0;
        let place = table.push(crate::columns::row(&predicate.columns, folded, at, rule.needs, &mut readings));
        let decides = Some(at) == frontier && !paused;
        batch.rows.push(Row { rule: index, patient, at, place, readings, settings_version: folded.version, paused, decides });
    }
}
