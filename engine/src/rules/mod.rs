//! Rules as clinicians write them, to predicates that DataFusion compiled once.

mod compile;
mod diagnostic;
mod diff;
mod file;
mod plausible;
mod rewrite;
mod vocabulary;
mod width;

use std::collections::BTreeMap;
use std::fmt;

use schemas::{LatePolicy, Metric, Micros, Priority, RuleId};

use crate::zone::Zone;

pub(crate) use compile::Predicate;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub(crate) use diagnostic::{Refusal, diagnostic};
pub use diff::{BookDiff, FieldDiff, RuleDiff};
pub use file::compile;
pub(crate) use file::most_urgent_first;
pub use vocabulary::Function;
pub(crate) use vocabulary::{Column, MAX_WIDTH, Source};
pub(crate) use width::{parse_span, parse_time_of_day};

/// How far a rule has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Compiled and not evaluated.
    Draft,
    /// Evaluated and recorded; nobody is paged, nobody's list shows it.
    Shadow,
    Live,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Draft => "draft",
            Self::Shadow => "shadow",
            Self::Live => "live",
        })
    }
}

#[derive(Clone, Debug)]
pub enum RuleKind {
    #[allow(private_interfaces)]
    Predicate(Predicate),
    Silent {
        metric: Metric,
        after: Micros,
    },
}

/// A second reading that has to agree: `confirm = "2 within 10 min"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    pub readings: u32,
    pub within: Micros,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub id: RuleId,
    pub name: String,
    pub priority: Priority,
    pub state: State,
    /// Rules of one condition differ in urgency: while a more urgent one is open, the others are not raised.
    pub condition: Option<String>,
    pub needs: u32,
    pub hold: Micros,
    /// The longest a hold that keeps being interrupted puts an alert off.
    pub cap: Option<Micros>,
    pub confirm: Option<Confirm>,
    pub late: LatePolicy,
    /// Where its number comes from.
    pub source: String,
    /// What harm a miss or a false alarm does.
    pub hazard: String,
    pub kind: RuleKind,
    /// The rule as written, without spans: two rules of the same text are the same rule.
    pub(crate) text: String,
}

impl Rule {
    /// The metrics it looks at, each once, in order.
    pub fn metrics(&self) -> Vec<Metric> {
        let mut metrics: Vec<Metric> = match &self.kind {
            RuleKind::Silent { metric, .. } => vec![*metric],
            RuleKind::Predicate(predicate) => predicate.columns.iter().filter_map(|c| c.source.metric()).collect(),
        };
        metrics.sort_unstable();
        metrics.dedup();
        metrics
    }

    /// The widest look back.
    pub fn width(&self) -> Micros {
        match &self.kind {
            RuleKind::Silent { .. } => Micros::ZERO,
            RuleKind::Predicate(predicate) => predicate.columns.iter().map(|c| c.source.width()).max().unwrap_or_default(),
        }
    }

    pub(crate) fn looks_at_days(&self) -> bool {
        matches!(&self.kind, RuleKind::Predicate(predicate) if predicate.columns.iter().any(|c| matches!(c.source, Source::Days { .. })))
    }

    pub fn is_shadow(&self) -> bool {
        self.state == State::Shadow
    }
}

/// Rules that compiled.
#[derive(Clone, Debug, Default)]
pub struct RuleBook {
    /// Those that are evaluated, live and in the shadow, in the order of their ids.
    pub rules: Vec<Rule>,
    /// Those that are not.
    pub drafts: Vec<Rule>,
    pub warnings: Vec<Diagnostic>,
    /// Whose calendar days and wall clock the rules speak of.
    pub zone: Zone,
}

impl RuleBook {
    /// The limits that rules ask for, with their defaults.
    pub fn limits(&self) -> BTreeMap<String, f64> {
        let sources = self.rules.iter().chain(&self.drafts).flat_map(|rule| match &rule.kind {
            RuleKind::Predicate(predicate) => predicate.columns.as_slice(),
            RuleKind::Silent { .. } => &[],
        });
        sources.filter_map(|column| if let Source::Limit { name, default } = &column.source { Some((name.clone(), *default)) } else { None }).collect()
    }
}
