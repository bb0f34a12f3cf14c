//! The second half of an input: rows that were evaluated become holds, alerts and their ends, with the timers due in between.

use std::collections::BTreeSet;
use std::sync::Arc;

use schemas::{AlertId, Arrived, Cause, EventTime, Evidence, Metric, Micros, Origin, PatientId, RuleId, Settings, Transition, TransitionKind};
use serde::{Deserialize, Serialize};

use crate::api::{Config, OpenAlert, Output};
use crate::book::Book;
use crate::compose::{self, Silence};
use crate::dues::{Dues, NEVER};
use crate::evaluate::{Answer, Table};
use crate::fold::{Closed, News, Row, looked_at};
use crate::metrics::ByMetric;
use crate::people::People;
use crate::rules::{Rule, RuleKind};
use crate::said::{Rows, Said};

/// SEMANTICS 14: a late stretch that ended longer ago than this follows the rule's `late`.
const LATE_PAGES: Micros = Micros::minutes(30);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Open {
    pub alert: AlertId,
    /// The row that raised it; `None` if a timer did without one.
    pub row: EventTime,
    pub raised_at: EventTime,
    pub since: EventTime,
    pub evidence: Vec<Evidence>,
    pub summary: String,
    pub settings_version: u64,
}

/// A hold that runs: TRUE since, heard at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub since: EventTime,
    pub heard: Arrived,
    /// The newest TRUE row.
    pub row: EventTime,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RuleState {
    /// As far back as the horizon reaches.
    pub rows: Rows,
    pub open: Option<Box<Open>>,
    pub pending: Option<Pending>,
    /// Stretches of event time that have been told as an alert, `[from, to]`, within the horizon.
    pub told: Vec<(i64, i64)>,
    /// Those that were entered in error: they hide nothing, and their alerts' names stay taken.
    pub undone: Vec<(i64, i64)>,
    /// The newest TRUE row's evidence, for an alert that the clock raises.
    pub evidence: Vec<Evidence>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Decided {
    pub settings: Option<Arc<Settings>>,
    /// The settings as far as silence depends on them: who is at home and monitored needs no look at them.
    monitored: Option<EventTime>,
    /// By the rules' places, as far as any was needed.
    pub rules: Vec<RuleState>,
    /// When a pause is to begin, then the timers that stand for the rules.
    dues: Vec<Arrived>,
    /// From when silence counts, per metric.
    pub news: ByMetric<EventTime>,
    /// When monitoring was taken up again by hand: silence counts from then.
    pub resumed: Option<EventTime>,
}

impl Decided {
    pub fn due(&self, rule: usize) -> Option<Arrived> {
        self.dues.get(rule + 1).copied().filter(|due| *due != NEVER)
    }

    pub fn pause_due(&self) -> Option<Arrived> {
        self.dues.first().copied().filter(|due| *due != NEVER)
    }

    fn earliest(&self) -> Arrived {
        self.dues.iter().copied().min().unwrap_or(NEVER)
    }

    /// A state and a timer for each rule.
    fn fill(&mut self, rules: usize) {
        if self.rules.len() < rules {
            self.rules.reserve_exact(rules - self.rules.len());
            self.rules.resize_with(rules, RuleState::default);
        }
        if self.dues.len() < rules + 1 {
            self.dues.reserve_exact(rules + 1 - self.dues.len());
            self.dues.resize(rules + 1, NEVER);
        }
    }

    pub fn arrange(&mut self, settings: Arc<Settings>) {
        self.monitored = Some(settings.enrolled_at).filter(|_| settings.monitored && settings.pauses.is_empty());
        self.settings = Some(settings);
    }

    /// As a snapshot has it: a rule's state and timer, or the beginning of a pause.
    pub fn restore(&mut self, rules: usize, place: usize, state: RuleState, due: Option<Arrived>) {
        self.fill(rules);
        self.rules[place] = state;
        self.dues[place + 1] = due.unwrap_or(NEVER);
    }

    pub fn restore_pause(&mut self, due: Arrived) {
        self.fill(0);
        self.dues[0] = due;
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Decide {
    /// By the patients' numbers.
    pub patients: Vec<Decided>,
    /// The earliest of each patient's.
    pub timers: Dues,
    pub version: u64,
    /// Since when each rule reads as it does.
    pub activated: std::collections::BTreeMap<RuleId, EventTime>,
}

/// What only some transitions say.
struct More<'a> {
    late: bool,
    pages: bool,
    holds: bool,
    reason: &'a str,
}

impl More<'_> {
    const PLAIN: More<'static> = More { late: false, pages: true, holds: true, reason: "" };
}

/// The outputs of one input, numbered as they come.
pub(crate) struct Told<'a> {
    pub cause: Cause,
    pub origin: Origin,
    pub window: Micros,
    pub version: u64,
    pub outputs: &'a mut Vec<Output>,
}

impl Told<'_> {
    fn cause(&mut self) -> Cause {
        let cause = self.cause;
        self.cause.ordinal += 1;
        cause
    }

    /// The id of an alert that this input raises at a row (decision 005).
    fn alert(&self, patient: &PatientId, rule: &Rule, state: &RuleState, row: EventTime) -> AlertId {
        let before = state.told.iter().chain(&state.undone).filter(|(from, to)| (*from..=*to).contains(&row.0)).count();
        AlertId::by_row(patient, &rule.id, self.version, row, before as u64, &self.origin)
    }

    pub fn window(&mut self, closed: &Closed, people: &People) {
        let cause = self.cause();
        self.outputs.push(Output::Window(schemas::Window {
            cause,
            patient: people.name(closed.patient).clone(),
            metric: closed.metric,
            start: closed.start,
            end: closed.start + self.window,
            revision: closed.revision,
            count: closed.count,
            sum: closed.sum,
            min: closed.min,
            max: closed.max,
            last: closed.last,
        }));
    }

    #[allow(clippy::too_many_arguments)]
    fn transition(
        &mut self,
        kind: TransitionKind,
        rule: &Rule,
        patient: &PatientId,
        open: &Open,
        at: EventTime,
        heard: Arrived,
        readings: u32,
        more: &More<'_>,
    ) {
        let cause = self.cause();
        self.outputs.push(Output::Transition(Transition {
            cause,
            kind,
            alert: open.alert,
            patient: patient.clone(),
            rule: rule.id.clone(),
            rule_name: rule.name.clone(),
            rule_version: self.version,
            priority: rule.priority,
            at,
            since: open.since,
            heard_at: heard,
            late: more.late,
            late_policy: rule.late,
            pages: more.pages && !rule.is_shadow(),
            readings,
            evidence: open.evidence.clone(),
            summary: open.summary.clone(),
            reason: more.reason.to_owned(),
            holds: more.holds,
            technical: matches!(rule.kind, RuleKind::Silent { .. }),
            settings_version: open.settings_version,
            shadow: rule.is_shadow(),
        }));
    }
}

impl Decide {
    pub fn get(&self, patient: u32) -> Option<&Decided> {
        self.patients.get(patient as usize)
    }

    pub fn of(&mut self, book: &Book, patient: u32) -> &mut Decided {
        if self.patients.len() <= patient as usize {
            self.patients.resize_with(patient as usize + 1, Decided::default);
        }
        let decided = &mut self.patients[patient as usize];
        decided.fill(book.rules.len());
        decided
    }

    /// Fires every timer due before the clock, each stamped with its due, together with the windows that the clock closed: in the order of
    /// due, patient, rule.
    pub fn timers(&mut self, book: &Book, people: &People, clock: Arrived, idle: &[(Arrived, Closed)], told: &mut Told<'_>) {
        let quiet = self.timers.first().is_none_or(|due| due >= clock);
        if quiet && idle.is_empty() {
            return;
        }
        let mut windows = idle.iter().peekable();
        let mut patients = BTreeSet::new();
        for patient in if quiet { Vec::new() } else { self.timers.before(clock) } {
            let due = self.patients.get(patient).map_or(NEVER, Decided::earliest);
            patients.insert((due, people.name(patient as u32), patient as u32));
        }
        loop {
            let timer = patients.first().copied();
            match (windows.peek(), timer) {
                (Some((due, closed)), timer) if timer.is_none_or(|timer| (*due, people.name(closed.patient)) <= (timer.0, timer.1)) => {
                    told.window(closed, people);
                    windows.next();
                }
                (_, Some(timer)) => {
                    patients.remove(&timer);
                    let (due, name, patient) = timer;
                    self.fire(book, people, patient, due, told);
                    let next = self.patients[patient as usize].earliest();
                    if next < clock {
                        patients.insert((next, name, patient));
                    }
                }
                (_, None) => return,
            }
        }
    }

    fn fire(&mut self, book: &Book, people: &People, patient: u32, due: Arrived, told: &mut Told<'_>) {
        let Some(decided) = self.patients.get_mut(patient as usize) else { return };
        if decided.pause_due() == Some(due) {
            set_timer(&mut self.timers, &mut decided.dues, patient, 0, None);
            self.withdraw_all(book, people, patient, "paused", due, told);
            self.schedule_pause(patient, due);
            self.silence(book, people, patient, None, due, true, told);
            return;
        }
        let first = (0..book.rules.len()).filter(|place| decided.due(*place) == Some(due)).min_by_key(|place| &book.rules[*place].id);
        let Some((index, rule)) = first.and_then(|place| Some((place, book.rules.get(place)?))) else { return };
        let settings_version = decided.settings.as_ref().map_or(0, |settings| settings.version);
        let silence = if rule.condition.is_some() { Silence::of(book, rule, decided, Some(due)) } else { Silence::default() };
        set_timer(&mut self.timers, &mut decided.dues, patient, index + 1, None);
        let Some(state) = decided.rules.get_mut(index) else { return };
        if silence.now {
            // raised when it is no longer silenced, if it is still so
            return;
        }
        let name = people.name(patient);
        let at = due.as_event();
        match &rule.kind {
            RuleKind::Silent { after, metric } => {
                if state.open.is_none() {
                    let since = at - *after;
                    let summary = format!("no {} for {after}", metric.label());
                    let open = Open {
                        alert: AlertId::by_timer(name, &rule.id, due),
                        row: since,
                        raised_at: at,
                        since,
                        evidence: Vec::new(),
                        summary,
                        settings_version,
                    };
                    told.transition(TransitionKind::Raised, rule, name, &open, at, due, 0, &More::PLAIN);
                    state.open = Some(Box::new(open));
                }
            }
            RuleKind::Predicate(_) => {
                let Some(pending) = state.pending.take() else { return };
                let evidence = state.evidence.clone();
                let readings = state.rows.get(pending.row.0).map_or(1, |said| said.readings);
                let open = Open {
                    alert: AlertId::by_timer(name, &rule.id, due),
                    row: pending.row,
                    raised_at: at,
                    since: pending.since,
                    summary: summary(rule, &evidence, at - pending.since),
                    evidence,
                    settings_version,
                };
                told.transition(TransitionKind::Raised, rule, name, &open, at, due, readings, &More::PLAIN);
                state.told.push((pending.since.0, pending.row.0));
                state.open = Some(Box::new(open));
            }
        }
        self.supersede(book, people, rule, patient, due, told);
    }

    /// Applies one input's rows, in the order of rules and times, after its timers.
    #[allow(clippy::too_many_arguments)]
    pub fn rows(&mut self, config: &Config, book: &Book, people: &People, clock: Arrived, rows: &[Row], tables: &[Table], told: &mut Told<'_>) {
        for group in rows.chunk_by(|row, next| (row.rule, row.patient) == (next.rule, next.patient)) {
            let Some((first, table)) = group.first().and_then(|row| Some((row, tables.get(row.rule)?))) else { continue };
            let (index, patient) = (first.rule, first.patient);
            let Some(rule) = book.rules.get(index) else { continue };
            let decided = self.of(book, patient);
            let silence = if rule.condition.is_some() { Silence::of(book, rule, decided, None) } else { Silence::default() };
            let state = &mut decided.rules[index];
            let before = state.open.is_some();
            apply(config, rule, state, &Group { rows: group, table, patient: people.name(patient) }, &silence, clock, told);
            // not in the past: of what was silenced until now an alert may have been raised at that due
            let due = state.pending.filter(|_| !silence.now).and_then(|pending| compose::due(rule, &state.rows, &pending)).map(|due| due.max(clock));
            let after = state.open.is_some();
            if due.is_some() || decided.due(index).is_some() {
                let decided = &mut self.patients[patient as usize];
                set_timer(&mut self.timers, &mut decided.dues, patient, index + 1, due);
            }
            match (before, after) {
                (false, true) => self.supersede(book, people, rule, patient, clock, told),
                (true, false) => self.release(book, rule, patient, clock),
                _ => {}
            }
        }
    }

    /// A more urgent alert of the same condition takes the place of those that are open.
    fn supersede(&mut self, book: &Book, people: &People, rule: &Rule, patient: u32, clock: Arrived, told: &mut Told<'_>) {
        let Some(decided) = self.patients.get_mut(patient as usize).filter(|_| rule.condition.is_some()) else { return };
        for (place, inferior) in compose::inferiors(book, rule) {
            let Some(state) = decided.rules.get_mut(place) else { continue };
            set_timer(&mut self.timers, &mut decided.dues, patient, place + 1, None);
            if let Some(open) = compose::superseded(state) {
                let reason = format!("superseded by {}", rule.id);
                let more = More { reason: &reason, ..More::PLAIN };
                told.transition(TransitionKind::Withdrawn, inferior, people.name(patient), &open, clock.as_event(), clock, 0, &more);
            }
        }
    }

    /// It is over: what it silenced and what is still pending is raised by the clock, if nothing more is heard.
    fn release(&mut self, book: &Book, rule: &Rule, patient: u32, clock: Arrived) {
        if rule.condition.is_none() {
            return;
        }
        let inferiors: Vec<usize> = compose::inferiors(book, rule).map(|(place, _)| place).collect();
        self.resume(book, inferiors.into_iter(), patient, clock);
    }

    /// What is pending and is not silenced (any more) has a timer.
    fn resume(&mut self, book: &Book, places: impl Iterator<Item = usize>, patient: u32, clock: Arrived) {
        let Some(decided) = self.patients.get_mut(patient as usize) else { return };
        for place in places {
            let rule = &book.rules[place];
            let Some(state) = decided.rules.get(place).filter(|_| !Silence::of(book, rule, decided, None).now) else { continue };
            let due = state.pending.and_then(|pending| compose::due(rule, &state.rows, &pending)).map(|due| due.max(clock));
            set_timer(&mut self.timers, &mut decided.dues, patient, place + 1, due);
        }
    }

    pub fn news(&mut self, book: &Book, people: &People, news: &News, clock: Arrived, told: &mut Told<'_>) {
        match news {
            News::Heard(patient, metric, at) => {
                if book.silent(*metric).is_empty() {
                    // also what no rule asks for now may be asked for later
                    self.heard(book, *patient, *metric, *at);
                    return;
                }
                self.heard(book, *patient, *metric, *at);
                self.silence(book, people, *patient, Some(*metric), clock, true, told);
            }
            News::Settings(patient, settings) => {
                let decided = self.of(book, *patient);
                let rests = |settings: &Settings| !settings.monitored || settings.pauses.iter().any(|pause| pause.covers(clock.as_event()));
                if decided.settings.as_ref().is_some_and(|before| rests(before)) && !rests(settings) {
                    decided.resumed = Some(clock.as_event());
                }
                decided.arrange(settings.clone());
                if !settings.monitored {
                    self.withdraw_all(book, people, *patient, "no longer monitored", clock, told);
                } else if settings.pauses.iter().any(|pause| pause.covers(clock.as_event())) {
                    self.withdraw_all(book, people, *patient, "paused", clock, told);
                }
                self.schedule_pause(*patient, clock);
                self.silence(book, people, *patient, None, clock, true, told);
            }
            News::Changed(..) | News::Rules | News::Nothing => {}
        }
    }

    /// SEMANTICS 16 for an alert whose row is too old to be looked at again, and may have seen what changed: whether it holds the newest row says.
    #[allow(clippy::too_many_arguments)]
    pub fn too_old(&mut self, book: &Book, people: &People, patient: u32, metric: Metric, at: EventTime, clock: Arrived, told: &mut Told<'_>) {
        let Some(decided) = self.patients.get_mut(patient as usize) else { return };
        for place in book.touched(metric) {
            let (Some(rule), Some(state)) = (book.rules.get(*place), decided.rules.get(*place)) else { continue };
            let Some(open) = &state.open else { continue };
            let saw = at <= open.row && open.row < at + rule.width();
            if !saw || state.rows.get(open.row.0).is_some() {
                continue;
            }
            let holds = state.rows.iter().next_back().is_some_and(|(_, said)| said.when == Some(true));
            let more = More { late: true, pages: !holds, holds, reason: "what it may rest on was changed, too late to be evaluated again" };
            told.transition(TransitionKind::Amended, rule, people.name(patient), open, open.row, clock, 0, &more);
        }
    }

    fn heard(&mut self, book: &Book, patient: u32, metric: Metric, at: EventTime) {
        let known = self.of(book, patient).news.or_insert_with(metric, || at);
        *known = (*known).max(at);
    }

    /// Replaces the rules; says which are new or changed. An alert of a rule that is gone is withdrawn, one of a changed rule stays.
    pub fn rules(&mut self, old: &Book, new: &Book, people: &People, activated_at: EventTime, clock: Arrived, told: &mut Told<'_>) -> BTreeSet<RuleId> {
        let same = |rule: &Rule| old.rules.iter().any(|o| o.id == rule.id && o.text == rule.text);
        let changed: BTreeSet<RuleId> = new.rules.iter().filter(|rule| !same(rule)).map(|rule| rule.id.clone()).collect();
        self.activated.retain(|id, _| new.rules.iter().any(|rule| rule.id == *id));
        self.activated.extend(changed.iter().map(|id| (id.clone(), activated_at)));
        let places: Vec<Option<usize>> = old.rules.iter().map(|rule| new.rules.iter().position(|n| n.id == rule.id)).collect();
        for (name, patient) in people.ordered() {
            if self.get(patient).is_none() {
                continue;
            }
            for (place, rule) in old.rules.iter().enumerate() {
                let Some(kept) = places[place] else {
                    self.withdraw(rule, place, name, patient, "the rule is gone", clock, told);
                    continue;
                };
                if new.rules[kept].state != rule.state {
                    // who did not see it in the shadow is to hear of it now, and the other way round
                    self.withdraw(rule, place, name, patient, "the rule's state changed", clock, told);
                } else if changed.contains(&rule.id)
                    && let Some(decided) = self.patients.get_mut(patient as usize)
                    && let Some(state) = decided.rules.get_mut(place)
                {
                    state.pending = None;
                    state.rows.clear();
                    // it survives with what it was raised on: the row says something else now because the rule asks something else
                    if let Some(open) = &mut state.open {
                        open.row = EventTime::MIN;
                    }
                    set_timer(&mut self.timers, &mut decided.dues, patient, place + 1, None);
                }
            }
            self.replace(&places, new.rules.len(), patient);
            // what silenced them may be gone
            let predicate = |rule: &Rule| rule.condition.is_some() && matches!(rule.kind, RuleKind::Predicate(_));
            let graded = new.rules.iter().enumerate().filter(|(_, rule)| predicate(rule)).map(|(place, _)| place);
            self.resume(new, graded, patient, clock);
            self.silence(new, people, patient, None, clock, false, told);
        }
        changed
    }

    /// The states of a patient's rules, each where its rule is now.
    fn replace(&mut self, places: &[Option<usize>], rules: usize, patient: u32) {
        let Some(decided) = self.patients.get_mut(patient as usize) else { return };
        let states = std::mem::take(&mut decided.rules);
        let dues = std::mem::take(&mut decided.dues);
        decided.fill(rules);
        if let Some(pause) = dues.first() {
            decided.dues[0] = *pause;
        }
        for ((state, due), place) in states.into_iter().zip(dues.into_iter().skip(1)).zip(places) {
            if let Some(place) = place {
                decided.rules[*place] = state;
                decided.dues[place + 1] = due;
            }
        }
        self.timers.set(patient as usize, decided.earliest());
    }

    /// Sets the timers of `silent` rules anew, and, where something was `heard` or arranged, ends the silence that is over.
    #[allow(clippy::too_many_arguments)]
    fn silence(&mut self, book: &Book, people: &People, patient: u32, only: Option<Metric>, clock: Arrived, heard: bool, told: &mut Told<'_>) {
        let Some(decided) = self.patients.get_mut(patient as usize) else { return };
        decided.fill(book.rules.len());
        let settings = decided.settings.clone().filter(|_| decided.monitored.is_none());
        let mut pauses: Vec<_> = settings.iter().flat_map(|s| &s.pauses).collect();
        pauses.sort_by_key(|pause| pause.from);
        let monitored = settings.as_ref().is_none_or(|s| s.monitored);
        let enrolled_at = decided.monitored.or(settings.as_ref().map(|s| s.enrolled_at));
        let all = 0..book.rules.len();
        let places = only.map_or(&[][..], |only| book.silent(only)).iter().copied().chain(all.filter(|_| only.is_none()));
        for place in places {
            let rule = &book.rules[place];
            let RuleKind::Silent { metric, after } = rule.kind else { continue };
            let last = decided.news.get(&metric).copied();
            let activated_at = self.activated.get(&rule.id).copied().unwrap_or(EventTime::MIN);
            let state = &mut decided.rules[place];
            let from = [last, enrolled_at, decided.resumed].into_iter().flatten().max().map(|from| from.max(activated_at));
            let mut due = from.filter(|_| monitored).map(|from| from + after);
            for pause in &pauses {
                if due.is_some_and(|due| pause.from <= due && pause.until.is_none_or(|until| until + after > due))
                    && from.is_some_and(|from| pause.until.is_none_or(|until| until > from))
                {
                    due = pause.until.map(|until| until + after);
                }
            }
            let due = due.map(|due| Arrived(due.0));
            if let Some(open) = &state.open {
                if heard && due.is_some_and(|due| due >= clock) {
                    let open = open.clone();
                    told.transition(TransitionKind::Cleared, rule, people.name(patient), &open, clock.as_event(), clock, 0, &More::PLAIN);
                    state.open = None;
                    set_timer(&mut self.timers, &mut decided.dues, patient, place + 1, due);
                }
            } else {
                set_timer(&mut self.timers, &mut decided.dues, patient, place + 1, due);
            }
        }
    }

    fn schedule_pause(&mut self, patient: u32, clock: Arrived) {
        let Some(decided) = self.patients.get_mut(patient as usize) else { return };
        let next = decided.settings.iter().flat_map(|s| &s.pauses).map(|pause| Arrived(pause.from.0)).filter(|from| *from > clock).min();
        set_timer(&mut self.timers, &mut decided.dues, patient, 0, next);
    }

    fn withdraw_all(&mut self, book: &Book, people: &People, patient: u32, reason: &str, at: Arrived, told: &mut Told<'_>) {
        for (place, rule) in book.rules.iter().enumerate() {
            self.withdraw(rule, place, people.name(patient), patient, reason, at, told);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn withdraw(&mut self, rule: &Rule, place: usize, name: &PatientId, patient: u32, reason: &str, at: Arrived, told: &mut Told<'_>) {
        let Some(decided) = self.patients.get_mut(patient as usize) else { return };
        let Some(state) = decided.rules.get_mut(place) else { return };
        if matches!(rule.kind, RuleKind::Predicate(_)) {
            state.pending = None;
            // no hold bridges what lies between
            state.rows.clear();
        }
        set_timer(&mut self.timers, &mut decided.dues, patient, place + 1, None);
        if let Some(open) = state.open.take() {
            told.transition(TransitionKind::Withdrawn, rule, name, &open, at.as_event(), at, 0, &More { reason, ..More::PLAIN });
        }
    }

    pub fn open_alerts(&self, book: &Book, patient: u32) -> Vec<OpenAlert> {
        let Some(decided) = self.get(patient) else { return Vec::new() };
        let states = book.rules.iter().zip(&decided.rules).filter(|(rule, _)| !rule.is_shadow());
        states
            .filter_map(|(rule, state)| {
                let open = state.open.as_ref()?;
                Some(OpenAlert {
                    alert: open.alert,
                    rule: rule.id.clone(),
                    name: rule.name.clone(),
                    priority: rule.priority,
                    raised_at: open.raised_at,
                    since: open.since,
                    summary: open.summary.clone(),
                    technical: matches!(rule.kind, RuleKind::Silent { .. }),
                })
            })
            .collect()
    }

    /// The timers stand again as they stood.
    pub fn watch(&mut self) {
        for (patient, decided) in self.patients.iter().enumerate() {
            self.timers.set(patient, decided.earliest());
        }
    }
}

/// A timer of a patient: `slot` 0 is a pause that begins, the others are the rules'.
fn set_timer(timers: &mut Dues, dues: &mut Vec<Arrived>, patient: u32, slot: usize, due: Option<Arrived>) {
    let due = due.unwrap_or(NEVER);
    if dues.len() <= slot {
        if due == NEVER {
            return;
        }
        dues.resize(slot + 1, NEVER);
    }
    if dues[slot] != due {
        dues[slot] = due;
        timers.set(patient as usize, dues.iter().copied().min().unwrap_or(NEVER));
    }
}

/// The rows of one rule and patient that one input makes be looked at, in the order of their times.
struct Group<'a> {
    rows: &'a [Row],
    table: &'a Table,
    patient: &'a PatientId,
}

impl Group<'_> {
    fn said(&self, row: &Row) -> Answer {
        self.table.answer(row.place)
    }

    fn evidence(&self, rule: &Rule, row: &Row) -> Vec<Evidence> {
        let RuleKind::Predicate(predicate) = &rule.kind else { return Vec::new() };
        let columns = predicate.columns.iter().zip(self.table.values(row.place));
        columns.map(|(column, value)| Evidence { column: column.name.clone(), text: column.text.clone(), value }).collect()
    }
}

/// `SpO₂ 84 %, limit 90, for 4 min`
fn summary(rule: &Rule, evidence: &[Evidence], span: Micros) -> String {
    let RuleKind::Predicate(predicate) = &rule.kind else { return String::new() };
    let values: Vec<Option<f64>> = evidence.iter().map(|evidence| evidence.value).collect();
    let mut parts = crate::columns::words(&predicate.columns, &values);
    if span >= Micros::seconds(60) {
        parts.push(format!("for {span}"));
    }
    parts.join(", ")
}

/// One rule, one patient, one input: the rows it looks at, in the order of their times.
fn apply(config: &Config, rule: &Rule, state: &mut RuleState, group: &Group<'_>, silence: &Silence, clock: Arrived, told: &mut Told<'_>) {
    let newest = state.rows.newest();
    let Some(last) = group.rows.last() else { return };
    let mut behind = Vec::new();
    for row in group.rows {
        let said = group.said(row);
        let known = if newest.is_some_and(|newest| row.at.0 <= newest) { state.rows.get(row.at.0) } else { None };
        let heard = known.filter(|known| known.when == Some(true)).map_or(clock.0, |known| known.heard);
        state.rows.insert(row.at.0, Said { when: said.0, clear: said.1, heard, readings: row.readings });
        if newest.is_some_and(|newest| row.at.0 < newest) {
            behind.push(row.at.0);
        }
        amend(rule, state, group, row, said, clock, told);
    }
    if !behind.is_empty() {
        late_stretches(rule, state, group, &behind, silence, clock, told);
        state.pending = running(state);
        let shows = |pending: &Pending| group.rows.iter().find(|row| row.at == pending.row).map(|row| group.evidence(rule, row));
        if let Some(evidence) = state.pending.as_ref().and_then(shows) {
            state.evidence = evidence;
        }
    }
    if last.decides {
        forward(rule, state, group, last, silence, clock, told);
    } else {
        state.pending = None;
    }
    if !compose::waits(rule) && !silence.now {
        state.pending = None;
    }
    let oldest = last.at - looked_at(config);
    state.rows.forget(oldest.0);
    state.told.retain(|(_, to)| *to >= oldest.0);
    state.undone.retain(|(_, to)| *to >= oldest.0);
}

/// SEMANTICS 16, 17: the row that raised an open alert says something else now.
fn amend(rule: &Rule, state: &mut RuleState, group: &Group<'_>, row: &Row, said: Answer, clock: Arrived, told: &mut Told<'_>) {
    let RuleKind::Predicate(predicate) = &rule.kind else { return };
    let Some(open) = state.open.as_mut().filter(|open| open.row == row.at) else { return };
    let patient = group.patient;
    let now = group.evidence(rule, row);
    let limit = |e: &Evidence| e.column.starts_with("limit_");
    if now.iter().filter(|e| !limit(e)).eq(open.evidence.iter().filter(|e| !limit(e))) {
        return;
    }
    let nothing_left = crate::columns::is_empty(&predicate.columns, group.table.values(row.place), row.readings);
    open.evidence = now;
    open.summary = summary(rule, &open.evidence, open.raised_at - open.since);
    let copy = open.clone();
    if nothing_left {
        told.transition(
            TransitionKind::Withdrawn,
            rule,
            patient,
            &copy,
            row.at,
            clock,
            row.readings,
            &More { late: true, reason: "entered in error", ..More::PLAIN },
        );
        // it was never so: what is found there later was not told
        let undone = |(from, to): &(i64, i64)| (*from..=*to).contains(&row.at.0);
        state.undone.extend(state.told.iter().filter(|stretch| undone(stretch)));
        state.told.retain(|stretch| !undone(stretch));
        state.open = None;
        state.pending = None;
        return;
    }
    let holds = said.0 == Some(true);
    // settings say the scale, oxygen and what was paused
    let arranged = row.settings_version != copy.settings_version;
    let reason = if arranged { "later data or settings changed what it rests on" } else { "later data changed what it rests on" };
    let more = More { late: true, pages: !holds, holds, reason };
    told.transition(TransitionKind::Amended, rule, patient, &copy, row.at, clock, row.readings, &more);
}

/// The hold that runs at the newest row, from the rows alone: after the last FALSE, the first TRUE.
pub(crate) fn running(state: &RuleState) -> Option<Pending> {
    if state.open.is_some() {
        return None;
    }
    let after = state.told.iter().map(|(_, to)| *to).max();
    let mut pending: Option<Pending> = None;
    for (at, said) in state.rows.iter() {
        if after.is_some_and(|after| at <= after) {
            continue;
        }
        match said.when {
            Some(true) => match &mut pending {
                Some(pending) => {
                    pending.row = EventTime(at);
                    pending.heard = pending.heard.min(Arrived(said.heard));
                }
                None => pending = Some(Pending { since: EventTime(at), heard: Arrived(said.heard), row: EventTime(at) }),
            },
            Some(false) => pending = None,
            None => {}
        }
    }
    pending
}

/// SEMANTICS 14: stretches that the rows behind the frontier now show, that are over, and that nobody was told.
#[allow(clippy::too_many_arguments)]
fn late_stretches(rule: &Rule, state: &mut RuleState, group: &Group<'_>, behind: &[i64], silence: &Silence, clock: Arrived, told: &mut Told<'_>) {
    let Some(last) = group.rows.last() else { return };
    let patient = group.patient;
    if state.open.is_some() {
        return;
    }
    // (since, raised, ended)
    let mut found = Vec::new();
    let mut since: Option<i64> = None;
    let mut raised: Option<i64> = None;
    for (at, said) in state.rows.iter() {
        if let Some(up) = raised {
            if said.when != Some(true) && said.clear == Some(true) {
                found.push((since.unwrap_or(up), up, at));
                (since, raised) = (None, None);
            }
            continue;
        }
        match said.when {
            Some(true) => {
                let start = *since.get_or_insert(at);
                if compose::met(rule, &state.rows, EventTime(start), EventTime(at)) {
                    raised = Some(at);
                }
            }
            Some(false) => since = None,
            None => {}
        }
    }
    // over at the frontier, even if nothing says that it cleared: it ended with the first row after its last TRUE
    let over = state.rows.iter().next_back().is_some_and(|(_, said)| said.when != Some(true));
    if let (Some(up), true) = (raised, over) {
        let ended = state.rows.iter().rev().take_while(|(_, said)| said.when != Some(true)).last().map_or(up, |(at, _)| at);
        found.push((since.unwrap_or(up), up, ended));
    }
    for (since, up, ended) in found {
        let touched = behind.iter().any(|at| (since..=ended).contains(at));
        let meets = |(from, to): &(i64, i64)| *from <= ended && since <= *to;
        // what was superseded was told, and is silenced still
        let known = state.told.iter().any(meets) || (silence.covers(since, ended) && state.undone.iter().any(meets));
        if !touched || known {
            continue;
        }
        let row = group.rows.iter().find(|row| row.at.0 == up).or_else(|| group.rows.iter().find(|row| (since..ended).contains(&row.at.0)));
        let evidence = row.map(|row| group.evidence(rule, row)).unwrap_or_default();
        let readings = state.rows.get(up).map_or(1, |said| said.readings);
        let open = Open {
            alert: told.alert(patient, rule, state, EventTime(up)),
            row: EventTime(up),
            raised_at: EventTime(up),
            since: EventTime(since),
            summary: summary(rule, &evidence, EventTime(ended) - EventTime(since)),
            evidence,
            settings_version: row.map_or(0, |row| row.settings_version),
        };
        let recent = clock.as_event() - EventTime(ended) < LATE_PAGES || rule.late == schemas::LatePolicy::Page;
        let pages = recent && !last.paused && !silence.covers(since, ended);
        let more = More { late: true, pages, ..More::PLAIN };
        told.transition(TransitionKind::Raised, rule, patient, &open, EventTime(up), clock, readings, &more);
        told.transition(TransitionKind::Cleared, rule, patient, &open, EventTime(ended), clock, readings, &more);
        state.told.push((since, ended));
    }
}

/// The newest row decides.
fn forward(rule: &Rule, state: &mut RuleState, group: &Group<'_>, row: &Row, silence: &Silence, clock: Arrived, told: &mut Told<'_>) {
    let (patient, said) = (group.patient, group.said(row));
    if let Some(open) = &state.open {
        if said.0 != Some(true) && said.1 == Some(true) {
            let open = open.clone();
            told.transition(TransitionKind::Cleared, rule, patient, &open, row.at, clock, row.readings, &More::PLAIN);
            state.told.push((open.since.0, row.at.0));
            state.open = None;
            state.pending = None;
        }
        return;
    }
    match said.0 {
        Some(true) => {
            let evidence = group.evidence(rule, row);
            state.evidence.clone_from(&evidence);
            let pending = state.pending.get_or_insert(Pending { since: row.at, heard: clock, row: row.at });
            pending.row = row.at;
            let pending = *pending;
            if !silence.now && compose::met(rule, &state.rows, pending.since, row.at) {
                let open = Open {
                    alert: told.alert(patient, rule, state, row.at),
                    row: row.at,
                    raised_at: row.at,
                    since: pending.since,
                    summary: summary(rule, &evidence, row.at - pending.since),
                    evidence,
                    settings_version: row.settings_version,
                };
                told.transition(TransitionKind::Raised, rule, patient, &open, row.at, clock, row.readings, &More::PLAIN);
                state.told.push((pending.since.0, row.at.0));
                state.open = Some(Box::new(open));
                state.pending = None;
            }
        }
        Some(false) => state.pending = None,
        None => {}
    }
}
