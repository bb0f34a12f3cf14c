//! Predicates over rows: all rows of a rule at once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Float64Builder, RecordBatch};
use datafusion::physical_expr::PhysicalExpr;

use crate::rules::{Predicate, Score, Source};

/// What `when` and `clear` say of a row; `None` is too little evidence.
pub(crate) type Answer = (Option<bool>, Option<bool>);

/// The rows of one rule, and what it says of them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    growing: Vec<Float64Builder>,
    columns: Vec<Float64Array>,
    answers: Option<(BooleanArray, BooleanArray)>,
    rows: usize,
}

impl Table {
    pub fn new(columns: usize) -> Self {
        Self { growing: (0..columns).map(|_| Float64Builder::new()).collect(), ..Self::default() }
    }

    /// A row, and its place.
    pub fn push(&mut self, values: impl Iterator<Item = Option<f64>>) -> u32 {
        for (column, value) in self.growing.iter_mut().zip(values) {
            column.append_option(value);
        }
        self.rows += 1;
        self.rows as u32 - 1
    }

    /// A row that cannot be evaluated is counted and is no evidence; the others are as if it were not there.
    pub fn evaluate(&mut self, predicate: &Predicate, errors: &mut u64) {
        if self.rows == 0 {
            return;
        }
        self.columns = self.growing.iter_mut().map(Float64Builder::finish).collect();
        let arrays = self.columns.iter().map(|column| Arc::new(column.clone()) as ArrayRef).collect();
        let answers = RecordBatch::try_new(predicate.schema.clone(), arrays).ok().map(|batch| {
            let whole = said(&predicate.when, &batch).zip(said(&predicate.clear, &batch));
            whole.unwrap_or_else(|| row_by_row(predicate, &batch, errors))
        });
        if answers.is_none() {
            *errors += self.rows as u64;
        }
        self.answers = answers;
    }

    pub fn answer(&self, row: u32) -> Answer {
        let Some((when, clear)) = &self.answers else { return (None, None) };
        let at = |array: &BooleanArray| array.is_valid(row as usize).then(|| array.value(row as usize));
        (at(when), at(clear))
    }

    /// A row's values, in the order of the predicate's columns.
    pub fn values(&self, row: u32) -> impl Iterator<Item = Option<f64>> {
        self.columns.iter().map(move |column| column.is_valid(row as usize).then(|| column.value(row as usize)))
    }
}

fn said(expression: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Option<BooleanArray> {
    let array = expression.evaluate(batch).and_then(|value| value.into_array(batch.num_rows())).ok()?;
    array.as_boolean_opt().cloned()
}

fn row_by_row(predicate: &Predicate, batch: &RecordBatch, errors: &mut u64) -> (BooleanArray, BooleanArray) {
    let mut alone = |row: usize| -> Answer {
        let row = batch.slice(row, 1);
        let Some((when, clear)) = said(&predicate.when, &row).zip(said(&predicate.clear, &row)) else {
            *errors += 1;
            return (None, None);
        };
        (when.iter().next().flatten(), clear.iter().next().flatten())
    };
    let (when, clear): (Vec<Option<bool>>, Vec<Option<bool>>) = (0..batch.num_rows()).map(&mut alone).unzip();
    (when.into(), clear.into())
}

/// A predicate over a few rows.
pub(crate) fn evaluate(predicate: &Predicate, rows: &[&[Option<f64>]], errors: &mut u64) -> Vec<Answer> {
    let mut table = Table::new(predicate.columns.len());
    for row in rows {
        table.push(row.iter().copied());
    }
    table.evaluate(predicate, errors);
    (0..rows.len() as u32).map(|row| table.answer(row)).collect()
}

/// What the predicate says of numbers around its own, also with other limits.
pub(crate) fn tried(predicate: &Predicate) -> Vec<Answer> {
    let mut values: Vec<f64> =
        predicate.columns.iter().filter_map(|c| if let Source::Limit { default, .. } = c.source { Some(default) } else { None }).collect();
    let text = format!("{} {}", predicate.when, predicate.clear);
    values.extend(text.split(|c: char| !(c.is_ascii_digit() || c == '.')).filter_map(|n| n.parse::<f64>().ok()));
    values.sort_by(f64::total_cmp);
    values.dedup();
    let mut candidates: Vec<f64> = values.iter().flat_map(|v| [v - 3.0, v - 1.0, *v, v + 1.0, v + 3.0]).collect();
    for pair in values.windows(2) {
        candidates.push((pair[0] + pair[1]) / 2.0);
    }
    candidates.sort_by(f64::total_cmp);
    candidates.dedup();
    if candidates.is_empty() || predicate.columns.is_empty() {
        return Vec::new();
    }
    let absent = text.contains("NULL").then_some(None);
    let candidates: Vec<Option<f64>> = absent.into_iter().chain(candidates.into_iter().map(Some)).collect();
    let choices: Vec<&[Option<f64>]> = predicate
        .columns
        .iter()
        .map(|column| match column.source {
            Source::News2 { score: Score::Points(_), .. } => &[None, Some(0.0), Some(1.0), Some(2.0), Some(3.0)][..],
            // follows from the points
            Source::News2 { .. } => &[None][..],
            _ => &candidates,
        })
        .collect();
    // every combination where that is few, else a fixed sample of them
    let total = choices.iter().try_fold(1_usize, |total, choices| total.checked_mul(choices.len())).unwrap_or(usize::MAX);
    let tries = total.min(20_000);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let rows: Vec<Vec<Option<f64>>> = (0..tries)
        .map(|i| {
            let mut number = i;
            let row = choices.iter().map(|choices| {
                let pick = if total <= 20_000 {
                    let pick = number % choices.len();
                    number /= choices.len();
                    pick
                } else {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (seed >> 33) as usize % choices.len()
                };
                choices.get(pick).copied().flatten()
            });
            crate::columns::derive(&predicate.columns, row.collect())
        })
        .collect();
    let rows: Vec<&[Option<f64>]> = rows.iter().map(Vec::as_slice).collect();
    let mut errors = 0;
    evaluate(predicate, &rows, &mut errors)
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{binary, cast, col, lit};
    use schemas::{Arrived, ClockState, DeviceId, EventTime, Input, Metric, Micros, Offset, PatientId, Reading, ReadingId, TransitionKind};

    use crate::{Arrival, Config, Engine, Output, RuleKind};

    const RULES: &str = r#"
[[rule]]
id = "divides"
priority = "high"
when = "last(spo2, '5 min') > 90"
[[rule]]
id = "low"
priority = "high"
when = "last(spo2, '5 min') < 2"
"#;

    /// An engine whose first rule divides whole numbers by what was measured: of 0 nothing can be said.
    fn dividing() -> Engine {
        let mut book = crate::compile(RULES).unwrap();
        let RuleKind::Predicate(predicate) = &mut book.rules[0].kind else { panic!("a predicate") };
        let schema = predicate.schema.clone();
        let whole = |expr| cast(expr, &schema, arrow::datatypes::DataType::Int64).unwrap();
        let value = whole(col(schema.field(0).name(), &schema).unwrap());
        predicate.when = binary(binary(lit(100_i64), Operator::Divide, value, &schema).unwrap(), Operator::Gt, lit(10_i64), &schema).unwrap();
        Engine::with_rules(Config::default(), book, EventTime(0))
    }

    fn readings(values: &[f64]) -> Vec<Arrival> {
        let device = DeviceId::parse("oximeter").unwrap();
        let reading = |(minute, value): (i64, &f64)| {
            let at = EventTime(Micros::minutes(minute).0);
            let input = Input::Reading(Reading {
                id: ReadingId::new(&device, Metric::Spo2, at, None),
                patient: PatientId::parse("ada").unwrap(),
                device: device.clone(),
                metric: Metric::Spo2,
                value: *value,
                at,
                stamped_at: at,
                received_at: at,
                clock: ClockState::AsSent,
                boot: None,
                seq: None,
                typed: false,
                test: false,
                value_as_sent: *value,
                unit_as_sent: String::new(),
                author: String::new(),
                format: None,
            });
            Arrival { offset: Offset(minute), arrived_at: Arrived(at.0), input }
        };
        (0..).zip(values).map(reading).collect()
    }

    #[test]
    fn a_row_that_cannot_be_evaluated_is_counted_and_stops_nothing_else() {
        let readings = readings(&[50.0, 0.0, 5.0, 0.0, 60.0]);
        let mut whole = dividing();
        let outputs = whole.apply(&readings);
        let told: Vec<_> = outputs
            .iter()
            .filter_map(|output| if let Output::Transition(t) = output { Some((t.rule.as_str(), t.kind, t.at.0 / 60_000_000)) } else { None })
            .collect();
        // of 0 it says nothing: it neither raises nor clears
        let (raised, cleared) = (TransitionKind::Raised, TransitionKind::Cleared);
        assert_eq!(told, [("low", raised, 1), ("divides", raised, 2), ("low", cleared, 2), ("low", raised, 3), ("divides", cleared, 4), ("low", cleared, 4)]);
        assert_eq!(whole.stats().evaluation_errors, 2);
        // P7: also where it is the only row of its batch
        let mut alone = dividing();
        assert_eq!(readings.iter().flat_map(|reading| alone.apply(std::slice::from_ref(reading))).collect::<Vec<_>>(), outputs);
        assert_eq!(alone.stats(), whole.stats());
    }
}
