//! P5: streaming windows equal `GROUP BY` over the same clean readings in batch SQL.
//!
//! SQL does all of it: DataFusion is given the records as they stand in the log, makes the clean view of them (SEMANTICS 20), and is asked for every window
//! that the engine said, at every revision, as the view stood at that record; and for every window that it should have said.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{SessionConfig, SessionContext};
use engine::{Arrival, Config, Output};
use schemas::{Arrived, Input, Offset};

use super::generator::{EVERYTHING, HOUR, History, Mix, histories};
use super::{run, told};

/// Windows know neither rules nor pauses.
const MIX: Mix = Mix { corrections: 5, moves: 2, skewed: 2, limits: 0, pauses: 0, rules: 0, ..EVERYTHING };
const NO_RULES: &str = "";

/// Of each reading, what is known of it after each record that names it. `mark`: a void that is made, or taken back.
const CLEAN: &str = "
CREATE VIEW taken AS
SELECT c, patient, metric, id, o AS first, at, at / 300000000 * 300000000 AS start,
       coalesce(max(at) OVER (PARTITION BY c, patient, metric ORDER BY o ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - at > 7200000000, false) AS beyond
FROM (SELECT *, row_number() OVER (PARTITION BY c, patient, metric, id ORDER BY o) AS nth FROM records WHERE mark IS NULL) WHERE nth = 1;

CREATE VIEW marked AS
SELECT *, coalesce(last_value(mark) IGNORE NULLS OVER (PARTITION BY c, patient, metric, id ORDER BY o), false) AS voided FROM records;

CREATE VIEW clean AS
SELECT m.c, m.patient, m.metric, m.id, m.o, t.first, t.at, t.start, t.beyond, m.voided,
       last_value(CASE WHEN m.mark IS NULL AND (NOT m.voided OR m.o = t.first) THEN m.value END) IGNORE NULLS
         OVER (PARTITION BY m.c, m.patient, m.metric, m.id ORDER BY m.o) AS value,
       max(CASE WHEN m.o = t.first THEN t.at END) OVER (PARTITION BY m.c, m.patient, m.metric ORDER BY m.o) AS frontier
FROM marked m JOIN taken t USING (c, patient, metric, id)";

/// What is wrong with a window that was said: it, and what stands there as of its record. One that is said for the first time was closed by the clock or by
/// a newer reading, before that reading or what else came was taken in; unless nothing stood in it before.
const SAID: &str = "
WITH begun AS (SELECT c, patient, metric, start, min(first) AS first FROM taken WHERE NOT beyond GROUP BY c, patient, metric, start),
asked AS (
  SELECT s.*, CASE WHEN revision = 0 AND b.first < o THEN o - 1 ELSE o END AS until
  FROM said s LEFT JOIN begun b USING (c, patient, metric, start)),
stood AS (
  SELECT a.c, a.o, a.ordinal, r.at, r.first, r.value, r.voided, row_number() OVER (PARTITION BY a.c, a.o, a.ordinal, r.id ORDER BY r.o DESC) AS newest
  FROM asked a JOIN clean r ON a.c = r.c AND a.patient = r.patient AND a.metric = r.metric AND a.start = r.start AND r.o <= a.until WHERE NOT r.beyond),
answer AS (
  SELECT c, o, ordinal, count(*) AS count, sum(value) AS sum, min(value) AS min, max(value) AS max, last_value(value ORDER BY at, first) AS last
  FROM stood WHERE newest = 1 AND NOT voided GROUP BY c, o, ordinal)
SELECT a.*, w.* FROM asked a LEFT JOIN answer w USING (c, o, ordinal)
WHERE coalesce(w.count, 0) <> a.count OR coalesce(w.sum, 0) <> a.sum OR coalesce(w.min, 0) <> a.min OR coalesce(w.max, 0) <> a.max OR coalesce(w.last, 0) <> a.last";

/// What is wrong with the newest revision of each window once all has closed. A correction or void of what is older than the horizon itself says no window
/// again (docs/gaps.md): such windows are left out here, and held by `SAID` alone.
const ENDED: &str = "
WITH untold AS (SELECT DISTINCT c, patient, metric, start FROM clean WHERE NOT beyond AND o > first AND frontier - at > 7200000000),
newest AS (
  SELECT *, row_number() OVER (PARTITION BY c, patient, metric, id ORDER BY o DESC) AS newest FROM clean WHERE NOT beyond),
batch AS (
  SELECT c, patient, metric, start, count(*) AS count, sum(value) AS sum, min(value) AS min, max(value) AS max, last_value(value ORDER BY at, first) AS last
  FROM newest WHERE newest = 1 AND NOT voided GROUP BY c, patient, metric, start),
streamed AS (
  SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY c, patient, metric, start ORDER BY revision DESC) AS newest FROM said) WHERE newest = 1 AND count > 0)
SELECT * FROM batch b FULL OUTER JOIN streamed s ON b.c = s.c AND b.patient = s.patient AND b.metric = s.metric AND b.start = s.start
LEFT ANTI JOIN untold u ON coalesce(b.c, s.c) = u.c AND coalesce(b.patient, s.patient) = u.patient AND coalesce(b.metric, s.metric) = u.metric
  AND coalesce(b.start, s.start) = u.start
WHERE (b.count IS DISTINCT FROM s.count) OR (b.sum IS DISTINCT FROM s.sum) OR (b.min IS DISTINCT FROM s.min) OR (b.max IS DISTINCT FROM s.max)
  OR (b.last IS DISTINCT FROM s.last)";

/// Revisions count up by one, from 0.
const REVISIONS: &str = "
SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY c, patient, metric, start ORDER BY o, ordinal) - 1 AS nth FROM said) WHERE nth <> revision";

#[test]
fn p5_streaming_windows_equal_group_by_over_the_clean_readings() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    run::hold_together("P5", 250, 50, &histories(MIX), |histories| {
        let cases: Vec<_> = histories.iter().map(played).collect();
        runtime.block_on(ask(&cases)).unwrap()
    });
}

/// The records, and a tick after which no window is open.
fn played(history: &History) -> (Vec<Arrival>, Vec<Output>) {
    let mut log = history.arrivals(&[NO_RULES]);
    let end = log.iter().map(|arrival| arrival.arrived_at.0).max().unwrap() + 12 * HOUR;
    log.push(Arrival { offset: Offset(log.len() as i64), arrived_at: Arrived(end), input: Input::Tick });
    let outputs = told(&log);
    (log, outputs)
}

async fn ask(cases: &[(Vec<Arrival>, Vec<Output>)]) -> datafusion::error::Result<Result<(), String>> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    context.register_batch("records", records(cases)?)?;
    context.register_batch("said", said(cases)?)?;
    for view in CLEAN.split(';') {
        context.sql(view).await?.collect().await?;
    }
    for (query, what) in [(REVISIONS, "revisions do not count up"), (SAID, "a window was said wrongly"), (ENDED, "at the end windows are wrong")] {
        let wrong = context.sql(query).await?.limit(0, Some(4))?.collect().await?;
        if wrong.iter().any(|batch| batch.num_rows() > 0) {
            return Ok(Err(format!("{what}:\n{}", pretty_format_batches(&wrong)?)));
        }
    }
    Ok(Ok(()))
}

fn text(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn integers(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn records(cases: &[(Vec<Arrival>, Vec<Output>)]) -> datafusion::error::Result<RecordBatch> {
    // (case, offset, patient, metric, id, at, value, mark)
    let mut rows = Vec::new();
    for (case, (log, _)) in cases.iter().enumerate() {
        for arrival in log {
            let row = match &arrival.input {
                Input::Reading(r) => (r.patient.to_string(), r.metric, r.id, r.at, Some(r.value), None),
                Input::Void(v) => (v.patient.to_string(), v.metric, v.reading, v.at, None, Some(v.moved_to.as_ref() != Some(&v.patient))),
                _ => continue,
            };
            rows.push((case as i64, arrival.offset.0, row));
        }
    }
    Ok(RecordBatch::try_from_iter([
        ("c", integers(rows.iter().map(|row| row.0))),
        ("o", integers(rows.iter().map(|row| row.1))),
        ("patient", text(rows.iter().map(|row| row.2.0.clone()))),
        ("metric", text(rows.iter().map(|row| row.2.1.to_string()))),
        ("id", text(rows.iter().map(|row| format!("{:?}", row.2.2)))),
        ("at", integers(rows.iter().map(|row| row.2.3.0))),
        ("value", Arc::new(rows.iter().map(|row| row.2.4).collect::<Float64Array>()) as ArrayRef),
        ("mark", Arc::new(rows.iter().map(|row| row.2.5).collect::<BooleanArray>()) as ArrayRef),
    ])?)
}

fn said(cases: &[(Vec<Arrival>, Vec<Output>)]) -> datafusion::error::Result<RecordBatch> {
    let windows = cases.iter().enumerate().flat_map(|(case, (_, outputs))| {
        outputs.iter().filter_map(move |output| if let Output::Window(window) = output { Some((case as i64, window.clone())) } else { None })
    });
    let windows: Vec<_> = windows.collect();
    let all = || windows.iter().map(|(_, window)| window);
    assert!(all().all(|window| window.end == window.start + Config::default().window));
    let numbers = |f: fn(&schemas::Window) -> f64| Arc::new(Float64Array::from_iter_values(all().map(f))) as ArrayRef;
    Ok(RecordBatch::try_from_iter([
        ("c", integers(windows.iter().map(|(case, _)| *case))),
        ("o", integers(all().map(|window| window.cause.offset.0))),
        ("ordinal", integers(all().map(|window| i64::from(window.cause.ordinal)))),
        ("patient", text(all().map(|window| window.patient.to_string()))),
        ("metric", text(all().map(|window| window.metric.to_string()))),
        ("start", integers(all().map(|window| window.start.0))),
        ("revision", integers(all().map(|window| i64::from(window.revision)))),
        ("count", integers(all().map(|window| window.count as i64))),
        ("sum", numbers(|window| window.sum)),
        ("min", numbers(|window| window.min)),
        ("max", numbers(|window| window.max)),
        ("last", numbers(|window| window.last)),
    ])?)
}
