//! The rules in force, and which of them a reading concerns.

use std::ops::Deref;

use schemas::Metric;

use crate::metrics::ByMetric;
use crate::rules::{RuleBook, RuleKind};

#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    rules: RuleBook,
    /// By the rules' places.
    metrics: Vec<Vec<Metric>>,
    /// Predicates that look at a metric, and `silent` rules of one.
    predicates: ByMetric<Vec<usize>>,
    silent: ByMetric<Vec<usize>>,
}

impl From<RuleBook> for Book {
    fn from(rules: RuleBook) -> Self {
        let mut book = Self { metrics: rules.rules.iter().map(crate::rules::Rule::metrics).collect(), ..Self::default() };
        for (place, rule) in rules.rules.iter().enumerate() {
            let of = if matches!(rule.kind, RuleKind::Predicate(_)) { &mut book.predicates } else { &mut book.silent };
            for metric in rule.metrics() {
                of.or_insert_with(metric, Vec::new).push(place);
            }
        }
        book.rules = rules;
        book
    }
}

impl Deref for Book {
    type Target = RuleBook;
    fn deref(&self) -> &RuleBook {
        &self.rules
    }
}

impl Book {
    /// What the rule at a place looks at.
    pub fn metrics(&self, rule: usize) -> &[Metric] {
        self.metrics.get(rule).map_or(&[], Vec::as_slice)
    }

    /// The places of the predicates that look at a metric.
    pub fn touched(&self, metric: Metric) -> &[usize] {
        self.predicates.get(&metric).map_or(&[], Vec::as_slice)
    }

    /// The places of a metric's `silent` rules.
    pub fn silent(&self, metric: Metric) -> &[usize] {
        self.silent.get(&metric).map_or(&[], Vec::as_slice)
    }
}
