//! The words of a predicate, and where the value of each comes from.

use schemas::{Metric, Micros};

/// The widest look back of a rule: samples are kept for the horizon and this much more, whatever rules there are.
pub(crate) const MAX_WIDTH: Micros = Micros::hours(2);

/// The vocabulary over a metric's samples in `(t − width, t]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    Last,
    Mean,
    Lowest,
    Highest,
    Spread,
    /// Per hour, least squares.
    Slope,
    Samples,
}

pub(super) const FUNCTIONS: [(&str, Function); 7] = [
    ("last", Function::Last),
    ("mean", Function::Mean),
    ("lowest", Function::Lowest),
    ("highest", Function::Highest),
    ("spread", Function::Spread),
    ("slope", Function::Slope),
    ("samples", Function::Samples),
];
pub(super) const NOT_YET: [&str; 3] = ["baseline", "news2", "news2_missing"];

/// Where a column of a rule's row comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    Windowed { function: Function, metric: Metric, width: Micros },
    Limit { name: String, default: f64 },
}
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub name: String,
    /// As it was written.
    pub text: String,
    pub source: Source,
}
