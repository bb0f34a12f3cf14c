//! Cases as they are written.

use std::collections::BTreeMap;
use std::ops::Range;

use schemas::{EventTime, Metric, Micros, RuleId};
use serde::Deserialize;
use toml::{Spanned, Value};

use super::{Case, Step};
use crate::rules::{Diagnostics, Refusal, RuleBook, Severity, diagnostic, parse_span, parse_time_of_day};
use crate::zone::Zone;

/// Of a case that names none.
const DATE: &str = "2026-01-05";
const KINDS: [&str; 4] = ["raised", "cleared", "amended", "withdrawn"];
/// A step may stand for so many.
const MOST: usize = 10_000;

type Text = Spanned<String>;

#[derive(Deserialize)]
struct FileToml {
    #[serde(default)]
    case: Vec<CaseToml>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseToml {
    name: Text,
    date: Option<Text>,
    #[serde(default)]
    rules: Vec<Text>,
    #[serde(default)]
    limits: BTreeMap<String, f64>,
    steps: Vec<Spanned<BTreeMap<Text, Spanned<Value>>>>,
}

pub(super) fn read(toml: &str, book: &RuleBook) -> Result<Vec<Case>, Diagnostics> {
    let wrong = |refusals: Vec<Refusal>| Diagnostics(refusals.into_iter().map(|r| diagnostic(toml, Severity::Error, r)).collect());
    let file: FileToml = toml::from_str(toml).map_err(|error| wrong(vec![Refusal(error.message().to_owned(), error.span().unwrap_or(0..0), String::new())]))?;
    let mut reader = Reader { book, refusals: Vec::new(), date: String::new() };
    let cases =
        file.case.into_iter().map(|case| Case { line: toml.get(..case.name.span().start).unwrap_or("").matches('\n').count() + 1, ..reader.case(case) });
    let cases = cases.collect();
    if reader.refusals.is_empty() { Ok(cases) } else { Err(wrong(reader.refusals)) }
}

struct Reader<'a> {
    book: &'a RuleBook,
    refusals: Vec<Refusal>,
    date: String,
}

impl Reader<'_> {
    fn refuse(&mut self, span: Range<usize>, message: String, help: &str) {
        self.refusals.push(Refusal(message, span, help.to_owned()));
    }

    fn case(&mut self, case: CaseToml) -> Case {
        self.date = case.date.as_ref().map_or(DATE, |date| date.get_ref()).to_owned();
        if let Some(date) = case.date.as_ref().filter(|date| self.book.zone.instant(date.get_ref(), 0).is_none()) {
            self.refuse(date.span(), format!("`{}` is not a date", date.get_ref()), "such as 2026-03-28");
            DATE.clone_into(&mut self.date);
        }
        let rules = case.rules.iter().filter_map(|rule| self.rule(rule.get_ref(), rule.span())).collect();
        let steps = case.steps.into_iter().map(|step| self.step(step.span(), step.into_inner())).collect();
        Case { name: case.name.into_inner(), line: 0, rules, limits: case.limits, steps }
    }

    fn rule(&mut self, id: &str, span: Range<usize>) -> Option<RuleId> {
        let found = self.book.rules.iter().find(|rule| rule.id.as_str() == id);
        if found.is_none() {
            let known: Vec<&str> = self.book.rules.iter().map(|rule| rule.id.as_str()).filter(|id| *id != schemas::CANARY_RULE).collect();
            self.refuse(span, format!("no rule has the id `{id}`"), &format!("the file has {}", known.join(", ")));
        }
        found.map(|rule| rule.id.clone())
    }

    fn step(&mut self, whole: Range<usize>, toml: BTreeMap<Text, Spanned<Value>>) -> Step {
        let mut step = Step {
            at_text: String::new(),
            times: Vec::new(),
            heard: None,
            values: Vec::new(),
            voids: Vec::new(),
            limits: None,
            limits_until: BTreeMap::new(),
            expect: Vec::new(),
        };
        let (mut at, mut until, mut every) = (None, None, None);
        for (key, value) in toml {
            let (span, value) = (value.span(), value.into_inner());
            match (key.get_ref().as_str(), &value) {
                ("at", Value::String(text)) => {
                    step.at_text.clone_from(text);
                    at = self.time(text, span);
                }
                ("until", Value::String(text)) => until = self.time(text, span),
                ("heard", Value::String(text)) => step.heard = self.time(text, span),
                ("every", Value::String(text)) => match parse_span(text) {
                    Ok(span) => every = Some(span),
                    Err(help) => self.refuse(span, format!("`{text}` is not a span of time"), &help),
                },
                ("void", Value::String(text)) => match self.metric(text, span) {
                    Some(metric) => step.voids.push(metric),
                    None => continue,
                },
                ("limits", Value::Table(table)) => {
                    let number = |(name, value): (&String, &Value)| Some((name.clone(), value.as_float().or_else(|| Some(value.as_integer()? as f64))?));
                    step.limits = Some(table.iter().filter_map(number).collect());
                }
                ("limits_until", Value::Table(table)) => {
                    for (name, until) in table {
                        let until = self.time(until.as_str().unwrap_or(""), span.clone());
                        step.limits_until.extend(until.map(|until| (name.clone(), until)));
                    }
                }
                ("expect", Value::String(text)) => step.expect.extend(self.expectation(text, span)),
                ("expect", Value::Array(all)) => {
                    let words: Vec<String> = all.iter().filter_map(|one| self.expectation(one.as_str().unwrap_or(""), span.clone())).collect();
                    step.expect.extend(words);
                }
                ("at" | "until" | "heard" | "every" | "void" | "limits" | "limits_until" | "expect", _) => {
                    self.refuse(span, format!("`{}` is not what belongs here", key.get_ref()), "at = \"08:00\", expect = \"raised spo2-low\"");
                }
                (name, Value::Integer(_) | Value::Float(_)) => {
                    let value = value.as_float().or_else(|| value.as_integer().map(|n| n as f64)).unwrap_or(f64::NAN);
                    let Some(metric) = self.metric(name, key.span()) else { continue };
                    match metric.convert(value, None) {
                        Ok(value) => step.values.push((metric, value)),
                        Err(error) => self.refuse(span, error.to_string(), ""),
                    }
                }
                (name, _) => {
                    if self.metric(name, key.span()).is_some() {
                        self.refuse(span, format!("the value of `{name}` is not a number"), "");
                    }
                }
            }
        }
        self.times(whole, &mut step, at, until, every);
        step
    }

    fn times(&mut self, whole: Range<usize>, step: &mut Step, at: Option<EventTime>, until: Option<EventTime>, every: Option<Micros>) {
        let Some(at) = at else {
            if step.at_text.is_empty() {
                self.refuse(whole, "a step has no `at`".to_owned(), "at = \"08:00\", or at = \"day 2 08:00\"");
            }
            return;
        };
        let (until, every) = match (until, every) {
            (Some(until), Some(every)) => (until, every),
            _ => (at, Micros::days(1)),
        };
        let mut time = at;
        while time <= until && step.times.len() < MOST {
            step.times.push(time);
            time = time + every;
        }
        if step.times.len() > 1 {
            step.at_text.push_str(" …");
        }
    }

    /// `08:00`, `08:00:30`, `day 2 08:00`, by the wall clock of the file's zone.
    fn time(&mut self, text: &str, span: Range<usize>) -> Option<EventTime> {
        let (day, clock) = match text.strip_prefix("day ").and_then(|rest| rest.split_once(' ')) {
            Some((day, clock)) => (day.parse::<i64>().ok().filter(|day| (1..=400).contains(day)), clock),
            None => (Some(1), text),
        };
        let time = day.zip(parse_time_of_day(clock)).and_then(|(day, seconds)| {
            let zone: &Zone = &self.book.zone;
            let noon = zone.instant(&self.date, 43_200)?;
            zone.instant(&zone.date(zone.days_before(noon, 1 - day)), seconds)
        });
        if time.is_none() {
            self.refuse(span, format!("`{text}` is not a time"), "08:00, 08:00:30, or day 2 08:00");
        }
        time
    }

    fn metric(&mut self, name: &str, span: Range<usize>) -> Option<Metric> {
        let metric = name.parse().ok();
        if metric.is_none() {
            let help = Metric::nearest(name).map_or_else(
                || {
                    format!(
                        "a metric, or one of at, until, every, heard, void, limits, limits_until, expect; metrics are {}",
                        Metric::ALL.map(Metric::name).join(", ")
                    )
                },
                |near| format!("did you mean `{near}`?"),
            );
            self.refuse(span, format!("`{name}` is not a metric"), &help);
        }
        metric
    }

    /// `raised spo2-low`, with `at 08:02`, `late`, `quiet` behind it.
    fn expectation(&mut self, text: &str, span: Range<usize>) -> Option<String> {
        let mut words = text.split_whitespace();
        let (kind, rule) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if !KINDS.contains(&kind) {
            self.refuse(span, format!("`{text}` is not a transition"), "raised, cleared, amended or withdrawn, and the rule's id: \"raised spo2-low\"");
            return None;
        }
        self.rule(rule, span)?;
        Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}
