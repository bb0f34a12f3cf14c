//! The second half of an input: rows that were evaluated become holds, alerts and their ends, with the timers due in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemas::{AlertId, Arrived, Cause, EventTime, Evidence, Metric, Micros, Origin, PatientId, RuleId, Settings, Transition, TransitionKind};
use serde::{Deserialize, Serialize};

use crate::api::{Config, OpenAlert, Output};
use crate::compose::{self, Silence};
use crate::fold::{Closed, News, Row, Step};
use crate::rules::{Rule, RuleBook, RuleKind};

/// SEMANTICS 14: a late stretch that ended longer ago than this follows the rule's `late`.
const LATE_PAGES: Micros = Micros::minutes(30);

/// What `when` and `clear` say of a row; `None` is too little evidence.
pub(crate) type Answer = (Option<bool>, Option<bool>);

/// What a row said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Said {
    pub when: Option<bool>,
    pub clear: Option<bool>,
    /// The clock when this row was first TRUE.
    pub heard: i64,
    pub readings: u32,
}

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

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RuleState {
    /// By row time (µs), as far back as the horizon reaches.
    pub rows: BTreeMap<i64, Said>,
    pub open: Option<Open>,
    pub pending: Option<Pending>,
    /// Stretches of event time that have been told as an alert, `[from, to]`, within the horizon.
    pub told: Vec<(i64, i64)>,
    /// Those that were entered in error: they hide nothing, and their alerts' names stay taken.
    #[serde(default)]
    pub undone: Vec<(i64, i64)>,
    /// The newest TRUE row's evidence, for an alert that the clock raises.
    pub evidence: Vec<Evidence>,
    /// The timer that stands for this rule.
    pub due: Option<Arrived>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Decided {
    pub settings: Option<Arc<Settings>>,
    pub rules: BTreeMap<RuleId, RuleState>,
    /// From when silence counts, per metric.
    pub news: BTreeMap<Metric, EventTime>,
    /// A pause that is to begin.
    pub pause_due: Option<Arrived>,
    /// When monitoring was taken up again by hand: silence counts from then.
    pub resumed: Option<EventTime>,
}

/// In the order of the design: due, patient, rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub due: Arrived,
    pub patient: PatientId,
    /// `None`: a pause begins.
    pub rule: Option<RuleId>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Decide {
    pub patients: BTreeMap<PatientId, Decided>,
    pub timers: BTreeSet<Timer>,
    pub version: u64,
    /// Since when each rule reads as it does.
    pub activated: BTreeMap<RuleId, EventTime>,
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

    pub fn window(&mut self, closed: &Closed) {
        let cause = self.cause();
        self.outputs.push(Output::Window(schemas::Window {
            cause,
            patient: closed.patient.clone(),
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
    /// Fires every timer due before the clock, each stamped with its due, together with the windows that the clock closed.
    pub fn timers(&mut self, book: &RuleBook, step: &Step, told: &mut Told<'_>) {
        let mut windows = step.idle.iter().peekable();
        loop {
            let timer = self.timers.first().filter(|timer| timer.due < step.clock).cloned();
            match (windows.peek(), timer) {
                (Some((due, closed)), timer) if timer.as_ref().is_none_or(|timer| (*due, &closed.patient) <= (timer.due, &timer.patient)) => {
                    told.window(closed);
                    windows.next();
                }
                (_, Some(timer)) => {
                    self.timers.remove(&timer);
                    self.fire(book, &timer, told);
                }
                (_, None) => return,
            }
        }
    }

    fn fire(&mut self, book: &RuleBook, timer: &Timer, told: &mut Told<'_>) {
        let Some(id) = &timer.rule else {
            if let Some(decided) = self.patients.get_mut(&timer.patient) {
                decided.pause_due = None;
            }
            self.withdraw_all(book, &timer.patient, "paused", timer.due, told);
            self.schedule_pause(&timer.patient, timer.due);
            self.silence(book, &timer.patient, None, timer.due, true, told);
            return;
        };
        let Some(rule) = book.rules.iter().find(|rule| rule.id == *id) else { return };
        let Some(decided) = self.patients.get_mut(&timer.patient) else { return };
        let settings_version = decided.settings.as_ref().map_or(0, |settings| settings.version);
        let silence = if rule.condition.is_some() { Silence::of(book, rule, decided, Some(timer.due)) } else { Silence::default() };
        let Some(state) = decided.rules.get_mut(id) else { return };
        if state.due != Some(timer.due) {
            return;
        }
        state.due = None;
        if silence.now {
            // raised when it is no longer silenced, if it is still so
            return;
        }
        let at = timer.due.as_event();
        match &rule.kind {
            RuleKind::Silent { after, metric } => {
                if state.open.is_none() {
                    let since = at - *after;
                    let summary = format!("no {} for {after}", metric.label());
                    let open = Open {
                        alert: AlertId::by_timer(&timer.patient, &rule.id, timer.due),
                        row: since,
                        raised_at: at,
                        since,
                        evidence: Vec::new(),
                        summary,
                        settings_version,
                    };
                    told.transition(TransitionKind::Raised, rule, &timer.patient, &open, at, timer.due, 0, &More::PLAIN);
                    state.open = Some(open);
                }
            }
            RuleKind::Predicate(_) => {
                let Some(pending) = state.pending.take() else { return };
                let evidence = state.evidence.clone();
                let readings = state.rows.get(&pending.row.0).map_or(1, |said| said.readings);
                let open = Open {
                    alert: AlertId::by_timer(&timer.patient, &rule.id, timer.due),
                    row: pending.row,
                    raised_at: at,
                    since: pending.since,
                    summary: summary(rule, &evidence, at - pending.since),
                    evidence,
                    settings_version,
                };
                told.transition(TransitionKind::Raised, rule, &timer.patient, &open, at, timer.due, readings, &More::PLAIN);
                state.told.push((pending.since.0, pending.row.0));
                state.open = Some(open);
            }
        }
        self.supersede(book, rule, &timer.patient, timer.due, told);
    }

    /// Applies one input's rows, in the order of rules and times, after its timers.
    pub fn rows(&mut self, config: &Config, book: &RuleBook, step: &Step, said: &[Answer], told: &mut Told<'_>) {
        let mut rest = step.rows.iter().zip(said).peekable();
        while let Some((first, _)) = rest.peek() {
            let (index, patient) = (first.rule, first.patient.clone());
            let mut group = Vec::new();
            while let Some(next) = rest.next_if(|(row, _)| row.rule == index && row.patient == patient) {
                group.push(next);
            }
            let Some(rule) = book.rules.get(index) else { continue };
            let decided = self.patients.entry(patient.clone()).or_default();
            let silence = if rule.condition.is_some() { Silence::of(book, rule, decided, None) } else { Silence::default() };
            let state = decided.rules.entry(rule.id.clone()).or_default();
            let before = state.open.is_some();
            apply(config, rule, state, &group, &silence, step.clock, told);
            let due = state.pending.filter(|_| !silence.now).and_then(|pending| compose::due(rule, &state.rows, &pending));
            set_timer(&mut self.timers, state, &patient, &rule.id, due);
            match (before, state.open.is_some()) {
                (false, true) => self.supersede(book, rule, &patient, step.clock, told),
                (true, false) => self.release(book, rule, &patient, step.clock),
                _ => {}
            }
        }
    }

    /// A more urgent alert of the same condition takes the place of those that are open.
    fn supersede(&mut self, book: &RuleBook, rule: &Rule, patient: &PatientId, clock: Arrived, told: &mut Told<'_>) {
        let Some(decided) = self.patients.get_mut(patient).filter(|_| rule.condition.is_some()) else { return };
        for inferior in compose::inferiors(book, rule) {
            let Some(state) = decided.rules.get_mut(&inferior.id) else { continue };
            set_timer(&mut self.timers, state, patient, &inferior.id, None);
            if let Some(open) = compose::superseded(state) {
                let reason = format!("superseded by {}", rule.id);
                told.transition(TransitionKind::Withdrawn, inferior, patient, &open, clock.as_event(), clock, 0, &More { reason: &reason, ..More::PLAIN });
            }
        }
    }

    /// It is over: what it silenced and what is still pending is raised by the clock, if nothing more is heard.
    fn release(&mut self, book: &RuleBook, rule: &Rule, patient: &PatientId, clock: Arrived) {
        let Some(decided) = self.patients.get_mut(patient).filter(|_| rule.condition.is_some()) else { return };
        for inferior in compose::inferiors(book, rule) {
            let silence = Silence::of(book, inferior, decided, None);
            let Some(state) = decided.rules.get_mut(&inferior.id).filter(|_| !silence.now) else { continue };
            let due = state.pending.and_then(|pending| compose::due(inferior, &state.rows, &pending)).map(|due| due.max(clock));
            set_timer(&mut self.timers, state, patient, &inferior.id, due);
        }
    }

    pub fn news(&mut self, book: &RuleBook, news: &News, clock: Arrived, told: &mut Told<'_>) {
        match news {
            News::Heard(patient, metric, at) => {
                let decided = self.patients.entry(patient.clone()).or_default();
                let known = decided.news.entry(*metric).or_insert(*at);
                *known = (*known).max(*at);
                self.silence(book, patient, Some(*metric), clock, true, told);
            }
            News::Settings(settings) => {
                let decided = self.patients.entry(settings.patient.clone()).or_default();
                let rests = |settings: &Settings| !settings.monitored || settings.pauses.iter().any(|pause| pause.covers(clock.as_event()));
                let before = decided.settings.replace(settings.clone());
                if before.is_some_and(|before| rests(&before)) && !rests(settings) {
                    decided.resumed = Some(clock.as_event());
                }
                if !settings.monitored {
                    self.withdraw_all(book, &settings.patient, "no longer monitored", clock, told);
                } else if settings.pauses.iter().any(|pause| pause.covers(clock.as_event())) {
                    self.withdraw_all(book, &settings.patient, "paused", clock, told);
                }
                self.schedule_pause(&settings.patient, clock);
                self.silence(book, &settings.patient, None, clock, true, told);
            }
            News::Rules | News::Nothing => {}
        }
    }

    /// Replaces the rules; says which are new or changed. An alert of a rule that is gone is withdrawn, one of a changed rule stays.
    pub fn rules(&mut self, old: &RuleBook, new: &RuleBook, activated_at: EventTime, clock: Arrived, told: &mut Told<'_>) -> BTreeSet<RuleId> {
        let same = |rule: &Rule| old.rules.iter().any(|o| o.id == rule.id && o.text == rule.text);
        let changed: BTreeSet<RuleId> = new.rules.iter().filter(|rule| !same(rule)).map(|rule| rule.id.clone()).collect();
        self.activated.retain(|id, _| new.rules.iter().any(|rule| rule.id == *id));
        self.activated.extend(changed.iter().map(|id| (id.clone(), activated_at)));
        let patients: Vec<PatientId> = self.patients.keys().cloned().collect();
        for patient in &patients {
            for rule in &old.rules {
                if !new.rules.iter().any(|n| n.id == rule.id) {
                    self.withdraw(rule, patient, "the rule is gone", clock, told);
                    if let Some(mut state) = self.patients.get_mut(patient).and_then(|d| d.rules.remove(&rule.id)) {
                        set_timer(&mut self.timers, &mut state, patient, &rule.id, None);
                    }
                } else if new.rules.iter().any(|n| n.id == rule.id && n.state != rule.state) {
                    // who did not see it in the shadow is to hear of it now, and the other way round
                    self.withdraw(rule, patient, "the rule's state changed", clock, told);
                } else if changed.contains(&rule.id)
                    && let Some(state) = self.patients.get_mut(patient).and_then(|d| d.rules.get_mut(&rule.id))
                {
                    state.pending = None;
                    state.rows.clear();
                    // it survives with what it was raised on: the row says something else now because the rule asks something else
                    if let Some(open) = &mut state.open {
                        open.row = EventTime::MIN;
                    }
                    set_timer(&mut self.timers, state, patient, &rule.id, None);
                }
            }
            self.silence(new, patient, None, clock, false, told);
        }
        changed
    }

    /// Sets the timers of `silent` rules anew, and, where something was `heard` or arranged, ends the silence that is over.
    fn silence(&mut self, book: &RuleBook, patient: &PatientId, only: Option<Metric>, clock: Arrived, heard: bool, told: &mut Told<'_>) {
        let Some(decided) = self.patients.get_mut(patient) else { return };
        let settings = decided.settings.clone();
        let mut pauses: Vec<_> = settings.iter().flat_map(|s| &s.pauses).collect();
        pauses.sort_by_key(|pause| pause.from);
        for rule in &book.rules {
            let RuleKind::Silent { metric, after } = rule.kind else { continue };
            if only.is_some_and(|only| only != metric) {
                continue;
            }
            let last = decided.news.get(&metric).copied();
            let activated_at = self.activated.get(&rule.id).copied().unwrap_or(EventTime::MIN);
            let state = decided.rules.entry(rule.id.clone()).or_default();
            let monitored = settings.as_ref().is_none_or(|s| s.monitored);
            let from = [last, settings.as_ref().map(|s| s.enrolled_at), decided.resumed].into_iter().flatten().max().map(|from| from.max(activated_at));
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
                    told.transition(TransitionKind::Cleared, rule, patient, &open, clock.as_event(), clock, 0, &More::PLAIN);
                    state.open = None;
                    set_timer(&mut self.timers, state, patient, &rule.id, due);
                }
            } else {
                set_timer(&mut self.timers, state, patient, &rule.id, due);
            }
        }
    }

    fn schedule_pause(&mut self, patient: &PatientId, clock: Arrived) {
        let Some(decided) = self.patients.get_mut(patient) else { return };
        let next = decided.settings.iter().flat_map(|s| &s.pauses).map(|pause| Arrived(pause.from.0)).filter(|from| *from > clock).min();
        if decided.pause_due == next {
            return;
        }
        if let Some(due) = decided.pause_due {
            self.timers.remove(&Timer { due, patient: patient.clone(), rule: None });
        }
        decided.pause_due = next;
        if let Some(due) = next {
            self.timers.insert(Timer { due, patient: patient.clone(), rule: None });
        }
    }

    fn withdraw_all(&mut self, book: &RuleBook, patient: &PatientId, reason: &str, at: Arrived, told: &mut Told<'_>) {
        for rule in &book.rules {
            self.withdraw(rule, patient, reason, at, told);
        }
    }

    fn withdraw(&mut self, rule: &Rule, patient: &PatientId, reason: &str, at: Arrived, told: &mut Told<'_>) {
        let Some(state) = self.patients.get_mut(patient).and_then(|d| d.rules.get_mut(&rule.id)) else { return };
        if matches!(rule.kind, RuleKind::Predicate(_)) {
            state.pending = None;
            // no hold bridges what lies between
            state.rows.clear();
        }
        set_timer(&mut self.timers, state, patient, &rule.id, None);
        if let Some(open) = state.open.take() {
            told.transition(TransitionKind::Withdrawn, rule, patient, &open, at.as_event(), at, 0, &More { reason, ..More::PLAIN });
        }
    }

    pub fn open_alerts(&self, book: &RuleBook, patient: &PatientId) -> Vec<OpenAlert> {
        let Some(decided) = self.patients.get(patient) else { return Vec::new() };
        book.rules
            .iter()
            .filter(|rule| !rule.is_shadow())
            .filter_map(|rule| {
                let open = decided.rules.get(&rule.id)?.open.as_ref()?;
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
}

fn set_timer(timers: &mut BTreeSet<Timer>, state: &mut RuleState, patient: &PatientId, rule: &RuleId, due: Option<Arrived>) {
    if state.due == due {
        return;
    }
    if let Some(due) = state.due {
        timers.remove(&Timer { due, patient: patient.clone(), rule: Some(rule.clone()) });
    }
    if let Some(due) = due {
        timers.insert(Timer { due, patient: patient.clone(), rule: Some(rule.clone()) });
    }
    state.due = due;
}

fn evidence(rule: &Rule, row: &Row) -> Vec<Evidence> {
    let RuleKind::Predicate(predicate) = &rule.kind else { return Vec::new() };
    predicate
        .columns
        .iter()
        .zip(&row.columns)
        .map(|(column, value)| Evidence { column: column.name.clone(), text: column.text.clone(), value: *value })
        .collect()
}

/// `SpO₂ 84 %, limit 90, for 4 min`
fn summary(rule: &Rule, evidence: &[Evidence], span: Micros) -> String {
    let RuleKind::Predicate(predicate) = &rule.kind else { return String::new() };
    let mut parts = Vec::new();
    for (column, evidence) in predicate.columns.iter().zip(evidence) {
        let Some(value) = evidence.value else { continue };
        parts.extend(column.source.words(value));
    }
    parts.dedup();
    if span >= Micros::seconds(60) {
        parts.push(format!("for {span}"));
    }
    parts.join(", ")
}

/// One rule, one patient, one input: the rows it looks at, in the order of their times.
fn apply(config: &Config, rule: &Rule, state: &mut RuleState, group: &[(&Row, &Answer)], silence: &Silence, clock: Arrived, told: &mut Told<'_>) {
    let newest = state.rows.last_key_value().map(|(at, _)| *at);
    let Some((last, last_said)) = group.last().copied() else { return };
    let patient = last.patient.clone();
    let mut behind = Vec::new();
    for (row, said) in group {
        let heard = state.rows.get(&row.at.0).filter(|known| known.when == Some(true)).map_or(clock.0, |known| known.heard);
        state.rows.insert(row.at.0, Said { when: said.0, clear: said.1, heard, readings: row.readings });
        if newest.is_some_and(|newest| row.at.0 < newest) {
            behind.push(row.at.0);
        }
        amend(rule, state, row, said, clock, &patient, told);
    }
    if !behind.is_empty() {
        late_stretches(rule, state, group, &behind, silence, clock, &patient, told);
        state.pending = running(state);
        let shows = |pending: &Pending| group.iter().find(|(row, _)| row.at == pending.row).map(|(row, _)| evidence(rule, row));
        if let Some(evidence) = state.pending.as_ref().and_then(shows) {
            state.evidence = evidence;
        }
    }
    if last.decides {
        forward(rule, state, last, *last_said, silence, clock, told);
    } else {
        state.pending = None;
    }
    if !compose::waits(rule) && !silence.now {
        state.pending = None;
    }
    let oldest = last.at - config.horizon - crate::rules::MAX_WIDTH;
    state.rows = state.rows.split_off(&oldest.0);
    state.told.retain(|(_, to)| *to >= oldest.0);
    state.undone.retain(|(_, to)| *to >= oldest.0);
}

/// SEMANTICS 16, 17: the row that raised an open alert says something else now.
fn amend(rule: &Rule, state: &mut RuleState, row: &Row, said: &Answer, clock: Arrived, patient: &PatientId, told: &mut Told<'_>) {
    let Some(open) = state.open.as_mut().filter(|open| open.row == row.at) else { return };
    let now = evidence(rule, row);
    let limit = |e: &Evidence| e.column.starts_with("limit_");
    if now.iter().filter(|e| !limit(e)).eq(open.evidence.iter().filter(|e| !limit(e))) {
        return;
    }
    let nothing_left = now.iter().filter(|e| !limit(e)).all(|e| e.value.is_none());
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
    let more = More { late: true, pages: !holds, holds, reason: "later data changed what it rests on" };
    told.transition(TransitionKind::Amended, rule, patient, &copy, row.at, clock, row.readings, &more);
}

/// The hold that runs at the newest row, from the rows alone: after the last FALSE, the first TRUE.
fn running(state: &RuleState) -> Option<Pending> {
    if state.open.is_some() {
        return None;
    }
    let after = state.told.iter().map(|(_, to)| *to).max();
    let mut pending: Option<Pending> = None;
    for (at, said) in &state.rows {
        if after.is_some_and(|after| *at <= after) {
            continue;
        }
        match said.when {
            Some(true) => match &mut pending {
                Some(pending) => {
                    pending.row = EventTime(*at);
                    pending.heard = pending.heard.min(Arrived(said.heard));
                }
                None => pending = Some(Pending { since: EventTime(*at), heard: Arrived(said.heard), row: EventTime(*at) }),
            },
            Some(false) => pending = None,
            None => {}
        }
    }
    pending
}

/// SEMANTICS 14: stretches that the rows behind the frontier now show, that are over, and that nobody was told.
#[allow(clippy::too_many_arguments)]
fn late_stretches(
    rule: &Rule,
    state: &mut RuleState,
    group: &[(&Row, &Answer)],
    behind: &[i64],
    silence: &Silence,
    clock: Arrived,
    patient: &PatientId,
    told: &mut Told<'_>,
) {
    let Some((last, _)) = group.last() else { return };
    if state.open.is_some() {
        return;
    }
    // (since, raised, ended)
    let mut found = Vec::new();
    let mut since: Option<i64> = None;
    let mut raised: Option<i64> = None;
    for (at, said) in &state.rows {
        if let Some(up) = raised {
            if said.when != Some(true) && said.clear == Some(true) {
                found.push((since.unwrap_or(up), up, *at));
                (since, raised) = (None, None);
            }
            continue;
        }
        match said.when {
            Some(true) => {
                let start = *since.get_or_insert(*at);
                if compose::met(rule, &state.rows, EventTime(start), EventTime(*at)) {
                    raised = Some(*at);
                }
            }
            Some(false) => since = None,
            None => {}
        }
    }
    // over at the frontier, even if nothing says that it cleared: it ended with the first row after its last TRUE
    let over = state.rows.last_key_value().is_some_and(|(_, said)| said.when != Some(true));
    if let (Some(up), true) = (raised, over) {
        let ended = state.rows.iter().rev().take_while(|(_, said)| said.when != Some(true)).last().map_or(up, |(at, _)| *at);
        found.push((since.unwrap_or(up), up, ended));
    }
    for (since, up, ended) in found {
        let touched = behind.iter().any(|at| (since..=ended).contains(at));
        let known = state.told.iter().any(|(from, to)| *from <= ended && since <= *to);
        if !touched || known {
            continue;
        }
        let row = group
            .iter()
            .map(|(row, _)| *row)
            .find(|row| row.at.0 == up)
            .or_else(|| group.iter().map(|(row, _)| *row).find(|row| (since..ended).contains(&row.at.0)));
        let evidence = row.map(|row| evidence(rule, row)).unwrap_or_default();
        let readings = state.rows.get(&up).map_or(1, |said| said.readings);
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
fn forward(rule: &Rule, state: &mut RuleState, row: &Row, said: Answer, silence: &Silence, clock: Arrived, told: &mut Told<'_>) {
    let patient = &row.patient;
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
            let evidence = evidence(rule, row);
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
                state.open = Some(open);
                state.pending = None;
            }
        }
        Some(false) => state.pending = None,
        None => {}
    }
}
