//! What a column of a rule's row holds: each source of the vocabulary, computed for one patient at one time.

use schemas::EventTime;

use crate::fold::Folded;
use crate::rules::{Function, Source};

/// The value at `at`, and on how many readings it rests.
pub(crate) fn value(source: &Source, folded: &Folded, at: EventTime, needs: u32) -> (Option<f64>, u32) {
    let settings = folded.settings.as_deref();
    let pauses = settings.map_or(&[][..], |s| &s.pauses);
    match source {
        Source::Limit { name, default } => (Some(settings.and_then(|s| s.limit(name, at)).unwrap_or(*default)), 0),
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
    }
}

/// Of a metric that was never measured: a count is never NULL.
fn nothing(function: Function) -> (Option<f64>, u32) {
    ((function == Function::Samples).then_some(0.0), 0)
}
