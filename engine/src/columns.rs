//! What a column of a rule's row holds: each source of the vocabulary, computed for one patient at one time.

use schemas::EventTime;

use crate::fold::Folded;
use crate::rules::Source;

/// The value at `at`, and on how many readings it rests.
pub(crate) fn value(source: &Source, folded: &Folded, at: EventTime, needs: u32) -> (Option<f64>, u32) {
    let settings = folded.settings.as_deref();
    match source {
        Source::Limit { name, default } => (Some(settings.and_then(|s| s.limits.get(name).copied()).unwrap_or(*default)), 0),
        Source::Windowed { function, metric, width } => {
            let Some(series) = folded.series.get(metric) else { return (None, 0) };
            series.function(*function, at, *width, needs, settings.map_or(&[], |s| &s.pauses))
        }
    }
}
