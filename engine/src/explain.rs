//! Why a rule has raised, or has not: the row that decides now, with everything that it rests on.

mod words;

use std::any::Any;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;
use schemas::{AlertId, Arrived, EventTime, Metric, Micros, PatientId, Pause, Priority, RuleId};
use serde::Serialize;

use crate::api::Sample;
use crate::compose;
use crate::engine::Engine;
use crate::fold::Row;
use crate::panes::Day;
use crate::rules::{Column, Function, Predicate, Rule, RuleKind, Source};

/// What is known of one rule and one patient at the engine's clock.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    pub patient: PatientId,
    pub rule: RuleId,
    pub rule_name: String,
    pub priority: Priority,
    /// On trial: nobody is told.
    pub shadow: bool,
    pub rules_version: u64,
    /// The engine's clock: nothing that arrived later is in here.
    pub known_at: Arrived,
    pub verdict: Verdict,
    /// The time of the row that decides: the newest measurement of the rule's metrics.
    pub row_at: Option<EventTime>,
    pub when: Option<Said>,
    /// While an alert is open this is asked when `when` is not true.
    pub clear: Option<Said>,
    pub columns: Vec<Explained>,
    pub hold_s: i64,
    pub needs: u32,
    pub monitored: bool,
    /// The pause that the clock stands in.
    pub paused: Option<Paused>,
    /// 0: the patient has none.
    pub settings_version: u64,
}

/// How it stands, in one word, and with what.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Verdict {
    /// An alert is open.
    Raised {
        alert: AlertId,
        since: EventTime,
        raised_at: EventTime,
        summary: String,
    },
    /// True, and not long enough.
    Holding {
        since: EventTime,
        heard_at: Arrived,
        raises_at: Option<Arrived>,
    },
    /// True, and a more urgent alert of the same condition is open.
    Silenced {
        by: RuleId,
    },
    /// True, and yet not raised: told already as over, or held back.
    TrueAndSilent,
    NotSo,
    TooLittleEvidence,
    /// Nothing of the rule's metrics was ever heard.
    NothingHeard,
    NotMonitored,
    Paused,
    /// A rule about silence: heard of late.
    Heard {
        last: Option<EventTime>,
        raises_at: Option<Arrived>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paused {
    pub from: EventTime,
    pub until: Option<EventTime>,
    pub reason: String,
}

/// A condition, what it says of the row, and its parts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Said {
    /// With the columns as they were written.
    pub text: String,
    /// `null`: too little evidence.
    pub says: Option<bool>,
    /// Of a comparison, both sides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sides: Vec<Option<f64>>,
    /// `AND`, `OR`, `NOT` …
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Said>,
}

/// A column of the row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    pub column: String,
    pub text: String,
    /// `null`: too little evidence.
    pub value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    /// The samples of `(after, to]`, those that do not count too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<EventTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<EventTime>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Used>,
    /// Of a width in days, instead of samples: what each day has that may be looked at, the row's own too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// Of a limit: this patient's own, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_limit: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Used {
    pub at: EventTime,
    pub value: f64,
    pub received_at: EventTime,
    pub device: String,
    pub late: bool,
    /// Intake moved its time, because the device's could not be true.
    pub corrected_clock: bool,
    pub typed: bool,
    /// Why it does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<&'static str>,
}

impl Engine {
    /// `None`: there is no such rule.
    pub fn explain(&self, patient: &PatientId, rule: &RuleId) -> Option<Explanation> {
        let (index, rule) = self.book.rules.iter().enumerate().find(|(_, known)| known.id == *rule)?;
        let settings = self.settings(patient);
        let now = self.clock().as_event();
        let pause = settings.iter().flat_map(|settings| &settings.pauses).find(|pause| pause.covers(now));
        let monitored = settings.is_none_or(|settings| settings.monitored);
        let (row_at, row) = self.fold.deciding_row(&self.book, patient, index);
        let mut explanation = Explanation {
            patient: patient.clone(),
            rule: rule.id.clone(),
            rule_name: rule.name.clone(),
            priority: rule.priority,
            shadow: rule.is_shadow(),
            rules_version: self.rules_version(),
            known_at: self.clock(),
            verdict: Verdict::NothingHeard,
            row_at,
            when: None,
            clear: None,
            columns: Vec::new(),
            hold_s: rule.hold.as_seconds(),
            needs: rule.needs,
            monitored,
            paused: pause.map(|pause| Paused { from: pause.from, until: pause.until, reason: pause.reason.clone() }),
            settings_version: settings.map_or(0, |settings| settings.version),
        };
        if let (RuleKind::Predicate(predicate), Some(row)) = (&rule.kind, &row) {
            explanation.when = say(predicate, &predicate.when, row);
            explanation.clear = say(predicate, &predicate.clear, row);
            explanation.columns = predicate.columns.iter().zip(&row.columns).map(|(column, value)| self.column(patient, column, *value, row.at)).collect();
        }
        explanation.verdict = self.verdict(patient, rule, &explanation);
        Some(explanation)
    }

    fn verdict(&self, patient: &PatientId, rule: &Rule, explanation: &Explanation) -> Verdict {
        let decided = self.decide.patients.get(patient);
        let state = decided.and_then(|decided| decided.rules.get(&rule.id));
        if let Some(open) = state.and_then(|state| state.open.as_ref()) {
            return Verdict::Raised { alert: open.alert, since: open.since, raised_at: open.raised_at, summary: open.summary.clone() };
        }
        if !explanation.monitored {
            return Verdict::NotMonitored;
        }
        if explanation.paused.is_some() {
            return Verdict::Paused;
        }
        if let RuleKind::Silent { metric, .. } = &rule.kind {
            let last = decided.and_then(|decided| decided.news.get(metric).copied());
            return Verdict::Heard { last, raises_at: state.and_then(|state| state.due) };
        }
        let open = |other: &&Rule| decided.and_then(|decided| decided.rules.get(&other.id)).is_some_and(|state| state.open.is_some());
        let urgent = || compose::superiors(&self.book, rule).find(open).map(|other| other.id.clone());
        match (&explanation.when, explanation.row_at) {
            (_, None) => Verdict::NothingHeard,
            // it was measured in a pause that is over
            (None, Some(_)) => Verdict::Paused,
            (Some(Said { says: Some(true), .. }), _) if let Some(by) = urgent() => Verdict::Silenced { by },
            (Some(when), _) => match (when.says, state.and_then(|state| state.pending)) {
                (Some(true), Some(pending)) => Verdict::Holding { since: pending.since, heard_at: pending.heard, raises_at: state.and_then(|state| state.due) },
                (Some(true), None) => Verdict::TrueAndSilent,
                (Some(false), _) => Verdict::NotSo,
                (None, _) => Verdict::TooLittleEvidence,
            },
        }
    }

    fn column(&self, patient: &PatientId, column: &Column, value: Option<f64>, at: EventTime) -> Explained {
        let mut explained = Explained {
            column: column.name.clone(),
            text: column.text.clone(),
            value,
            metric: None,
            after: None,
            to: None,
            samples: Vec::new(),
            days: Vec::new(),
            own_limit: None,
        };
        let settings = self.settings(patient);
        if let Source::Limit { name, .. } = &column.source {
            explained.own_limit = Some(settings.is_some_and(|settings| settings.limit(name, at).is_some()));
        }
        if let Source::Days { function, metric, days, zone } = &column.source {
            let (first, until) = match function {
                Function::Baseline => (i64::from(*days), zone.day_of(at)),
                _ => (i64::from(*days) - 1, at + Micros(1)),
            };
            explained.days = self.days(patient, *metric, zone.days_before(at, first)).into_iter().filter(|day| day.start() < until).collect();
        }
        if let Some(metric) = column.source.metric() {
            let after = at - column.source.width();
            explained.metric = Some(metric);
            (explained.after, explained.to) = (Some(after), Some(at));
            if explained.days.is_empty() {
                explained.samples = self.used(patient, metric, after, at);
            }
        }
        explained
    }

    fn used(&self, patient: &PatientId, metric: Metric, after: EventTime, to: EventTime) -> Vec<Used> {
        let pauses = self.settings(patient).map_or(&[][..], |settings| &settings.pauses);
        let samples = self.samples(patient, metric, after + Micros(1));
        samples.into_iter().filter(|sample| sample.at <= to).map(|sample| used(sample, pauses)).collect()
    }
}

fn used(sample: Sample, pauses: &[Pause]) -> Used {
    let left_out = if sample.beyond {
        Some("it came later than the horizon")
    } else if sample.test {
        Some("the device was under test")
    } else if pauses.iter().any(|pause| pause.covers(sample.at)) {
        Some("it was measured in a pause")
    } else {
        None
    };
    Used {
        at: sample.at,
        value: sample.value,
        received_at: sample.received_at,
        device: sample.device.to_string(),
        late: sample.late,
        corrected_clock: sample.clock == schemas::ClockState::Corrected,
        typed: sample.typed,
        left_out,
    }
}

/// What the condition says of one row, and each of its parts.
fn say(predicate: &Predicate, condition: &Arc<dyn PhysicalExpr>, row: &Row) -> Option<Said> {
    let columns = row.columns.iter().map(|value| Arc::new(Float64Array::from(vec![*value])) as ArrayRef).collect();
    let batch = RecordBatch::try_new(predicate.schema.clone(), columns).ok()?;
    Some(part(predicate, condition, &batch))
}

fn part(predicate: &Predicate, expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Said {
    let truth = |expr: &Arc<dyn PhysicalExpr>| expr.data_type(&predicate.schema).is_ok_and(|kind| kind == DataType::Boolean);
    let children = expr.children();
    let conditions: Vec<&Arc<dyn PhysicalExpr>> = children.iter().copied().filter(|child| truth(child)).collect();
    let sides = if conditions.is_empty() { children.iter().map(|child| number(child, batch)).collect() } else { Vec::new() };
    let evaluated = expr.evaluate(batch).and_then(|value| value.into_array(1)).ok();
    let says = evaluated.and_then(|array| array.as_boolean_opt().and_then(|array| array.is_valid(0).then(|| array.value(0))));
    let parts = flat(expr, conditions).into_iter().map(|child| part(predicate, child, batch)).collect();
    Said { text: written(predicate, expr), says, sides, parts }
}

/// `a AND b AND c` has three parts, however it was nested.
fn flat<'a>(expr: &'a Arc<dyn PhysicalExpr>, conditions: Vec<&'a Arc<dyn PhysicalExpr>>) -> Vec<&'a Arc<dyn PhysicalExpr>> {
    let Some(op) = joined(expr) else { return conditions };
    let mut parts = Vec::new();
    for condition in conditions {
        if joined(condition) == Some(op) { parts.extend(flat(condition, condition.children())) } else { parts.push(condition) }
    }
    parts
}

fn joined(expr: &Arc<dyn PhysicalExpr>) -> Option<Operator> {
    let any: &dyn Any = expr.as_ref();
    any.downcast_ref::<BinaryExpr>().map(|binary| *binary.op()).filter(|op| matches!(op, Operator::And | Operator::Or))
}

fn number(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Option<f64> {
    let array = expr.evaluate(batch).and_then(|value| value.into_array(1)).ok()?;
    let array = array.as_primitive_opt::<Float64Type>()?;
    array.is_valid(0).then(|| array.value(0))
}

/// As the author would write it.
fn written(predicate: &Predicate, expr: &Arc<dyn PhysicalExpr>) -> String {
    let mut text = expr.to_string();
    let mut names: Vec<(String, &str)> =
        predicate.columns.iter().enumerate().map(|(at, column)| (format!("{}@{at}", column.name), column.text.as_str())).collect();
    // none may be taken for the beginning of another
    names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    for (name, written) in names {
        text = text.replace(&name, written);
    }
    text
}
