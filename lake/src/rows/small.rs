//! Tables that are written whole.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use schemas::{Arrived, EventTime, Metric, Micros, PatientId, RuleSet, Settings};
use serde_json::json;

use super::{Cells, Columns, Date, Row, unsigned, wrong};
use crate::tables::Table;

#[derive(Clone, Debug, PartialEq)]
pub struct FrontierRow {
    pub patient: PatientId,
    pub metric: Metric,
    pub frontier: EventTime,
}

impl Row for FrontierRow {
    const TABLE: Table = Table::Frontiers;

    fn batch(rows: &[Self]) -> Result<RecordBatch, ArrowError> {
        Columns::of(rows).text(|f| f.patient.as_str()).text(|f| f.metric.name()).time(|f| Some(f.frontier)).finish()
    }

    fn read(batch: &RecordBatch) -> Result<Vec<Self>, ArrowError> {
        let cells = Cells::of(batch);
        let (patients, metrics, times) = (cells.text("patient")?, cells.text("metric")?, cells.time("frontier")?);
        let row = |row| Ok(Self { patient: patients.parse(row)?, metric: metrics.parse(row)?, frontier: EventTime(times.must(row)) });
        (0..batch.num_rows()).map(row).collect()
    }

    fn order(&self, other: &Self) -> Ordering {
        (&self.patient, self.metric).cmp(&(&other.patient, other.metric))
    }
}

/// Settings in one version, as they stood in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingsRow {
    pub patient: PatientId,
    pub version: i64,
    pub arrived_at: Arrived,
    pub monitored: bool,
    pub limits: String,
    pub oxygen_l_min: Option<f64>,
    pub news2_scale: u32,
    pub pauses: String,
    /// Seconds, by metric: JSON.
    pub expected_interval: String,
    pub author: String,
}

impl SettingsRow {
    pub fn new(settings: Settings, arrived_at: Arrived) -> Self {
        let pause = |pause: &schemas::Pause| json!({"from": pause.from, "until": pause.until, "reason": pause.reason});
        let seconds = |(metric, every): (&Metric, &Micros)| (metric.name().to_owned(), every.0 as f64 / 1e6);
        Self {
            version: i64::try_from(settings.version).unwrap_or(i64::MAX),
            arrived_at,
            monitored: settings.monitored,
            limits: json!(settings.limits).to_string(),
            oxygen_l_min: settings.oxygen_l_min,
            news2_scale: u32::from(settings.news2_scale),
            pauses: json!(settings.pauses.iter().map(pause).collect::<Vec<_>>()).to_string(),
            expected_interval: json!(settings.expected_interval.iter().map(seconds).collect::<BTreeMap<_, _>>()).to_string(),
            author: settings.author,
            patient: settings.patient,
        }
    }
}

impl SettingsRow {
    /// How far apart readings of each metric should be.
    pub fn intervals(&self) -> BTreeMap<Metric, Micros> {
        let seconds: BTreeMap<String, f64> = serde_json::from_str(&self.expected_interval).unwrap_or_default();
        seconds.into_iter().filter_map(|(metric, seconds)| Some((metric.parse().ok()?, Micros((seconds * 1e6) as i64)))).collect()
    }
}

impl Row for SettingsRow {
    const TABLE: Table = Table::Settings;

    fn batch(rows: &[Self]) -> Result<RecordBatch, ArrowError> {
        Columns::of(rows)
            .text(|s| s.patient.as_str())
            .int(|s| Some(s.version))
            .time(|s| Some(s.arrived_at.as_event()))
            .flag(|s| Some(s.monitored))
            .text(|s| &s.limits)
            .float(|s| s.oxygen_l_min)
            .small(|s| Some(s.news2_scale))
            .text(|s| &s.pauses)
            .text(|s| &s.expected_interval)
            .text(|s| &s.author)
            .finish()
    }

    fn read(batch: &RecordBatch) -> Result<Vec<Self>, ArrowError> {
        let cells = Cells::of(batch);
        let (patients, versions, arrived) = (cells.text("patient")?, cells.int("version")?, cells.time("arrived_at")?);
        let (monitored, limits, oxygen) = (cells.flag("monitored")?, cells.text("limits")?, cells.float("oxygen_l_min")?);
        let (scales, pauses, intervals, authors) =
            (cells.small("news2_scale")?, cells.text("pauses")?, cells.text("expected_interval")?, cells.text("author")?);
        let row = |row| {
            Ok(Self {
                patient: patients.parse(row)?,
                version: versions.must(row),
                arrived_at: Arrived(arrived.must(row)),
                monitored: monitored.must(row),
                limits: limits.must(row).to_owned(),
                oxygen_l_min: oxygen.get(row),
                news2_scale: unsigned(scales.must(row)),
                pauses: pauses.must(row).to_owned(),
                expected_interval: intervals.must(row).to_owned(),
                author: authors.must(row).to_owned(),
            })
        };
        (0..batch.num_rows()).map(row).collect()
    }

    fn order(&self, other: &Self) -> Ordering {
        (&self.patient, self.version).cmp(&(&other.patient, other.version))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct RulesRow {
    pub version: i64,
    pub activated_at: EventTime,
    pub author: String,
    pub toml: String,
}

impl RulesRow {
    pub fn new(rules: RuleSet) -> Self {
        Self { version: i64::try_from(rules.version).unwrap_or(i64::MAX), activated_at: rules.activated_at, author: rules.author, toml: rules.toml }
    }
}

impl Row for RulesRow {
    const TABLE: Table = Table::Rules;

    fn batch(rows: &[Self]) -> Result<RecordBatch, ArrowError> {
        Columns::of(rows).int(|r| Some(r.version)).time(|r| Some(r.activated_at)).text(|r| &r.author).text(|r| &r.toml).finish()
    }

    fn read(batch: &RecordBatch) -> Result<Vec<Self>, ArrowError> {
        let cells = Cells::of(batch);
        let (versions, at, authors, toml) = (cells.int("version")?, cells.time("activated_at")?, cells.text("author")?, cells.text("toml")?);
        let row = |row| Self {
            version: versions.must(row),
            activated_at: EventTime(at.must(row)),
            author: authors.must(row).to_owned(),
            toml: toml.must(row).to_owned(),
        };
        Ok((0..batch.num_rows()).map(row).collect())
    }

    fn order(&self, other: &Self) -> Ordering {
        self.version.cmp(&other.version)
    }
}

/// What the store knows, as of a compaction. Written, and read by analysts alone.
#[derive(Clone, Debug, PartialEq)]
pub struct EpisodeRow {
    pub alert: String,
    pub patient: String,
    pub rule: String,
    pub priority: String,
    pub state: String,
    pub since: EventTime,
    pub raised_at: EventTime,
    pub heard_at: EventTime,
    pub cleared_at: Option<EventTime>,
    pub late: bool,
    pub technical: bool,
    pub test: bool,
    pub acknowledged: Option<(EventTime, String)>,
    /// The word, when, who and what they wrote.
    pub verdict: Option<(String, EventTime, String, Option<String>)>,
    pub summary: String,
}

fn written_only<R>() -> Result<Vec<R>, ArrowError> {
    Err(wrong("this table is written anew each time, and is not read"))
}

impl Row for EpisodeRow {
    const TABLE: Table = Table::Episodes;

    fn batch(rows: &[Self]) -> Result<RecordBatch, ArrowError> {
        Columns::of(rows)
            .text(|e| &e.alert)
            .text(|e| &e.patient)
            .text(|e| &e.rule)
            .text(|e| &e.priority)
            .text(|e| &e.state)
            .time(|e| Some(e.since))
            .time(|e| Some(e.raised_at))
            .time(|e| Some(e.heard_at))
            .time(|e| e.cleared_at)
            .flag(|e| Some(e.late))
            .flag(|e| Some(e.technical))
            .flag(|e| Some(e.test))
            .time(|e| e.acknowledged.as_ref().map(|(at, _)| *at))
            .maybe_text(|e| e.acknowledged.as_ref().map(|(_, by)| by.as_str()))
            .maybe_text(|e| e.verdict.as_ref().map(|(word, ..)| word.as_str()))
            .time(|e| e.verdict.as_ref().map(|(_, at, ..)| *at))
            .maybe_text(|e| e.verdict.as_ref().map(|(_, _, by, _)| by.as_str()))
            .maybe_text(|e| e.verdict.as_ref().and_then(|(.., note)| note.as_deref()))
            .text(|e| &e.summary)
            .finish()
    }

    fn read(_: &RecordBatch) -> Result<Vec<Self>, ArrowError> {
        written_only()
    }

    fn order(&self, other: &Self) -> Ordering {
        (self.heard_at, &self.alert).cmp(&(other.heard_at, &other.alert))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct PatientRow {
    pub patient: String,
    pub ward: String,
    pub sex: String,
    pub born: Option<Date>,
    pub enrolled_at: EventTime,
}

impl Row for PatientRow {
    const TABLE: Table = Table::Patients;

    fn batch(rows: &[Self]) -> Result<RecordBatch, ArrowError> {
        Columns::of(rows).text(|p| &p.patient).text(|p| &p.ward).text(|p| &p.sex).date(|p| p.born).time(|p| Some(p.enrolled_at)).finish()
    }

    fn read(_: &RecordBatch) -> Result<Vec<Self>, ArrowError> {
        written_only()
    }

    fn order(&self, other: &Self) -> Ordering {
        self.patient.cmp(&other.patient)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct AssignmentRow {
    pub device: String,
    pub patient: String,
    pub from: EventTime,
    pub until: Option<EventTime>,
    pub model: String,
    pub test: bool,
}

impl Row for AssignmentRow {
    const TABLE: Table = Table::Assignments;

    fn batch(rows: &[Self]) -> Result<RecordBatch, ArrowError> {
        Columns::of(rows).text(|a| &a.device).text(|a| &a.patient).time(|a| Some(a.from)).time(|a| a.until).text(|a| &a.model).flag(|a| Some(a.test)).finish()
    }

    fn read(_: &RecordBatch) -> Result<Vec<Self>, ArrowError> {
        written_only()
    }

    fn order(&self, other: &Self) -> Ordering {
        (&self.device, self.from).cmp(&(&other.device, other.from))
    }
}
