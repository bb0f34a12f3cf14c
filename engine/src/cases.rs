//! Cases: tables of what is measured when and what a rule is expected to say, beside the rules they try, through the engine itself.
//!
//! ```toml
//! [[case]]
//! name  = "falls and recovers"
//! steps = [
//!   { at = "08:00", spo2 = 95 },
//!   { at = "08:05", spo2 = 85, expect = "raised spo2-low" },
//! ]
//! ```
//!
//! A rule is tried in whatever state it is: a draft before it is evaluated anywhere.

mod read;
mod report;

use std::collections::{BTreeMap, BTreeSet};

use schemas::{
    Arrived, ClockState, DeviceId, EventTime, Input, Metric, Micros, Offset, PatientId, Reading, ReadingId, RuleId, Settings, Transition, TransitionKind, Void,
};

use crate::api::{Arrival, Config, Output};
use crate::engine::Engine;
use crate::rules::{Diagnostics, RuleBook, RuleKind, State, compile, most_urgent_first};
use crate::zone::Zone;
pub use report::{CaseReport, StepReport};

/// What happens at one time, and what is expected to be said of it.
#[derive(Clone, Debug)]
struct Step {
    /// As it was written.
    at_text: String,
    /// When it is measured: once, or several times.
    times: Vec<EventTime>,
    /// When the journal has it; when it is measured, if that is left out.
    heard: Option<EventTime>,
    values: Vec<(Metric, f64)>,
    /// Metrics whose reading at this time was entered in error.
    voids: Vec<Metric>,
    limits: Option<BTreeMap<String, f64>>,
    limits_until: BTreeMap<String, EventTime>,
    expect: Vec<String>,
}

#[derive(Clone, Debug)]
struct Case {
    name: String,
    line: usize,
    /// Whose transitions are looked at; all, if it is empty.
    rules: BTreeSet<RuleId>,
    limits: BTreeMap<String, f64>,
    steps: Vec<Step>,
}

/// Plays every case of a rule file.
///
/// # Errors
/// What is wrong with the rules or with the cases, each with its place and its remedy.
pub fn run_cases(toml: &str) -> Result<Vec<CaseReport>, Diagnostics> {
    let mut book = compile(toml)?;
    let drafts = std::mem::take(&mut book.drafts);
    book.rules.extend(drafts);
    book.rules.iter_mut().for_each(|rule| rule.state = State::Live);
    book.rules.sort_by(|a, b| a.id.cmp(&b.id));
    most_urgent_first(&mut book.rules);
    let cases = read::read(toml, &book)?;
    Ok(cases.iter().map(|case| Play::of(case, &book).run(case)).collect())
}

struct Play {
    engine: Engine,
    patient: PatientId,
    device: DeviceId,
    clock: EventTime,
    offset: i64,
    zone: Zone,
}

impl Play {
    fn of(case: &Case, book: &RuleBook) -> Self {
        let begin = case.steps.first().and_then(|step| step.times.first()).copied().unwrap_or_default();
        let engine = Engine::with_rules(Config::default(), book.clone(), begin);
        Self { engine, patient: someone(), device: something(), clock: begin, offset: 0, zone: book.zone.clone() }
    }

    fn run(mut self, case: &Case) -> CaseReport {
        let mut settings = Settings {
            patient: self.patient.clone(),
            version: 1,
            monitored: true,
            limits: case.limits.clone(),
            limits_until: BTreeMap::new(),
            oxygen_l_min: None,
            news2_scale: 1,
            pauses: Vec::new(),
            expected_interval: BTreeMap::new(),
            enrolled_at: self.clock,
            author: String::new(),
        };
        self.say(Input::Settings(settings.clone()));
        let mut steps = Vec::new();
        for step in &case.steps {
            let mut said = Vec::new();
            for at in &step.times {
                self.clock = self.clock.max(step.heard.unwrap_or(*at));
                if let Some(limits) = &step.limits {
                    settings.version += 1;
                    settings.limits.clone_from(limits);
                    settings.limits_until.clone_from(&step.limits_until);
                    said.extend(self.say(Input::Settings(settings.clone())));
                }
                for (metric, value) in &step.values {
                    said.extend(self.say(self.reading(*metric, *value, *at)));
                }
                for metric in &step.voids {
                    said.extend(self.say(self.void(*metric, *at)));
                }
                if step.limits.is_none() && step.values.is_empty() && step.voids.is_empty() {
                    said.extend(self.say(Input::Tick));
                }
            }
            said.retain(|t| case.rules.is_empty() || case.rules.contains(&t.rule));
            let at = step.times.last().copied().unwrap_or(self.clock);
            let words: Vec<String> = said.iter().map(|t| self.words(t, at)).collect();
            let why = if words == step.expect { Vec::new() } else { self.why(case, step, &said, at) };
            steps.push(StepReport { at: step.at_text.clone(), values: step.shown(), expected: step.expect.clone(), said: words, why });
        }
        CaseReport { name: case.name.clone(), line: case.line, steps }
    }

    fn say(&mut self, input: Input) -> Vec<Transition> {
        let arrival = Arrival { offset: Offset(self.offset), arrived_at: Arrived(self.clock.0), input };
        self.offset += 1;
        let outputs = self.engine.apply(&[arrival]);
        outputs.into_iter().filter_map(|output| if let Output::Transition(t) = output { Some(t) } else { None }).collect()
    }

    fn reading(&self, metric: Metric, value: f64, at: EventTime) -> Input {
        let device = self.device.clone();
        Input::Reading(Reading {
            id: ReadingId::new(&device, metric, at, None),
            patient: self.patient.clone(),
            device,
            metric,
            value,
            at,
            stamped_at: at,
            received_at: self.clock,
            clock: ClockState::AsSent,
            boot: None,
            seq: None,
            typed: false,
            test: false,
            value_as_sent: value,
            unit_as_sent: String::new(),
            author: String::new(),
            format: None,
        })
    }

    fn void(&self, metric: Metric, at: EventTime) -> Input {
        Input::Void(Void {
            reading: ReadingId::new(&self.device, metric, at, None),
            patient: self.patient.clone(),
            metric,
            at,
            reason: String::new(),
            author: String::new(),
            moved_to: None,
        })
    }

    /// `raised spo2-low`, and when, if that is not the step's own time; `late` and `quiet` as they apply.
    fn words(&self, t: &Transition, at: EventTime) -> String {
        let kind = match t.kind {
            TransitionKind::Raised => "raised",
            TransitionKind::Cleared => "cleared",
            TransitionKind::Amended => "amended",
            TransitionKind::Withdrawn => "withdrawn",
        };
        let mut words = format!("{kind} {}", t.rule);
        if t.at != at {
            let seconds = self.zone.time_of_day(t.at);
            let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            words.push_str(" at ");
            if self.zone.day_of(t.at) != self.zone.day_of(at) {
                words.push_str(&format!("{} ", self.zone.date(t.at)));
            }
            words.push_str(&format!("{hour:02}:{minute:02}"));
            if second != 0 {
                words.push_str(&format!(":{second:02}"));
            }
        }
        for (is, word) in [(t.late, " late"), (!t.pages, " quiet")] {
            words.push_str(if is { word } else { "" });
        }
        words
    }

    /// What the rules that a step is about look at, at its time.
    fn why(&self, case: &Case, step: &Step, said: &[Transition], at: EventTime) -> Vec<String> {
        let expected = step.expect.iter().filter_map(|words| words.split(' ').nth(1));
        let about: BTreeSet<&str> = expected.chain(said.iter().map(|t| t.rule.as_str())).collect();
        let rules = self.engine.book.rules.iter().filter(|rule| about.contains(rule.id.as_str()) || case.rules.contains(&rule.id));
        rules.filter_map(|rule| self.looked_at(rule, at)).collect()
    }

    fn looked_at(&self, rule: &crate::rules::Rule, at: EventTime) -> Option<String> {
        let RuleKind::Predicate(predicate) = &rule.kind else { return None };
        let folded = self.engine.fold.patients.get(&self.patient)?;
        let columns: Vec<(Option<f64>, u32)> = predicate.columns.iter().map(|c| crate::columns::value(&c.source, folded, at, rule.needs)).collect();
        let shown = predicate.columns.iter().zip(&columns).map(|(column, (value, readings))| match value {
            Some(value) => format!("{} = {value}", column.text),
            None if *readings > 0 => format!("{} is NULL ({readings} readings)", column.text),
            None => format!("{} is NULL", column.text),
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        let row: Vec<Option<f64>> = columns.into_iter().map(|(value, _)| value).collect();
        let said = crate::series::evaluate(predicate, &[&row], &mut 0).into_iter().next()?;
        let word = |said: Option<bool>| said.map_or("NULL", |said| if said { "TRUE" } else { "FALSE" });
        let hold = if rule.hold > Micros::ZERO { format!(", hold {}", rule.hold) } else { String::new() };
        Some(format!("{}: {shown}: when {}, clear {}{hold}", rule.id, word(said.0), word(said.1)))
    }
}

impl Step {
    fn shown(&self) -> String {
        let mut parts: Vec<String> = self.values.iter().map(|(metric, value)| format!("{metric} {value}")).collect();
        parts.extend(self.voids.iter().map(|metric| format!("{metric} was an error")));
        parts.extend(self.limits.iter().flatten().map(|(name, value)| format!("{name} = {value}")));
        parts.join(", ")
    }
}

#[expect(clippy::expect_used, reason = "a literal that is an id")]
fn someone() -> PatientId {
    PatientId::parse("case").expect("an id")
}

#[expect(clippy::expect_used, reason = "a literal that is an id")]
fn something() -> DeviceId {
    DeviceId::parse("case").expect("an id")
}
