//! What a column of a rule's row holds: each source of the vocabulary, computed for one patient at one time.

use schemas::EventTime;

use crate::fold::Folded;
use crate::news2::{self, News2, Part, Points};
use crate::rules::{Column, Function, Score, Source};

/// The value at `at`, and on how many readings it rests.
pub(crate) fn value(source: &Source, folded: &Folded, at: EventTime, needs: u32) -> (Option<f64>, u32) {
    let pauses = folded.pauses();
    match source {
        Source::Limit { name, default } => (Some(folded.limit(name, at).unwrap_or(*default)), 0),
        Source::Windowed { function, metric, width } => {
            let Some(series) = folded.series.get(metric) else { return nothing(*function) };
            series.function(*function, at, *width, needs, pauses)
        }
        Source::Days { function, metric, days, zone } => {
            let Some(series) = folded.series.get(metric) else { return nothing(*function) };
            series.over_days(*function, at, *days, zone, needs, pauses)
        }
        Source::Clock { from, to, zone } => {
            let now = zone.time_of_day(at);
            // over midnight when it ends before it begins
            let inside = if from <= to { (*from..*to).contains(&now) } else { now >= *from || now < *to };
            (Some(f64::from(u8::from(inside))), 0)
        }
        Source::News2 { score, age } => said(*score, &news2::of(folded, at, *age)),
    }
}

fn said(score: Score, news2: &News2) -> (Option<f64>, u32) {
    (score.of(news2.points()), news2.readings())
}

/// A row's values at `at`; `readings` becomes on how many readings it rests.
pub(crate) fn row<'a>(columns: &'a [Column], folded: &'a Folded, at: EventTime, needs: u32, readings: &'a mut u32) -> impl Iterator<Item = Option<f64>> {
    // looked up once for the columns of an age, which stand together
    let mut looked_up: Option<News2> = None;
    columns.iter().map(move |column| {
        let (value, n) = match &column.source {
            Source::News2 { score, age } => {
                let news2 = looked_up.take().filter(|news2| news2.age == *age).unwrap_or_else(|| news2::of(folded, at, *age));
                let said = said(*score, &news2);
                looked_up = Some(news2);
                said
            }
            source => value(source, folded, at, needs),
        };
        *readings = (*readings).max(n);
        value
    })
}

/// The points that stand in a row.
fn points(columns: &[Column], row: &[Option<f64>], of: schemas::Micros) -> Points {
    let mut points = [None; Part::ALL.len()];
    for (column, value) in columns.iter().zip(row) {
        if let Source::News2 { score: Score::Points(part), age } = column.source
            && age == of
            && let Some(slot) = points.get_mut(part as usize)
        {
            *slot = value.map(|value| value as u8);
        }
    }
    Points(points)
}

/// A row in which the points were chosen, with what follows from them.
pub(crate) fn derive(columns: &[Column], mut row: Vec<Option<f64>>) -> Vec<Option<f64>> {
    for (place, column) in columns.iter().enumerate() {
        if let Source::News2 { score, age } = column.source {
            let value = score.of(points(columns, &row, age));
            if let Some(slot) = row.get_mut(place) {
                *slot = value;
            }
        }
    }
    row
}

/// What a person is told of a row, in the order of its columns.
pub(crate) fn words(columns: &[Column], row: &[Option<f64>]) -> Vec<String> {
    let mut words = Vec::new();
    for (column, value) in columns.iter().zip(row) {
        match (&column.source, value) {
            (Source::News2 { age, .. }, _) => {
                let score = points(columns, row, *age).words();
                if !words.contains(&score) {
                    words.push(score);
                }
            }
            (source, Some(value)) => words.extend(source.words(*value)),
            (_, None) => {}
        }
    }
    words.dedup();
    words
}

/// Nothing that was measured is left in a row, only what was arranged: limits, oxygen in the settings, the time of day.
pub(crate) fn is_empty(columns: &[Column], row: impl Iterator<Item = Option<f64>>, readings: u32) -> bool {
    columns.iter().zip(row).all(|(column, value)| match column.source {
        Source::Limit { .. } | Source::Clock { .. } => true,
        Source::News2 { .. } => readings == 0,
        Source::Windowed { .. } | Source::Days { .. } => value.is_none(),
    })
}

/// Of a metric that was never measured: a count is never NULL.
fn nothing(function: Function) -> (Option<f64>, u32) {
    ((function == Function::Samples).then_some(0.0), 0)
}
