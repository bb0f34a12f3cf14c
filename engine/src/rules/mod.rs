//! Rules as clinicians write them, to predicates that DataFusion compiled once.

mod compile;
mod diagnostic;
mod file;
mod rewrite;
mod vocabulary;
mod width;

use schemas::{LatePolicy, Metric, Micros, Priority, RuleId};

pub(crate) use compile::Predicate;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use file::compile;
pub use vocabulary::Function;
pub(crate) use vocabulary::{MAX_WIDTH, Source};

#[derive(Clone, Debug)]
pub enum RuleKind {
    #[allow(private_interfaces)]
    Predicate(Predicate),
    Silent {
        metric: Metric,
        after: Micros,
    },
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub id: RuleId,
    pub name: String,
    pub priority: Priority,
    pub needs: u32,
    pub hold: Micros,
    pub late: LatePolicy,
    pub source: String,
    pub kind: RuleKind,
    /// The rule as written, without spans: two rules of the same text are the same rule.
    pub(crate) text: String,
}

impl Rule {
    /// The metrics it looks at, each once, in order.
    pub fn metrics(&self) -> Vec<Metric> {
        let mut metrics: Vec<Metric> = match &self.kind {
            RuleKind::Silent { metric, .. } => vec![*metric],
            RuleKind::Predicate(predicate) => {
                predicate.columns.iter().filter_map(|c| if let Source::Windowed { metric, .. } = c.source { Some(metric) } else { None }).collect()
            }
        };
        metrics.sort_unstable();
        metrics.dedup();
        metrics
    }

    /// The widest look back.
    pub fn width(&self) -> Micros {
        match &self.kind {
            RuleKind::Silent { .. } => Micros::ZERO,
            RuleKind::Predicate(predicate) => {
                predicate.columns.iter().map(|c| if let Source::Windowed { width, .. } = c.source { width } else { Micros::ZERO }).max().unwrap_or_default()
            }
        }
    }
}

/// Rules that compiled, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct RuleBook {
    pub rules: Vec<Rule>,
    pub warnings: Vec<Diagnostic>,
}
