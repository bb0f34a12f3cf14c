//! The words of a predicate, and where the value of each comes from.

use schemas::{Metric, Micros};

use crate::zone::Zone;

/// The widest look back of a rule over single samples: they are kept for the horizon and this much more, whatever rules there are.
pub(crate) const MAX_WIDTH: Micros = Micros::hours(2);

/// The vocabulary over a metric's samples in `(t − width, t]`, or over calendar days up to `t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    Last,
    Mean,
    Lowest,
    Highest,
    Spread,
    /// Least squares: per hour, over days per day.
    Slope,
    Samples,
    /// The median of the means of the days before today.
    Baseline,
}

pub(super) const FUNCTIONS: [(&str, Function); 8] = [
    ("last", Function::Last),
    ("mean", Function::Mean),
    ("lowest", Function::Lowest),
    ("highest", Function::Highest),
    ("spread", Function::Spread),
    ("slope", Function::Slope),
    ("samples", Function::Samples),
    ("baseline", Function::Baseline),
];
pub(super) const NOT_YET: [&str; 2] = ["news2", "news2_missing"];

/// Everything that may be called, for an error.
pub(super) const KNOWN: &str = "last, mean, lowest, highest, spread, slope, samples, baseline, limit and between_hours";

impl Function {
    pub(super) fn name(self) -> &'static str {
        FUNCTIONS.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }

    /// Its value is one of the metric's own, in the metric's unit.
    pub(super) const fn is_a_value(self) -> bool {
        matches!(self, Self::Last | Self::Mean | Self::Lowest | Self::Highest | Self::Baseline)
    }
}

/// Where a column of a rule's row comes from; `columns::value` computes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    Windowed {
        function: Function,
        metric: Metric,
        width: Micros,
    },
    /// Calendar days of a zone, today included; for a baseline the days before today.
    Days {
        function: Function,
        metric: Metric,
        days: u32,
        zone: Zone,
    },
    Limit {
        name: String,
        default: f64,
    },
    /// 1 when the wall clock shows a time in `[from, to)`, in seconds after midnight, else 0.
    Clock {
        from: u32,
        to: u32,
        zone: Zone,
    },
}

impl Source {
    /// The metric it looks at.
    pub fn metric(&self) -> Option<Metric> {
        match self {
            Self::Windowed { metric, .. } | Self::Days { metric, .. } => Some(*metric),
            Self::Limit { .. } | Self::Clock { .. } => None,
        }
    }

    /// How long after a reading a row can still see it.
    pub fn width(&self) -> Micros {
        match self {
            Self::Windowed { width, .. } => *width,
            // a reading of the first hour of a day is seen until the last of the last, and a day may have 25 h
            Self::Days { days, .. } => Micros::days(i64::from(*days) + 2),
            Self::Limit { .. } | Self::Clock { .. } => Micros::ZERO,
        }
    }

    /// What a person is told of its value: `SpO₂ 84 %`, `limit 90`; `None`: nothing.
    pub fn words(&self, value: f64) -> Option<String> {
        let measured = |metric: Metric, of: &str| format!("{}{of} {value:.*} {}", metric.label(), usize::from(metric.decimals()), metric.display_unit());
        match self {
            Self::Windowed { function, metric, width } => Some(match function {
                Function::Samples => format!("{} {value} readings in {width}", metric.label()),
                Function::Slope => format!("{} {value:+.1} {} an hour", metric.label(), metric.display_unit()),
                Function::Spread => measured(*metric, " spread"),
                Function::Last | Function::Mean | Function::Lowest | Function::Highest | Function::Baseline => measured(*metric, ""),
            }),
            Self::Days { function, metric, days, .. } => {
                let span = if *days == 1 { "today".to_owned() } else { format!("{days} days") };
                Some(match function {
                    Function::Last => measured(*metric, ""),
                    Function::Baseline => measured(*metric, " baseline"),
                    Function::Samples => format!("{} {value} readings in {span}", metric.label()),
                    Function::Slope => format!("{} {value:+.1} {} a day", metric.label(), metric.display_unit()),
                    Function::Mean | Function::Lowest | Function::Highest | Function::Spread => measured(*metric, &format!(" {} of {span}", function.name())),
                })
            }
            Self::Limit { .. } => Some(format!("limit {value}")),
            Self::Clock { .. } => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub name: String,
    /// As it was written.
    pub text: String,
    pub source: Source,
}
