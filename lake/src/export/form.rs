//! Readings as analysts want them: one a row, one time a row, or at even steps.

use schemas::{Metric, Micros};
use serde::Serialize;

use super::identity::{Profile, Seen};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A row is a reading, or a metric's step.
    Long,
    /// A row is a time; each metric is a column.
    Wide,
}

/// What stands in a step in which nothing was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gaps {
    /// No row.
    Leave,
    /// A row with NULL.
    Null,
    /// The mean before, for so long.
    Carry(Micros),
}

impl Gaps {
    pub fn what(self) -> String {
        match self {
            Self::Leave => "a step in which nothing was measured has no row".to_owned(),
            Self::Null => "a step in which nothing was measured, between a patient's first and last of the metric, is NULL with 0 readings".to_owned(),
            Self::Carry(length) => format!(
                "a step in which nothing was measured, between a patient's first and last of the metric, has the mean of the last step that has one, if that began \
                 {} s before or less, else NULL; its number of readings is 0",
                length.0 / 1_000_000
            ),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every {
    pub step: Micros,
    pub gaps: Gaps,
}

/// A query over the view `readings`, and what its columns are.
pub struct Formed {
    pub sql: String,
    pub columns: Vec<(String, String)>,
}

fn column(name: &str, what: &str) -> (String, String) {
    (name.to_owned(), what.to_owned())
}

/// `metrics` are the columns of the wide form.
pub fn readings(profile: Profile, seen: &[Seen], form: Form, every: Option<Every>, metrics: &[Metric]) -> Formed {
    let elapsed = profile == Profile::SafeHarbor;
    let at = if elapsed { "at_s" } else { "at" };
    let when = seen.iter().find(|column| column.name == at).map_or("When", |column| &column.what);
    let time = |micros: &str| {
        if elapsed { format!("CAST({micros} AS DOUBLE) / 1000000.0") } else { format!("arrow_cast({micros}, 'Timestamp(Microsecond, Some(\"UTC\"))')") }
    };
    let Some(every) = every else {
        return match form {
            Form::Long => Formed { sql: "SELECT * FROM readings".to_owned(), columns: seen.iter().map(|seen| column(&seen.name, &seen.what)).collect() },
            Form::Wide => {
                let lists: Vec<String> = metrics.iter().map(|metric| format!("avg(value) FILTER (WHERE metric = '{0}') AS \"{0}\"", metric.name())).collect();
                let mut columns = vec![column("patient", "The patient"), column(at, when)];
                columns.extend(metrics.iter().map(|metric| {
                    (metric.name().to_owned(), format!("The value in {}; the mean when several were measured at once; NULL: none", metric.codes().ucum))
                }));
                let comma = if lists.is_empty() { "" } else { ", " };
                Formed { sql: format!("SELECT patient, {at}{comma}{} FROM readings GROUP BY patient, {at}", lists.join(", ")), columns }
            }
        };
    };
    let step = every.step.0;
    let micros = if elapsed { format!("CAST(round({at} * 1000000.0) AS BIGINT)") } else { format!("arrow_cast({at}, 'Int64')") };
    let bin = format!("{micros} - ((({micros} % {step}) + {step}) % {step})");
    let binned = format!(
        "SELECT patient, metric, {bin} AS step, count(*) AS readings, avg(value) AS mean, min(value) AS least, max(value) AS greatest FROM readings GROUP BY patient, metric, {bin}"
    );
    let long = match every.gaps {
        Gaps::Leave => binned,
        Gaps::Null | Gaps::Carry(_) => {
            // every step between a patient's first and last of a metric
            let spans = format!("SELECT patient, metric, min(step) AS first, max(step) AS last FROM ({binned}) GROUP BY patient, metric");
            let numbers = "SELECT value AS n FROM generate_series(0, {steps})";
            let grid =
                format!("SELECT s.patient, s.metric, s.first + g.n * {step} AS step FROM ({spans}) s JOIN ({numbers}) g ON g.n <= (s.last - s.first) / {step}");
            let filled = format!(
                "SELECT g.patient AS patient, g.metric AS metric, g.step AS step, coalesce(b.readings, 0) AS readings, b.mean AS mean, b.least AS least, b.greatest AS greatest
                 FROM ({grid}) g LEFT JOIN ({binned}) b ON b.patient = g.patient AND b.metric = g.metric AND b.step = g.step"
            );
            match every.gaps {
                Gaps::Carry(length) => {
                    let over = "OVER (PARTITION BY patient, metric ORDER BY step ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)";
                    format!(
                        "SELECT patient, metric, step, readings, CASE WHEN step - last_step <= {} THEN last_mean END AS mean, least, greatest FROM (
                           SELECT *, last_value(mean) IGNORE NULLS {over} AS last_mean, last_value(CASE WHEN readings > 0 THEN step END) IGNORE NULLS {over} AS last_step FROM ({filled}))",
                        length.0
                    )
                }
                _ => filled,
            }
        }
    };
    let step_what = format!("{when}: the step's beginning");
    match form {
        Form::Long => Formed {
            sql: format!("SELECT patient, metric, {} AS {at}, readings, mean, least, greatest FROM ({long})", time("step")),
            columns: vec![
                column("patient", "The patient"),
                column("metric", "What was measured"),
                (at.to_owned(), step_what),
                column("readings", "Readings in the step"),
                column("mean", "Their mean"),
                column("least", "The lowest"),
                column("greatest", "The highest"),
            ],
        },
        Form::Wide => {
            let lists: Vec<String> = metrics
                .iter()
                .map(|metric| {
                    let of = format!("FILTER (WHERE metric = '{}')", metric.name());
                    format!("max(mean) {of} AS \"{0}\", coalesce(max(readings) {of}, 0) AS \"{0}_readings\"", metric.name())
                })
                .collect();
            let mut columns = vec![column("patient", "The patient"), (at.to_owned(), step_what)];
            for metric in metrics {
                columns.push((metric.name().to_owned(), format!("The mean of the step in {}; NULL: nothing was measured", metric.codes().ucum)));
                columns.push((format!("{}_readings", metric.name()), "Readings in the step".to_owned()));
            }
            let comma = if lists.is_empty() { "" } else { ", " };
            Formed { sql: format!("SELECT patient, {} AS {at}{comma}{} FROM ({long}) GROUP BY patient, step", time("step"), lists.join(", ")), columns }
        }
    }
}

/// The steps of the longest span, for [`Gaps::Null`] and [`Gaps::Carry`]: their number goes into `{steps}`.
pub fn longest(profile: Profile, step: Micros) -> String {
    let micros = if profile == Profile::SafeHarbor { "CAST(round(at_s * 1000000.0) AS BIGINT)" } else { "arrow_cast(at, 'Int64')" };
    format!(
        "SELECT coalesce(max(last - first), 0) / {} + 1 AS steps FROM (SELECT min({micros}) AS first, max({micros}) AS last FROM readings GROUP BY patient, metric)",
        step.0
    )
}
