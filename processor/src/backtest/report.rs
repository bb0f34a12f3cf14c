//! The result: what was asked, of which data, and the answer. Nothing in it depends on when or where it was computed.

use jiff::tz::TimeZone;
use schemas::{Arrived, Micros, RuleId};
use serde::Serialize;

use super::burden::{Burden, burden};
use super::compare::{Differences, compare};
use super::detection::{Detection, Labelled, detect};
use super::{Data, Outcome, Plan, Rules, Trial, WarmUp, hash};

/// What is asked of the alerts, beside how many there are.
#[derive(Clone, Debug)]
pub struct Question {
    pub labels: Option<Vec<Labelled>>,
    /// How long before a labelled event an alert is about it.
    pub window: Micros,
    /// For the hours of the day.
    pub zone: TimeZone,
}

impl Default for Question {
    fn default() -> Self {
        Self { labels: None, window: Micros::hours(24), zone: TimeZone::UTC }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// [`engine::VERSION`].
    pub engine: &'static str,
    pub horizon_s: i64,
    pub period: Period,
    pub data: OfData,
    /// The rules under trial.
    pub trial: Side,
    /// What they are held against, and how the two differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differences: Option<Differences>,
}

/// By the journal's clock; `null`: the lake's own beginning or end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Period {
    pub from: Option<Arrived>,
    pub to: Option<Arrived>,
    /// `null`: from the lake's beginning.
    pub warm_up_s: Option<i64>,
    pub timezone: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OfData {
    pub hash: String,
    pub files: u64,
    pub rows: u64,
    pub readings: u64,
    pub first_arrived: Arrived,
    pub last_arrived: Arrived,
    /// How many were asked for; `null`: everyone.
    pub cohort: Option<u64>,
    /// With a reading in the period.
    pub patients: u64,
    /// Days in UTC in which something of the patient was measured, of all patients.
    pub patient_days: u64,
    /// Hours of the same kind.
    pub patient_hours: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// SHA-256 of the rules' text; `null`: the rules that stand in the log.
    pub rules: Option<String>,
    /// Rules of that text that are drafts: they are not evaluated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drafts: Vec<RuleId>,
    pub burden: Burden,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detection: Option<Detection>,
    pub late_readings: u64,
    pub beyond_horizon: u64,
    /// Rows whose predicate failed.
    pub evaluation_errors: u64,
}

impl Report {
    /// Under which it is recorded: the same question about the same data has the same.
    pub fn id(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        hash(text).chars().take(16).collect()
    }
}

/// Of one or two rule sets, in the order in which they were run.
pub fn report(plan: &Plan, question: &Question, rules: &[Rules], outcome: &Outcome) -> Option<Report> {
    let side = |rules: &Rules, trial: &Trial| Side {
        rules: match rules {
            Rules::OfTheLog => None,
            Rules::Trial(toml) => Some(hash(toml)),
        },
        drafts: drafts(rules),
        burden: burden(plan, &outcome.data, trial, &question.zone),
        detection: question.labels.as_ref().map(|labels| detect(plan, &outcome.data, trial, labels, question.window)),
        late_readings: trial.stats.late,
        beyond_horizon: trial.stats.beyond_horizon,
        evaluation_errors: trial.stats.evaluation_errors,
    };
    let mut sides = rules.iter().zip(&outcome.trials);
    let (rules, trial) = sides.next()?;
    let against = sides.next();
    Some(Report {
        engine: engine::VERSION,
        horizon_s: plan.engine.horizon.as_seconds(),
        period: period_of(plan, question),
        data: data_of(plan, &outcome.data),
        trial: side(rules, trial),
        differences: against.map(|(_, there)| compare(plan, trial, there)),
        against: against.map(|(rules, trial)| side(rules, trial)),
    })
}

fn drafts(rules: &Rules) -> Vec<RuleId> {
    let book = if let Rules::Trial(toml) = rules { engine::compile(toml).ok() } else { None };
    book.into_iter().flat_map(|book| book.drafts).map(|rule| rule.id).collect()
}

pub(super) fn period_of(plan: &Plan, question: &Question) -> Period {
    Period {
        from: (plan.from > Arrived::MIN).then_some(plan.from),
        to: (plan.to < Arrived::MAX).then_some(plan.to),
        warm_up_s: match plan.warm_up {
            WarmUp::All => None,
            WarmUp::Span(span) => Some(span.as_seconds()),
        },
        timezone: question.zone.iana_name().unwrap_or("UTC").to_owned(),
    }
}

pub(super) fn data_of(plan: &Plan, data: &Data) -> OfData {
    OfData {
        hash: data.hash.clone(),
        files: data.files,
        rows: data.rows,
        readings: data.readings,
        first_arrived: data.first_arrived,
        last_arrived: data.last_arrived,
        cohort: plan.patients.as_ref().map(|patients| patients.len() as u64),
        patients: data.watched.len() as u64,
        patient_days: data.watched.values().map(|(days, _)| days).sum(),
        patient_hours: data.watched.values().map(|(_, hours)| hours).sum(),
    }
}
