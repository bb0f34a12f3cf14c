//! A sweep: one rule, alone, with every threshold and hold of a grid, over the same inputs.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::Diagnostics;
use schemas::{Arrived, Metric, Micros, RuleId};
use serde::Serialize;
use toml::{Table, Value};

use super::report::{OfData, Period, Question, data_of, period_of};
use super::{BacktestError, Plan, Progress, Rules, burden, detection, hash, run};
use crate::objects::Objects;

/// Points of one grid: each is an engine with samples of its own.
const MOST: usize = 400;

/// What is varied, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    pub rule: RuleId,
    /// As the rule names it: `spo2.low`. Its default is varied; a patient's own limit stands.
    pub limit: String,
    pub thresholds: Vec<f64>,
    pub holds: Vec<Micros>,
}

#[derive(Debug, thiserror::Error)]
pub enum GridError {
    #[error("the file holds no rule `{rule}`; it holds {known}")]
    NoRule { rule: RuleId, known: String },
    #[error("the rule `{rule}` has no limit('{limit}', …); it has {known}")]
    NoLimit { rule: RuleId, limit: String, known: String },
    #[error("the grid has {0} points; between 1 and {MOST} are possible")]
    Size(usize),
    #[error("not TOML: {0}")]
    Toml(#[from] toml::de::Error),
    #[error("{0}")]
    Rules(#[from] Diagnostics),
    #[error(transparent)]
    Backtest(#[from] BacktestError),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sweep {
    /// [`engine::VERSION`].
    pub engine: &'static str,
    pub horizon_s: i64,
    /// SHA-256 of the text that the rule was taken from.
    pub rules: String,
    pub rule: RuleId,
    pub limit: String,
    pub period: Period,
    pub data: OfData,
    /// With labels: within which time before an event an alert is about it, and of how many events.
    pub window_hours: Option<f64>,
    pub events: Option<u64>,
    /// Thresholds in the order of the grid, and for each its holds.
    pub points: Vec<Point>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    pub threshold: f64,
    pub hold_s: i64,
    pub alerts: u64,
    pub per_patient_day: f64,
    pub pages_per_patient_day: f64,
    pub detected: Option<u64>,
    pub median_lead_hours: Option<f64>,
    pub false_per_patient_day: Option<f64>,
}

impl Grid {
    /// The rule as each point of the grid has it, thresholds outside, holds inside.
    ///
    /// # Errors
    /// When there is no such rule or limit, or a point is no rule.
    pub fn variants(&self, toml: &str) -> Result<Vec<(f64, Micros, String)>, GridError> {
        let size = self.thresholds.len() * self.holds.len();
        if !(1..=MOST).contains(&size) {
            return Err(GridError::Size(size));
        }
        engine::compile(toml)?;
        let file: Table = toml.parse()?;
        let rules: Vec<&Table> = file.get("rule").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table).collect();
        let id = |rule: &Table| rule.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let rule = rules
            .iter()
            .find(|rule| id(rule) == self.rule.as_str())
            .ok_or_else(|| GridError::NoRule { rule: self.rule.clone(), known: rules.iter().map(|rule| id(rule)).collect::<Vec<_>>().join(", ") })?;
        let mut variants = Vec::with_capacity(size);
        for threshold in &self.thresholds {
            for hold in &self.holds {
                let mut rule = (*rule).clone();
                let mut known = BTreeSet::new();
                let mut changed = 0;
                for text in rule.iter_mut().filter_map(|(_, value)| if let Value::String(text) = value { Some(text) } else { None }) {
                    *text = with_limit(text, &self.limit, *threshold, &mut known, &mut changed);
                }
                if changed == 0 {
                    let known = if known.is_empty() { "none".to_owned() } else { known.into_iter().collect::<Vec<_>>().join(", ") };
                    return Err(GridError::NoLimit { rule: self.rule.clone(), limit: self.limit.clone(), known });
                }
                rule.remove("state");
                rule.remove("hold");
                if *hold > Micros::ZERO {
                    rule.insert("hold".to_owned(), Value::String(format!("{} s", hold.as_seconds())));
                }
                let mut file = file.clone();
                file.insert("rule".to_owned(), Value::Array(vec![Value::Table(rule)]));
                let text = file.to_string();
                engine::compile(&text)?;
                variants.push((*threshold, *hold, text));
            }
        }
        Ok(variants)
    }

    /// Blocking.
    ///
    /// # Errors
    /// As [`Grid::variants`] and [`run`].
    pub fn sweep(&self, objects: &Arc<dyn Objects>, plan: &Plan, question: &Question, toml: &str, progress: &Progress) -> Result<Sweep, GridError> {
        let variants = self.variants(toml)?;
        let rules: Vec<Rules> = variants.iter().map(|(_, _, text)| Rules::Trial(text.clone())).collect();
        let plan = Plan { metrics: Some(self.metrics(&variants)?), ..plan.clone() }.warm_for(&rules)?;
        let outcome = run(objects, &plan, &rules, progress)?;
        let points = variants.iter().zip(&outcome.trials).map(|((threshold, hold, _), trial)| {
            let burden = burden::burden(&plan, &outcome.data, trial, &question.zone);
            let found = question.labels.as_ref().map(|labels| detection::detect(&plan, &outcome.data, trial, labels, question.window));
            Point {
                threshold: *threshold,
                hold_s: hold.as_seconds(),
                alerts: burden.alerts,
                per_patient_day: burden.per_patient_day,
                pages_per_patient_day: burden.pages_per_patient_day,
                detected: found.as_ref().map(|found| found.detected),
                median_lead_hours: found.as_ref().and_then(|found| Some(found.lead_hours?.median)),
                false_per_patient_day: found.map(|found| found.false_per_patient_day),
            }
        });
        let in_period = |label: &&super::Labelled| Arrived(label.time.0) >= plan.from && Arrived(label.time.0) < plan.to;
        Ok(Sweep {
            engine: engine::VERSION,
            horizon_s: plan.engine.horizon.as_seconds(),
            rules: hash(toml),
            rule: self.rule.clone(),
            limit: self.limit.clone(),
            period: period_of(&plan, question),
            data: data_of(&plan, &outcome.data),
            window_hours: question.labels.as_ref().map(|_| question.window.0 as f64 / 3.6e9),
            events: question.labels.as_ref().map(|labels| labels.iter().filter(in_period).count() as u64),
            points: points.collect(),
        })
    }

    /// What the rule looks at; nothing else decides.
    fn metrics(&self, variants: &[(f64, Micros, String)]) -> Result<BTreeSet<Metric>, GridError> {
        let Some((_, _, text)) = variants.first() else { return Ok(BTreeSet::new()) };
        Ok(engine::compile(text)?.rules.iter().flat_map(engine::Rule::metrics).collect())
    }
}

/// `limit('spo2.low', 90)` with another default.
fn with_limit(text: &str, name: &str, threshold: f64, known: &mut BTreeSet<String>, changed: &mut usize) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("limit(") {
        let (before, call) = rest.split_at(at + "limit(".len());
        out += before;
        rest = call;
        let Some(((found, comma), end)) = call.split_once(',').zip(call.find(')')) else { continue };
        let found = found.trim().trim_matches('\'');
        known.insert(found.to_owned());
        if found == name && comma.contains(')') {
            out += &format!("'{found}', {threshold}");
            rest = &call[end..];
            *changed += 1;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "[[rule]]\nid = \"r\"\npriority = \"high\"\nwhen = \"mean(spo2, '5 min') < limit('spo2.low', 90)\"\n\
                         clear = \"mean(spo2, '5 min') >= limit( 'spo2.low' ,90) + 2\"\nhold = \"1 min\"\n\n\
                         [[rule]]\nid = \"s\"\npriority = \"low\"\nwhen = \"last(spo2, '5 min') < 80\"\n";

    fn grid(rule: &str, limit: &str) -> Grid {
        let holds = vec![Micros::ZERO, Micros::minutes(5)];
        Grid { rule: RuleId::parse(rule).unwrap(), limit: limit.to_owned(), thresholds: vec![85.0, 88.5], holds }
    }

    #[test]
    fn a_grid_changes_the_limit_and_the_hold_of_its_rule_alone() {
        let variants = grid("r", "spo2.low").variants(RULES).unwrap();
        assert_eq!(variants.iter().map(|(t, h, _)| (*t, h.as_seconds())).collect::<Vec<_>>(), [(85.0, 0), (85.0, 300), (88.5, 0), (88.5, 300)]);
        let text = &variants[3].2;
        assert_eq!(text.matches("limit('spo2.low', 88.5)").count(), 2, "{text}");
        let book = engine::compile(text).unwrap();
        assert_eq!(book.rules.iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>(), ["r", "vigil-canary"]);
        assert_eq!(book.rules[0].hold, Micros::minutes(5));
    }

    #[test]
    fn what_cannot_be_varied_is_named() {
        for (rule, limit, says) in
            [("t", "spo2.low", "no rule `t`; it holds r, s"), ("r", "spo2.high", "no limit('spo2.high', …); it has spo2.low"), ("s", "spo2.low", "it has none")]
        {
            let error = grid(rule, limit).variants(RULES).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let empty = Grid { holds: Vec::new(), ..grid("r", "spo2.low") };
        assert!(matches!(empty.variants(RULES), Err(GridError::Size(0))));
    }
}
